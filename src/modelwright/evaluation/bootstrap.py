"""Metrics of any task with intervals, from the statistics of each sample.

The task computes the metrics; those that don't follow from sums, such as average precision, are
computed anew for samples that are drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelwright.arrays import Doubles, Ints
from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.intervals import TAIL, Interval
from modelwright.evaluation.measurement import Record
from modelwright.evaluation.studentized import interval_method, studentized_bounds, units
from modelwright.ledger import Evidence
from modelwright.tasks import Compute, SampleStats, Scoring, take

Counts = tuple[Ints, Ints, Ints]
"""How often each label is predicted rightly, predicted, and present, `[K]` each."""
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

    Metrics that follow from sums have those of the studentized bootstrap, others quantiles of a
    bootstrap. `method` says how the samples were predicted. With the counts of each label, no
    interval is narrower than the exact one of these. Where samples are windows of texts, `texts` is
    the number of each window's text.

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
    drawn = draws(stats, compute)
    least = {} if counts is None else _least_bounds(figures, counts, size)
    losses = stats["losses"] if "losses" in stats else np.empty(0)
    evidence = []
    for metric, value in figures.items():
        is_loss = metric == "log_loss"
        ends = (value, *np.quantile(drawn[metric], [TAIL, 1 - TAIL]), *least.get(metric, ()))
        evidence.append(
            record(
                metric,
                value,
                (float(min(ends)), float(max(ends))),
                n=size - int(np.isinf(losses).sum()) * is_loss,
                method=method
                + without_loss(losses) * is_loss
                + f"; bootstrap of {len(drawn[metric]):,} draws"
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
    """Return exact bounds, which hold where a bootstrap has no variance: all predictions right."""
    hits, predicted, support = (each.astype(np.float64) for each in counts)
    low, high = intervals.class_bounds(hits.sum(), predicted.sum(), support.sum()).f1
    least = {"f1_micro": Interval(float(low), float(high))}
    if "exact_match" in figures:
        least["exact_match"] = intervals.share(round(figures["exact_match"] * samples), samples)
    occurs = predicted + support > 0
    if occurs.any():
        least |= intervals.combined_bounds(hits[occurs], predicted[occurs], support[occurs])
    return {
        name: (max(0.0, low), min(1.0, high))
        for name, (low, high) in least.items()
        if name in figures
    }


def draws(stats: SampleStats, compute: Compute) -> dict[str, list[float]]:
    """Return each metric over samples drawn with replacement.

    A draw without anything to measure, such as images without any box, is left out.
    """
    count = len(next(iter(stats.values())))
    size = sum(array.size for array in stats.values())
    times = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _VALUES_DRAWN // max(1, size)))
    random = np.random.default_rng(0)
    values: dict[str, list[float]] = {}
    for _ in range(times):
        try:
            figures = compute(take(stats, random.integers(0, count, size=count)))
        except DataError:
            continue
        for metric, value in figures.items():
            values.setdefault(metric, []).append(float(value))
    return values
