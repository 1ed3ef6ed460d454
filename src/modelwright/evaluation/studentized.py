"""Intervals of metrics that follow from sums over samples: the studentized bootstrap.

Error rates, BLEU, chrF, ROUGE, the errors of numbers and mean losses are smooth functions of sums
of a few columns over the samples. So their standard error follows from the gradient (the delta
method), in each draw of a bootstrap too, and the bounds are quantiles of the differences divided by
these errors (bootstrap-t: Efron and Tibshirani 1993, section 12.5). They hold for few and for
skewed samples, where quantiles of the draws themselves are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelwright.arrays import Doubles, Ints
from modelwright.evaluation.intervals import TAIL, Interval, Z, clopper_pearson, student
from modelwright.recipe.targets import METRICS
from modelwright.tasks import Scoring

REPLICATES = 2000
FEW = 10
"""Of fewer units the bounds are never narrower than Student's."""
MANY = 5000
"""From so many units on the normal distribution's bounds are as good, and are taken."""
FEW_APART = 4
"""So few units that aren't like all others say little of how many these are: draws may miss all."""
_VALUES_AT_ONCE = 4_000_000
"""Bounds the memory: 32 MB an array."""
_STEP = 1e-5
"""Of a difference quotient, as a share of the column's size."""

MEAN_LOSS = Scoring(
    lambda stats: np.stack([np.ones(len(stats["losses"])), stats["losses"]], axis=1),
    lambda sums: {"log_loss": sums[..., 1] / sums[..., 0]},
)
"""The mean loss of the samples that have one."""


def studentized_bounds(columns: Doubles, scoring: Scoring, *, seed: int = 0) -> dict[str, Interval]:
    """Return the bounds of the metrics of independent units with columns `[N, C]`.

    A unit is a sample, or all windows of one text. One unit says nothing of how units vary: its
    bounds are its value. Where most units are perfect by themselves, or worthless, draws say
    little; what the others change is then bounded by the exact interval of their share (the rule of
    three: Jovanovic and Levy 1997).
    """
    count = len(columns)
    values = _on_scale(scoring, columns.sum(axis=0))
    errors = _standard_errors(columns, np.ones((1, count)), scoring)
    drawn = _drawn(columns, scoring, seed) if 1 < count < MANY else {}
    alone = scoring.of_sums(columns)
    bounds = {}
    for name, on_scale in values.items():
        value, error = float(on_scale), float(errors[name][0])
        least, most = (-Z, Z) if name not in drawn else _quantiles(value, *drawn[name])
        if count < FEW:  # Hardly any draw differs from another.
            reach = student(count - 1)
            least, most = min(least, -reach), max(most, reach)
        ends = np.array([value - most * error, value, value - least * error])
        if name in scoring.scales:
            (lowest, _), back = METRICS[name].range, scoring.scales[name][1]
            ends = back(np.maximum(ends, scoring.scales[name][0](np.array(lowest))))
        low, value, high = ends.tolist()
        low, high = min(low, value), max(high, value)
        if METRICS[name].worst is not None:
            low, high = _with_few_apart(name, value, alone[name], low, high)
        lowest, highest = METRICS[name].range
        bounds[name] = Interval(max(low, lowest), min(high, highest))
    return bounds


def interval_method(count: int) -> str:
    """Say how the bounds of so many units are made, for the evidence."""
    if count >= MANY:
        return "interval by the delta method"
    return f"studentized bootstrap of {REPLICATES:,} draws"


def units(columns: Doubles, texts: Ints | None) -> tuple[Doubles, str]:
    """Return the columns `[U, C]` of independent units, and what these are, for the evidence.

    Windows of one text aren't independent: each text is a unit, or, of a single text, a block of
    N^(1/3) windows in a row (Carlstein 1986).
    """
    if texts is None:
        return columns, ""
    order = np.argsort(texts, kind="stable")
    names, firsts = np.unique(texts[order], return_index=True)
    if len(names) > 1:
        return np.add.reduceat(columns[order], firsts), f" of the {len(names):,} texts"
    size = round(len(columns) ** (1 / 3))
    blocks = np.add.reduceat(columns[order], np.arange(0, len(columns), size))
    return blocks, f" of blocks of {size} windows in a row, since all are of one text"


def _quantiles(value: float, drawn: Doubles, errors: Doubles) -> tuple[float, float]:
    """Return the quantiles of the draws' differences from a value, divided by their errors."""
    known = errors > 0
    if not known.any():
        return -Z, Z
    ratios = (drawn[known] - value) / errors[known]
    least, most = np.quantile(ratios, [TAIL, 1 - TAIL])
    return float(least), float(most)


def _with_few_apart(
    name: str, value: float, alone: Doubles, low: float, high: float
) -> tuple[float, float]:
    """Return other bounds where nearly all units, each by itself `[N]`, are perfect, or worthless.

    The few that are apart from the others may be too few by chance: the exact interval bounds their
    share, and each may differ as much as a perfect unit does from a worthless one.
    """
    metric = METRICS[name]
    assert metric.worst is not None
    best = metric.range[1] if metric.higher_is_better else metric.range[0]
    for end, other in ((best, metric.worst), (metric.worst, best)):
        apart = np.abs(alone - end)
        few = int((apart > 0).sum())
        if value != end and few > FEW_APART:
            continue
        share = float(clopper_pearson(few if value != end else 0, len(alone))[1])
        reach = share * max(abs(other - end), float(apart.max()))
        if other < end:
            low = min(value, end - reach)
        else:
            high = max(value, end + reach)
    return low, high


def _on_scale(scoring: Scoring, sums: Doubles) -> dict[str, Doubles]:
    """Return the metrics, each on the scale on which it is a mean."""
    return {
        name: scoring.scales[name][0](values) if name in scoring.scales else values
        for name, values in scoring.of_sums(sums).items()
    }


def _drawn(columns: Doubles, scoring: Scoring, seed: int) -> dict[str, tuple[Doubles, Doubles]]:
    """Return each metric of the draws, and its standard error, `[B]` each."""
    values: dict[str, list[Doubles]] = {}
    errors: dict[str, list[Doubles]] = {}
    for weights in _weights(len(columns), seed):
        for name, value in _on_scale(scoring, weights @ columns).items():
            values.setdefault(name, []).append(value)
        for name, error in _standard_errors(columns, weights, scoring).items():
            errors.setdefault(name, []).append(error)
    return {name: (np.concatenate(values[name]), np.concatenate(errors[name])) for name in values}


def _weights(count: int, seed: int) -> Iterator[Doubles]:
    """Yield how often each unit is drawn `[B, N]`, for some draws at a time."""
    random = np.random.default_rng(seed)
    step = max(1, _VALUES_AT_ONCE // count)
    for start in range(0, REPLICATES, step):
        size = min(step, REPLICATES - start)
        yield random.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)


def _standard_errors(columns: Doubles, weights: Doubles, scoring: Scoring) -> dict[str, Doubles]:
    """Return the standard error of each metric for units with weights `[B, N]`, `[B]` each."""
    count = len(columns)
    sums, sizes = weights @ columns, np.sqrt(weights @ columns**2)
    gradients: dict[str, list[Doubles]] = {}
    for column in range(columns.shape[1]):
        step = _STEP * sizes[:, column]
        ups, downs = sums.copy(), sums.copy()
        ups[:, column] += step
        downs[:, column] -= step
        above, below = _on_scale(scoring, ups), _on_scale(scoring, downs)
        for name in above:
            rise = np.where(step > 0, above[name] - below[name], 0.0)
            gradients.setdefault(name, []).append(rise / np.where(step > 0, 2 * step, 1.0))
    errors = {}
    for name, parts in gradients.items():
        influence = np.stack(parts, axis=1) @ columns.T  # [B, N]
        mean = (weights * influence).sum(axis=1, keepdims=True) / count
        squares = (weights * (influence - mean) ** 2).sum(axis=1)
        errors[name] = np.sqrt(squares * count / max(count - 1, 1))
    return errors
