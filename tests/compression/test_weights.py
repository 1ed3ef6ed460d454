"""Weights of few bits by groups: packing, rounding that makes up for itself, and the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelwright import modelfile
from modelwright.compression.weights import round_compensated, round_nearest
from modelwright.models.grouped import pack, unpack
from modelwright.recipe.compression import QuantizeStep
from tests.compression.making import compress
from tests.compression.networks import small


@given(st.integers(0, 2**31), st.sampled_from([4, 8]))
def test_what_is_packed_is_unpacked(seed: int, bits: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 2**bits, (3, 2, 16), dtype=torch.uint8, generator=draw)
    packed = pack(levels, bits)
    assert packed.shape == (3, 2, 16 * bits // 8)
    assert torch.equal(unpack(packed, bits), levels.float() - 2 ** (bits - 1))


def dequantized(levels: torch.Tensor, scale: torch.Tensor, bits: int, inputs: int) -> torch.Tensor:
    values = (levels.double() - 2 ** (bits - 1)) * scale.double()[..., None]
    return values.flatten(1)[:, :inputs]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [64, 50])
def test_compensated_rounding_changes_the_outputs_less(bits: int, inputs: int) -> None:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(inputs, inputs, generator=draw) / inputs**0.5
    x = torch.randn(2000, inputs, generator=draw) @ mixing
    weight = torch.randn(24, inputs, generator=draw)
    moments = x.T @ x
    errors = []
    for levels, scale in (
        round_nearest(weight, bits, 16),
        round_compensated(weight, moments, bits, 16),
    ):
        change = dequantized(levels, scale, bits, inputs) - weight.double()
        errors.append(float((x.double() @ change.T).square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_inputs_that_do_not_go_together_are_rounded_to_the_nearest() -> None:
    weight = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    near, compensated = (
        round_nearest(weight, 4, 16),
        round_compensated(weight, torch.eye(32), 4, 16),
    )
    assert torch.equal(near[0], compensated[0])
    torch.testing.assert_close(near[1], compensated[1])


def test_inputs_that_were_always_zero_keep_their_weights() -> None:
    weight = torch.ones(2, 16)
    moments = torch.eye(16)
    moments[3, 3] = 0
    levels, scale = round_compensated(weight, moments, 8, 16)
    found = dequantized(levels, scale, 8, 16)
    assert found[:, 3].tolist() == pytest.approx([1, 1])  # Other samples may have them.
    assert bool(torch.isfinite(found).all())


def test_weights_that_were_pruned_stay_zero() -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(200, 32, generator=draw) @ torch.randn(32, 32, generator=draw)
    weight = torch.randn(6, 32, generator=draw)
    weight[torch.rand(6, 32, generator=draw) < 0.7] = 0
    levels, scale = round_compensated(weight, x.T @ x, 8, 16)
    found = dequantized(levels, scale, 8, 32)
    assert not found[weight == 0].any()
    assert (found[weight != 0] != 0).float().mean() > 0.9


def test_a_network_with_such_weights_is_built_again(tmp_path: Path) -> None:
    step = QuantizeStep(name="quantize", weights="int4", group_size=16)
    after, _ = compress(small("decoder"), step, tmp_path)
    modelfile.write_model(tmp_path / "m.mw", after)
    again = modelfile.rebuild(tmp_path / "m.mw")
    tokens = torch.from_numpy(np.arange(12).reshape(2, 6) % 30 + 4)
    with torch.no_grad():
        assert torch.equal(again.network(tokens), after.network(tokens))
    for key, item in after.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[key], item)
