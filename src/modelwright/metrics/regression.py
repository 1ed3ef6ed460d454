"""Metrics for numbers, from sums over samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NumberSums:
    """Sums over samples of `[N, D]` numbers, each `[D]`."""

    samples: int
    squared: Doubles
    """Squared errors."""
    absolute: Doubles
    """Absolute errors."""
    mean: Doubles
    """The targets' mean."""
    spread: Doubles
    """Squared distances of the targets from their mean."""


def number_sums(predictions: NDArray[Any], targets: NDArray[Any]) -> NumberSums:
    """Sum what the metrics for numbers need.

    Raises:
        DataError: the shapes differ, there are no samples, or a number isn't finite.
    """
    true = np.asarray(targets, dtype=np.float64)
    predicted = np.asarray(predictions, dtype=np.float64)
    if predicted.size != true.size or len(predicted) != len(true):
        raise DataError(f"predictions {predicted.shape} and targets {true.shape} differ in shape")
    if predicted.size == 0:
        raise DataError("there are no samples to measure")
    true, predicted = true.reshape(len(true), -1), predicted.reshape(len(predicted), -1)
    for name, values in (("predictions", predicted), ("targets", true)):
        if not np.isfinite(values).all():
            raise DataError(f"the {name} hold values that aren't finite (NaN or infinite)")
    errors = predicted - true
    mean = true.mean(axis=0)
    return NumberSums(
        samples=len(true),
        squared=(errors**2).sum(axis=0),
        absolute=np.abs(errors).sum(axis=0),
        mean=mean,
        spread=((true - mean) ** 2).sum(axis=0),
    )


def rmse(sums: NumberSums) -> float:
    """Return the root of the mean squared error, in the target's unit."""
    return float(np.sqrt(sums.squared.mean() / sums.samples))


def mae(sums: NumberSums) -> float:
    """Return the mean absolute error, in the target's unit."""
    return float(sums.absolute.mean() / sums.samples)


def r2(sums: NumberSums) -> float:
    """Return the share of the targets' variance that is explained, averaged over the D numbers.

    Where the targets don't vary it is 1 for a perfect prediction, else 0.
    """
    varies = sums.spread > 0
    unexplained = sums.squared / np.where(varies, sums.spread, 1.0)
    constant = (sums.squared == 0).astype(np.float64)
    return float(np.where(varies, 1.0 - unexplained, constant).mean())
