"""95 % intervals: exact ones for shares, order statistics for quantiles, a bootstrap for averages.

A resampled interval comes to nothing where nothing varies (every prediction right), which would
prove too much; so where a class has few mistakes, averages over classes are never narrower than
the classes' exact intervals combined. Sources: Clopper and Pearson 1934; Zou and Donner 2008
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
FEW_MISTAKES = 10
"""Of a class with so few, draws don't show how the mistakes vary: many hold none of them."""
_DRAWS = 100_000_000
"""Bounds the time of a bootstrap: a few seconds."""
_DRAWS_AT_ONCE = 4_000_000
"""Bounds the memory of a bootstrap: about 32 MB an array."""


class Interval(NamedTuple):
    """The bounds that hold a figure with 95 % confidence."""

    low: float
    high: float


def clopper_pearson(hits: ArrayLike, samples: ArrayLike) -> tuple[Doubles, Doubles]:
    """Return the exact bounds of shares `hits / samples`, of any shape (Clopper and Pearson 1934).

    They cover the true share with 95 % at least, whatever it is; with few samples, or where nearly
    all are right, with more. No sample says nothing: from 0 to 1.

    >>> low, high = clopper_pearson([0, 9], [10, 10])
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.0, 0.555], [0.3085, 0.9975])
    """
    hits, samples = np.broadcast_arrays(
        np.asarray(hits, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    )
    missed = samples - hits
    low = np.where(hits > 0, _beta_quantile(TAIL, np.maximum(hits, 1), missed + 1), 0.0)
    high = np.where(missed > 0, 1 - _beta_quantile(TAIL, np.maximum(missed, 1), hits + 1), 1.0)
    return low, high


def _beta_quantile(chance: float, a: Doubles, b: Doubles) -> Doubles:
    """Return where beta distributions reach a chance, by Newton's steps within a bracket."""
    log_beta = _log_gamma(a) + _log_gamma(b) - _log_gamma(a + b)
    low, high, x = np.zeros(a.shape), np.ones(a.shape), a / (a + b)
    for _ in range(_MOST_STEPS):
        difference = incomplete_beta(x, a, b, log_beta) - chance
        low, high = np.where(difference < 0, x, low), np.where(difference < 0, high, x)
        with np.errstate(all="ignore"):
            density = np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - log_beta)
            moved = x - difference / density
        is_inside = (moved > low) & (moved < high)
        moved = np.where(is_inside, moved, (low + high) / 2)
        is_done = np.abs(moved - x) <= 1e-10 * x
        x = moved
        if is_done.all():
            break
    return x


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's distribution; 0 without a degree of freedom."""
    if freedom < 1:
        return 0.0
    share = float(_beta_quantile(1 - 2 * TAIL, np.array(0.5), np.array(freedom / 2)))
    return math.sqrt(freedom * share / (1 - share))


_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])
_MOST_STEPS, _MOST_TERMS = 100, 10_000
_LEAST = 1e-300
"""Stands for zero in a denominator."""


def incomplete_beta(x: Doubles, a: Doubles, b: Doubles, log_beta: Doubles) -> Doubles:
    """Return the regularized incomplete beta function I_x(a, b), of arrays of one shape.

    The continued fraction of DLMF 8.17.22, by the method of Lentz; where it converges slowly,
    1 − I_{1−x}(b, a). `log_beta` is the logarithm of the beta function.
    """
    is_turned = x > (a + 1) / (a + b + 2)
    x, a, b = np.where(is_turned, 1 - x, x), np.where(is_turned, b, a), np.where(is_turned, a, b)

    def nonzero(values: Doubles) -> Doubles:
        return np.where(np.abs(values) < _LEAST, _LEAST, values)

    d = 1 / nonzero(1 - (a + b) * x / (a + 1))
    c, fraction = np.ones_like(x), d
    for term in range(1, _MOST_TERMS):
        even = term * (b - term) * x / ((a + 2 * term - 1) * (a + 2 * term))
        odd = -(a + term) * (a + b + term) * x / ((a + 2 * term) * (a + 2 * term + 1))
        for factor in (even, odd):
            d, c = 1 / nonzero(1 + factor * d), nonzero(1 + factor / c)
            fraction = fraction * d * c
        if (np.abs(d * c - 1) < 1e-13).all():
            break
    with np.errstate(divide="ignore"):
        share = np.exp(a * np.log(x) + b * np.log1p(-x) - log_beta) * fraction / a
    result: Doubles = np.where(is_turned, 1 - share, share)
    return result


def share(hits: int, samples: int) -> Interval:
    """Return the exact interval of one share."""
    low, high = clopper_pearson(hits, samples)
    return Interval(float(low), float(high))


class RateBounds(NamedTuple):
    """Bounds of precision, recall and F1 of each class, `[K]` each."""

    precision: tuple[Doubles, Doubles]
    recall: tuple[Doubles, Doubles]
    f1: tuple[Doubles, Doubles]


def class_bounds(hits: ArrayLike, predicted: ArrayLike, support: ArrayLike) -> RateBounds:
    """Return exact intervals of each class's precision, recall and F1.

    F1 is 2J / (1 + J), where J is the share of hits among the samples that are of the class or were
    taken for it; so the interval of J, carried over, is one of F1.
    """
    either = np.asarray(predicted) + np.asarray(support) - np.asarray(hits)
    low, high = clopper_pearson(hits, either)
    return RateBounds(
        precision=clopper_pearson(hits, predicted),
        recall=clopper_pearson(hits, support),
        f1=(2 * low / (1 + low), 2 * high / (1 + high)),
    )


def replicates(count: int) -> int:
    """Return how often a bootstrap over so many samples or cells draws: fewer times for many."""
    return max(_FEWEST_REPLICATES, min(REPLICATES, _DRAWS // max(1, count)))


def average_bounds(cells: metrics.Confusion, *, seed: int = 0) -> dict[str, Interval]:
    """Return the bounds of precision, recall and F1 averaged over classes.

    The bootstrap draws the cells of the confusion matrix anew; the bounds are its 2.5 % and 97.5 %
    quantiles, moved by its bias, and widened where some class has few mistakes and the classes'
    intervals combined are wider.
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
    combined: dict[str, Interval] = {}
    if not has_many_mistakes(hits, predicted, support):
        combined = combined_bounds(hits, predicted, support)
    bounds_of = {}
    for name, value in values.items():
        drawn = _centred(float(value), np.concatenate([part[name] for part in parts]))
        exact = combined.get(name, drawn)
        low, high = min(drawn.low, exact.low), max(drawn.high, exact.high)
        bounds_of[name] = Interval(max(0.0, low), min(1.0, high))
    return bounds_of


def has_many_mistakes(hits: Doubles, predicted: Doubles, support: Doubles) -> bool:
    """Say whether each class that occurs has so many mistakes that draws show how these vary."""
    mistakes = predicted + support - 2 * hits
    return bool((mistakes[predicted + support > 0] > FEW_MISTAKES).all())


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


def calibration_bounds(confidence: Doubles, hits: Bools, *, seed: int = 0) -> Interval:
    """Return bootstrap bounds of the calibration error.

    Binning overstates the error of a well-calibrated model, and resampling does so once more. The
    low bound takes that off twice (the reflected bootstrap), the high one once, so that the bounds
    hold both the error itself and what binning makes of it. Where nothing varies (all right, always
    sure), the bootstrap says nothing; so the high bound is never below the gap between the mean
    confidence and the far end of the accuracy's exact interval.
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
