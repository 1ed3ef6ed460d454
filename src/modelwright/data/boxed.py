"""The source `boxes`: images with boxes, from VOC XML, COCO JSON or a table.

Boxes are in pixels of the image as it is shown. Annotations often keep the size that an image once
had, so boxes are taken from the size that they state to the image's own. What can't be used is
counted: boxes without an area in their image, and images whose annotation is broken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelwright.data.box_labels import write_boxes
from modelwright.data.boxed_files import (
    NOTHING,
    BoxedFile,
    list_coco,
    list_voc,
    split_files,
)
from modelwright.data.coco import MOST_PIXELS
from modelwright.data.listing import (
    Listing,
    files_below,
    parent_folder,
    read_file,
    require_parent,
    stamp,
)
from modelwright.data.table import list_table
from modelwright.data.table_reader import is_table, is_table_folder
from modelwright.data.voc import parse_voc
from modelwright.errors import DataError
from modelwright.files import digest, find_path, json_digest
from modelwright.kinds import OutputKind
from modelwright.recipe.data import BoxesData, TableData
from modelwright.tasks.boxes import BoxedImage, LabelledBox, check_boxes, rescaled
from modelwright.transforms.image import Sides, sides_of

_SHOWN = 3
"""So many messages on boxes are shown; the others are counted."""
_FORMS = "VOC XML files beside the images or in `Annotations`, or COCO JSON files"


def list_boxes(spec: BoxesData, *, base: Path, likely: str | None = None) -> Listing:
    """Return the images of a source with their boxes; an image may have none.

    `likely` is a folder where a COCO file's images may be, if they are in none of the usual places.

    Raises:
        DataError: a file can't be read, or there is nothing to learn from.
    """
    path = find_path(spec.path, base)
    if is_table(path) or is_table_folder(path):
        return _list_table(spec, path, base)
    files = list(files_below(path)) if path.is_dir() else [path.name]
    root = path if path.is_dir() else path.parent
    if path.is_dir() and any(file.lower().endswith(".xml") for file in files):
        images, notes = list_voc(root, files)
    else:
        documents = [file for file in files if file.lower().endswith(".json")]
        if not documents:
            raise DataError(
                "there are no boxes here",
                where=str(path),
                fix=f"Give {_FORMS}, or a table with a column of boxes",
            )
        if path.is_file():
            documents = split_files(path)
        images, notes = list_coco(root, documents, spec, base, likely)
    return _listing(path, root, images, notes, spec)


# -- what all sources share ------------------------------------------------------------------


@dataclass(slots=True)
class _Counted:
    """What became of boxes that weren't right."""

    clipped: int = 0
    dropped: int = 0
    messages: list[str] = field(default_factory=list)

    def taken(self, boxed: BoxedImage, sides: Sides, where: str) -> str:
        """Return the boxes that can be used, in pixels of the image, as the store keeps them."""
        checked = check_boxes(boxed, where=where)
        self.clipped += checked.clipped
        self.dropped += checked.dropped
        self.messages += checked.messages[: max(_SHOWN - len(self.messages), 0)]
        return write_boxes(_as_shown(checked.image, sides))

    def notes(self) -> tuple[str, ...]:
        """Say how many there were, and name the first."""
        if not self.messages:
            return ()
        counts = []
        if self.dropped:
            counts.append(f"{self.dropped:,} boxes have no area in their image and are left out")
        if self.clipped:
            counts.append(f"{self.clipped:,} boxes hang over its edge and are cut there")
        return (f"{'; '.join(counts)}. The first: {'; '.join(self.messages)}",)


def _as_shown(image: BoxedImage, sides: Sides) -> BoxedImage:
    """Return boxes in pixels of the image as it is shown."""
    width, height = sides.shown
    stated = (image.width, image.height)
    if stated == (sides.width, sides.height) != (width, height):
        boxes = tuple(_turned(box, image, sides.turned) for box in image.boxes)
        return BoxedImage(width, height, boxes)
    return image if stated == (width, height) else rescaled(image, width=width, height=height)


def _turned(box: LabelledBox, image: BoxedImage, how: int) -> LabelledBox:
    """Return a box of an image whose sides change places, as EXIF's orientation 5 to 8 asks."""
    x1, y1, x2, y2 = box.y1, box.x1, box.y2, box.x2
    if how in (6, 7):
        x1, x2 = image.height - x2, image.height - x1
    if how in (7, 8):
        y1, y2 = image.width - y2, image.width - y1
    return LabelledBox(box.label, x1, y1, x2, y2)


def _sides(read: Callable[[], Sides]) -> Sides | None:
    """Return an image's size; nothing where it is broken, which the store will say."""
    try:
        return read()
    except (OSError, DataError):
        return None


def _listing(
    path: Path, root: Path, files: Sequence[BoxedFile], notes: Sequence[str], spec: BoxesData
) -> Listing:
    column = spec.split.column
    require_parent(column)
    counted, marks, labels = _Counted(), ["boxes 1", column or ""], []
    for item in files:
        sides = _sides(lambda file=item.file: sides_of(root / file))  # type: ignore[misc]
        labels.append(
            write_boxes(NOTHING)
            if sides is None or item.fault
            else counted.taken(item.boxed, sides, item.file)
        )
        marks.append(f"{item.file} {item.split} {stamp(root / item.file)} {labels[-1]}")
    return Listing(
        title=f"boxes {path.name}",
        key=digest("\n".join(marks).encode(errors="surrogateescape")),
        labels=labels,
        splits=[item.split for item in files],
        origins=[item.file for item in files],
        metadata=parent_folder([item.file for item in files], column),
        read=lambda row: read_file(root / files[row].file),
        notes=(*notes, *counted.notes()),
        faults={at: item.fault for at, item in enumerate(files) if item.fault},
    )


# -- tables ----------------------------------------------------------------------------------


def _list_table(spec: BoxesData, path: Path, base: Path) -> Listing:
    columns = TableData(
        source="table", path=spec.path, image=spec.image, label=spec.boxes, split=spec.split
    )
    listing = list_table(columns, base=base, output_kind=OutputKind.BOXES)
    counted, labels, faults = _Counted(), [], {}
    for at, text in enumerate(listing.labels):
        sides = _sides(lambda row=at: sides_of(listing.read(row)))  # type: ignore[misc]
        labels.append(write_boxes(NOTHING))
        if sides is None:
            continue
        where = listing.origins[at]
        try:
            labels[-1] = counted.taken(_cell(text, sides), sides, where)
        except DataError as error:
            faults[at] = error.what
    return replace(
        listing,
        title=f"boxes {path.name}",
        key=json_digest(["boxes 1", listing.key]),
        labels=labels,
        notes=(*listing.notes, *counted.notes()),
        faults=faults,
    )


def _cell(text: str, sides: Sides) -> BoxedImage:
    """Return the boxes of a cell: VOC XML, or a list of objects in pixels of the shown image.

    Raises:
        DataError: it is neither.
    """
    if text.lstrip().startswith("<"):
        return parse_voc(text)
    width, height = sides.shown
    if not text.strip():
        return BoxedImage(width, height, ())
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("its boxes are neither VOC XML nor a JSON list") from error
    if not isinstance(items, list):
        raise DataError("its boxes aren't a list")
    return BoxedImage(width, height, tuple(_box(item, at) for at, item in enumerate(items, 1)))


def _box(item: Any, number: int) -> LabelledBox:
    if not isinstance(item, dict) or not isinstance(item.get("label"), str | int):
        raise DataError(f"its box {number} isn't an object with `label`, `x1`, `y1`, `x2`, `y2`")
    places = []
    for name in ("x1", "y1", "x2", "y2"):
        place: Any = item.get(name)
        is_number = isinstance(place, int | float) and not isinstance(place, bool)
        if not is_number or not abs(place) <= MOST_PIXELS:
            raise DataError(f"`{name}` of its box {number} is {place!r:.40}, not a place")
        places.append(float(place))
    return LabelledBox(str(item["label"]), *places)
