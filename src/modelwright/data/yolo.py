"""Boxes as YOLO's tools write them: a text file an image, a line a box.

A line is `class x y width height`: the class's number from 0, the box's centre and its size, as
shares of the image's width and height. A line of a class and three or more corners is a polygon, of
which the box around it is taken. An image without a text file shows nothing (Ultralytics' rule).
Where the names and the splits stand: `data.yaml`, or `classes.txt` and the folders' names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from modelwright.data.boxed_files import NOTHING, BoxedFile, is_image
from modelwright.data.listing import SPLITS
from modelwright.data.sealed import read_bytes, stored
from modelwright.errors import DataError
from modelwright.tasks.boxes import BoxedImage, LabelledBox

_IMAGES, _LABELS = "images", "labels"
_NAMES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
"""Files with a class's name a line."""
_NO_BOXES = frozenset((*_NAMES, "train.txt", "val.txt", "test.txt", "readme.txt", "license.txt"))
_MOST_BYTES = 4 << 20
_TRIED = 50
"""So many text files are looked at to tell whether they hold boxes."""
_FARTHEST = 2.0
"""No share of an image's side is larger; pixels are."""


def is_yolo(root: Path, files: Sequence[str]) -> bool:
    """Say whether images of a folder have text files with lines of boxes."""
    pairs = _paired(files)
    texts = [pairs[image] for image in filter(is_image, files) if image in pairs][:_TRIED]
    of_boxes = others = 0
    for text in texts:
        try:
            lines = _lines(root / text)
        except (OSError, DataError):
            others += 1
            continue
        are_boxes = all(_is_box(line.split()) for line in lines)
        of_boxes += are_boxes and bool(lines)
        others += not are_boxes
    return of_boxes > 0 and of_boxes >= others


def _is_box(words: Sequence[str]) -> bool:
    return len(words) >= 5 and words[0].isdigit() and all(map(_is_number, words))


def list_yolo(root: Path, files: Sequence[str]) -> tuple[list[BoxedFile], list[str]]:
    """Return the images of a folder with their boxes, and notes for the user.

    Raises:
        DataError: `data.yaml` can't be read, or classes are numbered from 1.
    """
    pairs, described = _paired(files), _described(root, files)
    images = list(filter(is_image, files))
    parsed: dict[str, _Lines | str] = {}
    for image in images:
        if image in pairs:
            try:
                parsed[image] = _parse(_lines(root / pairs[image]))
            except (OSError, DataError) as error:
                what = error.what if isinstance(error, DataError) else str(error.strerror)
                parsed[image] = f"{pairs[image]}: {what}"
    numbers = {box[0] for lines in parsed.values() if not isinstance(lines, str) for box in lines}
    names = described.names
    if names and numbers and min(numbers) == 1 and max(numbers) == len(names):
        raise DataError(
            f"the classes are numbered from 1 to {len(names)}, and YOLO numbers them from 0",
            where=str(root),
            fix="Subtract 1 from the first number of each line, or put a name for number 0 first",
        )
    splits = _splits(images, described)
    boxed = [
        _boxed(image, splits[image], parsed.get(image, []), names, pairs.get(image, ""))
        for image in images
    ]
    bare = [image for image in images if image not in pairs]
    notes = list(described.notes)
    if bare:
        notes.append(
            f"{len(bare):,} images have no text file, {bare[0]} first; they are taken to show "
            "nothing"
        )
    if not names:
        notes.append("No file names the classes, so their numbers are their names")
    polygons = sum(
        is_polygon
        for lines in parsed.values()
        if not isinstance(lines, str)
        for *_, is_polygon in lines
    )
    if polygons:
        notes.append(f"{polygons:,} lines are polygons, of which the boxes around them are taken")
    return boxed, notes


_Lines = list[tuple[int, float, float, float, float, bool]]
"""Class number, x1, y1, x2, y2 as shares of the sides, and whether it was a polygon."""


def _paired(files: Sequence[str]) -> dict[str, str]:
    """Return the text file of each image that has one: beside it, or below `labels`."""
    texts = {
        (path.parent.as_posix(), path.stem): file
        for file in files
        if (path := PurePosixPath(file)).suffix.lower() == ".txt"
        and path.name.lower() not in _NO_BOXES
    }
    pairs = {}
    for file in filter(is_image, files):
        path = PurePosixPath(file)
        for folder in _places(path.parent):
            if (folder, path.stem) in texts:
                pairs[file] = texts[folder, path.stem]
                break
    return pairs


def _places(folder: PurePosixPath) -> Iterable[str]:
    """Yield the folders where an image's text file may be, the likeliest first."""
    parts = folder.parts
    for at in reversed(range(len(parts))):
        if parts[at].lower() == _IMAGES:
            yield PurePosixPath(*parts[:at], _LABELS, *parts[at + 1 :]).as_posix()
    yield folder.as_posix()
    yield (folder / _LABELS).as_posix()
    yield (folder.parent / _LABELS).as_posix()


def _lines(path: Path) -> list[str]:
    data = read_bytes(path)
    if len(data) > _MOST_BYTES:
        raise DataError(f"it is longer than {_MOST_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("it isn't text") from error
    return [line for line in text.splitlines() if line.strip()]


def _is_number(word: str) -> bool:
    try:
        return abs(float(word)) < float("inf")
    except ValueError:
        return False


def _parse(lines: Sequence[str]) -> _Lines:
    """Return the boxes of a file's lines.

    Raises:
        DataError: a line is neither a box nor a polygon.
    """
    boxes: _Lines = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not _is_box(words):
            raise DataError(f"line {number} isn't a class's number and a box: `{line:.60}`")
        label, places = int(words[0]), [float(word) for word in words[1:]]
        # A sixth number of a box is the confidence of a prediction.
        is_polygon = len(places) > 5 and len(places) % 2 == 0
        if len(places) > 5 and not is_polygon:
            raise DataError(f"line {number} has {len(places)} numbers after the class")
        if any(abs(place) > _FARTHEST for place in places[: 4 if not is_polygon else None]):
            raise DataError(
                f"line {number} counts in pixels, and YOLO's boxes are shares of the image's sides"
            )
        if is_polygon:
            across, down = places[::2], places[1::2]
            corners = (min(across), min(down), max(across), max(down))
        else:
            x, y, width, height = places[:4]
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        boxes.append((label, *corners, is_polygon))
    return boxes


def _boxed(
    image: str, split: str, lines: _Lines | str, names: Mapping[int, str], text: str
) -> BoxedFile:
    if isinstance(lines, str):
        return BoxedFile(image, split, NOTHING, lines)
    boxes = []
    for label, x1, y1, x2, y2, _ in lines:
        if names and label not in names:
            fault = f"{text}: the class {label} has no name; {len(names)} are named"
            return BoxedFile(image, split, NOTHING, fault)
        boxes.append(LabelledBox(names.get(label, str(label)), x1, y1, x2, y2))
    # Of an image whose sides are 1: places are shares of the sides.
    return BoxedFile(image, split, BoxedImage(1, 1, tuple(boxes)))


# -- names and splits ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Described:
    """What stands about the data set beside its images."""

    names: Mapping[int, str]
    splits: Mapping[str, str]
    """The split of folders and images that `data.yaml` names, as paths below the root."""
    notes: tuple[str, ...] = ()


def _described(root: Path, files: Sequence[str]) -> _Described:
    for file in files:
        path = PurePosixPath(file)
        if path.suffix.lower() in (".yaml", ".yml"):
            content = _yaml(root / file)
            if isinstance(content, dict) and ("names" in content or "train" in content):
                return _from_yaml(root, path, content)
    by_name = {PurePosixPath(file).name.lower(): file for file in reversed(files)}
    for name in _NAMES:
        if name in by_name:
            names = [line.strip() for line in _lines(root / by_name[name])]
            return _Described(dict(enumerate(names)), {})
    return _Described({}, {})


def _yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(read_bytes(path)[:_MOST_BYTES])
    except (YAMLError, OSError, ValueError, RecursionError) as error:
        raise DataError("this YAML file can't be read", where=str(path), why=str(error)) from error


def _from_yaml(root: Path, file: PurePosixPath, content: Mapping[Any, Any]) -> _Described:
    given = content.get("names")
    pairs = (
        enumerate(given)
        if isinstance(given, list)
        else given.items()
        if isinstance(given, dict)
        else ()
    )
    names = {int(key): str(name) for key, name in pairs if str(key).isdigit()}
    places: dict[str, set[str]] = defaultdict(set)
    for key, value in content.items():
        split = SPLITS.get(str(key).lower())
        for entry in value if isinstance(value, list) else [value]:
            if split is not None and isinstance(entry, str):
                for place in _named_places(root, file, content.get("path"), entry):
                    places[place].add(split)
    # The same folder for training and validation says nothing: the splits are drawn.
    once = {place: next(iter(of)) for place, of in places.items() if len(of) == 1}
    twice = [place for place, of in places.items() if len(of) > 1]
    note = f"`{file}` names `{twice[0]}` for several splits; they are drawn anew" if twice else ""
    return _Described(names, once, (note,) if note else ())


def _named_places(root: Path, file: PurePosixPath, base: Any, entry: str) -> list[str]:
    """Return what an entry of `data.yaml` stands for, as paths below the root.

    Its paths are often those of another machine, or begin with `../` where nothing is above.
    """
    here = root / file.parent
    tails = PurePosixPath(entry.replace("\\", "/")).parts
    bases = [here, root, *([here / base] if isinstance(base, str) else [])]
    for start in range(len(tails)):
        tail = [part for part in tails[start:] if part not in ("/", "..", ".")]
        for place in bases:
            path = place.joinpath(*tail)
            if tail and _is_there(path) and path.resolve().is_relative_to(root.resolve()):
                if path.is_dir():
                    return [path.resolve().relative_to(root.resolve()).as_posix()]
                return [
                    place
                    for line in _lines(path)
                    for place in _named_places(root, file, base, line.strip())
                ]
    return []


def _is_there(path: Path) -> bool:
    try:
        return stored(path).exists()
    except OSError:  # The name is too long for a file.
        return False


def _splits(images: Sequence[str], described: _Described) -> dict[str, str]:
    """Return the split of each image; of images that are all of one split, none."""
    splits = {}
    for image in images:
        path = PurePosixPath(image)
        named = (described.splits.get(place.as_posix()) for place in (path, *path.parents))
        folders = (SPLITS[part.lower()] for part in path.parts[:-1] if part.lower() in SPLITS)
        splits[image] = next(filter(None, named), "") or next(folders, "")
    if len(set(splits.values())) < 2 or "" in splits.values():
        return dict.fromkeys(images, "")
    return splits
