"""Metrics of any task with bootstrap intervals, from the statistics of each sample.

The task computes the metrics; the bootstrap resamples the samples' statistics. Where samples are
windows of texts, those of one text aren't independent: whole texts are resampled, or, of a single
text, blocks of windows (Künsch 1989; Politis and Romano 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from modelwright.arrays import Doubles, Ints
from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.intervals import TAIL, Interval
from modelwright.evaluation.measurement import Record
from modelwright.ledger import Evidence
from modelwright.tasks import SampleStats, take

Compute = Callable[[SampleStats], Mapping[str, float]]
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
    """Return the metrics of samples, each with its bootstrap interval.

    `method` says how the samples were predicted. With the counts of each label, no interval is
    narrower than Wilson's of these. Where samples are windows of texts, `texts` is the number of
    each window's text.

    Raises:
        DataError: there is nothing to measure.
    """
    size = len(next(iter(stats.values())))
    figures = {name: float(value) for name, value in compute(stats).items()}
    resample = resampling(size, texts)
    drawn = draws(stats, resample.draw, compute)
    least = {} if counts is None else _least_bounds(figures, counts, size)
    losses = stats["losses"] if "losses" in stats else np.empty(0)
    evidence = []
    for metric, value in figures.items():
        bounds = resample.bounds(value, drawn[metric])
        is_loss = metric == "log_loss"
        ends = (value, *bounds, *least.get(metric, ()))
        evidence.append(
            record(
                metric,
                value,
                (min(ends), max(ends)),
                n=size - int(np.isinf(losses).sum()) * is_loss,
                method=method
                + without_loss(losses) * is_loss
                + f"; bootstrap of {len(drawn[metric]):,} draws{resample.unit}"
                + ", never narrower than Wilson's interval" * (metric in least),
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
    """Return Wilson bounds, which hold where a bootstrap has no variance: all predictions right."""
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


@dataclass(frozen=True, slots=True)
class Resampling:
    """How a bootstrap resamples."""

    draw: Callable[[np.random.Generator], Ints]
    """Returns the positions of the samples drawn."""
    unit: str = ""
    """What is drawn, for the evidence, where it isn't single samples."""
    widening: float = 1.0
    """The factor by which bounds are widened where there are few units to draw from."""

    def bounds(self, value: float, drawn: list[float]) -> Interval:
        """Return the bounds of a metric from its values over the draws."""
        low, high = (float(end) for end in np.quantile(drawn, [TAIL, 1 - TAIL]))
        if self.widening == 1.0:
            return Interval(low, high)
        # No metric of texts is negative.
        low = max(0.0, value - (value - low) * self.widening)
        return Interval(low, value + (high - value) * self.widening)


def resampling(count: int, texts: Ints | None = None) -> Resampling:
    """Return how samples are drawn so that the draws are independent.

    Samples are drawn one by one; of windows, whole texts are drawn with all of their windows, or,
    of a single text, blocks of N^(1/3) windows in a row (Hall et al. 1995).
    """
    if texts is None:
        return Resampling(lambda random: random.integers(0, count, size=count))
    order = np.argsort(texts, kind="stable")
    _, sizes = np.unique(texts, return_counts=True)
    if len(sizes) > 1:
        windows = np.split(order, np.cumsum(sizes)[:-1])

        def whole(random: np.random.Generator) -> Ints:
            chosen = random.integers(0, len(windows), size=len(windows))
            return np.concatenate([windows[text] for text in chosen])

        unit = f" of whole texts, of which there are {len(sizes):,}"
        return Resampling(whole, unit, intervals.student_widening(len(sizes)))
    size = math.ceil(count ** (1 / 3))
    blocks = -(-count // size)

    def in_blocks(random: np.random.Generator) -> Ints:
        starts = random.integers(0, count, size=blocks)[:, None]
        picks = (starts + np.arange(size)).ravel()[:count] % count  # Blocks wrap around.
        positions: Ints = order[picks]
        return positions

    unit = f" of blocks of {size} windows in a row, since all are of one text"
    return Resampling(in_blocks, unit, intervals.student_widening(blocks))


def draws(
    stats: SampleStats, draw: Callable[[np.random.Generator], Ints], compute: Compute
) -> dict[str, list[float]]:
    """Return each metric over samples drawn with replacement.

    A draw without anything to measure, such as images without any box, is left out.
    """
    size = sum(array.size for array in stats.values())
    times = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _VALUES_DRAWN // max(1, size)))
    random = np.random.default_rng(0)
    values: dict[str, list[float]] = {}
    for _ in range(times):
        try:
            figures = compute(take(stats, draw(random)))
        except DataError:
            continue
        for metric, value in figures.items():
            values.setdefault(metric, []).append(float(value))
    return values
