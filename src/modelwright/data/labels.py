"""The labels of samples: which of them a model learns, and which a split has beyond them.

A model's labels are those of the training split. A class that only another split has is no output
of the network; its samples stay, and count as wrong: behind the K labels of the model stand those
that a split has beyond them, numbered K, K + 1, ….
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelwright.data.findings import shown_first
from modelwright.data.listing import Rows
from modelwright.errors import DataError

LabelsOf = Callable[[str], tuple[str, ...]]
"""Returns the labels in a stored target: one, several, or one for each box."""
_SHOWN = 5
"""How many labels a message names."""


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
    labels_of: LabelsOf, stored: Sequence[str], splits: Mapping[str, Rows]
) -> dict[str, Counter[str]]:
    """Return how often each label occurs in each split."""
    return {
        name: Counter(label for row in rows.tolist() for label in labels_of(stored[row]))
        for name, rows in splits.items()
    }


def fit_labels(train: Iterable[str], labels_of: LabelsOf) -> tuple[str, ...]:
    """Return the labels of the training split, in order.

    Raises:
        DataError: there are none.
    """
    labels = tuple(sorted({label for stored in train for label in labels_of(stored)}))
    if not labels:  # Of boxes: of others, samples that are all alike are refused before.
        raise DataError("no training image has a box, so there is nothing to learn")
    return labels


def split_labels(
    labels: tuple[str, ...], counts: Mapping[str, Counter[str]], *, is_model: bool, where: str
) -> Labels:
    """Return labels with those that splits have beyond them.

    `labels` are those of the training split, or, with `is_model`, of an existing model.

    Raises:
        DataError: a split has none of them.
    """
    for name, counter in counts.items():
        if counter and counter.keys().isdisjoint(labels):
            nothing = (
                "there is no label that the model knows"
                if is_model
                else f"the {name} split has no label that training has"
            )
            raise DataError(
                f"{nothing}: its labels are {_named(sorted(counter))}",
                where=where,
                why=f"Known are {_named(labels)}",
                fix="Look at the labels: are they of the same column, and written alike?",
            )
    known = set(labels)
    unknown = {name: tuple(sorted(counter.keys() - known)) for name, counter in counts.items()}
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
    lost = sorted({label for counter in counts.values() for label in counter} - known)
    said = [
        f"`{label}` ("
        + ", ".join(
            f"{counter[label]:,}" + f" {name}" * (not is_one)
            for name, counter in counts.items()
            if counter[label]
        )
        + ")"
        for label in lost
    ]
    return lost, shown_first(said, _SHOWN)


def about_unknown(counts: Mapping[str, Counter[str]], known: Sequence[str], becomes: str) -> str:
    """Return a note on the labels that an existing model doesn't know; empty where it knows all."""
    lost, shown = shown_unknown(counts, known)
    if not lost:
        return ""
    close = {label: difflib.get_close_matches(label, known, n=1) for label in lost[:_SHOWN]}
    meant = ", ".join(f"`{alike[0]}` by `{label}`" for label, alike in close.items() if alike)
    return (
        f"Data: the model doesn't know {len(lost):,} of the labels: {shown}; "
        + becomes
        + (f". Perhaps {meant} is meant" if meant else "")
    )


def _named(labels: Sequence[str]) -> str:
    return shown_first([f"`{label}`" for label in labels], _SHOWN)
