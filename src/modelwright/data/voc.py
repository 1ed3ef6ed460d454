"""Boxes as PASCAL VOC writes them (Everingham et al. 2010): one XML document an image.

VOC counts pixels from 1 and names the first and the last pixel of a box, so its box covers
`xmin − 1` to `xmax` on an axis that begins at the image's edge. Tools that count from 0 write 0 for
a box at the edge; such a box then hangs over by one pixel, is cut there and counted
(`tasks.boxes.check_boxes`). Objects marked `difficult` are kept like all others. The documents may
be hostile: no document type, no entity, nothing long or deep.
"""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from modelwright.data.coco import MOST_PIXELS
from modelwright.errors import DataError
from modelwright.tasks.boxes import BoxedImage, LabelledBox

MOST_BYTES = 4 << 20
"""A longer document isn't one image's; 10,000 boxes take some 3 MiB."""
DEEPEST = 16
"""VOC nests five elements, with parts of objects."""
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_FIX = "Write the annotation anew with the tool that made it"


def parse_voc(document: bytes | str) -> BoxedImage:
    """Return the size and the boxes that a VOC document states, as they stand in it.

    Raises:
        DataError: it isn't such a document, something is missing or no number, or it has a
            document type or entities.
    """
    root = _parse(document)
    if root.tag != "annotation":
        raise _wrong(f"its outermost element is `{root.tag:.40}`, not `annotation`")
    size = _child(root, "size", "the annotation")
    width, height = (_side(size, name) for name in ("width", "height"))
    boxes = tuple(
        _box(item, f"object {number}")
        for number, item in enumerate(root.findall("object"), start=1)
    )
    return BoxedImage(width, height, boxes)


def _parse(document: bytes | str) -> Element:
    """Return the outermost element; nothing outside the document is read or expanded."""
    if isinstance(document, str):
        # Half a character has no encoding; any replacement for it is refused or only a name.
        data, encoding = document.encode("utf-8", "replace"), "utf-8"
    else:
        data, encoding = document, None
    if len(data) > MOST_BYTES:
        raise _wrong(f"it is longer than {MOST_BYTES >> 20} MiB")
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise _wrong("its elements are nested too deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise _wrong(
            "it has a document type",
            why="Entities could fill the memory or read other files, so none is taken",
            fix="Take out everything that begins with `<!DOCTYPE` or `<!ENTITY`",
        )

    parser = expat.ParserCreate(encoding)
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise _wrong(f"it isn't XML that can be read ({error})") from error


def _box(item: Element, name: str) -> LabelledBox:
    label = _text(item, "name", name)
    bounds = _child(item, "bndbox", name)
    x1, y1, x2, y2 = (
        _number(bounds, side, f"`bndbox` of {name}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return LabelledBox(label, x1 - 1.0, y1 - 1.0, x2, y2)


def _child(item: Element, tag: str, name: str) -> Element:
    child = item.find(tag)
    if child is None:
        raise _wrong(f"{name} has no `{tag}`")
    return child


def _text(item: Element, tag: str, name: str) -> str:
    text = (_child(item, tag, name).text or "").strip()
    if not text:
        raise _wrong(f"`{tag}` of {name} is empty")
    return text


def _number(item: Element, tag: str, name: str) -> float:
    text = _text(item, tag, name)
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not abs(value) <= MOST_PIXELS:
        raise _wrong(f"`{tag}` of {name} is `{text:.40}`, not a place in an image")
    return value


def _side(size: Element, tag: str) -> int:
    value = _number(size, tag, "`size`")
    if value < 1 or value != int(value):
        raise _wrong(
            f"`{tag}` of `size` is {value:g}, not a number of pixels",
            fix="Write the image's own size there",
        )
    return int(value)


def _wrong(what: str, *, why: str = "", fix: str = _FIX) -> DataError:
    return DataError(f"this isn't a VOC annotation: {what}", why=why, fix=fix)
