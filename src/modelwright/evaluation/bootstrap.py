"""Figures of any task with bootstrap intervals, from what became of each sample.

The task's own `summary` names the figures; the bootstrap draws the samples' tallies anew. Where
samples are stretches of texts, those of one text aren't independent: whole texts are drawn, or, of
a single text, blocks of it (Künsch 1989; Politis and Romano 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.intervals import TAIL, Interval
from modelwright.evaluation.measurement import Record
from modelwright.ledger import Evidence
from modelwright.metrics import Doubles, Ints
from modelwright.tasks import SampleStats, take

Summary = Callable[[SampleStats], Mapping[str, float]]
Counts = tuple[Ints, Ints, Ints]
"""How often each label is rightly chosen, chosen, and there, `[K]` each."""
_MOST_DRAWS, _FEWEST_DRAWS = 1000, 100
_VALUES_DRAWN = 100_000_000
"""Bounds the time of the bootstrap: the values that are scored anew, in all."""


def bounded(
    tally: SampleStats,
    summary: Summary,
    record: Record,
    *,
    method: str,
    counts: Counts | None = None,
    texts: Ints | None = None,
) -> list[Evidence]:
    """Return the figures of a tally, each with its bootstrap interval.

    Args:
        tally: what became of each sample.
        summary: turns it into figures by name.
        record: makes a record of evidence.
        method: how the samples were answered, for the evidence.
        counts: of labels that are counted; no interval is then narrower than Wilson's of these.
        texts: of stretches of texts, in the order in which they follow each other, a number for
            each, the same for those of one text.

    Raises:
        DataError: there is nothing to measure.
    """
    size = len(next(iter(tally.values())))
    figures = {name: float(value) for name, value in summary(tally).items()}
    how = resampling(size, texts)
    drawn = draws(tally, how.draw, summary)
    least = {} if counts is None else _least_bounds(figures, counts, size)
    losses = tally["losses"] if "losses" in tally else np.empty(0)
    evidence = []
    for metric, value in figures.items():
        bounds = how.bounds(value, drawn[metric])
        is_loss = metric == "log_loss"
        evidence.append(
            record(
                metric=metric,
                value=value,
                low=min(value, bounds.low, *least.get(metric, ())),
                high=max(value, bounds.high, *least.get(metric, ())),
                n=size - int(np.isinf(losses).sum()) * is_loss,
                method=method
                + without_loss(losses) * is_loss
                + f"; bootstrap of {len(drawn[metric]):,} draws{how.said}"
                + ", never narrower than Wilson's interval" * (metric in least),
            )
        )
    return evidence


def without_loss(losses: Doubles) -> str:
    """Say how many samples have no log loss that could be averaged, if some have none."""
    count = int(np.isinf(losses).sum())
    return f", without {count:,} samples of classes that aren't in training" if count else ""


def _least_bounds(
    figures: Mapping[str, float], counts: Counts, samples: int
) -> dict[str, tuple[float, float]]:
    """Return bounds that hold where a bootstrap sees nothing vary: every sample right, perhaps."""
    hits, predicted, support = (each.astype(np.float64) for each in counts)
    low, high = intervals.class_bounds(hits.sum(), predicted.sum(), support.sum()).f1
    found = {"f1_micro": Interval(float(low), float(high))}
    if "exact_match" in figures:
        found["exact_match"] = intervals.share(round(figures["exact_match"] * samples), samples)
    occurs = predicted + support > 0
    if occurs.any():
        found |= intervals.combined_bounds(hits[occurs], predicted[occurs], support[occurs])
    return {
        name: (max(0.0, low), min(1.0, high))
        for name, (low, high) in found.items()
        if name in figures
    }


@dataclass(frozen=True, slots=True)
class Resampling:
    """How a bootstrap draws samples anew."""

    draw: Callable[[np.random.Generator], Ints]
    """Returns the positions drawn."""
    said: str = ""
    """What is drawn, for the evidence, where it isn't single samples."""
    widening: float = 1.0
    """How much wider bounds are made than the draws lie, where little can be drawn from."""

    def bounds(self, value: float, drawn: list[float]) -> Interval:
        """Return the bounds of a figure from what it was over each draw."""
        low, high = (float(end) for end in np.quantile(drawn, [TAIL, 1 - TAIL]))
        if self.widening == 1.0:
            return Interval(low, high)
        # Of texts no figure is below 0.
        low = max(0.0, value - (value - low) * self.widening)
        return Interval(low, value + (high - value) * self.widening)


def resampling(count: int, texts: Ints | None = None) -> Resampling:
    """Return how so many samples are drawn anew so that what is drawn is independent.

    Single samples; of stretches whole texts with all of their stretches, or, where they are all of
    one text, blocks of as many stretches in a row as the cube root of all (Hall et al. 1995).
    """
    if texts is None:
        return Resampling(lambda random: random.integers(0, count, size=count))
    order = np.argsort(texts, kind="stable")
    _, sizes = np.unique(texts, return_counts=True)
    if len(sizes) > 1:
        begins = np.cumsum(sizes) - sizes

        def whole(random: np.random.Generator) -> Ints:
            chosen = random.integers(0, len(sizes), size=len(sizes))
            counts = sizes[chosen]
            shifts = begins[chosen] - (np.cumsum(counts) - counts)
            found: Ints = order[np.arange(counts.sum()) + np.repeat(shifts, counts)]
            return found

        said = f" of whole texts, of which there are {len(sizes):,}"
        return Resampling(whole, said, intervals.student_widening(len(sizes)))
    size = math.ceil(count ** (1 / 3))
    blocks = -(-count // size)

    def in_blocks(random: np.random.Generator) -> Ints:
        starts = random.integers(0, count, size=blocks)[:, None]
        picks = (starts + np.arange(size)).ravel()[:count] % count  # The end goes on at the begin.
        found: Ints = order[picks]
        return found

    said = f" of blocks of {size} stretches in a row, for all are of one text"
    return Resampling(in_blocks, said, intervals.student_widening(blocks))


def draws(
    tally: SampleStats, draw: Callable[[np.random.Generator], Ints], summary: Summary
) -> dict[str, list[float]]:
    """Return each figure over samples drawn anew, with replacement.

    A draw in which there is nothing to measure, such as images without any box, counts for nothing.
    """
    size = sum(array.size for array in tally.values())
    times = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _VALUES_DRAWN // max(1, size)))
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(times):
        try:
            figures = summary(take(tally, draw(random)))
        except DataError:
            continue
        for metric, value in figures.items():
            found.setdefault(metric, []).append(float(value))
    return found
