from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from modelwright import models
from modelwright.errors import RecipeError
from modelwright.initialization.published import PUBLISHED, is_installed, published_files
from modelwright.initialization.published_networks import frozen_network
from modelwright.models.efficientnet import SameConv, read_published
from modelwright.recipe.networks import EfficientNetLite0Model
from modelwright.transforms import ImageInput

needs_weights = pytest.mark.skipif(
    not is_installed("efficientnet-lite0"), reason="`modelwright[pretrained]` isn't installed"
)
SUMMED = 1e-4
"""Ours and the plain functions add up in another order, through 50 layers of fp32."""
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)


def same(images, weight, stride, groups=1):
    """Convolve as TensorFlow's documentation of `SAME` says, by its formula."""
    pads = []
    for side in reversed(images.shape[2:]):
        kernel = weight.shape[-1]
        total = max(kernel - stride if side % stride == 0 else kernel - side % stride, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(images, pads), weight, stride=stride, groups=groups)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (33, 32), (1, 2)])
def test_padding_is_that_of_tensorflow(kernel, stride, height, width):
    torch.manual_seed(0)
    conv = SameConv(4, 4, kernel, stride=stride, groups=4).double()
    images = torch.randn(2, 4, height, width, dtype=torch.float64)
    found = conv(images)
    assert found.shape[2:] == (-(-height // stride), -(-width // stride))
    torch.testing.assert_close(found, same(images, conv.weight, stride, groups=4))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 4)])
def test_gradients_are_right(height, width):
    torch.manual_seed(0)
    conv = SameConv(2, 2, 3, stride=2, groups=2).double()
    images = torch.randn(1, 2, height, width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (images,))


def published_bytes():
    return published_files("efficientnet-lite0").content[PUBLISHED["efficientnet-lite0"].weights]


def published(pixels):
    """Return features and logits of the published network, by its own names in plain functions."""
    weights = torch.load(io.BytesIO(published_bytes()), weights_only=True, map_location="cpu")

    def norm(x, name):
        kept = (weights[f"{name}.{key}"] for key in ("running_mean", "running_var"))
        return F.batch_norm(x, *kept, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=0.001)

    def conv(x, name, stride=1, groups=1):
        return same(x, weights[f"{name}.weight"], stride, groups)

    x = (pixels.permute(0, 3, 1, 2).float() - 127) / 128
    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    for number, stride in enumerate(STRIDES):
        at, y = f"_blocks.{number}", x
        if f"{at}._expand_conv.weight" in weights:
            y = F.relu6(norm(conv(y, f"{at}._expand_conv"), f"{at}._bn0"))
        y = F.relu6(norm(conv(y, f"{at}._depthwise_conv", stride, y.shape[1]), f"{at}._bn1"))
        y = norm(conv(y, f"{at}._project_conv"), f"{at}._bn2")
        x = x + y if x.shape == y.shape else y
    features = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return features, F.linear(features, weights["_fc.weight"], weights["_fc.bias"])


@needs_weights
@pytest.mark.parametrize(("height", "width"), [(32, 32), (57, 64)])
def test_features_are_those_of_the_published_network(height, width):
    network = frozen_network(
        "efficientnet-lite0", ImageInput(height=height, width=width, channels=3)
    )
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (2, height, width, 3), np.uint8))
    with torch.no_grad():
        expected, _ = published(pixels)
        torch.testing.assert_close(network.features(pixels), expected, rtol=SUMMED, atol=SUMMED)


@needs_weights
def test_it_has_as_many_parameters_as_published():
    weights = read_published(published_bytes(), where="")
    body = EfficientNetLite0Model(name="efficientnet-lite0", pretrained=False)
    network = models.build(
        body, channels=3, height=32, width=32, num_outputs=1000, mean=[0.0] * 3, std=[1.0] * 3
    )
    assert sum(item.numel() for item in network.parameters()) == 4_652_008
    assert {key: item.shape for key, item in network.body.state_dict().items()} == {
        key: item.shape for key, item in weights.items()
    }


@needs_weights
@pytest.mark.skipif("MODELWRIGHT_DATA" not in os.environ, reason="MODELWRIGHT_DATA isn't set")
def test_it_knows_dogs_and_horses_in_photographs_as_imagenet_numbers_them():
    import pyarrow.parquet as pq

    rows = pq.read_table(Path(os.environ["MODELWRIGHT_DATA"], "cifar10/test.parquet")).slice(0, 120)
    known = {5: range(151, 269), 7: (339, 340)}  # Dogs have 118 classes; sorrel and zebra.
    pixels, labels = [], []
    for cell, label in zip(rows["image"].to_pylist(), rows["label"].to_pylist(), strict=True):
        if label in known:
            image = Image.open(io.BytesIO(cell)).convert("RGB").resize((160, 160), 3)
            pixels.append(np.asarray(image))
            labels.append(label)
    network = frozen_network("efficientnet-lite0", ImageInput(height=160, width=160, channels=3))
    weights = read_published(published_bytes(), where="")
    with torch.no_grad():
        features = network.features(torch.from_numpy(np.stack(pixels)))
        best = F.linear(features, weights["head.weight"], weights["head.bias"]).argmax(1)
    right = [number in known[label] for number, label in zip(best.tolist(), labels, strict=True)]
    assert np.mean(right) > 0.5  # By chance, 6 %.


@pytest.mark.parametrize("data", [b"", b"not a file of torch", b"PK\x03\x04half"])
def test_what_torch_has_not_saved_is_refused(data):
    with pytest.raises(RecipeError, match="torch has saved"):
        read_published(data, where="weights.pth")


def test_other_things_than_weights_are_refused():
    stream = io.BytesIO()
    torch.save({"epoch": 3}, stream)
    with pytest.raises(RecipeError, match="other things than weights"):
        read_published(stream.getvalue(), where="weights.pth")


def test_images_that_are_too_small_are_refused():
    spec = EfficientNetLite0Model(name="efficientnet-lite0", pretrained=False)
    with pytest.raises(RecipeError, match="31×40"):
        models.build(
            spec, channels=3, height=31, width=40, num_outputs=2, mean=[0.0] * 3, std=[1.0] * 3
        )
