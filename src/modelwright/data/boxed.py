"""The source `boxes`: images with boxes, from VOC XML, COCO JSON or a table.

Boxes are in pixels of the image as it is shown. Annotations often keep the size that an image once
had, so boxes are taken from the size that they state to the image's own. What can't be used is
counted: boxes without an area in their image, and images whose annotation is broken.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from modelwright.data.coco import MOST_BYTES, MOST_PIXELS, CocoData, parse_coco
from modelwright.data.folder import SUFFIXES
from modelwright.data.labelled_lines import BOM
from modelwright.data.labels import write_boxes
from modelwright.data.listing import SPLITS, Listing, find_path, read_file
from modelwright.data.table import (
    columns_of,
    first_values,
    guess_table,
    is_table,
    is_table_folder,
    list_table,
)
from modelwright.data.voc import parse_voc
from modelwright.errors import DataError
from modelwright.files import digest, json_digest
from modelwright.recipe.data import BoxesData, TableData
from modelwright.tasks.boxes import BoxedImage, LabelledBox, check_boxes, rescaled
from modelwright.transforms.image import Sides, sides_of

_SHOWN = 3
"""So many messages on boxes are shown; the others are counted."""
_ANNOTATIONS = "annotations"
"""The folder of VOC's XML files, whatever its capitals."""
_LIKELY = ("box", "xml", "annotation", "object")
"""What a table's column of boxes may be called."""
_LOOKED_AT = 100
"""So many values of a column are looked at for a box."""
_NOTHING = BoxedImage(1, 1, ())
_FORMS = "VOC XML files beside the images or in `Annotations`, or COCO JSON files"


def list_boxes(spec: BoxesData, *, base: Path, likely: str | None = None) -> Listing:
    """Return the images of a source with their boxes; an image may have none.

    Args:
        spec: the section.
        base: where a relative path starts.
        likely: where a COCO file's images may be too, if they aren't where they are looked for: as
            a model's recipe said it of other data.

    Raises:
        DataError: a file can't be read, or there is nothing to learn from.
    """
    path = find_path(spec.path, base)
    if is_table(path) or is_table_folder(path):
        return _list_table(spec, path, base)
    files = list(_files(path)) if path.is_dir() else [path.name]
    root = path if path.is_dir() else path.parent
    if path.is_dir() and any(file.lower().endswith(".xml") for file in files):
        found, notes = _list_voc(root, files)
    else:
        documents = [file for file in files if file.lower().endswith(".json")]
        if not documents:
            raise DataError(
                "there are no boxes here",
                where=str(path),
                fix=f"Give {_FORMS}, or a table with a column of boxes",
            )
        if path.is_file():
            documents = _beside(path)
        found, notes = _list_coco(root, documents, spec, base, likely)
    return _listing(path, root, found, notes, spec)


def has_boxes(path: Path) -> bool:
    """Say whether a folder or file holds images with boxes, by its files' names and beginnings."""
    if path.is_file():
        return path.suffix.lower() == ".json" and _is_coco(path)
    if not path.is_dir():
        return False
    files = list(_files(path))
    if any(file.lower().endswith(".xml") for file in files):
        return any(_is_image(file) for file in files)
    return any(file.lower().endswith(".json") and _is_coco(path / file) for file in files)


def guess_boxes(path: Path) -> dict[str, str] | None:
    """Return the columns of a table's images and boxes that aren't called so; `None` without boxes.

    Args:
        path: a table, or a folder of tables.
    """
    for name in columns_of(path):
        if any(word in name.lower() for word in _LIKELY) and any(
            _has_box(value) for value in first_values(path, name, _LOOKED_AT)
        ):
            image = guess_table(path, "image")[1].get("image", "image")
            found = {"image": str(image), "boxes": name}
            return {key: column for key, column in found.items() if key != column}
    return None


def _has_box(value: Any) -> bool:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict) and {"label", "x1"} <= value[0].keys()
    return isinstance(value, str) and "<bndbox>" in value


_LISTS = tuple(
    re.compile(rb'"%b"\s*:\s*\[' % name) for name in (b"images", b"annotations", b"categories")
)


def _is_coco(path: Path) -> bool:
    """Say whether a file is an object with COCO's three lists, without parsing it: it may be long.

    Raises:
        DataError: it can't be read.
    """
    try:
        held = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror})", where=str(path)) from error
    begins = held[:64].removeprefix(BOM).lstrip().startswith(b"{")
    return begins and all(pattern.search(held) for pattern in _LISTS)


# -- what all sources share ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """One image of a folder: its path in it, its split, and its boxes or why they are unknown."""

    file: str
    split: str
    boxed: BoxedImage
    fault: str = ""


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
    path: Path, root: Path, found: Sequence[_Found], notes: Sequence[str], spec: BoxesData
) -> Listing:
    column = spec.split.column
    if column not in (None, "parent"):
        raise DataError(
            f"a folder has no column `{column}`",
            where="data.split.column",
            fix="Write `column: parent` to keep the images of one folder together",
        )
    counted, marks, labels = _Counted(), ["boxes 1", column or ""], []
    for item in found:
        sides = _sides(lambda file=item.file: sides_of(root / file))  # type: ignore[misc]
        known = sides is not None and not item.fault
        labels.append(
            counted.taken(item.boxed, sides, item.file)
            if known and sides is not None
            else write_boxes(_NOTHING)
        )
        marks.append(f"{item.file} {item.split} {_stamp(root / item.file)} {labels[-1]}")
    return Listing(
        title=f"boxes {path.name}",
        key=digest("\n".join(marks).encode(errors="surrogateescape")),
        labels=labels,
        splits=[item.split for item in found],
        origins=[item.file for item in found],
        extras=[str(PurePosixPath(item.file).parent) if column else "" for item in found],
        read=lambda row: read_file(root / found[row].file),
        notes=(*notes, *counted.notes()),
        faults={at: item.fault for at, item in enumerate(found) if item.fault},
    )


def _stamp(file: Path) -> str:
    try:
        facts = file.stat()
    except (OSError, ValueError):
        return "missing"
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _files(root: Path) -> Iterator[str]:
    """Yield the files below a folder, in order, as paths in it; hidden ones are passed over."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(place).relative_to(root)
        for name in sorted(names):
            if not name.startswith("."):
                yield (inside / name).as_posix()


def _is_image(file: str) -> bool:
    return PurePosixPath(file).suffix.lower() in SUFFIXES["image"]


# -- VOC -------------------------------------------------------------------------------------


def _list_voc(root: Path, files: Sequence[str]) -> tuple[list[_Found], list[str]]:
    documents = {}
    for file in files:
        path = PurePosixPath(file)
        if path.suffix.lower() == ".xml":
            documents[path.parent.as_posix().lower(), path.stem] = file
    found, bare, used = [], [], set()
    for file in filter(_is_image, files):
        path = PurePosixPath(file)
        keys = ((place.lower(), path.stem) for place in _places(path.parent))
        document = next((documents[key] for key in keys if key in documents), None)
        if document is None:
            bare.append(file)
            continue
        used.add(document)
        split = next((SPLITS[part.lower()] for part in path.parts[:-1] if _is_split(part)), "")
        try:
            found.append(_Found(file, split, parse_voc((root / document).read_bytes())))
        except (OSError, DataError) as error:
            what = error.what if isinstance(error, DataError) else str(error.strerror)
            found.append(_Found(file, split, _NOTHING, f"{document}: {what}"))
    if not found:
        raise DataError(
            "no image has an XML file",
            where=str(root),
            fix="`NAME.xml` stands beside `NAME.jpg`, or in a folder `Annotations`",
        )
    _refuse_strays(root, found)
    notes = []
    if bare:
        notes.append(
            f"{len(bare):,} images have no XML file and are passed over, {bare[0]} first; an image "
            "that shows nothing has one without objects"
        )
    unused = sorted(set(documents.values()) - used)
    if unused:
        notes.append(f"{len(unused):,} XML files belong to no image, {unused[0]} first")
    return found, notes


def _places(folder: PurePosixPath) -> Iterator[str]:
    """Yield the folders where the XML of an image in this folder may be, the likeliest first.

    `train/JPEGImages` leads to itself, `train/Annotations`, and so on up to the root.
    """
    yield folder.as_posix()
    for above in (folder, *folder.parents):
        yield (above / _ANNOTATIONS).as_posix()
        inside = folder.relative_to(above).parts[1:]
        if inside:
            yield above.joinpath(_ANNOTATIONS, *inside).as_posix()


def _is_split(name: str) -> bool:
    return name.lower() in SPLITS


def _refuse_strays(root: Path, found: Sequence[_Found]) -> None:
    strays = [item.file for item in found if not item.split]
    if strays and len(strays) < len(found):
        raise DataError(
            f"{len(strays):,} images stand outside the folders of the splits, {strays[0]} first",
            where=str(root),
            fix="Move them into one of `train`, `val` and `test`, or take them away",
        )


# -- COCO ------------------------------------------------------------------------------------


def _split_of(file: str) -> str:
    """Return the split that a path names: `train/x.json`, `instances_train2017.json`."""
    words = re.findall("[a-z]+", file.lower().removesuffix(".json"))
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _beside(path: Path) -> list[str]:
    """Return a COCO file, and those beside it where all are named after splits."""
    if not _split_of(path.name):
        return [path.name]
    pattern = re.sub("[a-z]+", _as_any_split, re.escape(path.stem.lower()))
    others = (item.name for item in path.parent.iterdir() if item.suffix.lower() == ".json")
    return sorted(name for name in others if re.fullmatch(pattern, name[:-5].lower()))


def _as_any_split(word: re.Match[str]) -> str:
    return f"({'|'.join(SPLITS)})" if word[0] in SPLITS else word[0]


def _list_coco(
    root: Path, documents: Sequence[str], spec: BoxesData, base: Path, likely: str | None
) -> tuple[list[_Found], list[str]]:
    found: list[_Found] = []
    crowds, read = 0, []
    for document in documents:
        path = root / document
        if len(documents) > 1 and not _is_coco(path):
            continue
        try:
            content = parse_coco(path.read_bytes(), where=str(path))
        except OSError as error:
            raise DataError(f"can't be read ({error.strerror})", where=str(path)) from error
        read.append(document)
        crowds += content.crowds
        split = _split_of(document)
        folder = _images_of(content, path, split, spec, base, likely)
        for image in content.images:
            file = os.path.relpath(folder / image.file, root).replace(os.sep, "/")
            found.append(_Found(file, split, image.boxed))
    if not found:
        raise DataError("the COCO files name no images", where=str(root))
    splits = {item.split for item in found}
    if len(read) > 1 and "" in splits and len(splits) > 1:
        raise DataError(
            f"of {len(read)} COCO files some are named after splits and others aren't",
            where=str(root),
            fix="Name the one file that is meant, or name all after train, val and test",
        )
    notes = [f"{crowds:,} regions marked `iscrowd` are left out"] if crowds else []
    return found, notes


def _images_of(
    content: CocoData,
    document: Path,
    split: str,
    spec: BoxesData,
    base: Path,
    likely: str | None,
) -> Path:
    """Return the folder that a COCO file's images are in: the first that has the first of them.

    Where nothing says which folder it is and none is called as usual, it is the only one beside the
    file, or beside its folder, that has that image.
    """
    first = content.images[0].file if content.images else ""
    names = [name for name, of in SPLITS.items() if of == split] + [_year(document.stem)]

    def having(places: Sequence[Path]) -> list[Path]:
        inside = (place / name for place in places for name in names if name)
        return [place for place in (*places, *inside) if first and (place / first).is_file()]

    if spec.images:
        given = find_path(spec.images, base)
        return next(iter(having([given])), given)
    around = [document.parent, document.parent.parent]
    usual = [place / name for place in around for name in ("", "images")]
    said = [place / likely for place in (base, *around)] if likely else []
    found = having(usual) or having(said)
    if not found:
        folders = {item for place in around for item in place.iterdir() if item.is_dir()}
        beside = having(sorted(folders))
        found = beside if len(beside) == 1 else []
    return next(iter(found), document.parent)


def _year(stem: str) -> str:
    """Return `train2017` for `instances_train2017`."""
    return stem.rpartition("_")[2]


# -- tables ----------------------------------------------------------------------------------


def _list_table(spec: BoxesData, path: Path, base: Path) -> Listing:
    columns = TableData(
        source="table", path=spec.path, image=spec.image, label=spec.boxes, split=spec.split
    )
    listing = list_table(columns, base=base, kind="image", target="boxes")
    counted, labels, faults = _Counted(), [], {}
    for at, text in enumerate(listing.labels):
        sides = _sides(lambda row=at: sides_of(listing.read(row)))  # type: ignore[misc]
        labels.append(write_boxes(_NOTHING))
        if sides is None:
            continue
        where = listing.origins[at]
        try:
            labels[-1] = counted.taken(_cell(text, sides), sides, where)
        except DataError as error:
            faults[at] = error.what
    return Listing(
        title=f"boxes {path.name}",
        key=json_digest(["boxes 1", listing.key]),
        labels=labels,
        splits=listing.splits,
        origins=listing.origins,
        extras=listing.extras,
        read=listing.read,
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
