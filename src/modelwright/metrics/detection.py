"""Average precision of boxes, as COCO measures it (Lin et al. 2014, and its evaluation's rules).

What is kept is one row a detection and one count a class and image, so a bootstrap draws whole
images anew without matching a single box again. Boxes are `[x1, y1, x2, y2]`. COCO's limits are
kept too: at most 100 detections a class and image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelwright.arrays import Array, Bools, Doubles, Ints
from modelwright.errors import DataError

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""The least IoU `[T]` of a detection that counts as right."""
MOST = 100
"""So many detections of a class in an image count, the best first."""
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class DetectionStatistics:
    """Detections `[D]` compared with the boxes of `I` images, `K` classes.

    They are ordered by image, class and score, the best first.
    """

    labels: Ints
    scores: Doubles
    matched: Bools
    """Whether each is right at each overlap `[D, T]`."""
    truths: Ints
    """How many boxes each image has of each class `[I, K]`."""


def iou_matrix(first: Array, second: Array) -> Doubles:
    """Return the intersection over union of each of two sets of boxes, `[A, 4]` × `[B, 4]`.

    >>> iou_matrix(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([[0.333, 0.   ]])
    """
    one, two = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (first, second))
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1) for boxes in (one, two)]
    either = areas[0][:, None] + areas[1][None, :] - shared
    overlap: Doubles = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    return overlap


def image_statistics(
    boxes: Array,
    labels: Array,
    scores: Array,
    *,
    true_boxes: Array,
    true_labels: Array,
    num_classes: int,
) -> DetectionStatistics:
    """Compare the detections of one image with its boxes.

    The detections are boxes `[D, 4]`, class numbers `[D]` and scores `[D]`, of which equal ones
    keep their order. True boxes are `[M, 4]`, their class numbers `[M]`; those below 0 are padding.

    Raises:
        DataError: a number isn't finite, shapes differ, or a label isn't a class.
    """
    is_box = np.asarray(true_labels).reshape(-1) >= 0
    true_boxes, true_labels = np.asarray(true_boxes)[is_box], np.asarray(true_labels)[is_box]
    _check(boxes, labels, scores, num_classes)
    _check(true_boxes, true_labels, np.zeros(len(true_labels)), num_classes)
    counts = np.bincount(true_labels, minlength=num_classes)
    kept, flags = [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")[:MOST]]
        kept.append(rows)
        flags.append(_match(iou_matrix(boxes[rows], true_boxes[true_labels == label])))
    order = np.concatenate([np.empty(0, dtype=np.int64), *kept])
    return DetectionStatistics(
        labels=labels[order].astype(np.int64),
        scores=scores[order].astype(np.float64),
        matched=np.concatenate([np.empty((0, len(OVERLAPS)), dtype=np.bool_), *flags]),
        truths=counts[None, :].astype(np.int64),
    )


def _check(boxes: Array, labels: Array, scores: Array, num_classes: int) -> None:
    if boxes.shape != (len(labels), 4) or len(scores) != len(labels):
        raise DataError(f"boxes {list(boxes.shape)} and {len(labels)} labels don't fit together")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise DataError("the boxes or scores hold values that aren't finite (NaN or infinite)")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"labels from {labels.min()} to {labels.max()} aren't numbers of {num_classes} classes"
        )


def _match(overlaps: Doubles) -> Bools:
    """Return which detections find a box of their own, at each least overlap `[D, T]`.

    Greedy, best score first: each takes the free box that it overlaps most, the last of equals.
    The overlaps are those of detections, best first, with boxes `[D, M]`.
    """
    hits_of_rows = np.zeros((len(overlaps), len(OVERLAPS)), dtype=np.bool_)
    free = np.ones((len(OVERLAPS), overlaps.shape[1]), dtype=np.bool_)
    steps = np.arange(len(OVERLAPS))
    for row in np.flatnonzero((overlaps >= OVERLAPS[0]).any(axis=1)):
        open_to = np.where(free, overlaps[row], -1.0)
        last_best = open_to.shape[1] - 1 - open_to[:, ::-1].argmax(axis=1)
        hits_of_rows[row] = open_to[steps, last_best] >= OVERLAPS
        free[steps[hits_of_rows[row]], last_best[hits_of_rows[row]]] = False
    return hits_of_rows


def average_precision(statistics: DetectionStatistics) -> Doubles:
    """Return the average precision of each class at each overlap `[K, T]`.

    It is NaN where a class has no box; mAP is the mean of the others.

    Raises:
        DataError: there is no box at all.
    """
    boxes = statistics.truths.sum(axis=0)
    if not boxes.any():
        raise DataError("there are no boxes to find in these samples, so nothing can be measured")
    precisions = np.full((len(boxes), len(OVERLAPS)), np.nan)
    for label in np.flatnonzero(boxes):
        rows = np.flatnonzero(statistics.labels == label)
        rows = rows[np.argsort(-statistics.scores[rows], kind="stable")]
        for at, right in enumerate(statistics.matched[rows].T):
            precisions[label, at] = _area(np.flatnonzero(right) + 1, int(boxes[label]))
    return precisions


def _area(seen: Ints, boxes: int) -> float:
    """Return the mean precision at 101 recalls.

    Precision at a recall is the best at that recall or a higher one, so it is enough to look at the
    detections that are right: between them precision only falls. `seen` `[P]` is how many
    detections there are up to each right one, best first; `boxes`, how many there are to find.
    """
    hits = np.arange(1, len(seen) + 1)
    best = np.maximum.accumulate((hits / seen)[::-1])[::-1]
    reached = np.searchsorted(_RECALLS, hits / boxes, side="right")
    return float((best * np.diff(reached, prepend=0)).sum() / len(_RECALLS))
