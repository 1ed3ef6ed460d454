"""Tells the columns of tables with a box a row, and names the tools whose boxes aren't read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.data.multi_label import parse_list
from modelwright.data.table_reader import Table
from modelwright.errors import DataError
from modelwright.kinds import InputKind
from modelwright.scaffold.columns import ColumnProfile, ColumnRole, rank_inputs, rank_targets

_FORMATS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "xyxy": (
        ("xmin", "ymin", "xmax", "ymax"),
        ("minx", "miny", "maxx", "maxy"),
        ("x1", "y1", "x2", "y2"),
        ("x0", "y0", "x1", "y1"),
        ("left", "top", "right", "bottom"),
        ("xtl", "ytl", "xbr", "ybr"),
        ("startx", "starty", "endx", "endy"),
    ),
    "xywh": (
        ("x", "y", "w", "h"),
        ("x", "y", "width", "height"),
        ("xmin", "ymin", "width", "height"),
        ("xmin", "ymin", "w", "h"),
        ("left", "top", "width", "height"),
        ("x1", "y1", "w", "h"),
        ("x1", "y1", "width", "height"),
    ),
    "cxcywh": (
        ("xcenter", "ycenter", "width", "height"),
        ("centerx", "centery", "width", "height"),
        ("xcenter", "ycenter", "w", "h"),
        ("cx", "cy", "w", "h"),
        ("cx", "cy", "width", "height"),
    ),
}
"""The usual names of the four numbers, by what they are; letters and digits alone."""
_ONE_COLUMN = re.compile(r"(.*\.)?(bbox(es)?|box(es)?|bounding_?box(es)?)", re.IGNORECASE)
"""How a column is called that holds all four."""
_PREFIX = re.compile(r"^(bbox|box|boundingbox|rect)")
_SIZES = frozenset(("width", "height", "imagewidth", "imageheight", "imgw", "imgh"))
"""Columns that say how large the image is."""
_LOOKED_AT = 1000
_TRIED = 20
"""So many files of each kind are looked at."""
_BEGINNING = 1 << 16


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """The columns of a table with a box a row."""

    image: ColumnProfile
    columns: tuple[str, ...]
    form: str
    label: ColumnProfile

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a source `boxes` that name them."""
        settings: dict[str, Any] = {"box_columns": list(self.columns), **self.image.settings}
        if self.form != "xyxy":
            settings["box_format"] = self.form
        if self.image.name != "image":
            settings["image"] = self.image.name
        if self.label.name != "label":
            settings["label"] = self.label.name
        return settings


def find_box_columns(table: Table, profiles: Sequence[ColumnProfile]) -> BoxColumns | None:
    """Return the columns of images, boxes and labels of a table with a box a row, or `None`.

    Raises:
        DataError: no column says what is in the boxes.
    """
    images = [item for kind, item in rank_inputs(profiles) if kind == InputKind.IMAGE]
    named = _four_columns(profiles) or _one_column(table, profiles)
    if not images or named is None:
        return None
    columns, form = named
    others = [item for item in profiles if item.name not in columns and item not in images]
    sizes = [item for item in others if _bare(item.name) in _SIZES]
    labels = rank_targets([item for item in others if item not in sizes], images[0])
    constants = [item for item in others if item.role == ColumnRole.CONSTANT and item not in sizes]
    label = next(iter([*labels, *constants]), None)
    if label is None:
        raise DataError(
            f"this table has boxes ({_listed(columns)}), and no column says what is in them",
            where=str(table.path),
            fix="Add a column `label`: where all are of one kind, the same word in each row",
        )
    return BoxColumns(images[0], columns, form, label)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _four_columns(profiles: Sequence[ColumnProfile]) -> tuple[tuple[str, ...], str] | None:
    numeric = {ColumnRole.NUMBER, ColumnRole.ONE_HOT, ColumnRole.CONSTANT, ColumnRole.ID}
    bare = {_bare(item.name): item.name for item in profiles if item.role in numeric}
    names = {_PREFIX.sub("", key) or key: name for key, name in bare.items()} | bare
    for form, usual in _FORMATS.items():
        for four in usual:
            if all(part in names for part in four):
                return tuple(names[part] for part in four), form
    return None


def _one_column(
    table: Table, profiles: Sequence[ColumnProfile]
) -> tuple[tuple[str, ...], str] | None:
    for item in profiles:
        if not _ONE_COLUMN.fullmatch(item.name):
            continue
        cells = [cell for cell in table.sample(item.name, _LOOKED_AT) if cell not in (None, "")]
        boxes = [box for cell in cells for box in _boxes(cell)]
        if len(boxes) >= len(cells) > 0 and all(_is_box(box) for box in boxes):
            # Of two corners the second is never nearer to the image's own.
            are_corners = all(box[2] > box[0] and box[3] > box[1] for box in boxes)
            is_unclear = not are_corners or "bbox" in item.name.lower()
            return (item.name,), "xywh" if is_unclear else "xyxy"
    return None


def _boxes(cell: Any) -> list[Any]:
    """Return the boxes of a cell, which holds one or a list of them."""
    values = parse_list(cell) if isinstance(cell, str) else cell
    if not isinstance(values, list) or not values:
        return [None]
    return values if isinstance(values[0], list) else [values]


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) for x in box)


def headerless_names(profiles: Sequence[ColumnProfile]) -> list[str] | None:
    """Return names for the columns of a table without a header, as RetinaNet's tools write it.

    That is a row of image, two corners and class; of an image without boxes it has the image alone.
    """
    roles = [item.role for item in profiles]
    numeric = {ColumnRole.NUMBER, ColumnRole.ONE_HOT}
    is_four = len(roles) == 6 and roles[0] == ColumnRole.IMAGE and set(roles[1:5]) <= numeric
    return ["image", "x1", "y1", "x2", "y2", "label"] if is_four else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- tools whose files aren't read ---------------------------------------------------------------

_CONVERT = (
    "Export the boxes as COCO (JSON), Pascal VOC (XML) or YOLO (text), or write a table with a box "
    "a row: image, xmin, ymin, xmax, ymax, label"
)


def foreign_boxes(path: Path, files: Sequence[str]) -> DataError | None:
    """Return what to say of a folder with boxes in a form that isn't read; `None` without them."""
    tried: Counter[str] = Counter()
    for file in files:
        suffix = Path(file).suffix.lower()
        tried[suffix] += 1
        if suffix not in (".json", ".xml", ".csv") or tried[suffix] > _TRIED:
            continue
        tool = ""
        if suffix == ".json":
            tool = _json_tool(path / file)
        elif suffix == ".xml":
            tool = _xml_tool(path / file)
        elif suffix == ".csv":
            with (path / file).open("rb") as stream:
                tool = "VIA" if b"region_shape_attributes" in stream.readline(4096) else ""
        if tool:
            return DataError(
                f"these are annotations as {tool} writes them, which aren't read",
                where=str(path / file),
                fix=_CONVERT,
            )
    return None


def _json_tool(file: Path) -> str:
    with file.open("rb") as stream:
        text = stream.read(_BEGINNING).decode("utf-8", "replace")
    if re.search(r'"shape_attributes"\s*:', text) and re.search(r'"filename"\s*:', text):
        return "VIA"
    if re.search(r'"annotations"\s*:\s*\[\s*\{\s*"label"', text) and re.search(
        r'"coordinates"\s*:', text
    ):
        return "CreateML"
    if re.search(r'"shapes"\s*:', text) or not text.lstrip().startswith("{"):
        return ""
    try:
        top = json.loads(text)
    except ValueError:
        return ""
    is_supervisely = isinstance(top, dict) and {"objects", "size", "tags"} <= top.keys()
    return "Supervisely" if is_supervisely else ""


def _xml_tool(file: Path) -> str:
    with file.open("rb") as stream:
        text = stream.read(_BEGINNING).decode("utf-8", "replace")
    is_cvat = re.search(r"<annotations>", text) and re.search(r"<(meta|image\b|track\b)", text)
    return "CVAT" if is_cvat else ""
