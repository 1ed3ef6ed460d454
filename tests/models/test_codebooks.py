"""Codebooks: weighted k-means against brute force, stages, and weights in another order."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelwright.models.codebooks import (
    arrangement,
    blocked,
    encode,
    fit_codebooks,
    k_means,
    nearest_entries,
)
from modelwright.models.coded import decoded

ROUNDING = 1e-4
"""A weighted square by products differs so far from one by differences, in fp32."""


def drawn(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw), torch.rand(*shape, generator=draw) + 0.05


def squares(x: Tensor, w: Tensor, entries: Tensor, codes: Tensor) -> float:
    return float((w * (x - entries[codes]).square()).sum())


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 5), st.integers(1, 9))
def test_the_nearest_entry_is_that_of_brute_force(seed: int, n: int, d: int, k: int) -> None:
    x, w = drawn(seed, n, d)
    entries, _ = drawn(seed + 1, k, d)
    each = (w[:, None] * (x[:, None] - entries).square()).sum(2)
    codes, distances = nearest_entries(x, w, entries)
    torch.testing.assert_close(distances, each.min(1).values, rtol=ROUNDING, atol=ROUNDING)
    taken = each.gather(1, codes[:, None])[:, 0]
    torch.testing.assert_close(taken, each.min(1).values, rtol=ROUNDING, atol=ROUNDING)


@given(st.integers(0, 2**31), st.integers(2, 9))
def test_no_step_makes_the_error_larger(seed: int, k: int) -> None:
    x, w = drawn(seed, 60, 3)
    errors = [squares(x, w, *k_means(x, w, k, seed, steps=steps)) for steps in range(6)]
    for sooner, later in itertools.pairwise(errors):
        assert later <= sooner * (1 + ROUNDING)


def test_two_entries_are_the_best_of_all_partitions() -> None:
    # On a line, the best of two parts is a cut.
    x = torch.tensor([[-1.0], [-0.8], [0.1], [2.0], [2.2], [9.0]])
    w = torch.tensor([[1.0], [2.0], [1.0], [4.0], [1.0], [0.01]])
    best = min(
        sum(
            float((w[part] * (x[part] - (w[part] * x[part]).sum() / w[part].sum()).square()).sum())
            for part in (list(taken), [at for at in range(6) if at not in taken])
        )
        for count in (1, 2, 3)
        for taken in itertools.combinations(range(6), count)
    )
    found = min(squares(x, w, *k_means(x, w, 2, seed)) for seed in range(5))
    assert found == pytest.approx(best, rel=1e-5)


def test_an_entry_without_blocks_moves_to_those_that_are_far_from_theirs() -> None:
    centres = torch.arange(8.0)[:, None].expand(8, 2) * 100
    x = centres.repeat_interleave(5, 0) + drawn(0, 40, 2)[0] * 0.01
    start = torch.cat([centres[:7], torch.full((1, 2), -1e6)])
    entries, codes = k_means(x, torch.ones_like(x), 8, 0, start=start)
    torch.testing.assert_close(entries[codes[::5]], centres, rtol=0, atol=0.05)


def test_more_entries_than_blocks_hold_each_block_exactly() -> None:
    x, w = drawn(3, 5, 4)
    entries, codes = k_means(x, w, 8, 0)
    assert squares(x, w, entries, codes) < 1e-9


def test_what_counts_more_is_kept_better_and_a_seed_decides() -> None:
    x, _ = drawn(1, 400, 2)
    w = torch.tensor([100.0, 1.0]).expand(400, 2)
    entries, codes = k_means(x, w, 8, 0)
    errors = (x - entries[codes]).square().mean(0)
    assert errors[0] < 0.2 * errors[1]
    again = k_means(x, w, 8, 0)
    assert torch.equal(again[0], entries)
    assert torch.equal(again[1], codes)
    assert not torch.equal(k_means(x, w, 8, 1)[0], entries)


def test_each_further_codebook_leaves_less() -> None:
    x, w = drawn(2, 500, 4)
    errors = []
    for number in (1, 2, 3):
        codes, codebook = fit_codebooks(x, w, 8, number, 0)
        rest = x - decoded(codes[:, :, None], codebook)[:, 0]
        errors.append(float((w * rest.square()).sum()))
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 9))
def test_an_arrangement_gives_each_weight_a_place_of_its_own(
    channels: int, kernel: int, size: int
) -> None:
    weight, importance = drawn(channels, 3, channels, kernel)
    order = arrangement(weight, importance, size, 0)
    assert len(order.unique()) == channels * kernel
    width = -(-channels // size) * size
    places = order.reshape(channels, kernel)
    assert torch.equal(places - places[:, :1], (torch.arange(kernel) * width).expand_as(places))
    assert 0 <= int(places[:, 0].min()) <= int(places[:, 0].max()) < width
    x, w = blocked(weight.flatten(1), importance.flatten(1), size, order)
    assert x.shape == (3 * kernel * width // size, size)
    back = x.reshape(3, -1)[:, order]
    assert torch.equal(back, weight.flatten(1))
    assert float(w.sum()) == pytest.approx(float(importance.sum()), rel=1e-4)


def kept(weight: Tensor, importance: Tensor | None = None, **asked: object) -> object:
    if importance is None:
        importance = torch.ones_like(weight)
    common = {"block_size": 4, "codebook_size": 16, "codebooks": 1, "permute": True, "seed": 0}
    return encode(weight, importance, **{**common, **asked})


def test_channels_change_places_where_that_helps() -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1.0, 0.01]).repeat_interleave(32)[torch.randperm(64, generator=draw)]
    weight = torch.randn(64, 64, generator=draw) * sizes
    found, plain = kept(weight), kept(weight, permute=False)
    assert found.order is not None
    assert plain.order is None
    assert found.error < 0.9 * plain.error


def test_a_pattern_along_the_kernel_stays_as_it_is() -> None:
    draw = torch.Generator().manual_seed(0)
    patterns = torch.randn(16, 9, generator=draw)
    weight = patterns[torch.randint(0, 16, (32, 16), generator=draw)].reshape(32, 16, 3, 3)
    found = kept(weight, block_size=9, codebook_size=64)
    assert found.order is None
    assert found.error < 1e-6


def test_the_codes_stand_for_the_weights_as_well_as_the_error_says() -> None:
    weight, importance = drawn(4, 12, 6, 3, 3)
    for permute in (False, True):
        found = kept(weight, importance, block_size=5, codebooks=2, permute=permute)
        assert found.codes.dtype == torch.uint8
        assert found.order is not None  # 54 weights fill no whole blocks of 5.
        rows = decoded(found.codes, found.codebook).flatten(1)[:, found.order]
        errors = importance * (rows.reshape(weight.shape) - weight).square()
        share = float(errors.sum() / (importance * weight.square()).sum())
        assert share == pytest.approx(found.error, rel=1e-3)


def test_the_row_of_padding_is_zero() -> None:
    weight, importance = drawn(5, 40, 8)
    weight[3] = 0
    found = kept(weight, importance, zero=3)
    assert not found.codebook[:, 0].any()
    assert not found.codes[:, 3].any()
    assert found.codebook.shape == (1, 16, 4)
    assert int(found.codes.max()) <= 15


def test_weights_that_are_all_zero_have_no_error() -> None:
    assert kept(torch.zeros(8, 8)).error == 0.0
