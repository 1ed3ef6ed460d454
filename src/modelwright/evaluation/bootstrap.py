"""Metrics of any task with intervals, from the statistics of each sample.

The task computes the metrics; those that don't follow from sums are computed anew for samples that
are drawn: with replacement, or, for average precision and its like, for random halves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelwright.arrays import Doubles, Ints
from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.intervals import TAIL, Interval, student
from modelwright.evaluation.measurement import Record
from modelwright.evaluation.studentized import (
    MEAN_LOSS,
    interval_method,
    studentized_bounds,
    units,
)
from modelwright.ledger import Evidence
from modelwright.recipe.targets import METRICS
from modelwright.tasks import Compute, Ranking, SampleStats, Scoring, take

Counts = tuple[Ints, Ints, Ints]
"""How often each label is predicted rightly, predicted, and present, `[K]` each."""
BIAS = 1.4
"""The bias of a metric that ranks, as a multiple of how far random halves lie from it."""
HALF_SAMPLES = "random halves of the samples, corrected for the bias on few"
_MOST_DRAWS, _FEWEST_DRAWS = 1000, 100
_VALUES_DRAWN = 100_000_000
"""The most values that are resampled in all, which bounds the time of the bootstrap."""


def bounded(
    stats: SampleStats,
    compute: Compute,
    record: Record,
    *,
    method: str,
    counts: Counts | None = None,
    texts: Ints | None = None,
) -> list[Evidence]:
    """Return the metrics of samples, each with its interval.

    Metrics that follow from sums have those of the studentized bootstrap, those that rank
    predictions those of half-samples, others quantiles of a bootstrap. `method` says how the
    samples were predicted. With the counts of each label, no interval is narrower than the exact
    one of these. Where samples are windows of texts, `texts` is the number of each window's text.

    Raises:
        DataError: there is nothing to measure.
    """
    size = len(next(iter(stats.values())))
    figures = {name: float(value) for name, value in compute(stats).items()}
    if isinstance(compute, Scoring):
        columns, unit = units(compute.columns(stats), texts)
        bounds_of = studentized_bounds(columns, compute)
        how = f"; {interval_method(len(columns))}{unit}"
        return [
            record(name, value, bounds_of[name], n=size, method=method + how)
            for name, value in figures.items()
        ]
    if isinstance(compute, Ranking):
        bounds_of = half_sample_bounds(stats, compute)
        return [
            record(
                name, value, bounds_of[name], n=size, method=f"{method}; interval by {HALF_SAMPLES}"
            )
            for name, value in figures.items()
        ]
    drawn = draws(stats, compute)
    least = {} if counts is None else _least_bounds(figures, counts, size)
    losses = stats["losses"] if "losses" in stats else np.empty(0)
    evidence = []
    for metric, value in figures.items():
        is_loss = metric == "log_loss"
        bounds: Sequence[float] = np.quantile(drawn[metric], [TAIL, 1 - TAIL]).tolist()
        how = f"bootstrap of {len(drawn[metric]):,} draws"
        if is_loss:
            finite = losses[np.isfinite(losses)]
            columns = MEAN_LOSS.columns({"losses": finite})
            bounds, how = (
                studentized_bounds(columns, MEAN_LOSS)[metric],
                interval_method(len(finite)),
            )
        ends = (value, *bounds, *least.get(metric, ()))
        evidence.append(
            record(
                metric,
                value,
                (float(min(ends)), float(max(ends))),
                n=size - int(np.isinf(losses).sum()) * is_loss,
                method=method
                + without_loss(losses) * is_loss
                + f"; {how}"
                + ", never narrower than the exact interval of the counts" * (metric in least),
            )
        )
    return evidence


def without_loss(losses: Doubles) -> str:
    """Say how many samples have an infinite log loss, which isn't averaged; empty where none."""
    count = int(np.isinf(losses).sum())
    return f", without {count:,} samples of classes that aren't in training" if count else ""


def _least_bounds(
    figures: Mapping[str, float], counts: Counts, samples: int
) -> dict[str, tuple[float, float]]:
    """Return exact bounds, which hold where a bootstrap has no variance: all predictions right.

    They take labels to be independent; so means over labels have them only where some label has few
    mistakes.
    """
    hits, predicted, support = (each.astype(np.float64) for each in counts)
    low, high = intervals.class_bounds(hits.sum(), predicted.sum(), support.sum()).f1
    least = {"f1_micro": Interval(float(low), float(high))}
    if "exact_match" in figures:
        least["exact_match"] = intervals.share(round(figures["exact_match"] * samples), samples)
    occurs = predicted + support > 0
    if occurs.any():
        least |= intervals.combined_bounds(hits[occurs], predicted[occurs], support[occurs])
    if intervals.has_many_mistakes(hits, predicted, support):
        least = {name: each for name, each in least.items() if name == "exact_match"}
    return {
        name: (max(0.0, low), min(1.0, high))
        for name, (low, high) in least.items()
        if name in figures
    }


def half_sample_bounds(stats: SampleStats, ranking: Ranking) -> dict[str, Interval]:
    """Return the bounds of metrics that rank the predictions of all samples.

    The metric of random halves of the samples varies as that of all samples does between data sets
    (half-samples: McCarthy 1969), and how far its mean lies from the metric of all tells the bias,
    which a bootstrap sees too little of. Average precision is too high on few samples, by an amount
    that falls more slowly than 1/N; so the bias is `BIAS` times this distance. Student's quantile,
    with twice as many degrees as the median label has samples, allows for labels with few samples:
    the factors are from simulations (`benchmarks/coverage.py`). Where all halves are perfect, the
    low bound is that of the share of perfect samples.
    """
    count = len(next(iter(stats.values())))
    support = ranking.support(stats)
    reach = student(2 * int(np.median(support[support > 0]))) if support.any() else 0.0
    drawn = draws(stats, ranking, halves=True)
    bounds = {}
    for name, value in ranking(stats).items():
        halves = np.array(drawn.get(name, [value]))
        centre = value - BIAS * float(halves.mean() - value)
        spread = reach * float(halves.std(ddof=1)) if len(halves) > 1 else 0.0
        low, high = min(value, centre - spread), max(value, centre + spread)
        lowest, highest = METRICS[name].range
        if value == highest and low == high:
            low = highest - (highest - lowest) * (1 - intervals.share(count, count).low)
        bounds[name] = Interval(max(low, lowest), min(high, highest))
    return bounds


def draws(stats: SampleStats, compute: Compute, *, halves: bool = False) -> dict[str, list[float]]:
    """Return each metric over samples drawn with replacement, or over random halves of them.

    A draw without anything to measure, such as images without any box, is left out.
    """
    count = len(next(iter(stats.values())))
    size = sum(array.size for array in stats.values())
    times = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _VALUES_DRAWN // max(1, size)))
    random = np.random.default_rng(0)
    values: dict[str, list[float]] = {}
    for _ in range(times):
        try:
            if halves:
                rows = random.permutation(count)[: max(1, count // 2)]
            else:
                rows = random.integers(0, count, size=count)
            figures = compute(take(stats, rows))
        except DataError:
            continue
        for metric, value in figures.items():
            values.setdefault(metric, []).append(float(value))
    return values
