"""Images with boxes in folders: which file's annotation, VOC XML or COCO JSON, belongs to which."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelwright.data.coco import MOST_BYTES, CocoData, parse_coco
from modelwright.data.inputs import INPUTS
from modelwright.data.listing import SPLITS
from modelwright.data.sealed import plain_name, read_bytes, stored
from modelwright.data.voc import parse_voc
from modelwright.errors import DataError
from modelwright.files import find_path, is_file
from modelwright.kinds import InputKind
from modelwright.recipe.data import BoxesData
from modelwright.tasks.boxes import BoxedImage

_ANNOTATIONS = "annotations"
"""The folder of VOC's XML files, in upper or lower case."""
NOTHING = BoxedImage(1, 1, ())


@dataclass(frozen=True, slots=True)
class BoxedFile:
    """One image of a folder: its path in it, its split, and its boxes or why they are unknown."""

    file: str
    split: str
    boxed: BoxedImage
    fault: str = ""


def is_image(file: str) -> bool:
    """Say whether a file is an image, by its name."""
    return PurePosixPath(file).suffix.lower() in INPUTS[InputKind.IMAGE].suffixes


_LISTS = tuple(re.compile(rb'"%b"\s*:\s*\[' % name) for name in (b"images", b"annotations"))


def is_coco(path: Path) -> bool:
    """Say whether a file is an object with COCO's lists, without parsing it.

    Raises:
        DataError: it can't be read.
    """
    try:
        data = read_bytes(path) if stored(path).stat().st_size <= MOST_BYTES else b""
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror})", where=str(path)) from error
    begins = data[:64].removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")
    return begins and all(pattern.search(data) for pattern in _LISTS)


# -- VOC -------------------------------------------------------------------------------------


def list_voc(root: Path, files: Sequence[str]) -> tuple[list[BoxedFile], list[str]]:
    """Return the images of a folder that have a VOC XML file, and what to say of the others.

    Raises:
        DataError: no image has one, or some stand outside the folders of the splits.
    """
    documents = {}
    for file in files:
        path = PurePosixPath(file)
        if path.suffix.lower() == ".xml":
            documents[path.parent.as_posix().lower(), path.stem] = file
    images, bare, used = [], [], set()
    for file in filter(is_image, files):
        path = PurePosixPath(file)
        keys = ((place.lower(), path.stem) for place in _places(path.parent))
        document = next((documents[key] for key in keys if key in documents), None)
        if document is None:
            bare.append(file)
            continue
        used.add(document)
        folders = map(str.lower, path.parts[:-1])
        split = next((SPLITS[folder] for folder in folders if folder in SPLITS), "")
        try:
            images.append(BoxedFile(file, split, parse_voc(read_bytes(root / document))))
        except (OSError, DataError) as error:
            what = error.what if isinstance(error, DataError) else str(error.strerror)
            images.append(BoxedFile(file, split, NOTHING, f"{document}: {what}"))
    if not images:
        raise DataError(
            "no image has an XML file",
            where=str(root),
            fix="`NAME.xml` stands beside `NAME.jpg`, or in a folder `Annotations`",
        )
    _refuse_strays(root, images)
    notes = []
    if bare:
        notes.append(
            f"{len(bare):,} images have no XML file and are passed over, {bare[0]} first; an image "
            "that shows nothing has one without objects"
        )
    unused = sorted(set(documents.values()) - used)
    if unused:
        notes.append(f"{len(unused):,} XML files belong to no image, {unused[0]} first")
    return images, notes


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


def _refuse_strays(root: Path, files: Sequence[BoxedFile]) -> None:
    strays = [item.file for item in files if not item.split]
    if strays and len(strays) < len(files):
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


def split_files(path: Path) -> list[str]:
    """Return a COCO file, and those beside it where all are named after splits."""
    own = plain_name(path.name)
    if not _split_of(own):
        return [own]
    pattern = re.sub("[a-z]+", _as_any_split, re.escape(own.lower().removesuffix(".json")))
    others = {plain_name(item.name) for item in path.parent.iterdir()}
    documents = (name for name in others if name.lower().endswith(".json"))
    return sorted(name for name in documents if re.fullmatch(pattern, name[:-5].lower()))


def _as_any_split(word: re.Match[str]) -> str:
    return f"({'|'.join(SPLITS)})" if word[0] in SPLITS else word[0]


def list_coco(
    root: Path, documents: Sequence[str], spec: BoxesData, base: Path, likely: str | None
) -> tuple[list[BoxedFile], list[str]]:
    """Return the images that COCO files name, and what to say of them; arguments as `list_boxes`.

    Raises:
        DataError: a file can't be read, names no image, or its split is unclear.
    """
    files: list[BoxedFile] = []
    crowds, read = 0, []
    for document in documents:
        path = root / document
        if len(documents) > 1 and not is_coco(path):
            continue
        try:
            content = parse_coco(read_bytes(path), where=str(path))
        except OSError as error:
            raise DataError(f"can't be read ({error.strerror})", where=str(path)) from error
        read.append(document)
        crowds += content.crowds
        split = _split_of(document)
        folder = _images_of(content, path, split, spec, base, likely)
        for image in content.images:
            file = os.path.relpath(folder / image.file, root).replace(os.sep, "/")
            files.append(BoxedFile(file, split, image.boxed))
    if not files:
        raise DataError("the COCO files name no images", where=str(root))
    splits = {item.split for item in files}
    if len(read) > 1 and "" in splits and len(splits) > 1:
        raise DataError(
            f"of {len(read)} COCO files some are named after splits and others aren't",
            where=str(root),
            fix="Name the one file that is meant, or name all after train, val and test",
        )
    notes = [f"{crowds:,} regions marked `iscrowd` are left out"] if crowds else []
    return files, notes


def _images_of(
    content: CocoData,
    document: Path,
    split: str,
    spec: BoxesData,
    base: Path,
    likely: str | None,
) -> Path:
    """Return the folder that a COCO file's images are in: the first that has the first of them.

    Without a setting, and without a folder of a usual name, it is the only folder beside the file,
    or beside its folder, that has that image.
    """
    first = content.images[0].file if content.images else ""
    names = [name for name, of in SPLITS.items() if of == split] + [_year(document.stem)]

    def having(places: Sequence[Path]) -> list[Path]:
        inside = (place / name for place in places for name in names if name)
        return [place for place in (*places, *inside) if first and is_file(stored(place / first))]

    if spec.images:
        folder = find_path(spec.images, base)
        return next(iter(having([folder])), folder)
    around = [document.parent, document.parent.parent]
    usual = [place / name for place in around for name in ("", "images")]
    said = [place / likely for place in (base, *around)] if likely else []
    candidates = having(usual) or having(said)
    if not candidates:
        folders = {item for place in around for item in place.iterdir() if item.is_dir()}
        beside = having(sorted(folders))
        candidates = beside if len(beside) == 1 else []
    return next(iter(candidates), document.parent)


def _year(stem: str) -> str:
    """Return `train2017` for `instances_train2017`."""
    return stem.rpartition("_")[2]
