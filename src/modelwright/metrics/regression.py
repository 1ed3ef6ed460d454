"""Metrics for numbers."""

from __future__ import annotations

import numpy as np

from modelwright.arrays import Array
from modelwright.errors import DataError


def number_metrics(predictions: Array, targets: Array) -> dict[str, float]:
    """Return `rmse` and `mae`, in the target's unit, and `r2`.

    `r2` is the share of the targets' variance that is explained, averaged over the D numbers; where
    the targets don't vary it is 1 for a perfect prediction, else 0.

    Args:
        predictions: numbers `[N, D]` or `[N]`.
        targets: the true ones.

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
    squared = (errors**2).sum(axis=0)
    spread = ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    varies = spread > 0
    explained = 1.0 - squared / np.where(varies, spread, 1.0)
    return {
        "rmse": float(np.sqrt(squared.mean() / len(true))),
        "mae": float(np.abs(errors).sum(axis=0).mean() / len(true)),
        "r2": float(np.where(varies, explained, squared == 0).mean()),
    }
