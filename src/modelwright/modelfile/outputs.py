"""Kinds of output: what they are called in a graph, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelFileError
from modelwright.metrics import softmax

Outputs = NDArray[np.floating[Any]]


def difference(kind: str, found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of two outputs; infinite where they can't be compared.

    Raises:
        ModelFileError: this version doesn't know the kind.
    """
    if kind not in DIFFERENCES:
        raise ModelFileError(
            f"outputs of the kind {kind!r} aren't known to this version", fix="Update modelwright"
        )
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return DIFFERENCES[kind](found.astype(np.float64), expected.astype(np.float64))


def _of_values(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference, as a share of 1 + the largest value."""
    scale = 1.0 + np.abs(expected).max(initial=0.0)
    return float((np.abs(found - expected) / scale).max(initial=0.0))


def _of_logits(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of a probability, or of a logit as a share: the larger."""
    probability = np.abs(softmax(found) - softmax(expected)).max(initial=0.0)
    return max(float(probability), _of_values(found, expected))


DIFFERENCES: dict[str, Callable[[Outputs, Outputs], float]] = {
    "logits": _of_logits,
    "values": _of_values,
}
"""`logits` are scores of exclusive classes; `values` are numbers."""
