"""Networks whose layers have other widths than their architecture's section says."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from tests.models.narrowing import narrowed, silenced
from torch import nn

from modelwright import models
from modelwright.errors import ModelFileError, RequestError
from modelwright.models import modifications
from modelwright.models.modifications import (
    KINDS,
    Drop,
    Heads,
    Modification,
    Resize,
    Skip,
    modified,
    modify,
    read_modifications,
)
from modelwright.models.transformer import SelfAttention, TransformerEncoder
from modelwright.recipe.networks import CnnModel, ConvBlock, MlpModel
from modelwright.transforms import ImageInput

INPUT = ImageInput(height=8, width=8, channels=3)
CNN = CnnModel(
    name="cnn", blocks=(ConvBlock(filters=6), ConvBlock(filters=5)), head=(12,), dropout=0.0
)
MLP = MlpModel(name="mlp", hidden=(16, 8))
KEPT = [0, 2, 3]
SAME = 1e-6
"""Fewer terms are summed, in another order, in fp32."""


def built(spec, **more):
    torch.manual_seed(0)
    network = models.build_network(
        spec, input=INPUT, num_outputs=4, mean=[0.4] * 3, std=[0.2] * 3, **more
    )
    for item in network.buffers():  # Norms that do something.
        if item.is_floating_point() and item.ndim == 1 and len(item) > 3:
            item.uniform_(0.5, 1.5)
    return network.eval()


def pixels(count=5):
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 8, 8, 3), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize(
    ("spec", "layer", "norm", "consumer"),
    [
        (MLP, "body.hidden.0", None, "body.hidden.1"),
        (MLP, "body.hidden.1", None, "body.head"),
        (CNN, "body.blocks.0.conv1", "body.blocks.0.norm1", "body.blocks.1.conv1"),
        (CNN, "body.blocks.1.conv1", "body.blocks.1.norm1", "body.hidden.0"),
    ],
)
def test_a_narrowed_network_answers_as_if_nothing_read_the_rest_and_is_built_again(
    spec, layer, norm, consumer
):
    network = built(spec)
    small, changes = narrowed(network, layer, KEPT, norm=norm, consumer=consumer)
    expected = silenced(network, layer, KEPT, consumer=consumer)(pixels())
    torch.testing.assert_close(small(pixels()), expected, rtol=SAME, atol=SAME)
    kept = modified(models.architecture(spec, input=INPUT, num_outputs=4), *changes)
    again = models.rebuild(kept, small.state_dict(), steps=small.steps.to_json())
    assert torch.equal(again(pixels()), small(pixels()))
    assert again.get_submodule(layer).weight.shape[0] == len(KEPT)
    # And further: modifications add up, in order.
    more, further = narrowed(again, layer, [1], norm=norm, consumer=consumer)
    twice = models.rebuild(modified(kept, *further), more.state_dict())
    assert torch.equal(twice(pixels()), more(pixels()))


def test_a_narrowed_network_of_numbers_keeps_their_scale():
    numbers = ([1.0, 2.0, 3.0, 4.0], [2.0] * 4)
    network = built(MLP, numbers=numbers)
    small, changes = narrowed(network, "body.hidden.1", KEPT, consumer="body.head")
    kept = models.architecture(MLP, input=INPUT, num_outputs=4, numbers=True)
    again = models.rebuild(modified(kept, *changes), small.state_dict())
    assert torch.equal(again(pixels()), small(pixels()))


def test_a_narrowed_network_gets_new_labels():
    small, changes = narrowed(built(MLP), "body.hidden.1", KEPT, consumer="body.head")
    models.replace_output(small, 9)
    kept = modified(models.architecture(MLP, input=INPUT, num_outputs=4), *changes)
    again = models.rebuild({**kept, "num_outputs": 9}, small.state_dict())
    assert again(pixels()).shape == (5, 9)


def test_what_stands_still_stays_so_and_formats_stay():
    network = nn.Sequential(nn.Linear(3, 4).double(), nn.Linear(4, 2, bias=False))
    network[0].bias.requires_grad_(False)
    modify(network, [Resize(layer="0", out_features=2), Resize(layer="1", in_features=2)])
    assert network[0].weight.dtype == torch.float64
    assert (network[0].weight.requires_grad, network[0].bias.requires_grad) == (True, False)
    assert network[1].bias is None


def test_norms_embeddings_and_convolutions_of_each_channel_have_other_widths():
    network = nn.Sequential(
        nn.Embedding(9, 4), nn.LayerNorm(4), nn.Conv1d(4, 4, 3, groups=4), nn.BatchNorm1d(4)
    )
    modify(
        network,
        [
            Resize(layer="0", out_features=2),
            Resize(layer="1", out_features=2),
            Resize(layer="2", in_features=2, out_features=2),
            Resize(layer="3", out_features=2),
        ],
    )
    for item in network.parameters():
        nn.init.ones_(item)
    vectors = network[:2](torch.zeros(1, 5, dtype=torch.int64))
    assert network[2](vectors.transpose(1, 2)).shape == (1, 2, 3)
    assert (network[0].embedding_dim, network[1].normalized_shape, network[2].groups) == (
        2,
        (2,),
        2,
    )


def test_attention_has_fewer_heads_and_a_layer_is_left_out():
    torch.manual_seed(0)
    encoder = TransformerEncoder(8, layers=2, heads=4, dropout=0.0).eval()
    x, length = torch.randn(2, 3, 8), torch.tensor([3, 2])
    changes = [Heads(layer="layers.1.attention", heads=1), Drop(layer="layers.0")]
    modify(encoder, changes)
    assert isinstance(encoder.layers[0], Skip)
    attention = encoder.layers[1].attention
    assert attention.projection.weight.shape == (6, 8)
    assert attention.out.weight.shape == (8, 2)
    for item in encoder.parameters():
        nn.init.normal_(item)
    expected = encoder.norm(encoder.layers[1](x, torch.tensor([[1, 1, 1], [1, 1, 0]]) > 0))
    assert torch.equal(encoder(x, length), expected)


def tied():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("network", "change", "words"),
    [
        (nn.Sequential(nn.Linear(3, 4)), Resize(layer="7", out_features=2), "has no layer `7`"),
        (nn.Sequential(nn.Linear(3, 4)), Resize(layer="0", out_features=4), "these widths already"),
        (nn.Sequential(nn.Linear(3, 4)), Resize(layer="0"), "these widths already"),
        (nn.Sequential(nn.ReLU()), Resize(layer="0", out_features=2), "can't be resized"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)),
            Resize(layer="0", in_features=2),
            "of one group",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(4)),
            Resize(layer="0", in_features=2),
            "outputs of norms",
        ),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)),
            Resize(layer="0", in_features=2, out_features=3),
            "one channel a group",
        ),
        (nn.Sequential(nn.LayerNorm([2, 4])), Resize(layer="0", out_features=2), "can't be"),
        (nn.Sequential(nn.Embedding(9, 4)), Resize(layer="0", in_features=2), "can't be"),
        (nn.Sequential(nn.Linear(3, 4)), Heads(layer="0", heads=1), "can't have 1 heads"),
        (nn.Sequential(SelfAttention(8, 2)), Heads(layer="0", heads=2), "can't have 2 heads"),
        (nn.Sequential(SelfAttention(8, 2)), Heads(layer="1", heads=1), "has no layer"),
        (nn.Sequential(nn.Linear(3, 4)), Drop(layer="0"), "none of a list"),
        (nn.Sequential(nn.Sequential(nn.Linear(3, 4))), Drop(layer="0"), "none of a list"),
        (SelfAttention(8, 2), Drop(layer="out"), "none of a list"),
        (nn.Sequential(SelfAttention(8, 2)), Drop(layer="0.out"), "none of a list"),
        (tied(), Resize(layer="1", in_features=2), "shares its weights"),
        (built(MLP), Resize(layer="body.head", out_features=2), "those of the labels"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(network, change, words):
    with pytest.raises(RequestError, match=words):
        modify(network, [change])


GOOD = {"kind": "resize", "layer": "body.hidden.0", "in_features": None, "out_features": 3}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "aren't a list"),
        ({"kind": "resize"}, "aren't a list"),
        (None, "aren't a list"),
        (["resize"], "`None` is unknown"),
        ([{**GOOD, "kind": "prune"}], "`prune` is unknown"),
        ([{**GOOD, "kind": ["resize"]}], "is unknown"),
        ([{**GOOD, "width": 3}], "`width`"),
        ([{**GOOD, "out_features": 0}], "`out_features`"),
        ([{**GOOD, "out_features": 3.0}], "`out_features`"),
        ([{**GOOD, "out_features": True}], "`out_features`"),
        ([{**GOOD, "out_features": 1 << 40}], "`out_features`"),
        ([{**GOOD, "layer": ""}], "`layer`"),
        ([GOOD, {"kind": "resize", "layer": "body.hidden.0"}], "in full"),
        ([{**GOOD, "layer": "body.tail"}], "can't be built"),
        ([GOOD, GOOD], "can't be built"),
        ([{"kind": "heads", "layer": "body.hidden.0", "heads": 1}], "can't be built"),
        ([{"kind": "heads", "layer": "body.hidden.0", "heads": 0}], "`heads`"),
        ([{"kind": "heads", "layer": "body.hidden.0", "heads": "1"}], "`heads`"),
        ([{"kind": "drop", "layer": "body.hidden.0"}], "can't be built"),
        ([{"kind": "drop", "layer": "body.nothing"}], "can't be built"),
        ([{"kind": "drop", "layer": ""}], "`layer`"),
        ([{"kind": "drop", "layer": "body.hidden.0", "to": 1}], "`to`"),
    ],
)
def test_a_file_with_other_modifications_is_refused(value, words):
    network = built(MLP)
    kept = models.architecture(MLP, input=INPUT, num_outputs=4)
    with pytest.raises(ModelFileError, match=words):
        models.rebuild({**kept, "modifications": value}, network.state_dict())


def test_what_is_written_is_read():
    changes = (Resize(layer="a", out_features=2), Resize(layer="b", in_features=3, out_features=4))
    written = modified({"name": "mlp"}, *changes)
    assert read_modifications(written["modifications"]) == changes


def test_hostile_widths_take_no_memory():
    huge = [
        {**GOOD, "out_features": 1 << 24},
        {**GOOD, "layer": "body.hidden.1", "in_features": 1 << 24},
    ]
    kept = models.architecture(MLP, input=INPUT, num_outputs=4)
    with pytest.raises(ModelFileError, match="asks for"):
        models.rebuild({**kept, "modifications": huge}, built(MLP).state_dict())


def test_the_table_holds_every_kind():
    specs = get_args(Modification) or (Modification,)
    assert {spec for spec, _ in KINDS.values()} == set(specs)
    for kind, (spec, _) in KINDS.items():
        assert spec.model_fields["kind"].default == kind
    assert modifications.LARGEST == 1 << 24
