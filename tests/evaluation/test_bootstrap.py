"""Bootstrap intervals of any task's figures, and what is drawn together."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from modelwright import metrics
from modelwright.errors import DataError
from modelwright.evaluation.bootstrap import bounded, half_sample_bounds
from modelwright.evaluation.measurement import sampled
from modelwright.evaluation.studentized import FEW_WRONG, MANY, _with_few_wrong
from modelwright.ledger import Evidence
from modelwright.tasks import Ranking, SampleStats, Scoring

RECORD = partial(sampled, split="test", data="data")


MEAN = Scoring(
    lambda stats: np.stack([np.ones(len(stats["value"])), stats["value"]], axis=1),
    lambda sums: {"token_loss": sums[..., 1] / sums[..., 0]},
)


def mean_bounds(values: NDArray[Any], texts: NDArray[Any] | None = None) -> Evidence:
    (record,) = bounded({"value": values}, MEAN, RECORD, method="made up", texts=texts)
    return record


def width(record: Evidence) -> float:
    assert record.low < record.value < record.high
    return record.high - record.low


@pytest.mark.parametrize("count", [400, MANY])
def test_the_interval_of_a_mean_is_the_normal_ones(count: int) -> None:
    values = 9 + np.random.default_rng(0).normal(size=count)
    record = mean_bounds(values)
    assert record.value == pytest.approx(values.mean())
    assert width(record) == pytest.approx(2 * 1.96 * values.std(ddof=1) / count**0.5, rel=0.1)
    assert (record.n, record.split, record.data) == (count, "test", "data")
    how = (
        "interval by the delta method" if count == MANY else "studentized bootstrap of 2,000 draws"
    )
    assert record.method == f"made up; {how}"


def test_windows_of_one_text_count_as_one() -> None:
    # 40 texts of 25 windows each, that differ by text: the mean of 40 values, not of 1,000.
    random, texts = np.random.default_rng(0), np.repeat(np.arange(40), 25)
    values = 5 + random.normal(size=40)[texts] + random.normal(size=1000) / 10
    record = mean_bounds(values, texts)
    means = values.reshape(40, 25).mean(axis=1)
    assert width(record) == pytest.approx(2 * 2.02 * means.std(ddof=1) / 40**0.5, rel=0.15)
    assert "of the 40 texts" in record.method
    shuffled = random.permutation(1000)
    mixed = mean_bounds(values[shuffled], texts[shuffled])
    assert width(mixed) == pytest.approx(width(record), rel=0.15)


def test_of_a_single_text_blocks_count() -> None:
    # Neighbours alike: the mean is of far fewer values than there are.
    random = np.random.default_rng(0)
    noise, values = random.normal(size=1000), np.zeros(1000)
    for at in range(1, 1000):
        values[at] = 0.8 * values[at - 1] + 0.6 * noise[at]
    one = mean_bounds(5 + values, np.zeros(1000, np.int64))
    assert "blocks of 10 windows in a row, since all are of one text" in one.method
    assert width(one) > 2 * width(mean_bounds(5 + values))
    assert mean_bounds(5 + values, np.repeat([0, 1], 500)).low >= 0
    single = mean_bounds(np.ones(1), np.zeros(1, np.int64))
    assert (single.low, single.value, single.high) == (1, 1, 1)


@pytest.mark.parametrize("count", [2, 4])
def test_few_texts_are_at_least_as_wide_as_students_interval(count: int) -> None:
    random, widths = np.random.default_rng(1), []
    for _ in range(20):
        values = 50 + random.normal(size=count)
        record = mean_bounds(np.repeat(values, 30), np.repeat(np.arange(count), 30))
        widths.append(width(record) / (2 * values.std(ddof=1) / count**0.5))
    student = {2: 12.706, 4: 3.182}[count]
    assert np.median(widths) > 0.7 * student


def test_a_draw_with_nothing_to_measure_counts_for_nothing() -> None:
    def share_of_some(stats: Any) -> dict[str, float]:
        if not stats["value"].any():
            raise DataError("nothing to measure")
        return {"map50": 1.0}

    (record,) = bounded(
        {"value": np.array([True, False, False])}, share_of_some, RECORD, method="made up"
    )
    drawn = int(record.method.split()[-2].replace(",", ""))
    assert 620 < drawn < 790  # (2/3)³ of a thousand draw nothing but the other two


def test_counts_widen_what_never_varies() -> None:
    counts = tuple(np.array([20, 20]) for _ in range(3))
    (plain,) = bounded({"value": np.ones(40)}, lambda _: {"f1_micro": 1.0}, RECORD, method="")
    assert (plain.low, plain.high) == (1.0, 1.0)
    stats = {"value": np.ones(40)}
    wider, exact = bounded(
        stats, lambda _: {"f1_micro": 1.0, "exact_match": 1.0}, RECORD, method="", counts=counts
    )
    share = 0.025 ** (1 / 40)  # Clopper and Pearson's low bound of n of n.
    assert wider.low == pytest.approx(2 * share / (1 + share), abs=1e-4)
    assert exact.low == pytest.approx(share, abs=1e-4)
    assert "never narrower than the exact interval" in wider.method
    # Where each label has many mistakes, draws alone say how these vary.
    poor = (np.array([10, 10]), np.array([20, 20]), np.array([20, 20]))
    half, exact = bounded(
        stats, lambda _: {"f1_micro": 0.5, "exact_match": 0.5}, RECORD, method="", counts=poor
    )
    assert (half.low, half.high) == (0.5, 0.5)
    assert "never narrower" not in half.method
    assert exact.low == pytest.approx(binomtest(20, 40).proportion_ci().low)


@pytest.mark.parametrize("wrong", [1, FEW_WRONG, FEW_WRONG + 1])
def test_what_few_imperfect_samples_cost_is_bounded_by_their_share(wrong: int) -> None:
    alone = np.array([0.0] * wrong + [100.0] * (200 - wrong))
    found = _with_few_wrong("chrf", float(alone.mean()), alone, 99.9, 100.0)
    if wrong > FEW_WRONG:
        assert found == (99.9, 100.0)
    else:
        share = binomtest(wrong, 200).proportion_ci().high
        assert found == pytest.approx((100.0 * (1 - share), 100.0))


def test_the_log_loss_leaves_out_what_has_none() -> None:
    losses = np.array([1.0, 2.0, np.inf, np.inf])
    log_loss, other = bounded(
        {"losses": losses},
        lambda stats: {"log_loss": metrics.mean_loss(stats["losses"]).get("log_loss", 0.0), "a": 1},
        RECORD,
        method="made up",
    )
    assert (log_loss.value, log_loss.n, other.n) == (1.5, 2, 4)
    assert "without 2 samples of classes that aren't in training" in log_loss.method
    assert "without" not in other.method


def biased(stats: SampleStats) -> dict[str, float]:
    """The mean plus 1 / √N, as a metric that is too high where samples are few."""
    values = stats["value"]
    return {"r2": float(values.mean() + len(values) ** -0.5)}


def test_half_samples_hold_what_a_metric_tends_to() -> None:
    ranking = Ranking(biased, lambda stats: np.array([len(stats["value"]) // 2]))
    random = np.random.default_rng(0)
    held = []
    for _ in range(200):
        low, high = half_sample_bounds({"value": random.normal(size=60)}, ranking)["r2"]
        held.append(low <= 0 <= high)
        assert low < high
    # 1 / √60 is a standard error: a bootstrap about the value would hold 0 in 83 %.
    assert np.mean(held) >= 0.9


def test_halves_that_are_all_perfect_have_the_bound_of_a_share() -> None:
    ranking = Ranking(lambda _: {"map50": 1.0}, lambda stats: np.array([40]))
    bounds = half_sample_bounds({"value": np.ones(40)}, ranking)["map50"]
    assert bounds == pytest.approx((0.025 ** (1 / 40), 1.0), abs=1e-6)
