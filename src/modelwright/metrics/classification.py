"""Metrics of classes.

Outputs are logits `[N, K]`, targets class numbers `[N]`; ties go to the lower class number. A
target from K on is a class that no output stands for, since training had none of it: always a
mistake. What can be summed (confusion cells, calibration bins, sums of squares) is kept as sums;
`Outcomes` keeps the few figures per sample that the rest needs, so nothing of size N·K or K²
outlives a batch.
Outputs that aren't finite are refused: no metric ever counts a NaN as right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from modelwright.arrays import Array, Bools, Doubles, Floats, Ints
from modelwright.errors import DataError

CALIBRATION_BINS = 15
"""As in Guo et al. 2017, `On Calibration of Modern Neural Networks`."""
_OUTPUTS_AT_ONCE = 4_000_000
"""Bounds the memory beside the outputs: a few arrays of 32 MB."""
NEVER = int(np.iinfo(np.int64).max)
"""The rank of a target that no output stands for."""
_SORTED_WHOLE = 128
"""Up to so many classes a whole sort is quicker than a selection."""


# Classes: from outputs to the result for each sample


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The result for each sample `[N]`; those of several batches can be concatenated."""

    targets: Ints
    predicted: Ints
    ranks: Ints
    """The place of the target among the classes, best first: 0 is a hit; `NEVER` where no output
    stands for the target."""
    confidence: Doubles
    """The probability of the predicted class."""
    losses: Doubles
    """Minus the natural logarithm of the target's probability: infinite where no output stands for
    the target."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def hits(self) -> Bools:
        """Whether each sample's most probable class is its target."""
        hits: Bools = self.ranks == 0
        return hits


def outcomes(
    outputs: Floats, targets: Array, *, unknown: int = 0, threshold: tuple[int, float] | None = None
) -> Outcomes:
    """Return the result for each sample.

    Args:
        outputs: logits `[N, K]`.
        targets: class numbers `[N]`.
        unknown: how many classes there are that no output stands for, from number K on.
        threshold: a class and the probability from which on it is predicted, and only then; the
            others compete for the rest.

    Raises:
        DataError: the outputs aren't finite, or the targets don't fit them.
    """
    outputs = finite(outputs)
    num_classes = outputs.shape[1] + unknown
    targets = _class_numbers(targets, samples=outputs.shape[0], num_classes=num_classes)
    step = max(1, _OUTPUTS_AT_ONCE // outputs.shape[1])
    parts = [
        _outcomes(outputs[at : at + step], targets[at : at + step], threshold)
        for at in range(0, max(len(outputs), 1), step)
    ]
    names = [field.name for field in fields(Outcomes)]
    return Outcomes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def decision_scores(outputs: Floats, threshold: tuple[int, float] | None) -> Floats:
    """Return scores `[N, K]` by which classes are ranked: the logits `[N, K]`, or a decision.

    The class of a threshold comes first where its probability is at least this, else last.
    """
    if threshold is None:
        return outputs
    number, least = threshold
    scores = outputs.astype(np.float64)
    is_reached = softmax(outputs)[:, number] >= least
    scores[:, number] = np.where(is_reached, scores.max(axis=1) + 1.0, scores.min(axis=1) - 1.0)
    return scores


def _outcomes(outputs: Floats, targets: Ints, threshold: tuple[int, float] | None) -> Outcomes:
    is_known = targets < outputs.shape[1]
    columns = np.where(is_known, targets, 0)[:, None]
    scores = decision_scores(outputs, threshold)
    target_logits = np.take_along_axis(outputs, columns, axis=1)
    target_scores = np.take_along_axis(scores, columns, axis=1)
    earlier = np.arange(outputs.shape[1]) < targets[:, None]
    ranks = np.count_nonzero(scores > target_scores, axis=1)
    ranks += np.count_nonzero((scores == target_scores) & earlier, axis=1)
    predicted = scores.argmax(axis=1)
    top = outputs.max(axis=1, keepdims=True).astype(np.float64)
    log_sum = np.log(np.exp(outputs - top).sum(axis=1))  # ≥ 0, since the largest term is exp(0)
    chosen = (np.take_along_axis(outputs, predicted[:, None], axis=1) - top)[:, 0]
    return Outcomes(
        targets=targets,
        predicted=predicted.astype(np.int64),
        ranks=np.where(is_known, ranks, NEVER).astype(np.int64),
        confidence=np.exp(chosen - log_sum),
        losses=np.where(is_known, log_sum + (top - target_logits)[:, 0], np.inf),
    )


def softmax(outputs: Floats) -> Doubles:
    """Return the probabilities `[N, K]` that logits `[N, K]` stand for.

    Raises:
        DataError: the outputs aren't finite.
    """
    outputs = finite(outputs)
    shifted = outputs - outputs.max(axis=1, keepdims=True).astype(np.float64)
    weights = np.exp(shifted)
    probabilities: Doubles = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


def top_classes(outputs: Floats, k: int) -> Ints:
    """Return the `k` best classes `[N, k]` of each sample, best first; ties: lower number first.

    >>> top_classes(np.array([[1.0, 3.0, 3.0, 2.0]]), 3)
    array([[1, 2, 3]])
    """
    outputs = finite(outputs)
    num_classes = outputs.shape[1]
    if num_classes <= _SORTED_WHOLE:
        return np.argsort(-outputs, axis=1, kind="stable")[:, :k].astype(np.int64)
    best = np.empty((len(outputs), k), dtype=np.int64)
    for row, values in zip(best, outputs, strict=True):
        least = np.partition(values, num_classes - k)[num_classes - k]  # the k-th largest
        near = np.flatnonzero(values >= least)
        row[:] = near[np.argsort(-values[near], kind="stable")[:k]]
    return best


def accuracy(outputs: Floats, targets: Array) -> float:
    """Return the share of samples whose most probable class is the target."""
    return _mean(outcomes(outputs, targets).hits)


def mean_loss(losses: Doubles) -> dict[str, float]:
    """Return `log_loss`, the mean over the samples whose loss is finite; nothing where none is."""
    known = losses[np.isfinite(losses)]
    return {"log_loss": _mean(known)} if len(known) else {}


# Classes: confusion, and what follows from it


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each class was taken for each other: the cells that aren't zero, in order."""

    num_classes: int
    targets: Ints
    predicted: Ints
    counts: Ints

    def dense(self) -> Ints:
        """Return all cells `[K, K]`, rows the targets; for few classes only."""
        table = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
        table[self.targets, self.predicted] = self.counts
        return table


def confusion(predicted: Array, targets: Array, *, num_classes: int) -> Confusion:
    """Count the confusions; memory grows with the samples, not with the square of the classes.

    Raises:
        DataError: a class number doesn't fit, or the lengths differ.
    """
    targets = _class_numbers(targets, samples=len(predicted), num_classes=num_classes)
    predicted = _class_numbers(predicted, samples=len(predicted), num_classes=num_classes)
    cells, counts = np.unique(targets * num_classes + predicted, return_counts=True)
    return Confusion(
        num_classes, cells // num_classes, cells % num_classes, counts.astype(np.int64)
    )


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Counts and scores of each class `[K]`; a score without samples is 0."""

    hits: Ints
    predicted: Ints
    """How often each class was predicted."""
    support: Ints
    """How often each class is the target."""
    precision: Doubles
    recall: Doubles
    f1: Doubles


def class_scores(cells: Confusion) -> ClassScores:
    """Return precision, recall and F1 of each class."""
    right = cells.targets == cells.predicted

    def total(classes: Ints, counts: Ints) -> Ints:
        return np.bincount(classes, counts, cells.num_classes).astype(np.int64)

    return scores_of(
        total(cells.targets[right], cells.counts[right]),
        total(cells.predicted, cells.counts),
        total(cells.targets, cells.counts),
    )


def scores_of(hits: Ints, predicted: Ints, support: Ints) -> ClassScores:
    """Return the scores of each class from its counts `[K]`."""
    return ClassScores(hits, predicted, support, *class_rates(hits, predicted, support))


def class_rates(
    hits: ArrayLike, predicted: ArrayLike, support: ArrayLike
) -> tuple[Doubles, Doubles, Doubles]:
    """Return precision, recall and F1 from counts of any shape; a division by zero gives 0."""
    hits, predicted, support = (
        np.asarray(counts, dtype=np.float64) for counts in (hits, predicted, support)
    )
    return (
        hits / np.maximum(predicted, 1.0),
        hits / np.maximum(support, 1.0),
        2.0 * hits / np.maximum(predicted + support, 1.0),
    )


def averages(hits: ArrayLike, predicted: ArrayLike, support: ArrayLike) -> dict[str, Doubles]:
    """Return the averages over the classes, the last axis of the counts `[…, K]`.

    `…_macro` is the plain mean over the classes that occur among targets or predictions;
    `…_weighted` weights each class by its support.
    """
    rates = class_rates(hits, predicted, support)
    weights = np.asarray(support, dtype=np.float64)
    occurs = (np.asarray(predicted) + weights) > 0
    means: dict[str, Doubles] = {}
    for name, rate in zip(("precision", "recall", "f1"), rates, strict=True):
        means[f"{name}_macro"] = (rate * occurs).sum(-1) / np.maximum(occurs.sum(-1), 1)
        means[f"{name}_weighted"] = (rate * weights).sum(-1) / np.maximum(weights.sum(-1), 1.0)
    return means


# Classes: calibration


@dataclass(frozen=True, slots=True)
class Reliability:
    """Sums over bins of confidence `[B]` of equal width."""

    samples: Ints
    hits: Ints
    confidence: Doubles
    """The sum of the confidences in each bin."""


def calibration_bins(confidence: Doubles) -> Ints:
    """Return each sample's bin: `[b/B, (b+1)/B)`, where the last also holds a confidence of 1."""
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def reliability(confidence: Doubles, hits: Bools) -> Reliability:
    """Sum confidence and hits over bins of confidence."""
    places = calibration_bins(confidence)
    return Reliability(
        samples=np.bincount(places, minlength=CALIBRATION_BINS),
        hits=np.bincount(places[hits], minlength=CALIBRATION_BINS),
        confidence=np.bincount(places, confidence, CALIBRATION_BINS).astype(np.float64),
    )


def calibration_error(table: Reliability) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 3).

    It is the mean gap between confidence and accuracy over the bins, weighted by their samples.
    """
    samples = int(table.samples.sum())
    if samples == 0:
        raise DataError("there are no samples to measure")
    return float(np.abs(table.confidence - table.hits).sum() / samples)


def finite(outputs: Floats) -> Floats:
    """Return outputs `[N, K]` as an array.

    Raises:
        DataError: they have another form, or aren't finite.
    """
    outputs = np.asarray(outputs)
    if outputs.ndim != 2 or outputs.shape[1] == 0:
        raise DataError(f"outputs of classes are [samples, classes], not {list(outputs.shape)}")
    broken = ~np.isfinite(outputs).all(axis=1)
    if broken.any():
        raise DataError(
            f"the outputs of {int(broken.sum())} of {len(outputs)} samples aren't finite "
            f"(NaN or infinite), first that of sample {int(broken.argmax())}",
            why="Training diverged, or the weights are damaged",
        )
    return outputs


def _class_numbers(classes: Array, *, samples: int, num_classes: int) -> Ints:
    classes = np.asarray(classes)
    if classes.shape != (samples,):
        raise DataError(f"{samples} samples need as many class numbers, not {list(classes.shape)}")
    if samples and not np.issubdtype(classes.dtype, np.integer):
        raise DataError(f"class numbers are whole numbers, not {classes.dtype}")
    if samples and not (classes.min() >= 0 and classes.max() < num_classes):
        raise DataError(
            f"class numbers go from 0 to {num_classes - 1}, and these from "
            f"{classes.min()} to {classes.max()}"
        )
    return classes.astype(np.int64)


def _mean(values: Array) -> float:
    if values.size == 0:
        raise DataError("there are no samples to measure")
    return float(values.mean(dtype=np.float64))
