"""Boxes as LabelMe writes them: one JSON document an image, with shapes of several kinds."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from modelwright.data.boxed_files import NOTHING, BoxedFile, is_image
from modelwright.data.listing import SPLITS
from modelwright.data.sealed import is_unsealing, read_bytes
from modelwright.errors import DataError
from modelwright.files import JsonObject
from modelwright.tasks.boxes import BoxedImage, LabelledBox

_MOST_BYTES = 256 << 20
"""A document may hold its image, as text."""
_MOST_PIXELS = 1 << 24
_TRIED = 20
_WITH_AREA = ("rectangle", "polygon", "circle", "mask")
"""The kinds of shape that a box is taken around; points and lines have no area."""


def is_labelme(root: Path, files: Sequence[str]) -> bool:
    """Say whether most of a folder's first JSON files are LabelMe's."""
    documents = [file for file in files if file.lower().endswith(".json")][:_TRIED]
    return 2 * sum(_is_document(root / file) for file in documents) > len(documents)


def _is_document(path: Path) -> bool:
    try:
        with io.BytesIO(read_bytes(path)) if is_unsealing() else path.open("rb") as stream:
            beginning = stream.read(1 << 16)
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - (1 << 12), 0))
            return b'"shapes"' in beginning and b'"imagePath"' in beginning + stream.read()
    except OSError:
        return False


def list_labelme(root: Path, files: Sequence[str]) -> tuple[list[BoxedFile], list[str]]:
    """Return the images that LabelMe's documents name, and notes for the user.

    Raises:
        DataError: no document can be read.
    """
    known = set(files)
    boxed, skipped = [], Counter[str]()
    documents = [file for file in files if file.lower().endswith(".json")]
    for document in documents:
        place = PurePosixPath(document)
        try:
            content = _load(root / document)
            image = _image_of(place, content, known)
            parsed = _parse(content, skipped)
            fault = "" if image else f"its image `{content['imagePath']:.80}` isn't there"
        except DataError as error:
            image, parsed, fault = None, NOTHING, error.what
        split = next((SPLITS[p.lower()] for p in place.parts[:-1] if p.lower() in SPLITS), "")
        boxed.append(
            BoxedFile(image or document, split, parsed, f"{document}: {fault}" if fault else "")
        )
    notes = [
        f"{count:,} shapes of the kind `{kind}` have no area and are left out"
        for kind, count in skipped.items()
    ]
    annotated = {item.file for item in boxed}
    bare = [file for file in filter(is_image, files) if file not in annotated]
    if bare:
        notes.append(f"{len(bare):,} images have no JSON file and are passed over, {bare[0]} first")
    if len({item.split for item in boxed}) < 2:
        boxed = [BoxedFile(item.file, "", item.boxed, item.fault) for item in boxed]
    return boxed, notes


def _load(path: Path) -> JsonObject:
    try:
        data = read_bytes(path)
        if len(data) > _MOST_BYTES:
            raise DataError(f"it is longer than {_MOST_BYTES >> 20} MiB")
        content = json.loads(data)
    except OSError as error:
        raise DataError(f"it can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError("it isn't JSON that can be read") from error
    if not isinstance(content, dict) or not isinstance(content.get("imagePath"), str):
        raise DataError("it isn't one of LabelMe's documents: it names no `imagePath`")
    return content


def _image_of(document: PurePosixPath, content: JsonObject, known: set[str]) -> str | None:
    """Return the image that a document names, or the one of its own name."""
    named = PurePosixPath(content["imagePath"].replace("\\", "/"))
    places = [document.parent / named.name, document.parent.parent / "images" / named.name]
    if ".." not in named.parts and not named.is_absolute():
        places.insert(0, document.parent / named)
    places += [document.parent / f"{document.stem}{named.suffix}"]
    places += [document.parent.parent / named.name]
    return next((place.as_posix() for place in places if place.as_posix() in known), None)


def _parse(content: JsonObject, skipped: Counter[str]) -> BoxedImage:
    sides = [content.get(name) for name in ("imageWidth", "imageHeight")]
    if not all(isinstance(side, int) and 1 <= side <= _MOST_PIXELS for side in sides):
        raise DataError(f"its image has {sides[0]!r:.20} × {sides[1]!r:.20} pixels")
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise DataError("its `shapes` aren't a list")
    boxes = []
    for number, shape in enumerate(shapes, start=1):
        kind = str(shape.get("shape_type") or "polygon") if isinstance(shape, dict) else ""
        if kind and kind not in _WITH_AREA:
            skipped[kind] += 1
            continue
        boxes.append(_box(shape, kind, number))
    width, height = sides
    assert isinstance(width, int)
    assert isinstance(height, int)
    return BoxedImage(width, height, tuple(boxes))


def _box(shape: Any, kind: str, number: int) -> LabelledBox:
    points = shape.get("points") if isinstance(shape, dict) else None
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str | int) or not isinstance(points, list) or len(points) < 2:
        raise DataError(f"its shape {number} has no label, or fewer than two points")
    places = [_point(point, number) for point in points]
    x, y = [place[0] for place in places], [place[1] for place in places]
    if kind == "circle":  # Its centre, and a point on its edge.
        radius = math.dist(places[0], places[1])
        x, y = [x[0] - radius, x[0] + radius], [y[0] - radius, y[0] + radius]
    return LabelledBox(str(label), min(x), min(y), max(x), max(y))


def _point(point: Any, number: int) -> tuple[float, float]:
    if (
        not isinstance(point, list)
        or len(point) != 2
        or not all(type(place) in (int, float) and abs(place) <= _MOST_PIXELS for place in point)
    ):
        raise DataError(f"a point of its shape {number} is {point!r:.40}")
    return float(point[0]), float(point[1])
