"""Targets with labels: one a sample, any number of them, or one a box."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Bools, Ints
from modelwright.data.adapters import (
    TargetAdapter,
    TargetCells,
    TargetRequest,
    Targets,
)
from modelwright.data.box_labels import read_boxes, write_boxes
from modelwright.data.cells import joined_text
from modelwright.data.dataset import Split
from modelwright.data.findings import Finding
from modelwright.data.labels import Labels, LabelsOf, count_labels, fit_labels, split_labels
from modelwright.data.listing import Rows
from modelwright.data.multi_label import (
    read_cells,
    read_labels,
    read_one_hot,
    rename_labels,
    strata,
)
from modelwright.data.numbers import is_missing
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import DataError
from modelwright.files import JsonObject
from modelwright.tasks.boxes import box_arrays, framing, visible
from modelwright.transforms import ImageInput

LEAST_VISIBLE = 0.25
"""A box of which the network's input shows a smaller share is left out."""
_MOST_COUNTED = 1000
"""Of more labels than this, a model file doesn't say how often each occurs."""


def _labels(request: TargetRequest, labels_of: LabelsOf) -> Labels:
    known = request.known
    labels = fit_labels(request.train, labels_of) if known is None else known
    counts = count_labels(labels_of, request.stored, request.splits)
    return split_labels(labels, counts, is_model=known is not None, where=request.where)


# -- one label -------------------------------------------------------------------------------


def _build_classes(request: TargetRequest) -> Targets:
    """Return each row's class number in its split, −1 where the row isn't used."""
    labels = _labels(request, SINGLE_LABEL.labels_of)
    targets = np.full(len(request.stored), -1, dtype=np.int64)
    for name, rows in request.splits.items():
        numbers = {label: number for number, label in enumerate(labels.in_split(name))}
        targets[rows] = [numbers[request.stored[row]] for row in rows.tolist()]
    return Targets(labels.known, targets, request.encoded.inputs, unknown=labels.unknown)


def _read_label(cells: TargetCells) -> tuple[list[str], tuple[str, ...]]:
    """Return the labels, refusing lists: joined, each list would become a class."""
    (column,), (name,) = cells.columns, cells.names
    at = next((at for at, cell in enumerate(column) if isinstance(cell, list)), None)
    if at is not None:
        raise DataError(
            f"the column `{name}` holds lists, and each sample has one label here",
            where=cells.place(at),
            fix="Give one label a row, or write `data: {multi_label: true}`, which takes lists",
        )
    labels = ["" if is_missing(cell) else joined_text(cell) for cell in column]
    return _as_whole_numbers(labels, name)


_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)


def _as_whole_numbers(labels: list[str], column: str) -> tuple[list[str], tuple[str, ...]]:
    """Write labels that are whole numbers, some of them with a point, without it: `1.0` is `1`."""
    matches = {label: _WHOLE.fullmatch(label.strip()) for label in set(labels) if label.strip()}
    pointed = [label for label, match in matches.items() if match is not None and match[2]]
    if not pointed or None in matches.values():
        return labels, ()
    names = {label: match[1] for label, match in matches.items() if match is not None}
    note = f"Data: `{column}` writes `{pointed[0]}` where `{names[pointed[0]]}` is meant"
    return [names.get(label, label) for label in labels], (note,)


def _one_class(only: str, noun: str) -> tuple[str, str]:
    return (
        f"all training samples have one label, `{only}`, so there is nothing to tell apart",
        "Give the training split at least two classes: for a folder, at least two folders of "
        f"{noun}s",
    )


def _describe_classes(labels: tuple[str, ...], train: Split, num_outputs: int) -> JsonObject:
    counts = np.bincount(train.targets, minlength=len(labels)).tolist()
    few = len(labels) <= _MOST_COUNTED
    return {"classes": len(labels), "training_counts": counts if few else None}


SINGLE_LABEL = TargetAdapter(
    build=_build_classes,
    describe=_describe_classes,
    read=_read_label,
    has_labels=True,
    is_of_sample=True,
    imbalance_fix=", and try `loss: {name: cross-entropy, class_weights: balanced}`",
    unknown_labels="such {}s count as wrong, and the log loss leaves them out",
    strata=lambda stored, usable: (stored, ""),
    without_variety=_one_class,
)


# -- several labels --------------------------------------------------------------------------


def label_set_targets(stored: Sequence[str], splits: Mapping[str, Rows], labels: Labels) -> Bools:
    """Return which labels each row has `[N, K + U]`, by their numbers in its split.

    U is the most labels that a split has beyond the K known ones.
    """
    most = max(map(len, labels.unknown.values()))
    targets = np.zeros((len(stored), len(labels.known) + most), dtype=np.bool_)
    for name, rows in splits.items():
        numbers = {label: number for number, label in enumerate(labels.in_split(name))}
        for row in rows.tolist():
            targets[row, [numbers[label] for label in read_labels(stored[row])]] = True
    return targets


def _build_sets(request: TargetRequest) -> Targets:
    labels = _labels(request, read_labels)
    targets = label_set_targets(request.stored, request.splits, labels)
    return Targets(labels.known, targets, request.encoded.inputs, unknown=labels.unknown)


def _read_sets(cells: TargetCells) -> tuple[list[str], tuple[str, ...]]:
    if len(cells.columns) > 1:
        return read_one_hot(cells.columns, cells.names), ()
    return read_cells(cells.columns[0], cells.separator, column=cells.names[0])


def _one_set(only: str, noun: str) -> tuple[str, str]:
    names = ", ".join(f"`{label}`" for label in read_labels(only))
    return (
        f"all training samples have the same labels, {names}, so there is nothing to tell apart"
        if names
        else "no training sample has a label, so there is nothing to learn",
        "Look at `data.label`: does it name the right column?",
    )


MULTI_LABEL = TargetAdapter(
    build=_build_sets,
    describe=lambda labels, train, num_outputs: {
        "classes": len(labels),
        "training_counts": train.targets.sum(axis=0).tolist(),
    },
    columns=lambda spec: spec.target_columns if len(spec.target_columns) > 1 else (spec.label,),
    read=_read_sets,
    missing="its labels aren't a list of texts (empty where it has none), or aren't all 0 or 1",
    labels_of=read_labels,
    rename=rename_labels,
    has_labels=True,
    is_of_sample=True,
    unknown_labels="such labels count as missed, and the log loss leaves their {}s out",
    strata=strata,
    without_variety=_one_set,
    # Splits have more or fewer labels beyond the model's.
    of_split=lambda values, num_labels: values[:, :num_labels],
)


# -- boxes -----------------------------------------------------------------------------------


def are_boxes(targets: object) -> bool:
    """Say whether targets are boxes, or some rows of it."""
    return isinstance(targets, Joined) and targets.parts[0].name == "boxes"


def _build_boxes(request: TargetRequest) -> Targets:
    """Return boxes `[M, 4]` in the network's input and their class numbers, padded with −1.

    Boxes where resizing cuts an image are left out and counted. Rows of no split have no box.
    """
    labels, input = _labels(request, _labels_of_boxes), request.encoded.input
    assert isinstance(input, ImageInput)
    count, hidden = len(request.stored), 0
    places: list[NDArray[np.float32]] = [np.empty((0, 4), np.float32)] * count
    classes: list[Ints] = [np.empty(0, np.int64)] * count
    for name, rows in request.splits.items():
        names = labels.in_split(name)
        for row in rows.tolist():
            image = read_boxes(request.stored[row])
            boxes, numbers = box_arrays(image, names)
            frame = framing(input, width=image.width, height=image.height)
            cut, stays = visible(
                frame.to_input(boxes), width=input.width, height=input.height, least=LEAST_VISIBLE
            )
            places[row], classes[row] = cut[stays], numbers[stays]
            hidden += int((~stays).sum())
    targets = Joined(
        (
            Ragged.of("boxes", places, "float32", length_name="", multiple=1),
            Ragged.of("labels", classes, "int64", length_name="", multiple=1, pad=-1),
        )
    )
    finding = Finding(
        kind="hidden_boxes",
        severity="warning",
        message=f"{hidden:,} boxes lie where `transforms.resize: {input.resize}` "
        "cuts images, and are left out",
        fix="`letterbox` keeps all of an image",
    )
    findings = (finding,) if hidden else ()
    inputs = request.encoded.inputs
    return Targets(labels.known, targets, inputs, findings=findings, unknown=labels.unknown)


def _rename_boxes(stored: str, names: Mapping[str, str]) -> str:
    image = read_boxes(stored)
    boxes = tuple(replace(box, label=names.get(box.label, box.label)) for box in image.boxes)
    return write_boxes(replace(image, boxes=boxes))


def _labels_of_boxes(stored: str) -> tuple[str, ...]:
    return tuple(box.label for box in read_boxes(stored).boxes)


def _some_or_none(stored: Sequence[str], usable: Rows) -> tuple[Sequence[str], str]:
    kept = [""] * len(stored)
    for row in usable.tolist():
        kept[row] = "boxes" if read_boxes(stored[row]).boxes else "none"
    return kept, ""


BOXES = TargetAdapter(
    build=_build_boxes,
    describe=lambda labels, train, num_outputs: {"classes": len(labels)},
    setting="boxes",
    labels_of=_labels_of_boxes,
    rename=_rename_boxes,
    has_labels=True,
    unknown_labels="such boxes count as missed, with an average precision of 0",
    strata=_some_or_none,
)
