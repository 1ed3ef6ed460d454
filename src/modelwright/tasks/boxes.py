"""Boxes, in NumPy: what a sample of detection is, how it is resized, and how answers are read.

A box is `[x1, y1, x2, y2]`, float32, in pixels: x to the right, y down, both counted from the
image's upper left corner, so that a box over a whole image is `[0, 0, width, height]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Bools, Ints
from modelwright.errors import DataError
from modelwright.metrics import sigmoid
from modelwright.metrics.detection import iou_matrix
from modelwright.transforms import ImageInput

Floats = NDArray[np.float32]

CANDIDATES = 1000
"""The most candidates of an image, by score (Lin et al. 2017, `Focal Loss`, section 4.1)."""


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One box of an image, with the name of what is in it."""

    label: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """The boxes of one image, in pixels of an image of this size."""

    width: int
    height: int
    boxes: tuple[LabelledBox, ...]


@dataclass(frozen=True, slots=True)
class CheckedBoxes:
    """An image's boxes that can be used, and what became of the others."""

    image: BoxedImage
    clipped: int
    """Boxes that hung over the image's edge and were cut there."""
    dropped: int
    """Boxes that had no area, or none within the image, and were left out."""
    messages: tuple[str, ...]
    """A sentence for each of either, without a full stop."""


def check_boxes(image: BoxedImage, *, where: str) -> CheckedBoxes:
    """Clip boxes at the image's edges, and leave out those without an area in it.

    `where` is the file, for the messages.
    """
    kept: list[LabelledBox] = []
    messages: list[str] = []
    clipped = 0
    for number, box in enumerate(image.boxes, start=1):
        name = f"{where}: box {number} (`{box.label}`)"
        x1, x2 = max(box.x1, 0.0), min(box.x2, float(image.width))
        y1, y2 = max(box.y1, 0.0), min(box.y2, float(image.height))
        if not (box.x1 < box.x2 and box.y1 < box.y2):
            messages.append(f"{name} has no area and is left out")
        elif not (x1 < x2 and y1 < y2):
            messages.append(f"{name} lies outside the image and is left out")
        else:
            whole = LabelledBox(box.label, x1, y1, x2, y2)
            kept.append(whole)
            if whole != box:
                clipped += 1
                messages.append(f"{name} hangs over the image's edge and is cut there")
    checked = BoxedImage(image.width, image.height, tuple(kept))
    return CheckedBoxes(checked, clipped, len(image.boxes) - len(kept), tuple(messages))


def rescaled(image: BoxedImage, *, width: int, height: int) -> BoxedImage:
    """Return the boxes for the same image in another size; annotations often keep the first one."""
    x, y = width / image.width, height / image.height
    boxes = tuple(
        LabelledBox(box.label, box.x1 * x, box.y1 * y, box.x2 * x, box.y2 * y)
        for box in image.boxes
    )
    return BoxedImage(width, height, boxes)


def box_arrays(image: BoxedImage, labels: Sequence[str]) -> tuple[Floats, Ints]:
    """Return an image's boxes `[M, 4]` and their numbers in the list of labels `[M]`.

    Raises:
        DataError: a label isn't in the list.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    for box in image.boxes:
        if box.label not in numbers:
            raise DataError(f"the label `{box.label:.80}` isn't one of those that are learnt")
    corners = [(box.x1, box.y1, box.x2, box.y2) for box in image.boxes]
    return (
        np.array(corners, dtype=np.float32).reshape(-1, 4),
        np.array([numbers[box.label] for box in image.boxes], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class Framing:
    """Where an image lies in the network's input: `input = image · scale + shift`, on both axes."""

    scale: tuple[float, float]
    """Of x and y."""
    shift: tuple[float, float]
    image: tuple[int, int]
    """Width and height of the image."""
    input: tuple[int, int]
    """Width and height of the network's input."""

    def to_input(self, boxes: Array) -> Floats:
        """Return boxes `[…, 4]` of the image as they lie in the input; some may hang over it."""
        return np.asarray(boxes * np.array(self.scale * 2) + np.array(self.shift * 2), np.float32)

    def to_image(self, boxes: Array) -> Floats:
        """Return boxes `[…, 4]` of the input as they lie in the image, cut at its edges."""
        whole = (boxes - np.array(self.shift * 2)) / np.array(self.scale * 2)
        return np.asarray(np.clip(whole, 0.0, np.array(self.image * 2)), np.float32)


def framing(input: ImageInput, *, width: int, height: int) -> Framing:
    """Return where `decode_image` puts an image of this size, turned as EXIF says."""
    sides, target = (width, height), (input.width, input.height)
    if input.resize == "stretch":
        scale = (target[0] / sides[0], target[1] / sides[1])
        return Framing(scale, (0.0, 0.0), sides, target)
    if input.resize == "shorter":
        factor = max(target[0] / sides[0], target[1] / sides[1])
        shift = ((target[0] - sides[0] * factor) / 2, (target[1] - sides[1] * factor) / 2)
        return Framing((factor, factor), shift, sides, target)
    factor = min(target[0] / sides[0], target[1] / sides[1])
    # The inner image has whole sides, and so a scale of its own on each axis.
    inner = (max(round(sides[0] * factor), 1), max(round(sides[1] * factor), 1))
    scale = (inner[0] / sides[0], inner[1] / sides[1])
    border = (float((target[0] - inner[0]) // 2), float((target[1] - inner[1]) // 2))
    return Framing(scale, border, sides, target)


def visible(boxes: Array, *, width: float, height: float, least: float) -> tuple[Floats, Bools]:
    """Clip boxes `[…, 4]` to a width and height, and return which keep enough of their area `[…]`.

    `least` is the share of its area that a box must keep; one without an area is never enough.
    """
    cut = np.clip(boxes, 0.0, np.array((width, height) * 2))
    whole, left = ((item[..., 2:] - item[..., :2]).prod(axis=-1) for item in (boxes, cut))
    return cut.astype(np.float32), (left > 0) & (left >= least * whole)


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one image, surest first."""

    boxes: Floats
    """`[D, 4]`."""
    labels: Ints
    """`[D]`."""
    scores: Floats
    """`[D]`, in 0…1."""


def decode(
    scores: Array, boxes: Array, *, least_score: float, most_overlap: float, most: int
) -> list[Detections]:
    """Return the detections in each image of a batch, in pixels of the network's input.

    Args:
        scores: logits `[N, A, K]`.
        boxes: `[N, A, 4]`.
        least_score: the smallest probability that is returned.
        most_overlap: the IoU up to which two boxes of a class are both returned.
        most: the most detections of an image.

    Raises:
        DataError: a number isn't finite.
    """
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise DataError("the network's outputs hold values that aren't finite (NaN or infinite)")
    detections = []
    for logits, places in zip(scores, boxes, strict=True):
        sure = sigmoid(logits.ravel())
        order = np.flatnonzero(sure >= least_score)
        order = order[np.argsort(-sure[order], kind="stable")[:CANDIDATES]]
        at, labels = np.divmod(order, logits.shape[1])
        sure = sure[order]
        kept = suppress(places[at], sure, labels, most_overlap=most_overlap, most=most)
        detections.append(
            Detections(
                places[at[kept]].astype(np.float32),
                labels[kept].astype(np.int64),
                sure[kept].astype(np.float32),
            )
        )
    return detections


def suppress(boxes: Array, scores: Array, labels: Array, *, most_overlap: float, most: int) -> Ints:
    """Return the boxes that stay, surest first: non-maximum suppression within each class.

    Greedy: the box with the highest score stays, and those of its class whose IoU with it is above
    `most_overlap` go; of equal scores the first stays. At most `most` stay. `boxes` are `[D, 4]`,
    `scores` and `labels` `[D]`; the result holds positions in them.
    """
    left = np.argsort(-np.asarray(scores), kind="stable")
    kept: list[np.int64] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(best)
        same = labels[left] == labels[best]
        close = iou_matrix(boxes[best][None], boxes[left])[0] > most_overlap
        left = left[~(same & close)]
    return np.array(kept, dtype=np.int64)
