"""The outputs of each kind of prediction: their names in a graph, and how they are compared."""

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


def check_outputs(outputs: Sequence[Any], tensors: Sequence[TensorSpec], *, count: int) -> None:
    """Refuse a graph's outputs for `count` samples where they aren't what the file declares."""
    check_shapes(outputs, tensors, count=count)
    if not all(np.isfinite(array).all() for array in outputs):
        raise ModelFileError("the network's answer to an input isn't finite")


def check_shapes(outputs: Sequence[Any], tensors: Sequence[TensorSpec], *, count: int) -> None:
    """Refuse outputs for `count` samples whose shapes or numbers aren't what the file declares."""
    for array, tensor in zip(outputs, tensors, strict=True):
        shape = array.shape if isinstance(array, np.ndarray) else None
        if shape is None or array.dtype.name != tensor.dtype or not _fits(shape, tensor, count):
            got = "no array" if shape is None else f"{array.dtype.name} {list(shape)}"
            raise ModelFileError(f"the graph gives {got} where the file declares {tensor}")


def check_lengths(
    outputs: Sequence[Any], tensors: Sequence[TensorSpec], inputs: Mapping[str, Any]
) -> None:
    """Refuse outputs that are longer than the longest input: no network of ours lengthens any."""
    longest = max((array.shape[1] for array in inputs.values() if array.ndim > 1), default=1)
    for array, tensor in zip(outputs, tensors, strict=True):
        sizes = zip(array.shape[1:], tensor.shape[1:], strict=True)
        if any(isinstance(name, str) and size > longest for size, name in sizes):
            raise ModelFileError(
                f"the graph gives {list(array.shape)} for an input of the length {longest}"
            )


def _fits(shape: tuple[int, ...], tensor: TensorSpec, count: int) -> bool:
    if len(shape) != len(tensor.shape) or shape[0] != count:
        return False
    declared = zip(shape[1:], tensor.shape[1:], strict=True)
    return all(size == expected for size, expected in declared if isinstance(expected, int))


@dataclass(frozen=True, slots=True)
class OutputForm:
    """One output of a graph: its name, and the names of its free sizes by their axis."""

    name: str
    free: Mapping[int, str] = field(default_factory=dict)
    dtype: str = "float32"
    extra: int = 0
    """The answers beside those of the labels."""
    meaning: str = ""
    """What it holds and how answers are read from it, for whoever runs the graph alone."""
    rank: int | None = 2
    """The number of its axes, with N; `None` where any number of numbers is one sample's."""

    def tensor(self, shape: Sequence[int]) -> TensorSpec:
        """Return what a file declares of an output that had this shape; its first axis is N."""
        sizes = [self.free.get(at, size) for at, size in enumerate(shape)]
        return TensorSpec(self.name, self.dtype, ("N", *sizes[1:]))

    def fits(self, tensor: TensorSpec) -> bool:
        """Say whether what a file declares may be this output: only `free` sizes and N are free."""
        if tensor.dtype != self.dtype or len(tensor.shape) != (self.rank or len(tensor.shape)):
            return False
        return all(
            isinstance(size, str) == (at == 0 or at in self.free)
            for at, size in enumerate(tensor.shape)
        )


FORMS: dict[OutputKind, tuple[OutputForm, ...]] = {
    OutputKind.SINGLE_LABEL: (
        OutputForm("logits", meaning="Softmax of `logits` gives the probability of each label."),
    ),
    OutputKind.MULTI_LABEL: (
        OutputForm(
            "label_logits",
            meaning="The sigmoid of `label_logits` is the probability of each label by itself; "
            "from 0.5 on it is predicted.",
        ),
    ),
    OutputKind.REGRESSION: (
        OutputForm(
            "values",
            meaning="`values` are the numbers, in the units of the training data.",
            rank=None,
        ),
    ),
    OutputKind.CTC: (
        OutputForm(
            "frames",
            {1: "F"},
            extra=1,  # The blank (Graves et al. 2006, section 3).
            meaning="`frames` are logits of each step over the blank (0) and the characters (1 …).",
            rank=3,
        ),
        OutputForm(
            "steps",
            dtype="int64",
            meaning="`steps` is how many steps count. The simplest decoding takes the likeliest of "
            "each step, joins runs, and leaves blanks out.",
            rank=1,
        ),
    ),
    OutputKind.SEQ2SEQ: (
        OutputForm(
            "next",
            {1: "S"},
            meaning="`next` are the logits of the token after each one of `target`; 3 ends a text. "
            "A search over `encode.onnx` and `step.onnx` doesn't compute what it knows again.",
            rank=3,
        ),
    ),
    OutputKind.CAUSAL_LM: (
        OutputForm(
            "next",
            {1: "T"},
            meaning="`next` are the logits of the token after each one; 3 ends a text.",
            rank=3,
        ),
    ),
    OutputKind.BOXES: (
        OutputForm("scores", meaning="`scores` are logits of each label at each location.", rank=3),
        OutputForm(
            "boxes",
            meaning="`boxes` are the corners [x1, y1, x2, y2] there, in pixels of the graph's "
            "input. Keep those that are sure enough, and of boxes that overlap the surest "
            "(non-maximum suppression).",
            rank=3,
        ),
    ),
}
"""The outputs of the main graph: logits of exclusive classes; logits of labels, each by itself;
numbers; logits at each step of a recording and its number of steps; logits of the next token;
scores and boxes of each location."""


def num_answers(kind: OutputKind, labels: Sequence[str]) -> int | None:
    """Return the size of the last axis of a kind's first output; `None` where labels don't say."""
    if kind.is_generative or (kind == OutputKind.REGRESSION and not labels):
        return None
    return len(labels) + FORMS[kind][0].extra


def difference(name: str, outputs: Outputs, expected: Outputs) -> float:
    """Return the largest difference of two outputs; infinite where they can't be compared.

    It is taken as a share of 1 + the largest expected value. For logits it is at least the largest
    difference of a probability; `name` is the output's name, which says what it holds.
    """
    if outputs.shape != expected.shape or not np.isfinite(outputs).all():
        return float("inf")
    outputs, expected = outputs.astype(np.float64), expected.astype(np.float64)
    scale = 1.0 + np.abs(expected).max(initial=0.0)
    largest = (np.abs(outputs - expected) / scale).max(initial=0.0)
    to_probabilities = PROBABILITIES.get(name)
    if to_probabilities is not None:
        rows, expected_rows = (item.reshape(-1, item.shape[-1]) for item in (outputs, expected))
        apart = np.abs(to_probabilities(rows) - to_probabilities(expected_rows))
        largest = max(largest, apart.max(initial=0.0))
    return float(largest)


PROBABILITIES: dict[str, Callable[[Outputs], Outputs]] = {
    "logits": softmax,
    "label_logits": sigmoid,
    "next": softmax,
    "frames": softmax,
}
"""The probabilities that outputs stand for, by the output's name; all others are numbers."""
