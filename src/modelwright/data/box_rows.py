"""Tables with a box a row, or with a list of boxes a row, as annotation tools and contests have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelwright.data.coco import MOST_PIXELS
from modelwright.data.listing import Listing
from modelwright.data.multi_label import parse_list
from modelwright.data.table import list_table
from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.recipe.data import BoxesData, TableData
from modelwright.tasks.boxes import BoxedImage, LabelledBox
from modelwright.transforms.image import Sides

Corners = tuple[float, float, float, float]
_MOST_SHARE = 1.0 + 1e-6
"""Boxes that lie below altogether are shares of their images' sides."""


@dataclass(slots=True)
class _Rows:
    """The rows of one image."""

    first: int
    boxes: list[LabelledBox] = field(default_factory=list)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class BoxRows:
    """The images of such a table, and their boxes."""

    listing: Listing
    """One row an image."""
    rows: Sequence[_Rows]
    are_shares: bool
    """Whether the boxes are shares of their image's sides."""

    def boxes(self, at: int, sides: Sides) -> BoxedImage:
        """Return the boxes of an image of some size.

        Raises:
            DataError: one of its rows can't be read.
        """
        image = self.rows[at]
        if image.fault:
            raise DataError(image.fault)
        width, height = (1, 1) if self.are_shares else sides.shown
        return BoxedImage(width, height, tuple(image.boxes))


def table_settings(spec: BoxesData) -> Mapping[str, Any]:
    """Return the settings of a source `boxes` that one of tables has as well."""
    names = ("path", "image", "files", "split_column", "split", "columns", "encoding")
    return {"source": "table", **{name: getattr(spec, name) for name in names}}


def list_box_rows(spec: BoxesData, columns: Sequence[str], *, base: Path) -> BoxRows:
    """Return the images of a table with a box a row, in the order of their first rows.

    Args:
        spec: the source.
        columns: the four columns of places, or the one of all four.
        base: where its path starts from.

    Raises:
        DataError: the table can't be read, or a column is missing.
    """
    more = (*columns, spec.label)
    table = TableData(label=spec.label, metadata_columns=more, **table_settings(spec))
    listing = list_table(table, base=base, output_kind=OutputKind.BOXES)
    cells = [listing.metadata[name] for name in columns]
    images: dict[tuple[str, str], _Rows] = {}
    largest = 0.0
    for row, (origin, split, label, *places) in enumerate(
        zip(listing.origins, listing.splits, listing.metadata[spec.label], *cells, strict=True)
    ):
        image = images.setdefault((split, origin), _Rows(row))
        try:
            for name, box in _boxes(label, places, columns, spec.label):
                largest = max(largest, *map(abs, box))
                image.boxes.append(LabelledBox(name, *_corners(box, spec.box_format)))
        except DataError as error:
            image.fault = f"{listing.places[row]}: {error.what}"
    rows = list(images.values())
    firsts = [image.first for image in rows]
    kept = {name: column for name, column in listing.metadata.items() if name not in more}
    grouped = spec.split.column
    if grouped is not None:
        kept[grouped] = listing.metadata[grouped]
    chosen = replace(
        listing,
        labels=["" for _ in rows],
        splits=[listing.splits[row] for row in firsts],
        origins=[listing.origins[row] for row in firsts],
        places=[listing.places[row] for row in firsts],
        metadata={name: [column[row] for row in firsts] for name, column in kept.items()},
        read=lambda at: listing.read(firsts[at]),
        faults={},
    )
    return BoxRows(chosen, rows, 0 < largest <= _MOST_SHARE)


def _boxes(
    label: str, places: Sequence[str], columns: Sequence[str], label_column: str
) -> list[tuple[str, Corners]]:
    """Return the labels and places of a row's boxes; none of a row with empty cells.

    Raises:
        DataError: they aren't what they should be.
    """
    if not label.strip() and not any(place.strip() for place in places):
        return []
    values: Any = list(places)
    if len(columns) == 1:
        values = parse_list(places[0]) if places[0].strip() else []
        if values is None:
            raise DataError(f"`{columns[0]}` is {places[0]!r:.40}, not a list")
    labels = parse_list(label)
    if labels is not None or not values or isinstance(values[0], list | tuple):
        labels = [label] * len(values) if labels is None else labels
        if len(labels) != len(values):
            raise DataError(
                f"`{columns[0]}` has {len(values)} boxes and `{label_column}` {len(labels)} labels"
            )
        return [
            (_name(name, label_column), _places(box, columns))
            for name, box in zip(labels, values, strict=True)
        ]
    return [(_name(label, label_column), _places(values, columns))]


def _name(label: Any, column: str) -> str:
    name = str(label).strip()
    if not name:
        raise DataError(f"`{column}` is empty beside a box")
    return name


def _places(values: Any, columns: Sequence[str]) -> Corners:
    if not isinstance(values, list | tuple) or len(values) != 4:
        raise DataError(f"`{columns[0]}` is {values!r:.40}, not four numbers")
    names = columns if len(columns) == 4 else [columns[0]] * 4
    numbers = []
    for name, value in zip(names, values, strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not abs(number) <= MOST_PIXELS:
            raise DataError(f"`{name}` is {value!r:.40}, not a place")
        numbers.append(number)
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _corners(box: Corners, form: str) -> Corners:
    x, y, width, height = box
    if form == "xywh":
        return x, y, x + width, y + height
    if form == "cxcywh":
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return box
