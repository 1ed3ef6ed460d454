"""Tables that Label Studio exports: JSON, JSON-MIN and CSV, with one annotation a task.

An annotation's result becomes cells: choices a label or a list of labels, rectangles and polygons a
list of boxes in pixels, numbers and texts themselves. Of several annotations of a task, the one
marked as ground truth is taken, else the first that wasn't cancelled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from modelwright.data.sealed import stored
from modelwright.files import Json, JsonObject, is_file

MARKS = frozenset(("annotation_id", "annotator", "lead_time"))
"""The columns by which an export of one row a task is recognised."""
_SPANS = "labels"
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""How an uploaded file is called: something random, and its name."""

Row = JsonObject


def is_export(items: Sequence[Any]) -> bool:
    """Say whether a JSON list holds Label Studio's tasks."""
    first = items[0] if items else None
    return (
        isinstance(first, dict)
        and isinstance(first.get("data"), dict)
        and isinstance(first.get("annotations", first.get("completions")), list)
    )


def rows_of_tasks(items: Sequence[Mapping[str, Json]], folder: Path) -> list[Row]:
    """Return a row for each task: its data, and a cell for each control of its annotation.

    Args:
        items: the tasks.
        folder: where the export is, and the files that it names.
    """
    rows = []
    for item in items:
        row = {name: _cell(value, folder) for name, value in item.get("data", {}).items()}
        results: dict[str, list[Any]] = {}
        for result in _annotation(item):
            name, value = result.get("from_name"), result.get("value")
            if isinstance(name, str) and isinstance(value, dict):
                results.setdefault(name, []).append({**result, **value})
        rows.append({**row, **{name: _joined(parts) for name, parts in results.items()}})
    return rows


def tidied(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Return the rows of JSON-MIN or CSV with their cells as `rows_of_tasks` has them."""
    return [{name: _cell(value, folder) for name, value in row.items()} for row in rows]


def tidied_cells(cells: Sequence[Any], folder: Path) -> list[Any]:
    """Return the cells of one column of such an export, likewise."""
    return [_cell(cell, folder) for cell in cells]


def _annotation(item: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    annotations = item.get("annotations", item.get("completions", []))
    kept = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    kept.sort(key=lambda one: not one.get("ground_truth"))
    results = kept[0].get("result") if kept else None
    return [part for part in results or [] if isinstance(part, dict)]


def _cell(value: Json, folder: Path) -> Any:
    """Return a cell of JSON-MIN or CSV: choices, boxes, a path, or what it is."""
    if isinstance(value, str) and value[:1] in "[{" and value[-1:] in "]}":
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return _joined([value])
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return _joined(value)
    return local_path(value, folder) if isinstance(value, str) else value


def _joined(parts: Sequence[Mapping[str, Json]]) -> Any:
    """Return the results of one control as one cell."""
    choices = [choice for part in parts for choice in part.get("choices", [])]
    if choices:
        return choices[0] if len(choices) == 1 else choices
    boxes = [box for part in parts if (box := _box(part)) is not None]
    if boxes:
        return boxes
    for key in ("number", "rating", "text"):
        values = [part[key] for part in parts if key in part]
        if values and not any(_SPANS in part for part in parts):
            flat = values[0] if isinstance(values[0], list) else values
            return flat[0] if len(flat) == 1 else " ".join(map(str, flat))
    return [dict(part) for part in parts]


def _box(part: Mapping[str, Json]) -> Row | None:
    """Return a rectangle, or the one around a polygon, in pixels; `None` of other shapes."""
    labels = part.get("rectanglelabels") or part.get("polygonlabels")
    sides = part.get("original_width"), part.get("original_height")
    if not labels or not all(isinstance(side, int | float) for side in sides):
        return None
    try:
        if "points" in part:
            x, y = [point[0] for point in part["points"]], [point[1] for point in part["points"]]
        else:
            x = [part["x"], part["x"] + part["width"]]
            y = [part["y"], part["y"] + part["height"]]
        width, height = (float(side) / 100.0 for side in sides if side is not None)
        return {
            "label": str(labels[0]),
            "x1": min(x) * width,
            "y1": min(y) * height,
            "x2": max(x) * width,
            "y2": max(y) * height,
        }
    except (KeyError, TypeError, IndexError, ValueError):
        return None


def local_path(value: str, folder: Path) -> str:
    """Return the path below a folder of a file that an export names as the server has it.

    A text that names no such file is returned as it is.
    """
    if not value.startswith(("/data/", "http://", "https://", "s3://", "gs://", "upload/")):
        return value
    parts = urlsplit(value)
    query = parse_qs(parts.query).get("d", [])
    path = unquote(query[0] if query else parts.path).lstrip("/")
    name = path.rpartition("/")[2]
    plain = _UPLOADED.sub(r"\1", name)
    for place in (path, name, plain, *(f"images/{one}" for one in (name, plain))):
        try:
            if place and ".." not in place.split("/") and is_file(stored(folder / place)):
                return place
        except (OSError, ValueError):
            continue
    return name if query or value.startswith("/data/") else value
