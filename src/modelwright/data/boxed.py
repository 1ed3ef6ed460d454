"""The source `boxes`: images with boxes, from files of annotation tools or a table.

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
from modelwright.data.box_rows import list_box_rows, table_settings
from modelwright.data.boxed_files import (
    NOTHING,
    BoxedFile,
    is_coco,
    list_coco,
    list_voc,
    split_files,
)
from modelwright.data.coco import MOST_PIXELS
from modelwright.data.findings import Finding
from modelwright.data.labelme import is_labelme, list_labelme
from modelwright.data.listing import (
    Listing,
    files_below,
    parent_folder,
    read_file,
    require_parent,
    stamp,
)
from modelwright.data.sealed import is_unsealing, plain_name
from modelwright.data.table import list_table
from modelwright.data.table_reader import is_table, is_table_folder
from modelwright.data.voc import parse_voc
from modelwright.data.yolo import is_yolo, list_yolo
from modelwright.errors import DataError
from modelwright.files import digest, find_path, json_digest
from modelwright.kinds import OutputKind
from modelwright.recipe.data import BoxesData, TableData
from modelwright.tasks.boxes import BoxedImage, LabelledBox, check_boxes, rescaled
from modelwright.transforms.image import Sides, sides_of

_MOST = 0.5
"""What most boxes have in common is likely wrong with all of them."""
_SHOWN = 3
"""So many messages on boxes are shown; the others are counted."""
_FORMS = "VOC's, COCO's, YOLO's or LabelMe's files beside the images"


def list_boxes(spec: BoxesData, *, base: Path, likely: str | None = None) -> Listing:
    """Return the images of a source with their boxes; an image may have none.

    `likely` is a folder where a COCO file's images may be, if they are in none of the usual places.

    Raises:
        DataError: a file can't be read, or there is nothing to learn from.
    """
    path = find_path(spec.path, base)
    if is_table(path) or is_table_folder(path):
        _refuse_images(spec, path)
        return _list_table(spec, path, base)
    _refuse_columns(spec, path)
    files = list(files_below(path)) if path.is_dir() else [plain_name(path.name)]
    root = path if path.is_dir() else path.parent
    if path.is_dir() and any(file.lower().endswith(".xml") for file in files):
        images, notes = list_voc(root, files)
    elif path.is_dir() and is_labelme(root, files):
        images, notes = list_labelme(root, files)
    elif path.is_dir() and not _coco_files(root, files) and is_yolo(root, files):
        images, notes = list_yolo(root, files)
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
    _refuse_images(spec, path)
    return _listing(path, root, images, notes, spec)


def _refuse_columns(spec: BoxesData, path: Path) -> None:
    """Refuse settings of tables where there is none.

    Raises:
        DataError: one is given.
    """
    for name in ("image", "boxes", "box_columns", "files", "split_column", "columns", "encoding"):
        if getattr(spec, name) != BoxesData.model_fields[name].default:
            raise DataError(
                f"`{name}` says how a table is read, and this is none",
                where=f"{path} (data.{name})",
                fix="Leave it out, or give the table",
            )


def _refuse_images(spec: BoxesData, path: Path) -> None:
    """Refuse the folder of a COCO file's images where there is no such file.

    Raises:
        DataError: one is given.
    """
    if spec.images is not None:
        raise DataError(
            "`images` says where a COCO file's images are, and this is none",
            where=f"{path} (data.images)",
            fix="Leave it out, or give the COCO file",
        )


def _coco_files(root: Path, files: Sequence[str]) -> list[str]:
    return [file for file in files if file.lower().endswith(".json") and is_coco(root / file)]


# -- what all sources share ------------------------------------------------------------------


@dataclass(slots=True)
class _Checked:
    """What becomes of boxes that aren't right."""

    boxes: int = 0
    in_shares: int = 0
    """Boxes that lie in 0…1 altogether."""
    as_corners: int = 0
    """Boxes that hang over the edge, and wouldn't if their size were their second corner."""
    clipped: list[tuple[str, str]] = field(default_factory=list)
    """Of boxes that were cut at the edge, the file and a sentence."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """Of boxes without an area in their image, likewise."""

    def taken(self, boxed: BoxedImage, sides: Sides, where: str) -> str:
        """Return the boxes that can be used, in pixels of the image, as the store keeps them."""
        checked = check_boxes(boxed, where=where)
        self.boxes += len(boxed.boxes)
        for box in boxed.boxes:
            is_pixels = min(boxed.width, boxed.height) > 1
            self.in_shares += is_pixels and max(box.x1, box.y1, box.x2, box.y2) <= 1.0
            hangs = box.x2 > boxed.width or box.y2 > boxed.height
            x2, y2 = box.x2 - box.x1, box.y2 - box.y1
            is_inside = box.x1 < x2 <= boxed.width and box.y1 < y2 <= boxed.height
            self.as_corners += hangs and is_inside
        for message in checked.messages:
            kind = self.clipped if message.endswith("cut there") else self.dropped
            kind.append((where, message))
        return write_boxes(_as_shown(checked.image, sides))

    def findings(self) -> tuple[Finding, ...]:
        """Return what is likely wrong with the boxes."""
        findings = []
        if self.in_shares > _MOST * self.boxes:
            findings.append(
                Finding(
                    kind="boxes_in_shares",
                    severity="error",
                    message=f"{self.in_shares:,} of {self.boxes:,} boxes lie in 0…1, and boxes are "
                    "taken in pixels",
                    fix="Multiply x by the image's width and y by its height; as YOLO's text files "
                    "they are read as they are",
                )
            )
        if self.as_corners > _MOST * self.boxes:
            findings.append(
                Finding(
                    kind="boxes_by_corners",
                    severity="error",
                    message=f"{self.as_corners:,} of {self.boxes:,} boxes hang over their image, "
                    "and wouldn't as two corners: `bbox` is [x, y, width, height]",
                    fix="Turn [x1, y1, x2, y2] into [x1, y1, x2 - x1, y2 - y1]",
                )
            )
        for kind, boxes, what in (
            ("boxes_outside", self.dropped, "no area in their image and are left out"),
            ("boxes_cut", self.clipped, "parts beyond the edge of their image, which are cut off"),
        ):
            if boxes:
                shown = "; ".join(message for _, message in boxes[:_SHOWN])
                findings.append(
                    Finding(
                        kind=kind,
                        severity="warning",
                        rows=tuple(file for file, _ in boxes),
                        message=f"{len(boxes):,} of {self.boxes:,} boxes have {what}. The first: "
                        f"{shown}",
                        fix="Look at the annotations: are they of these images, and in pixels?",
                    )
                )
        return tuple(findings)


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
    checked, marks, labels = _Checked(), ["boxes 1", column or ""], []
    for item in files:
        place = root / item.file
        sides = _sides(lambda at=place: sides_of(read_file(at) if is_unsealing() else at))  # type: ignore[misc]
        labels.append(
            write_boxes(NOTHING)
            if sides is None or item.fault
            else checked.taken(item.boxed, sides, item.file)
        )
        marks.append(f"{item.file} {item.split} {stamp(place)} {labels[-1]}")
    return Listing(
        title=f"boxes {path.name}",
        key=digest("\n".join(marks).encode(errors="surrogatepass")),
        labels=labels,
        splits=[item.split for item in files],
        origins=[item.file for item in files],
        metadata=parent_folder([item.file for item in files], column),
        read=lambda row: read_file(root / files[row].file),
        notes=tuple(notes),
        findings=checked.findings(),
        faults={at: item.fault for at, item in enumerate(files) if item.fault},
    )


# -- tables ----------------------------------------------------------------------------------


def _list_table(spec: BoxesData, path: Path, base: Path) -> Listing:
    if spec.box_columns is None:
        columns = TableData(label=spec.boxes, **table_settings(spec))
        listing = list_table(columns, base=base, output_kind=OutputKind.BOXES)
        cells = listing.labels

        def boxes_of(at: int, sides: Sides) -> BoxedImage:
            return _cell(cells[at], sides)
    else:
        rows = list_box_rows(spec, spec.box_columns, base=base)
        listing, boxes_of = rows.listing, rows.boxes
    checked, labels, faults = _Checked(), [], {}
    for at in range(len(listing)):
        sides = _sides(lambda row=at: sides_of(listing.read(row)))  # type: ignore[misc]
        labels.append(write_boxes(NOTHING))
        if sides is None:
            continue
        try:
            labels[-1] = checked.taken(boxes_of(at, sides), sides, listing.origins[at])
        except DataError as error:
            faults[at] = error.what
    return replace(
        listing,
        title=f"boxes {path.name}",
        key=json_digest(["boxes 2", listing.key, spec.box_columns, spec.box_format]),
        labels=labels,
        findings=checked.findings(),
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
