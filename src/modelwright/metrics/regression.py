"""Metrics for numbers."""

from __future__ import annotations

import numpy as np

from modelwright.arrays import Array, Doubles
from modelwright.errors import DataError


def number_columns(predictions: Array, targets: Array) -> Doubles:
    """Return what each sample adds to the sums that `number_metrics` takes, `[N, 1 + 4·D]`.

    A one; then the squared and the absolute errors of each number, its distance from the mean, and
    that squared.

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
    errors, distances = predicted - true, true - true.mean(axis=0)
    ones = np.ones((len(true), 1))
    return np.concatenate([ones, errors**2, np.abs(errors), distances, distances**2], axis=1)


def number_metrics(sums: Doubles) -> dict[str, Doubles]:
    """Return `rmse` and `mae`, in the target's unit, and `r2`, from sums `[..., 1 + 4·D]`.

    `r2` is the share of the targets' variance that is explained, averaged over the D numbers; where
    the targets don't vary it is 1 for a perfect prediction, else 0.
    """
    count = sums[..., :1]
    squared, absolute, distances, squares = np.split(sums[..., 1:], 4, axis=-1)
    spread = squares - distances**2 / count
    varies = spread > 1e-12 * squares
    explained = 1.0 - squared / np.where(varies, spread, 1.0)
    return {
        "rmse": np.sqrt((squared / count).mean(axis=-1)),
        "mae": (absolute / count).mean(axis=-1),
        "r2": np.where(varies, explained, squared == 0).mean(axis=-1),
    }
