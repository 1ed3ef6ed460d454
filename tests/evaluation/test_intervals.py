"""Intervals against published and hand-worked values, and whether they hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, t

from modelwright import metrics
from modelwright.evaluation import intervals

FEW = 300
"""Replicates of the coverage tests; enough to tell 95 % from 85 %."""


@pytest.mark.parametrize("samples", [1, 2, 10, 263, 25_000])
def test_exact_bounds_are_scipys(samples: int) -> None:
    hits = np.unique(np.linspace(0, samples, 40).round())
    low, high = intervals.clopper_pearson(hits, samples)
    expected = [binomtest(int(k), samples).proportion_ci() for k in hits]
    np.testing.assert_allclose(low, [each.low for each in expected], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(high, [each.high for each in expected], rtol=1e-8, atol=1e-12)


def test_exact_bounds_of_a_few_of_very_many_are_those_of_poissons_distribution() -> None:
    hits, samples = np.arange(1, 4), 1_000_000
    low, high = intervals.clopper_pearson(hits, samples)
    # The means at which so many hits or more, or so many or fewer, have 2.5 % (Garwood 1936).
    np.testing.assert_allclose(low * samples, chi2.ppf(0.025, 2 * hits) / 2, rtol=1e-5)
    np.testing.assert_allclose(high * samples, chi2.ppf(0.975, 2 * hits + 2) / 2, rtol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_exact_bounds_hold_the_share_and_mirror(hits: int, samples: int) -> None:
    hits = min(hits, samples)
    found, mirrored = intervals.share(hits, samples), intervals.share(samples - hits, samples)
    assert 0.0 <= found.low <= hits / samples <= found.high <= 1.0
    assert found.low < found.high
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_ends_of_exact_bounds() -> None:
    assert intervals.share(0, 0) == (0.0, 1.0)
    assert intervals.share(0, 1).low == 0.0
    assert intervals.share(1, 1).high == 1.0
    assert intervals.share(1, 1).low == pytest.approx(0.025)


def test_a_perfect_model_is_not_proven_perfect() -> None:
    cells = metrics.confusion(np.arange(40) % 4, np.arange(40) % 4, num_classes=4)
    for name, (low, high) in intervals.average_bounds(cells).items():
        assert 0.7 < low < 1.0, name
        assert high == 1.0, name
    low, high = intervals.calibration_bounds(np.ones(50), np.ones(50, dtype=bool))
    assert low == 0.0
    assert high == pytest.approx(1 - intervals.share(50, 50).low)


def test_average_bounds_hold_the_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "REPLICATES", FEW)
    random = np.random.default_rng(2)
    chances = np.array([[0.45, 0.05, 0.0], [0.04, 0.2, 0.06], [0.02, 0.03, 0.15]])
    population = chances * 1e6
    true = metrics.averages(np.diag(population), population.sum(axis=0), population.sum(axis=1))
    held = dict.fromkeys(true, 0)
    for seed in range(200):
        table = random.multinomial(150, chances.ravel()).reshape(3, 3)
        wanted, got = np.nonzero(table)
        cells = metrics.Confusion(3, wanted, got, table[wanted, got])
        for name, (low, high) in intervals.average_bounds(cells, seed=seed).items():
            held[name] += low <= float(true[name]) <= high
            assert 0.0 < low < high < 1.0, name
    for name, times in held.items():
        assert times / 200 >= 0.91, name


def test_draws_show_how_mistakes_vary_only_where_each_class_has_many() -> None:
    most = intervals.FEW_MISTAKES
    hits, others = np.array([50.0, 50.0, 0.0]), np.array([[0.0, 0.0, 0.0]] * 2)
    for missed, false, has_many in (
        ((most + 1, most + 1), (0, 0), True),
        ((most, most + 1), (1, 0), True),
        ((most, most + 1), (0, 0), False),
        ((most + 1, 0), (0, most), False),
    ):
        others[0, :2], others[1, :2] = false, missed  # The third class doesn't occur.
        found = intervals.has_many_mistakes(hits, hits + others[0], hits + others[1])
        assert found is has_many


def test_calibration_bounds_hold_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "REPLICATES", FEW)
    random = np.random.default_rng(3)
    held = 0
    for seed in range(200):  # always 0.1 too sure
        confidence = random.uniform(0.6, 1.0, size=500)
        hits = random.random(500) < confidence - 0.1
        low, high = intervals.calibration_bounds(confidence, hits, seed=seed)
        held += low <= 0.1 <= high
    assert held / 200 >= 0.91


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 29, 1000])
def test_students_quantile_is_scipys(freedom: int) -> None:
    assert intervals.student(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=1e-8)
    assert intervals.student(0) == 0.0


def test_classes_that_do_not_occur_change_nothing() -> None:
    few = metrics.Confusion(3, np.array([0, 1]), np.array([0, 0]), np.array([30, 10]))
    many = metrics.Confusion(100_000, np.array([5, 99_999]), np.array([5, 5]), np.array([30, 10]))
    assert intervals.average_bounds(few) == intervals.average_bounds(many)


def test_very_many_samples_draw_fewer_times() -> None:
    assert intervals.replicates(0) == intervals.REPLICATES
    assert intervals.replicates(1_000) == intervals.REPLICATES
    assert intervals.replicates(10_000_000) == 200


def test_class_bounds_carry_f1_over() -> None:
    bounds = intervals.class_bounds([8], [10], [12])
    low, high = intervals.share(8, 14)
    assert bounds.precision[0][0] == intervals.share(8, 10).low
    assert bounds.recall[1][0] == intervals.share(8, 12).high
    assert bounds.f1[0][0] == pytest.approx(2 * low / (1 + low))
    assert bounds.f1[1][0] == pytest.approx(2 * high / (1 + high))


def test_paired_bounds_by_hand() -> None:
    # (12 + 1)/(100 + 2) − (2 + 1)/(100 + 2), and its spread, worked by hand
    low, high = intervals.paired_bounds(12, 2, 100)
    first, second = 13 / 102, 3 / 102
    reach = intervals.Z * ((first + second - (first - second) ** 2) / 102) ** 0.5
    assert (low, high) == pytest.approx((10 / 102 - reach, 10 / 102 + reach))
    assert intervals.paired_bounds(5, 0, 5).high == 1.0
    assert intervals.paired_bounds(0, 5, 5).low == -1.0


def test_mcnemar_by_hand() -> None:
    assert intervals.mcnemar(0, 0) == 1.0
    assert intervals.mcnemar(5, 5) == 1.0
    assert intervals.mcnemar(8, 0) == pytest.approx(2 * 0.5**8)
    assert intervals.mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)


def test_quantile_bounds_by_hand() -> None:
    # The median of 20: the 6th and the 15th value (Conover 1999, table A3)
    value, bounds = intervals.quantile_bounds(np.arange(1.0, 21.0), 0.5)
    assert (value, bounds.low, bounds.high) == (10.0, 6.0, 15.0)


def test_quantile_bounds_of_one_value() -> None:
    assert intervals.quantile_bounds(np.array([3.0]), 0.95) == (3.0, (3.0, 3.0))
    assert not intervals.is_bounded(0.95, 1)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantile_bounds_hold_the_quantile(share: float) -> None:
    random = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        _, (low, high) = intervals.quantile_bounds(np.sort(random.random(300)), share)
        held += low <= share <= high
    assert held / 400 >= 0.93
