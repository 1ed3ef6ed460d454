from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modelwright import models
from modelwright.errors import RequestError
from modelwright.models.speednet import Group, Norm, PooledConv
from modelwright.recipe.networks import MlpModel, SpeednetModel

STD = [0.2, 0.25, 0.3]


def built(spec=None, *, channels=3, side=16):
    torch.manual_seed(0)
    return models.build(
        spec or SpeednetModel(name="speednet", widths=(8, 12, 10)),
        channels=channels,
        height=side,
        width=side,
        num_outputs=4,
        mean=[0.5] * channels,
        std=STD[:channels],
    )


def smooth(count=200, *, side=16, channels=3):
    """Images whose neighbouring pixels and colours are alike, as photographs' are."""
    random = np.random.default_rng(0)
    grain = random.normal(size=(count, side + 2, side + 2, channels + 1))
    blurred = grain[:, 1:-1, 1:-1] + grain[:, :-2, 1:-1] + grain[:, 1:-1, :-2] + grain[:, 2:, 1:-1]
    mixed = blurred[..., :channels] + blurred[..., 1:]
    return np.clip(128 + 25 * mixed, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated(channels):
    network, images = built(channels=channels), smooth(channels=channels)
    models.whiten(network, images)
    size = 4 * channels
    with torch.no_grad():
        normalised = network.steps(torch.from_numpy(images)).permute(0, 3, 1, 2)
        found = F.conv2d(normalised, network.body.whiten.weight)
        raw = F.unfold(normalised, 2).transpose(1, 2).reshape(-1, size)
    assert torch.equal(found[:, :size], -found[:, size:])
    out = found[:, :size].permute(0, 2, 3, 1).reshape(-1, size).double()
    moments = out.T @ out / len(out)
    before = (raw.double().T @ raw.double() / len(raw)).fill_diagonal_(0).abs().max()
    # Each variance is λ / (λ + ε): just under 1 where λ is far above 5e-4.
    assert before > 0.1
    torch.testing.assert_close(moments, torch.eye(size).double(), rtol=0, atol=0.01)


def test_whitening_is_that_of_a_hand_worked_case():
    """Two greys, chequered so that all four pixels of a patch are independent with variance 1."""
    network = built(channels=1, side=9)
    network.steps.mean.fill_(127.5 / 255)
    network.steps.std.fill_(127.5 / 255)  # 0 and 255 become −1 and 1
    codes = np.arange(16)
    images = ((codes[:, None] >> np.arange(4)) & 1).astype(np.uint8).reshape(16, 2, 2, 1) * 255
    models.whiten(network, images)
    filters = network.body.whiten.weight[:4].flatten(1)
    expected = torch.eye(4) / (1 + 5e-4)
    torch.testing.assert_close(filters @ filters.T, expected, rtol=1e-5, atol=1e-6)


def test_whitening_is_repeatable_and_survives_constant_images():
    one, two = built(), built()
    models.whiten(one, smooth())
    models.whiten(two, torch.from_numpy(smooth()))
    assert torch.equal(one.body.whiten.weight, two.body.whiten.weight)
    models.whiten(one, np.full((3, 16, 16, 3), 77, np.uint8))
    assert torch.isfinite(one.body.whiten.weight).all()
    assert one.body.whiten.weight.abs().max() <= (5e-4) ** -0.5 + 1e-3


def test_whitening_is_refused_where_it_makes_no_sense():
    with pytest.raises(RequestError, match="speednet"):
        models.whiten(built(MlpModel(name="mlp")), smooth())
    with pytest.raises(RequestError, match="at least one"):
        models.whiten(built(), smooth(0))


def test_whitening_filters_are_fixed_and_their_bias_is_trained():
    fixed = built().body.whiten
    assert not fixed.weight.requires_grad
    assert fixed.bias.requires_grad
    free = built(SpeednetModel(name="speednet", whiten=False)).body.whiten
    assert free.weight.requires_grad


def test_filters_start_as_the_identity():
    conv = built().body.groups[0].conv2  # 8 channels to 8
    images = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(conv(images), images)


def test_norms_have_no_scale_and_the_records_constants():
    norm = Norm(4)
    assert not norm.weight.requires_grad
    assert norm.bias.requires_grad
    assert (norm.eps, norm.momentum) == (1e-12, 0.4)


def test_scale_multiplies_the_outputs():
    images = torch.from_numpy(smooth(4))
    small = built(SpeednetModel(name="speednet", widths=(8, 12, 10), scale=0.1)).eval()
    large = built(SpeednetModel(name="speednet", widths=(8, 12, 10), scale=1.0)).eval()
    torch.testing.assert_close(small(images), 0.1 * large(images))


@pytest.mark.parametrize("size", [(7, 7), (15, 8), (8, 15), (6, 6), (31, 31), (3, 2)])
def test_spare_row_and_column_change_nothing(size):
    torch.manual_seed(0)
    conv = PooledConv(3, 4, 3, bias=False)
    images = torch.randn(2, 3, *size)
    expected = F.max_pool2d(F.conv2d(images, conv.weight, padding=1), 2)
    assert conv(images).shape[2:] == tuple(side if side > 20 else side // 2 * 2 for side in size)
    torch.testing.assert_close(F.max_pool2d(conv(images), 2), expected)
    torch.testing.assert_close(F.max_pool2d(conv.eval()(images), 2), expected)


def test_gradients_of_own_layers():
    torch.manual_seed(0)
    images = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PooledConv(2, 3, 3, bias=False).double(), (images,))
    group = Group(2, 2).double()
    # A fixed point of the statistics: in training mode, each call would move them.
    for norm in (group.norm1, group.norm2):
        norm.momentum = 0.0
    assert torch.autograd.gradcheck(group, (images,))
