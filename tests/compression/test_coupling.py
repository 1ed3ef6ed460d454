"""Which channels go together, and what a network answers without them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelwright import models
from modelwright.compression.coupling import (
    Width,
    cut,
    find_blocks,
    find_widths,
    joined,
    silenced,
)
from modelwright.modelfile.tracing import synthetic_inputs
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import Drop, modified, modify
from tests.compression.networks import small

SAME = 1e-4
"""Fewer terms are summed, in another order, in fp32, layer after layer."""
FOUND = {
    "mlp": [64],
    "cnn": [8, 16, 32],
    # A trunk of all stages: what its shortcuts pad with zeros stays.
    "resnet": [8] * 4 + [16] * 3 + [32] * 3,
    "resnet 18": [8] * 3 + [16] * 3 + [32] * 3 + [64] * 3,
    "speednet": [24, 8, 8, 16, 16, 16, 16],
    "detector": [8] * 3 + [16] * 6,
    "bow": [32],
    "text-cnn": [32, 100, 100, 100],
    "transformer": [2, 256],
    "decoder": [176],
    "seq2seq": [2, 256, 256],
    "audio-cnn": [8, 16],
    "conv-ctc": [8, 8, 64],
    "efficientnet-lite0": None,
}
"""The widths of each family, by how many units they have."""
SLOW = ("efficientnet-lite0", "seq2seq", "conv-ctc", "audio-cnn", "detector")
FAMILIES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FOUND]


def answers(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        answer = network.eval()(*inputs)
    return list(answer) if isinstance(answer, tuple) else [answer]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_narrower_network_answers_as_if_nothing_read_the_rest_and_is_built_again(
    name: str,
) -> None:
    candidate = small(name)
    widths = find_widths(candidate)
    if FOUND[name] is not None:
        assert sorted(len(width.units) for width in widths) == sorted(FOUND[name])
    draw = torch.Generator().manual_seed(0)
    units = []
    for width in widths:  # Of each a third, drawn.
        order = torch.randperm(len(width.units), generator=draw)
        units += [width.units[at] for at in order[: max(len(order) // 3, 1)]]
    gone, inputs = joined(units), synthetic_inputs(candidate)
    narrow, changes = cut(candidate.network, gone)
    expected = answers(silenced(candidate.network, gone), inputs)
    for one, other in zip(answers(narrow, inputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=SAME, atol=SAME * float(other.abs().max()))
    kept = modified(candidate.architecture, *changes)
    again = models.rebuild(kept, narrow.state_dict())
    for one, other in zip(answers(again, inputs), answers(narrow, inputs), strict=True):
        assert torch.equal(one, other)
    assert sum(x.numel() for x in again.parameters()) < sum(
        x.numel() for x in candidate.network.parameters()
    )


class Body(nn.Module):
    """What an own network is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu(self.first(pixels.float().permute(0, 3, 1, 2) / 255))
        return self.head(F.relu(self.second(self.between(x))).mean((2, 3)))


class Shuffled(Body):
    def between(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)  # Its 4 stands in the code.


class Cumulated(Body):
    def between(self, x: Tensor) -> Tensor:
        return x.cumsum(1)  # Each channel is in all behind it.


class Joined(Body):
    def between(self, x: Tensor) -> Tensor:
        return x + torch.cat([x[:, 8:], x[:, :8]], 1)


class Scaled(Body):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16, 1, 1))

    def between(self, x: Tensor) -> Tensor:
        return x * self.scale


class Averaged(Body):
    def between(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)


class Grouped(Body):
    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Conv2d(16, 16, 3, padding=1, groups=4)

    def between(self, x: Tensor) -> Tensor:
        return self.third(x)


class Twice(Body):
    def between(self, x: Tensor) -> Tensor:
        return self.second(x)


def own(body: type[Body]) -> Candidate:
    torch.manual_seed(0)
    return replace(small("cnn"), network=body().eval())


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (Body, [16, 16]),
        (Shuffled, [16]),
        (Cumulated, [16]),
        (Averaged, [16]),
        (Scaled, [16]),
        (Grouped, [16]),
        (Twice, [16]),  # The layer reads what it gives: one width.
    ],
)
def test_channels_stay_that_meet_what_is_not_known(body: type[Body], found: list[int]) -> None:
    widths = find_widths(own(body))
    assert [len(width.units) for width in widths] == found
    first = [width for width in widths if ("first", "out") in width.axes]
    assert bool(first) == (body in (Body, Twice))


def test_channels_that_are_added_go_together() -> None:
    candidate = own(Joined)
    widths = {width.axes[0]: width for width in find_widths(candidate)}
    # Halves are cut at a place that stands in the code, so the pairs can't go.
    assert ("first", "out") not in widths
    assert ("second", "out") in widths


def test_a_head_of_attention_is_one_unit() -> None:
    heads, inner = find_widths(small("transformer"))
    assert heads.axes == (
        ("encoder.layers.0.attention.projection", "out"),
        ("encoder.layers.0.attention.out", "in"),
    )
    # Its query, key and value.
    assert len(heads.units[0][heads.axes[0]]) == 3 * 32
    assert len(inner.units[0][inner.axes[0]]) == 1


@given(st.integers(1, 600), st.data())
@settings(max_examples=50, deadline=None)
def test_widths_are_multiples_of_8_and_keep_an_eighth(whole: int, data: st.DataObject) -> None:
    left = data.draw(st.integers(1, whole))
    width = Width((), ({},) * left, whole)
    assert 1 <= width.least <= whole
    assert width.least >= whole / 8
    while step := width.step(left):
        left -= step
        assert left >= width.least
        assert whole < 16 or left % 8 == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet 18", [f"body.stages.{stage}.{at}" for stage in range(4) for at in (0, 1)][:2]),
        ("transformer", ["encoder.layers.0"]),
        ("decoder", []),  # Its layers have steps, and a cache of their number.
        ("cnn", []),
    ],
)
def test_layers_that_may_be_left_out_keep_the_shape(name: str, expected: list[str]) -> None:
    candidate = small(name)
    blocks = find_blocks(candidate)
    assert blocks[: len(expected)] == expected
    assert bool(blocks) == bool(expected)
    before = answers(candidate.network, synthetic_inputs(candidate))
    for block in blocks:
        network = small(name).network
        modify(network, [Drop(layer=block)])
        after = answers(network, synthetic_inputs(candidate))
        assert [item.shape for item in after] == [item.shape for item in before]
