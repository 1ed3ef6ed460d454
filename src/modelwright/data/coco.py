"""Boxes as COCO writes them (Lin et al. 2014): one JSON document for a whole data set.

A box is `[x, y, width, height]`, x and y counted from the image's edge. Regions marked `iscrowd`
stand for many objects at once and are left out and counted; so nothing is learnt from them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from modelwright.data.findings import shown_first
from modelwright.errors import DataError
from modelwright.files import JsonObject
from modelwright.tasks.boxes import BoxedImage, LabelledBox

MOST_BYTES = 1 << 30
"""COCO's own training annotations are 450 MB."""
MOST_PIXELS = 1 << 24
"""No side of an image, and no place in one, may be larger."""
_SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image of the data set."""

    file: str
    """Relative to the folder of the images."""
    boxed: BoxedImage


@dataclass(frozen=True, slots=True)
class CocoData:
    """A data set: images in the document's order, those without boxes too."""

    images: tuple[CocoImage, ...]
    labels: tuple[str, ...]
    """Of all categories, in the document's order, those without boxes too."""
    crowds: int
    """Regions marked `iscrowd` that were left out."""


def parse_coco(document: bytes, *, where: str = "") -> CocoData:
    """Return the images and boxes of a COCO document, as they stand in it.

    Raises:
        DataError: it isn't such a document, something is missing or no number, an id is given twice
            or stands for nothing, or a file lies outside the folder.
    """
    try:
        return _data(_load(document))
    except DataError as error:
        raise error.at(where) from error.__cause__


def _load(document: bytes) -> JsonObject:
    if len(document) > MOST_BYTES:
        raise _wrong(f"it is longer than {MOST_BYTES >> 30} GiB")
    try:
        value = json.loads(document.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError as error:
        raise _wrong("it is nested too deep") from error
    except ValueError as error:
        raise _wrong(f"it isn't JSON that can be read ({error})") from error
    if not isinstance(value, dict):
        raise _wrong("it isn't an object with `images`, `annotations` and `categories`")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} isn't a number")


def _data(document: JsonObject) -> CocoData:
    images = _by_id(document, "images")
    categories = {
        key: _field(item, "name", str, f"category {key}")
        for key, item in _by_id(document, "categories").items()
    }
    boxes: dict[int, list[LabelledBox]] = defaultdict(list)
    crowds = 0
    annotations = _list(document, "annotations")
    _refuse_dangling(annotations, "image_id", images)
    _refuse_dangling(annotations, "category_id", categories)
    for number, item in enumerate(annotations, start=1):
        if item.get("iscrowd") in (1, True):
            crowds += 1
            continue
        name = f"annotation {item.get('id', f'number {number}')!s:.40}"
        label = categories[item["category_id"]]
        boxes[item["image_id"]].append(_box(label, _field(item, "bbox", list, name), name))
    boxed = tuple(_image(key, item, tuple(boxes[key])) for key, item in images.items())
    return CocoData(boxed, tuple(dict.fromkeys(categories.values())), crowds)


def _list(document: JsonObject, key: str) -> list[JsonObject]:
    items = document.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _wrong(f"its `{key}` isn't a list of objects")
    return items


def _by_id(document: JsonObject, key: str) -> dict[int, JsonObject]:
    by_id: dict[int, JsonObject] = {}
    for number, item in enumerate(_list(document, key), start=1):
        name = _field(item, "id", int, f"entry {number} of `{key}`")
        if name in by_id:
            raise _wrong(f"the id {name} is given twice in `{key}`")
        by_id[name] = item
    return by_id


def _refuse_dangling(items: list[JsonObject], key: str, known: Iterable[int]) -> None:
    named = (_field(item, key, int, f"annotation number {n}") for n, item in enumerate(items, 1))
    lost = sorted(set(named) - set(known))
    if lost:
        shown = shown_first([str(name) for name in lost], _SHOWN)
        raise _wrong(f"annotations have a `{key}` that stands for nothing: {shown}")


def _image(key: int, item: JsonObject, boxes: tuple[LabelledBox, ...]) -> CocoImage:
    name = f"image {key}"
    file = _field(item, "file_name", str, name)
    parts = PurePosixPath(file).parts + PureWindowsPath(file).parts
    if (
        not parts
        or "\0" in file
        or ".." in parts
        or file[0] in "/\\"
        or PureWindowsPath(file).drive
    ):
        raise _wrong(f"`file_name` of {name} is `{file:.80}`, which isn't a file in the folder")
    sides = [_field(item, side, int, name) for side in ("width", "height")]
    if not all(1 <= side <= MOST_PIXELS for side in sides):
        raise _wrong(f"{name} has {sides[0]} × {sides[1]} pixels")
    return CocoImage(file, BoxedImage(sides[0], sides[1], boxes))


def _box(label: str, values: list[Any], name: str) -> LabelledBox:
    # A NaN fails the comparison too.
    numbers = [
        float(item) for item in values if type(item) in (int, float) and abs(item) <= MOST_PIXELS
    ]
    if len(values) != 4 or len(numbers) != 4:
        raise _wrong(f"`bbox` of {name} is {values!r:.80}, not four places in an image")
    x, y, width, height = numbers
    return LabelledBox(label, x, y, x + width, y + height)


def _field(item: JsonObject, key: str, kind: type[T], name: str) -> T:
    if key not in item:
        raise _wrong(f"{name} has no `{key}`")
    value = item[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _wrong(f"`{key}` of {name} is {value!r:.40}")
    return value


def _wrong(what: str) -> DataError:
    return DataError(
        f"this isn't a COCO annotation file: {what}",
        fix="Export it anew, or take the entry out",
    )
