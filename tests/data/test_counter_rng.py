from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data.counter_rng import CounterRNG, Stream, bits, key

COUNT = 100_000
SIGMAS = 5
"""A right generator fails one of these about once in a million changes of its constants."""


def uniform(*, seed=0, epoch=0, stream=Stream.FLIP, count=COUNT):
    return CounterRNG(seed, epoch, np.arange(count)).uniform(stream)


def test_known_bits():
    """The first outputs of SplitMix64 seeded with 1234567, as its authors' code prints them."""
    found = bits(1234567, np.arange(5))
    assert found.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert key(1234567) == found[0]


@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
)
def test_a_figure_depends_on_its_own_position_alone(seed, epoch, positions):
    together = CounterRNG(seed, epoch, np.array(positions)).uniform(Stream.CUT_X)
    for index, position in enumerate(positions):
        alone = CounterRNG(seed, epoch, np.array([position])).uniform(Stream.CUT_X)
        assert alone[0] == together[index]
    assert ((together >= 0) & (together < 1)).all()


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_figures_are_uniform(seed):
    found = uniform(seed=seed)
    counts = np.histogram(found, bins=64, range=(0, 1))[0]
    expected = COUNT / 64
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 63) < SIGMAS * np.sqrt(2 * 63)
    assert abs(found.mean() - 0.5) < SIGMAS / np.sqrt(12 * COUNT)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"epoch": 1},
        {"stream": Stream.SHIFT_X},
        {"seed": 1, "epoch": 2, "stream": Stream.CROP_X},
    ],
)
def test_streams_epochs_and_seeds_are_independent(other):
    one, two = uniform(), uniform(**other)
    assert abs(np.corrcoef(one, two)[0, 1]) < SIGMAS / np.sqrt(COUNT)
    assert abs(np.corrcoef(one[1:], two[:-1])[0, 1]) < SIGMAS / np.sqrt(COUNT)


def test_neighbours_are_independent():
    found = uniform()
    for lag in (1, 2, 32, 1000):
        assert abs(np.corrcoef(found[lag:], found[:-lag])[0, 1]) < SIGMAS / np.sqrt(COUNT - lag)


def test_every_bit_is_fair():
    found = bits(key(7), np.arange(20_000))
    for bit in range(64):
        ones = int(((found >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - 10_000) < SIGMAS * np.sqrt(20_000) / 2


@given(st.integers(-5, 5), st.integers(0, 6))
def test_whole_numbers_take_every_value_and_no_other(low, reach):
    found = CounterRNG(0, 0, np.arange(2000)).integers(Stream.CUT_Y, low, low + reach)
    assert set(found.tolist()) == set(range(low, low + reach + 1))


def test_what_is_drawn_once_is_the_same_in_every_epoch():
    one, two = (CounterRNG(3, epoch, np.arange(1000)).always(Stream.FLIP) for epoch in (0, 9))
    assert np.array_equal(one, two)
    assert 0.4 < one.mean() < 0.6


def test_keys_depend_on_order_and_length():
    found = {key(), key(0), key(0, 0), key(0, 1), key(1, 0), key(1), key(2**64 - 1)}
    assert len(found) == 7


def test_another_attempt_draws_anew():
    rng = CounterRNG(3, 1, np.arange(1000))
    figures = [rng.uniform(Stream.CUT_X, attempt=attempt) for attempt in range(3)]
    ranges = [rng.between(Stream.CUT_X, 5.0, 7.0, attempt=attempt) for attempt in range(3)]
    for one, other in itertools.combinations(figures, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2
    for figure, found in zip(figures, ranges, strict=True):
        np.testing.assert_allclose(found, 5.0 + 2.0 * figure)
