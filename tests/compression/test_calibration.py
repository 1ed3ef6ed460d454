"""Ranges of activations, and what rounding to them does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelwright.compression.calibration import (
    RANGES,
    Observed,
    least_error,
    percentile,
    rounded,
)
from modelwright.models.quantized import ActivationQuantizer


def observed(values: torch.Tensor) -> Observed:
    seen = Observed()
    seen.add(values, len(values))
    return seen


def test_ranges_of_values_with_an_outlier() -> None:
    values = torch.linspace(0, 1, 20_001)
    values[-1] = 40.0
    seen = observed(values)
    assert RANGES["min-max"](seen) == (0.0, 40.0)
    assert percentile(seen) == (pytest.approx(1e-4, abs=1e-4), pytest.approx(1.0, abs=1e-3))
    low, high = least_error(seen)
    assert low == 0.0
    assert 1.0 < high < 40.0
    errors = [float((values - rounded(values, (0.0, end))).square().mean()) for end in (high, 40.0)]
    assert errors[0] < errors[1]


def test_a_part_of_the_values_is_of_all_channels_and_places() -> None:
    values = torch.arange(8 * 64 * 16 * 16).reshape(8, 64, 16, 16)
    seen = Observed()
    for _ in range(2):
        seen.add(values.float(), 2048)
    kept = torch.cat(seen.parts).long()
    assert len(kept) == 4096
    for place, size in ((kept // 256 % 64, 64), (kept // 16 % 16, 16), (kept % 16, 16)):
        assert len(place.unique()) == size
    assert not torch.equal(*seen.parts)  # Other ones of each batch.


FLOATS = st.floats(-1e3, 1e3, width=32)


@given(st.lists(FLOATS, min_size=2, max_size=40))
def test_rounding_is_off_by_half_a_step_at_most(values: list[float]) -> None:
    x = torch.tensor(values)
    quantizer = ActivationQuantizer(float(x.min()), float(x.max()))
    with torch.no_grad():
        found = quantizer(x)
        assert quantizer(torch.zeros(1)) == 0
    assert float((found - x).abs().max()) <= 0.51 * float(quantizer.scale) + 1e-6


@given(st.lists(FLOATS, min_size=1, max_size=40), FLOATS, FLOATS)
def test_rounding_is_that_of_torch(values: list[float], one: float, other: float) -> None:
    quantizer = ActivationQuantizer(min(one, other), max(one, other))
    x = torch.tensor(values)
    with torch.no_grad():
        own = quantizer(x)
    reference = torch.fake_quantize_per_tensor_affine(
        x, quantizer.scale, quantizer.zero_point.int(), 0, 255
    )
    # torch multiplies by 1 / scale, so that a value between two levels may go to the other one.
    assert float((own - reference).abs().max()) <= 1.01 * float(quantizer.scale)


def test_nothing_but_zeros_stays_zero() -> None:
    quantizer = ActivationQuantizer(0.0, 0.0)
    with torch.no_grad():
        assert torch.equal(quantizer(torch.zeros(3)), torch.zeros(3))
    assert bool(torch.isfinite(quantizer.scale))


def test_gradients_pass_where_nothing_is_cut() -> None:
    x = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    ActivationQuantizer(-1.0, 1.0)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
