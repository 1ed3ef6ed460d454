from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelwright.models.network import TextFrame
from modelwright.models.transformer import (
    TransformerClassifier,
    TransformerEncoder,
    TransformerLayer,
    sines,
)
from modelwright.recipe.networks import TransformerModel

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])


def built(**settings):
    torch.manual_seed(0)
    options = {"width": 8, "layers": 2, "heads": 2, "dropout": 0.0, **settings}
    spec = TransformerModel(name="transformer", **options)
    return TransformerClassifier(spec, TextFrame(12, max_length=12, num_outputs=3))


@pytest.mark.parametrize("is_training", [True, False])
def test_layer_is_torchs_own(is_training):
    torch.manual_seed(0)
    ours = TransformerLayer(8, heads=2, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).train(is_training)
    with torch.no_grad():
        for one, other in (
            (ours.attention.projection.weight, theirs.self_attn.in_proj_weight),
            (ours.attention.projection.bias, theirs.self_attn.in_proj_bias),
        ):
            other.copy_(one)
        theirs.self_attn.out_proj.load_state_dict(ours.attention.out.state_dict())
        theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
        theirs.norm2.load_state_dict(ours.feed_norm.state_dict())
        theirs.linear1.load_state_dict(ours.feed[0].state_dict())
        theirs.linear2.load_state_dict(ours.feed[2].state_dict())
    x = torch.randn(3, 5, 8)
    is_real = torch.arange(5) < LENGTH[:, None]
    found = ours(x, is_real)
    expected = theirs(x, src_key_padding_mask=~is_real)
    torch.testing.assert_close(found[is_real], expected[is_real], rtol=0, atol=SAME)


def test_sines_are_those_of_the_paper():
    found = sines(7, 6, torch.device("cpu"))
    for place in range(7):
        for pair in range(3):
            angle = place / 10000 ** (2 * pair / 6)
            assert found[place, 2 * pair].item() == pytest.approx(np.sin(angle), abs=1e-6)
            assert found[place, 2 * pair + 1].item() == pytest.approx(np.cos(angle), abs=1e-6)
    assert sines(3, 5, torch.device("cpu")).shape == (3, 5)


def test_order_matters():
    network = built().eval()
    length = torch.tensor([3])
    one, other = (network(torch.tensor([tokens]), length) for tokens in ([5, 6, 7], [7, 6, 5]))
    assert (one - other).abs().max() > 1e-4


def test_encoder_does_not_care_for_order():
    torch.manual_seed(0)
    encoder = TransformerEncoder(8, layers=1, heads=4, dropout=0.0)
    x, length = torch.randn(2, 4, 8), torch.tensor([4, 4])
    found = encoder(x.flip(1), length).flip(1)
    torch.testing.assert_close(found, encoder(x, length), rtol=0, atol=SAME)
