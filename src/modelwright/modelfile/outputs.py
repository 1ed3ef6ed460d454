"""Kinds of output: what they are called in a graph, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelFileError
from modelwright.metrics import softmax
from modelwright.modelfile.spec import TensorSpec

Outputs = NDArray[np.floating[Any]]


def check_outputs(found: Sequence[Any], tensors: Sequence[TensorSpec], *, count: int) -> None:
    """Refuse what a graph gave for `count` samples where it isn't what the file declares.

    Raises:
        ModelFileError: a kind of number or a shape is another one, or a number is infinite or none.
    """
    for array, tensor in zip(found, tensors, strict=True):
        shape = array.shape if isinstance(array, np.ndarray) else None
        if shape is None or array.dtype.name != tensor.dtype or not _fits(shape, tensor, count):
            got = "no array" if shape is None else f"{array.dtype.name} {list(shape)}"
            raise ModelFileError(f"the graph gives {got} where the file declares {tensor}")
        if not np.isfinite(array).all():
            raise ModelFileError("the network's answer to an input isn't finite")


def _fits(shape: tuple[int, ...], tensor: TensorSpec, count: int) -> bool:
    if len(shape) != len(tensor.shape) or shape[0] != count:
        return False
    declared = zip(shape[1:], tensor.shape[1:], strict=True)
    return all(size == wanted for size, wanted in declared if isinstance(wanted, int))


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
