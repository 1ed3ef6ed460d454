"""Weights that are looked up in codebooks: what codes stand for, and what a file may not hold."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from modelwright import models
from modelwright.errors import ModelFileError, RequestError
from modelwright.models.coded import CODED_LAYERS, Codebook, codebooks_of, decoded
from modelwright.models.modifications import Code, modified, modify, with_new_head
from modelwright.recipe import networks
from modelwright.transforms import ImageInput

INPUT = ImageInput(8, 8, 1)
MLP = networks.MlpModel(name="mlp", hidden=(8,))


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give the codebooks of a network codes and entries; orders turn rows around."""
    draw = torch.Generator().manual_seed(seed)
    for coded in codebooks_of(network):
        _, entries, size = coded.codebook.shape
        coded.codes.random_(0, entries, generator=draw)
        coded.codebook.copy_(torch.randn(coded.codebook.shape, generator=draw))
        if coded.order is not None:
            places = coded.codes.shape[2] * size
            coded.order.copy_(torch.arange(places - 1, places - 1 - len(coded.order), -1))
    return network


def by_hand(coded: Codebook) -> Tensor:
    """Return the weights, number by number."""
    stages, outputs, blocks = coded.codes.shape
    size = coded.codebook.shape[2]
    inputs = torch.Size(coded.shape[1:]).numel()
    rows = torch.zeros(outputs, inputs)
    for output in range(outputs):
        row = [
            sum(
                float(coded.codebook[stage, int(coded.codes[stage, output, block]), at])
                for stage in range(stages)
            )
            for block in range(blocks)
            for at in range(size)
        ]
        for at in range(inputs):
            rows[output, at] = row[at if coded.order is None else int(coded.order[at])]
    return rows.reshape(coded.shape)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(12, 3), torch.randn(2, 12)),
        (nn.Conv2d(4, 6, 3, stride=2, groups=2), torch.randn(2, 4, 7, 7)),
        (nn.Conv1d(4, 3, 3), torch.randn(2, 4, 9)),
        (nn.Embedding(5, 6), torch.tensor([[0, 4]])),
    ],
)
@pytest.mark.parametrize("codebooks", [1, 3])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_layer_computes_with_the_weights_that_its_codes_stand_for(layer, x, codebooks, ordered):
    plain = copy.deepcopy(layer)
    network = nn.Sequential(copy.deepcopy(layer))
    inputs = layer.weight[0].numel()
    size = 6 if not ordered else 5
    change = Code(
        layer="0",
        block_size=size,
        blocks=-(-inputs // size),
        codebook_size=7,
        codebooks=codebooks,
        ordered=ordered,
    )
    modify(network, [change])
    (coded,) = codebooks_of(filled(network))
    torch.testing.assert_close(network[0].weight, by_hand(coded))
    plain.weight.data = network[0].weight
    assert torch.equal(network(x), plain(x))
    assert isinstance(network[0], CODED_LAYERS)
    again = copy.deepcopy(network)
    assert torch.equal(again(x), network(x))


def test_codebooks_learn_and_settle_in_16_bits() -> None:
    network = nn.Sequential(nn.Linear(4, 4, bias=False))
    sizes = {"block_size": 2, "blocks": 2, "codebook_size": 4, "codebooks": 1}
    modify(network, [Code(layer="0", **sizes, ordered=False)])
    (coded,) = codebooks_of(filled(network))
    coded.codes.zero_()
    coded.learn(has_zero=True)
    assert not network[0].weight.any()  # The first entry is 0.
    coded.codes[0, 0, 0] = 1
    network(torch.ones(1, 4)).sum().backward()
    assert coded.codebook.grad[0, 1].tolist() == [1, 1]
    assert not coded.codebook.grad[0, 0].any()
    before = coded.codebook.detach().clone()
    coded.settle()
    assert not list(network.parameters())
    assert coded.codebook.dtype == torch.float16
    assert torch.equal(coded.codebook[0, 1:], before[0, 1:].half())
    assert not coded.codebook[0, 0].any()


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(2, 256))
def test_codebooks_add_up(seed: int, number: int, entries: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, entries, (number, 3, 2), dtype=torch.uint8, generator=draw)
    codebook = torch.randn(number, entries, 4, generator=draw)
    expected = sum(codebook[at][codes[at].long()] for at in range(number))
    torch.testing.assert_close(decoded(codes, codebook), expected)


GOOD = {
    "kind": "code",
    "layer": "body.hidden.0",
    "block_size": 4,
    "blocks": 16,
    "codebook_size": 16,
    "codebooks": 1,
    "ordered": True,
}


def coded_mlp(**changes: object) -> tuple[nn.Module, dict]:
    """Return a network with a layer of codes, and its architecture."""
    torch.manual_seed(0)
    network = models.build_network(MLP, input=INPUT, num_outputs=4, mean=[0.5], std=[0.25])
    change = Code.model_validate({**GOOD, **changes})
    modify(network, [change])
    kept = modified(models.architecture(MLP, input=INPUT, num_outputs=4), change)
    return filled(network).eval(), kept


def test_a_network_is_built_again_to_the_same_bits() -> None:
    network, kept = coded_mlp()
    pixels = torch.randint(0, 256, (2, 8, 8, 1), dtype=torch.uint8)
    again = models.rebuild(kept, network.state_dict())
    assert torch.equal(again(pixels), network(pixels))


def test_a_coded_head_gets_new_labels() -> None:
    network, kept = coded_mlp(layer="body.head", block_size=4, blocks=2)
    models.replace_output(network, 9)
    kept = with_new_head({**kept, "num_outputs": 9})
    assert "modifications" not in kept
    again = models.rebuild(kept, network.state_dict())
    assert again(torch.zeros(2, 8, 8, 1, dtype=torch.uint8)).shape == (2, 9)
    _, other = coded_mlp()
    assert with_new_head(other) == other


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("codes", 16, "without an entry"),
        ("codes", 255, "without an entry"),
        ("order", 64, "without an entry"),
        ("order", -1, "without an entry"),
    ],
)
def test_codes_and_orders_beside_their_codebooks_are_refused(name, value, words) -> None:
    network, kept = coded_mlp()
    weights = {key: item.clone() for key, item in network.state_dict().items()}
    weights[f"body.hidden.0.coded.{name}"].view(-1)[3] = value
    with pytest.raises(ModelFileError, match=words):
        models.rebuild(kept, weights)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer": "body.tail"}, "can't be built"),
        ({"layer": "body"}, "can't be built"),
        ({"layer": "steps"}, "can't be built"),
        ({"blocks": 15}, "can't be built"),
        ({"blocks": 17, "ordered": False}, "can't be built"),
        ({"blocks": 17}, "asks for"),
        ({"blocks": 1 << 24}, "can't be built"),
        ({"blocks": 1 << 25}, "`blocks`"),
        ({"block_size": 0}, "`block_size`"),
        ({"codebook_size": 257}, "`codebook_size`"),
        ({"codebook_size": 8}, "asks for"),
        ({"codebooks": 9}, "`codebooks`"),
        ({"ordered": 1}, "`ordered`"),
        ({"ordered": False}, "unknown to the architecture"),
        ({"entries": 3}, "`entries`"),
    ],
)
def test_a_file_with_other_codebooks_is_refused(changes, words) -> None:
    network, kept = coded_mlp()
    hostile = {**kept, "modifications": [{**GOOD, **changes}]}
    with pytest.raises(ModelFileError, match=words):
        models.rebuild(hostile, network.state_dict())


def test_a_layer_is_coded_once_and_alone() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    sizes = {"block_size": 4, "blocks": 1, "codebook_size": 4, "codebooks": 1, "ordered": False}
    with pytest.raises(RequestError, match="can't be looked up"):
        modify(tied, [Code(layer="1", **sizes)])
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(RequestError, match="can't be looked up"):
        modify(network, [Code(layer="1", **sizes)])
    with pytest.raises(RequestError, match="can't be looked up"):
        modify(network, [Code(layer="0", **sizes), Code(layer="0", **sizes)])
