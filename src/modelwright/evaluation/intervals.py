"""95 % intervals: Wilson's for shares, the bootstrap for means, order statistics for quantiles.

A resampled interval comes to nothing where nothing varies (every prediction right), which would
prove too much; so averages over classes are never narrower than their classes' Wilson intervals
combined. Sources: Wilson 1927; Efron and Tibshirani 1993, chapter 13; Zou and Donner 2008
(combining intervals); Bonett and Price 2012 (paired shares); David and Nagaraja 2003, section 7.1
(quantiles).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from modelwright import metrics
from modelwright.arrays import Bools, Doubles, Ints

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
TAIL = 0.025
REPLICATES = 2000
_FEWEST_REPLICATES = 200
_DRAWS = 100_000_000
"""Bounds the time of a bootstrap: a few seconds."""
_DRAWS_AT_ONCE = 4_000_000
"""Bounds the memory of a bootstrap: about 32 MB an array."""


class Interval(NamedTuple):
    """The bounds that hold a figure with 95 % confidence."""

    low: float
    high: float


def wilson(hits: ArrayLike, samples: ArrayLike) -> tuple[Doubles, Doubles]:
    """Return the bounds of shares `hits / samples`, of any shape (Wilson 1927).

    No sample says nothing: from 0 to 1.

    >>> low, high = wilson(81, 263)  # Newcombe 1998, table I
    >>> round(float(low), 4), round(float(high), 4)
    (0.2553, 0.3662)
    """
    hits = np.asarray(hits, dtype=np.float64)
    samples = np.asarray(samples, dtype=np.float64)
    known = np.maximum(samples, 1.0)
    share = hits / known
    centre = share + Z**2 / (2 * known)
    reach = Z * np.sqrt(share * (1 - share) / known + (Z / (2 * known)) ** 2)
    scale = 1 + Z**2 / known
    low = np.where((samples == 0) | (hits == 0), 0.0, (centre - reach) / scale)
    high = np.where((samples == 0) | (hits == samples), 1.0, (centre + reach) / scale)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def share(hits: int, samples: int) -> Interval:
    """Return Wilson's interval of one share."""
    low, high = wilson(hits, samples)
    return Interval(float(low), float(high))


class RateBounds(NamedTuple):
    """Bounds of precision, recall and F1 of each class, `[K]` each."""

    precision: tuple[Doubles, Doubles]
    recall: tuple[Doubles, Doubles]
    f1: tuple[Doubles, Doubles]


def class_bounds(hits: ArrayLike, predicted: ArrayLike, support: ArrayLike) -> RateBounds:
    """Return Wilson intervals of each class's precision, recall and F1.

    F1 is 2J / (1 + J), where J is the share of hits among the samples that are of the class or were
    taken for it; so Wilson's interval of J, carried over, is one of F1.
    """
    either = np.asarray(predicted) + np.asarray(support) - np.asarray(hits)
    low, high = wilson(hits, either)
    return RateBounds(
        precision=wilson(hits, predicted),
        recall=wilson(hits, support),
        f1=(2 * low / (1 + low), 2 * high / (1 + high)),
    )


def replicates(count: int) -> int:
    """Return how often a bootstrap over so many samples or cells draws: fewer times for many."""
    return max(_FEWEST_REPLICATES, min(REPLICATES, _DRAWS // max(1, count)))


def average_bounds(cells: metrics.Confusion, *, seed: int = 0) -> dict[str, Interval]:
    """Return the bounds of precision, recall and F1 averaged over classes.

    The bootstrap draws the cells of the confusion matrix anew; the bounds are its 2.5 % and 97.5 %
    quantiles, moved by its bias, and widened where the classes' intervals combined are wider.
    """
    # Classes that don't occur play no part, so the rest are numbered closely.
    both = np.concatenate([cells.targets, cells.predicted])
    classes, places = np.unique(both, return_inverse=True)
    true, predicted_class = places[: len(cells.targets)], places[len(cells.targets) :]
    size, right = len(classes), true == predicted_class
    total = int(cells.counts.sum())
    chances = cells.counts / total

    def sums(counts: Ints) -> tuple[Doubles, Doubles, Doubles]:
        return (
            _bincounts(true[right], counts[:, right], size),
            _bincounts(predicted_class, counts, size),
            _bincounts(true, counts, size),
        )

    random = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // max(len(cells.counts), size))
    parts = [
        metrics.averages(*sums(random.multinomial(total, chances, size=count)))
        for count in _steps(replicates(len(cells.counts)), step)
    ]
    hits, predicted, support = (counts[0] for counts in sums(cells.counts[None, :]))
    values = metrics.averages(hits, predicted, support)
    combined = combined_bounds(hits, predicted, support)
    bounds_of = {}
    for name, value in values.items():
        drawn = _centred(float(value), np.concatenate([part[name] for part in parts]))
        bounds_of[name] = Interval(
            max(0.0, min(drawn.low, combined[name].low)),
            min(1.0, max(drawn.high, combined[name].high)),
        )
    return bounds_of


def combined_bounds(hits: Doubles, predicted: Doubles, support: Doubles) -> dict[str, Interval]:
    """Combine the classes' intervals into one of their mean (Zou and Donner 2008, equation 3).

    The counts `[K]` are those of classes that occur, among targets or predictions.
    """
    rates = metrics.class_rates(hits, predicted, support)
    bounds = class_bounds(hits, predicted, support)
    total = max(float(support.sum()), 1.0)
    kinds = {"macro": np.full(len(hits), 1 / len(hits)), "weighted": support / total}
    bounds_of = {}
    for field, rate, (low, high) in zip(bounds._fields, rates, bounds, strict=True):
        for kind, weights in kinds.items():
            value = float((weights * rate).sum())
            down = math.sqrt(float(((weights * (rate - low)) ** 2).sum()))
            up = math.sqrt(float(((weights * (high - rate)) ** 2).sum()))
            bounds_of[f"{field}_{kind}"] = Interval(value - down, value + up)
    return bounds_of


def mean_bounds(values: Doubles, *, seed: int = 0) -> Interval:
    """Return bootstrap bounds of a mean over samples, such as that of the log loss.

    Few samples make a bootstrap too narrow; the bounds are widened by what Student's interval has
    over the normal one (Hesterberg 2015, `What teachers should know about the bootstrap`, section
    5.3). One sample says nothing of how samples vary: its bounds are its value.
    """
    value = float(values.mean())
    means = _resampled(len(values), lambda picks: values[picks].mean(axis=1), seed=seed)
    low, high = _centred(value, means)
    widening = student_widening(len(values))
    return Interval(value - (value - low) * widening, value + (high - value) * widening)


def calibration_bounds(confidence: Doubles, hits: Bools, *, seed: int = 0) -> Interval:
    """Return bootstrap bounds of the calibration error.

    Binning overstates the error of a well-calibrated model, and resampling does so once more. The
    low bound takes that off twice (the reflected bootstrap), the high one once, so that the bounds
    hold both the error itself and what binning makes of it. Where nothing varies (all right, always
    sure), the bootstrap says nothing; so the high bound is never below the gap between the mean
    confidence and the far end of the accuracy's Wilson interval.
    """
    bins = metrics.CALIBRATION_BINS
    places, gaps = metrics.calibration_bins(confidence), confidence - hits

    def draw(picks: Ints) -> Doubles:
        errors: Doubles = np.abs(_bincounts(places[picks], gaps[picks], bins)).sum(axis=1)
        return errors / len(gaps)

    value = metrics.calibration_error(metrics.reliability(confidence, hits))
    drawn = _resampled(len(gaps), draw, seed=seed)
    shifted = _centred(value, drawn)
    reflected = 2 * value - float(np.quantile(drawn, 1 - TAIL))
    mean = float(confidence.mean())
    least = max(abs(mean - bound) for bound in share(int(hits.sum()), len(hits)))
    return Interval(
        max(0.0, min(shifted.low, reflected)), min(1.0, max(shifted.high, value, least))
    )


def paired_bounds(only_first: int, only_second: int, samples: int) -> Interval:
    """Return the bounds of the difference of two shares on the same samples (Bonett, Price 2012).

    They follow from how many samples the first alone had right, and how many the second alone.
    """
    first, second = (only_first + 1) / (samples + 2), (only_second + 1) / (samples + 2)
    spread = (first + second - (first - second) ** 2) / (samples + 2)
    centre, reach = first - second, Z * math.sqrt(spread)
    return Interval(max(-1.0, centre - reach), min(1.0, centre + reach))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test: that neither is right more often."""
    pairs = only_first + only_second
    if pairs == 0:
        return 1.0
    fewer = min(only_first, only_second)
    return min(1.0, 2 * float(_binomial(pairs, 0.5)[: fewer + 1].sum()))


def quantile_bounds(ordered: Doubles, share: float) -> tuple[float, Interval]:
    """Return a quantile of ordered values and its bounds by order statistics.

    Too few values have none beyond a bound (`is_bounded`): then the extreme value stands there.
    """
    count = len(ordered)
    value = float(ordered[max(0, math.ceil(share * count) - 1)])
    below = np.cumsum(_binomial(count, share))  # below[r]: chance that at most r values lie below
    low = int(np.searchsorted(below, TAIL, side="right"))  # the first r with below[r] > tail
    high = int(np.searchsorted(below, 1 - TAIL)) + 1
    return value, Interval(
        min(value, float(ordered[max(0, low - 1)])),
        max(value, float(ordered[min(count, high) - 1])),
    )


def is_bounded(share: float, count: int) -> bool:
    """Say whether so many values bear out an upper 97.5 % bound of a quantile.

    >>> is_bounded(0.99, 367), is_bounded(0.99, 368)
    (False, True)
    """
    return share**count <= TAIL


def _bincounts(places: Ints, weights: Ints | Doubles, size: int) -> Doubles:
    """Return `np.bincount` of each row of weights `[D, N]` at places `[N]` or `[D, N]`."""
    flat = np.arange(len(weights))[:, None] * size + places
    summed = np.bincount(flat.ravel(), weights.ravel(), len(weights) * size)
    return summed.reshape(len(weights), size).astype(np.float64)


def _resampled(count: int, draw: Callable[[Ints], Doubles], *, seed: int) -> Doubles:
    random = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // count)
    sizes = _steps(replicates(count), step)
    return np.concatenate([draw(random.integers(0, count, size=(size, count))) for size in sizes])


def _centred(value: float, drawn: Doubles) -> Interval:
    """Return the middle 95 % of the replicates, moved so that their mean is the value."""
    shift = value - float(drawn.mean())
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL]) + shift
    return Interval(min(value, float(low)), max(value, float(high)))


def student_widening(count: int) -> float:
    """Return how much wider Student's interval of a mean is than a bootstrap's; 1 for many samples.

    The quantile of Student's distribution is Cornish and Fisher's expansion (Abramowitz and Stegun
    26.7.5), good to a thousandth from 5 samples on; below that it is taken from a table.
    """
    if count < 2:
        return 1.0
    freedom = count - 1
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
    z3, z5 = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    quantile = table.get(freedom, Z + z3 / freedom + z5 / freedom**2)
    return quantile / Z * math.sqrt(count / freedom)


def _steps(total: int, step: int) -> list[int]:
    return [min(step, total - start) for start in range(0, total, step)]


def _binomial(count: int, chance: float) -> Doubles:
    """Return the probabilities of 0…count successes, through logarithms so that none underflows."""
    hits = np.arange(count + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(hits[1:]))])
    logs = factorials[count] - factorials - factorials[::-1]
    logs += hits * math.log(chance) + (count - hits) * math.log1p(-chance)
    probabilities: Doubles = np.exp(logs)
    probabilities /= probabilities.sum()
    return probabilities
