"""The labels of samples: which of them a model learns, and which a split has beyond them.

A model's labels are those of the training split. A class that only another split has is no output
of the network; its samples stay, and count as wrong: behind the K labels of the model stand those
that a split has beyond them, numbered K, K + 1, ….
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelwright.data.multi_label import read_labels
from modelwright.errors import DataError
from modelwright.tasks import Target
from modelwright.tasks.boxes import BoxedImage, LabelledBox

Rows = NDArray[np.int64]
_SHOWN = 5
"""How many labels a message names."""
LABELLED: tuple[Target, ...] = ("label", "labels", "boxes")
"""The targets that have labels."""
BECOMES: dict[Target, str] = {
    "label": "such {}s count as wrong, and the log loss leaves them out",
    "labels": "such labels count as missed, and the log loss leaves their {}s out",
    "boxes": "such boxes count as missed, with an average precision of 0",
}
"""What becomes of labels that a model doesn't know, by the target; it takes what a sample is."""


# -- as the store keeps them -----------------------------------------------------------------


def write_boxes(image: BoxedImage) -> str:
    """Return an image's boxes as the store keeps them."""
    rows = [[box.label, box.x1, box.y1, box.x2, box.y2] for box in image.boxes]
    return json.dumps([image.width, image.height, rows])


def read_boxes(held: str) -> BoxedImage:
    """Read what `write_boxes` returned."""
    width, height, rows = json.loads(held)
    return BoxedImage(width, height, tuple(LabelledBox(*row) for row in rows))


def labels_of(held: str, target: Target) -> tuple[str, ...]:
    """Return the labels in what was read of a sample: one, all of a set, or one a box."""
    match target:
        case "labels":
            return read_labels(held)
        case "boxes":
            return tuple(box.label for box in read_boxes(held).boxes)
        case _:
            return (held,)


# -- known and unknown -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a model, and those that splits have beyond them."""

    known: tuple[str, ...]
    """In order: an output of the network each."""
    unknown: Mapping[str, tuple[str, ...]]
    """By split, in order."""

    def in_split(self, name: str) -> tuple[str, ...]:
        """Return a split's labels in the order of their numbers: the model's, then the others."""
        return (*self.known, *self.unknown[name])


def count_labels(
    target: Target, held: Sequence[str], splits: Mapping[str, Rows]
) -> dict[str, Counter[str]]:
    """Return how often each label occurs in each split."""
    return {
        name: Counter(label for row in rows.tolist() for label in labels_of(held[row], target))
        for name, rows in splits.items()
    }


def fit_labels(
    target: Target,
    held: Sequence[str],
    splits: Mapping[str, Rows],
    known: tuple[str, ...] | None = None,
    *,
    where: str = "data",
) -> Labels:
    """Return the labels of the training split, and those that the others have beyond them.

    Args:
        target: one of `LABELLED`.
        held: what was read of each row.
        splits: the rows that are used.
        known: the labels of a model that exists.
        where: where the data is, for messages.

    Raises:
        DataError: the training split has none, or another split has none of them.
    """
    counts = count_labels(target, held, splits)
    labels = tuple(sorted(counts["train"])) if known is None else known
    if not labels:  # Of boxes: of others, samples that are all alike are refused before.
        raise DataError("no training image has a box, so there is nothing to learn")
    for name, found in counts.items():
        if found and found.keys().isdisjoint(labels):
            nothing = (
                f"the {name} split has no label that training has"
                if known is None
                else "there is no label that the model knows"
            )
            raise DataError(
                f"{nothing}: its labels are {_named(sorted(found))}",
                where=where,
                why=f"Known are {_named(labels)}",
                fix="Look at the labels: are they of the same column, and written alike?",
            )
    unknown = {name: tuple(sorted(found.keys() - set(labels))) for name, found in counts.items()}
    return Labels(labels, unknown)


def shown_unknown(
    counts: Mapping[str, Counter[str]], known: Iterable[str]
) -> tuple[list[str], str]:
    """Return the labels that aren't known, and the first of them with how often they occur where.

    >>> shown_unknown({"train": Counter(cat=9), "test": Counter(cat=2, emu=3)}, ["cat"])
    (['emu'], '`emu` (3 test)')
    >>> shown_unknown({"test": Counter(cat=2, emu=3)}, ["cat"])
    (['emu'], '`emu` (3)')
    """
    known, is_one = set(known), len(counts) == 1
    lost = sorted({label for found in counts.values() for label in found} - known)
    said = [
        f"`{label}` ("
        + ", ".join(
            f"{found[label]:,}" + f" {name}" * (not is_one)
            for name, found in counts.items()
            if found[label]
        )
        + ")"
        for label in lost[:_SHOWN]
    ]
    return lost, ", ".join(said) + _more(lost)


def about_unknown(
    target: Target,
    held: Sequence[str],
    splits: Mapping[str, Rows],
    known: Sequence[str],
    thing: str,
) -> str:
    """Say which labels a model that exists doesn't know, and what becomes of them; else nothing."""
    lost, shown = shown_unknown(count_labels(target, held, splits), known)
    if not lost:
        return ""
    close = {label: difflib.get_close_matches(label, known, n=1) for label in lost[:_SHOWN]}
    meant = ", ".join(f"`{alike[0]}` by `{label}`" for label, alike in close.items() if alike)
    return (
        f"Data: the model doesn't know {len(lost):,} of the labels: {shown}; "
        + BECOMES[target].format(thing)
        + (f". Perhaps {meant} is meant" if meant else "")
    )


def _named(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels[:_SHOWN]) + _more(labels)


def _more(labels: Sequence[str]) -> str:
    return f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
