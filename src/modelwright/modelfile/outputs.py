"""Kinds of output: what they are called in a graph, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.metrics import sigmoid, softmax
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


@dataclass(frozen=True, slots=True)
class OutputForm:
    """One output of a graph: its name, and its sizes that are free at run time, by their axis."""

    name: str
    free: Mapping[int, str] = field(default_factory=dict)
    dtype: str = "float32"

    def tensor(self, shape: Sequence[int]) -> TensorSpec:
        """Return what a file declares of an output that had this shape; its first axis is N."""
        sizes = [self.free.get(at, size) for at, size in enumerate(shape)]
        return TensorSpec(self.name, self.dtype, ("N", *sizes[1:]))


FORMS: dict[OutputKind, tuple[OutputForm, ...]] = {
    OutputKind.SINGLE_LABEL: (OutputForm("logits"),),
    OutputKind.MULTI_LABEL: (OutputForm("label_logits"),),
    OutputKind.REGRESSION: (OutputForm("values"),),
    OutputKind.CTC: (OutputForm("frames", {1: "F"}), OutputForm("steps", dtype="int64")),
    OutputKind.SEQ2SEQ: (OutputForm("next", {1: "S"}),),
    OutputKind.CAUSAL_LM: (OutputForm("next", {1: "T"}),),
    OutputKind.BOXES: (OutputForm("scores"), OutputForm("boxes")),
}
"""What the main graph of each kind gives: logits of exclusive classes; logits of labels, each by
itself; numbers; logits at each step of a recording and how many steps it has; logits of the next
token; scores and boxes of each location."""


def num_answers(kind: OutputKind, labels: Sequence[str]) -> int | None:
    """Return the size of the last axis of a kind's first output; `None` where labels don't say."""
    if kind.is_generative or not labels:
        return None
    # The blank of CTC (Graves et al. 2006, section 3) is an output beside the characters.
    return len(labels) + (kind == OutputKind.CTC)


def difference(name: str, found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of two outputs; infinite where they can't be compared.

    Args:
        name: what the output is called, which says how it is compared.
        found: one of the two.
        expected: the other.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    compare = DIFFERENCES.get(name, _of_values)
    return compare(found.astype(np.float64), expected.astype(np.float64))


def _of_values(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference, as a share of 1 + the largest value."""
    scale = 1.0 + np.abs(expected).max(initial=0.0)
    return float((np.abs(found - expected) / scale).max(initial=0.0))


def _of_logits(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of a probability, or of a logit as a share: the larger."""
    rows = [array.reshape(-1, array.shape[-1]) for array in (found, expected)]
    probability = np.abs(softmax(rows[0]) - softmax(rows[1])).max(initial=0.0)
    return max(float(probability), _of_values(found, expected))


def _of_label_logits(found: Outputs, expected: Outputs) -> float:
    """Return the same where each probability is of a label by itself."""
    probability = np.abs(sigmoid(found) - sigmoid(expected)).max(initial=0.0)
    return max(float(probability), _of_values(found, expected))


DIFFERENCES: dict[str, Callable[[Outputs, Outputs], float]] = {
    "logits": _of_logits,
    "label_logits": _of_label_logits,
    "next": _of_logits,
    "frames": _of_logits,
}
"""By the output's name; all others are numbers."""
