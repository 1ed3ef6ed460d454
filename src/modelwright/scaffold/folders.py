"""Infers the task of a folder: from its layout first, then from the files in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from modelwright.data.boxed_files import is_coco
from modelwright.data.formats import foreign_among
from modelwright.data.labelme import is_labelme
from modelwright.data.listing import SPLITS
from modelwright.data.table_reader import is_table, is_table_folder, open_table
from modelwright.data.transcripts import LIBRISPEECH, recordings_below
from modelwright.data.yolo import is_yolo
from modelwright.errors import DataError
from modelwright.kinds import InputKind
from modelwright.scaffold.box_columns import foreign_boxes
from modelwright.scaffold.columns import Settings
from modelwright.scaffold.inferred import CLASSIFICATION, SHOWN, DataOptions, Inferred, listed
from modelwright.scaffold.layout import (
    ClassFolders,
    NamePattern,
    are_parts,
    class_folders,
    mask_folder,
    name_pattern,
)
from modelwright.scaffold.samples import FileIndex
from modelwright.scaffold.tables import infer_table
from modelwright.scaffold.texts import infer_text_folder, is_sample_submission, training_first

_MOST_LISTS = 10
"""So many text files of a folder are tried as lists of its samples."""
_MOST_LISTED = 1000
"""So many lines of them are looked at."""


def infer_folder(path: Path, shown: str, options: DataOptions) -> Inferred:
    """Infer the task of a folder."""
    if is_table_folder(path):
        return infer_table(path, shown, options)
    index = FileIndex(path)
    foreign = foreign_boxes(path, index.files) if index.by_kind[InputKind.IMAGE] else None
    if foreign is not None:
        raise foreign
    if has_boxes(path, index):
        return Inferred("object-detection", {"source": "boxes", "path": shown})
    images, sounds = (index.by_kind[kind] for kind in (InputKind.IMAGE, InputKind.AUDIO))
    if images or sounds:
        kind = InputKind.IMAGE if len(images) >= len(sounds) else InputKind.AUDIO
        return _media_folder(path, shown, kind, index, options)
    return infer_text_folder(path, shown, index, options)


def has_boxes(path: Path, index: FileIndex) -> bool:
    """Say whether a folder holds images with boxes, by its files' names and beginnings."""
    if not index.by_kind[InputKind.IMAGE]:
        return False
    files = index.files
    suffixes = {PurePosixPath(file).suffix.lower() for file in files}
    if ".xml" in suffixes:
        return True
    documents = [file for file in files if file.lower().endswith(".json")]
    return (
        any(is_coco(path / file) for file in documents[:100])
        or (bool(documents) and is_labelme(path, files))
        or (".txt" in suffixes and is_yolo(path, files))
    )


def _media_folder(
    path: Path, shown: str, kind: InputKind, index: FileIndex, options: DataOptions
) -> Inferred:
    """Infer how a folder of images or recordings is labelled: by a table, folders, or names."""
    samples = index.by_kind[kind]
    if kind == InputKind.AUDIO and has_transcripts(path):
        folder: Settings = {"source": "folder", "path": shown}
        return Inferred("speech-recognition", folder, _left_aside(index, kind))
    table = _labels_table(path, index, kind, options)
    if table is not None:
        file, inferred = table
        where = str(PurePosixPath(shown) / file)
        note = f"`{file}` names the {kind.plural} and their labels"
        data = {**inferred.data, "path": where}
        aside = _left_aside(index, kind, file)
        return replace(inferred, data=data, notes=(note, *inferred.notes, *aside))
    lists = list(_file_lists(path, index, kind))
    labelled = [each for each in lists if each.has_labels]
    aside = _left_aside(index, kind, *(each.file for each in labelled))
    if labelled:
        return _listed_files(labelled, shown, kind, aside)
    aside += tuple(
        f"`{each.file}` lists some of the {kind.plural}: where they are a split, move them into a "
        "folder that is called so, such as `test`"
        for each in lists
    )
    return _labelled_files(path, shown, samples, kind, index, aside)


_NUMBER = re.compile(r"[\d._-]+$")
"""What may stand behind the name of a split: `test1`."""


def _training_folder(names: Sequence[str]) -> str:
    """Return the folder of the training split, where all are called after splits; else a blank."""
    splits = {name: SPLITS.get(_NUMBER.sub("", name.lower())) for name in names}
    if None in splits.values():
        return ""
    return next((name for name, split in splits.items() if split == "train"), "")


def _labelled_files(
    path: Path,
    shown: str,
    samples: Sequence[str],
    kind: InputKind,
    index: FileIndex,
    aside: tuple[str, ...],
) -> Inferred:
    """Infer labels from the folders that files are in, or from their names."""
    folders = class_folders(samples)
    if folders is not None and not folders.below and (train := _training_folder(folders.classes)):
        inside = [
            file.removeprefix(f"{train}/") for file in samples if file.startswith(f"{train}/")
        ]
        if name_pattern(inside) is not None:
            others = ", ".join(f"`{name}`" for name in folders.classes if name != train)
            aside = (*aside, f"The folders are splits; left aside, without labels: {others}")
            where = str(PurePosixPath(shown) / train)
            return _labelled_files(path / train, where, inside, kind, index, aside)
    if folders is not None and (masks := mask_folder(samples, folders.classes)):
        raise DataError(
            f"`{masks}` holds masks of the images in the other folder, by the names of its files",
            where=str(path),
            why="Segmentation isn't a task here",
            fix="For a class of each image make a folder for each class, or a table",
        )
    if folders is not None and are_parts(folders.classes):
        parts = _in_parts(folders, shown, samples, kind, aside)
        if parts is not None:
            return parts
    if folders is not None:
        where = str(PurePosixPath(shown) / folders.below) if folders.below else shown
        notes = [f"The folders are the classes: {listed(folders.classes)}"]
        choices = []
        if folders.inner:
            choices.append(
                f"The folders below them could be the classes as well ({listed(folders.inner)}): "
                f"`data.label_pattern: {_inner_pattern(folders)!r}`"
            )
        elif folders.deeper:
            notes.append(f"Folders below them, such as `{folders.deeper}`, tell nothing apart")
        if folders.loose:
            notes.append(
                f"{len(folders.loose):,} {kind.plural} stand in no class's folder and are left "
                f"aside, {folders.loose[0]} first"
            )
        data = {"source": "folder", "path": where}
        return Inferred(CLASSIFICATION[kind], data, (*notes, *aside), tuple(choices))
    pattern = name_pattern(samples)
    if pattern is not None:
        notes = [_by_names(pattern)]
        choices = [
            f"Another part of the names could be the label ({values}): write another "
            "`data.label_pattern`"
            for values in pattern.others
        ]
        data = {"source": "folder", "path": shown, "label_pattern": pattern.pattern}
        return Inferred(CLASSIFICATION[kind], data, (*notes, *aside), tuple(choices))
    foreign = foreign_among(index.files)
    raise DataError(
        f"nothing says which class each {kind.noun} is of",
        where=str(path),
        why=f"It holds {len(samples):,} {kind.plural}, {samples[0]} first. "
        + (f"{foreign}. " if foreign else "")
        + "There is no folder for each class, no table that names them, and no class in their "
        "names",
        fix=f"Make a folder for each class, or a table with the columns {kind} and label",
    )


def _by_names(found: NamePattern) -> str:
    """Return what to say of labels in the names of files."""
    file, label = found.example
    return (
        f"The names of the files tell the classes apart: `{file}` is taken as `{label}` "
        f"({len(found.classes):,} classes: {listed(found.classes)})"
    )


def _inner_pattern(folders: ClassFolders) -> str:
    """Return the pattern by which the folders below those of `folders` are the labels."""
    return r"^[^/]+/[^/]+/([^/]+)/" if folders.has_splits else r"^[^/]+/([^/]+)/"


def _in_parts(
    folders: ClassFolders,
    shown: str,
    samples: Sequence[str],
    kind: InputKind,
    aside: tuple[str, ...],
) -> Inferred | None:
    """Infer the labels of samples whose folders are called like parts: by what is below them."""
    where = str(PurePosixPath(shown) / folders.below) if folders.below else shown
    note = f"The folders {listed(folders.classes)} are taken as parts of the data, not as classes"
    choice = "If they are the classes after all: leave `data.label_pattern` out"
    named = name_pattern(samples)
    if folders.inner:
        pattern = _inner_pattern(folders)
        what = f"The folders below them are the classes: {listed(folders.inner)}"
    elif named is not None:
        pattern, what = named.pattern, _by_names(named)
    else:
        return None
    data = {"source": "folder", "path": where, "label_pattern": pattern}
    return Inferred(CLASSIFICATION[kind], data, (note, what, *aside), (choice,))


@dataclass(frozen=True, slots=True)
class _FileList:
    """A text file with the name of a sample a line, as ImageNet and others have them."""

    file: str
    pattern: str
    """The pattern of the samples' paths."""
    has_labels: bool
    """Whether a label stands behind each name: `0001.jpg 3`."""


def _file_lists(path: Path, index: FileIndex, kind: InputKind) -> Iterator[_FileList]:
    texts = [file for file in index.files if file.lower().endswith(".txt")]
    for file in texts[:_MOST_LISTS]:
        for columns in ([str(kind), "label"], [str(kind)]):
            with contextlib.suppress(DataError):
                table = open_table(path / file, columns)
                cells = table.sample(str(kind), _MOST_LISTED)
                pattern = index.find(list(cells), kind, file.rpartition("/")[0])
                labels = table.sample("label", _MOST_LISTED) if len(columns) > 1 else ()
                if pattern is not None and (not labels or len(set(labels)) < len(labels)):
                    yield _FileList(file, pattern, bool(labels))
                    break


def _listed_files(
    lists: Sequence[_FileList], shown: str, kind: InputKind, aside: tuple[str, ...]
) -> Inferred:
    first, *others = lists
    data: Settings = {
        "source": "table",
        "path": str(PurePosixPath(shown) / first.file),
        "columns": [str(kind), "label"],
    }
    if first.pattern != "{}":
        data["files"] = first.pattern
    notes = [f"`{first.file}` names the {kind.plural} and their labels"]
    notes += [
        f"`{each.file}` does so as well, and is left aside; one table with a third column for the "
        "split would hold both"
        for each in others
    ]
    return Inferred(CLASSIFICATION[kind], data, (*notes, *aside))


def _left_aside(index: FileIndex, kind: InputKind, *used: str) -> tuple[str, ...]:
    """Name the files beside the samples that aren't read."""
    samples = {*index.by_kind[kind], *used}
    others = [file for file in index.files if file not in samples]
    if not others:
        return ()
    foreign = foreign_among(others)
    files_are = "file is" if len(others) == 1 else "files are"
    note = f"{len(others):,} other {files_are} left aside: {', '.join(others[:SHOWN])}"
    note += ", …" if len(others) > SHOWN else ""
    return (note, *([foreign] if foreign else []))


def _labels_table(
    path: Path, index: FileIndex, kind: InputKind, options: DataOptions
) -> tuple[str, Inferred] | None:
    """Return the table of a folder that names most of its samples and their targets."""
    tables = [file for file in index.files if is_table(path / file) and "/" not in file] or [
        file for file in index.files if is_table(path / file)
    ][:10]
    reasons = []
    tables = [file for file in tables if not is_sample_submission(file)]
    for file in sorted(
        tables, key=lambda file: ("label" not in file.lower(), *training_first(file))
    ):
        try:
            find = partial(index.find, base=file.rpartition("/")[0])
            inferred = infer_table(path / file, file, options, find=find)
        except DataError as error:
            reasons.append(error)
            continue
        if inferred.task == "object-detection" and kind == InputKind.IMAGE:
            return file, inferred
        is_about_samples = inferred.task in (
            CLASSIFICATION[kind],
            "speech-recognition",
        ) or inferred.data.get("input_kind", "image") == str(kind)
        if is_about_samples and (
            inferred.task == "regression" or str(kind) in inferred.task or kind == InputKind.AUDIO
        ):
            return file, inferred
    if reasons and (options.input or options.target):
        raise reasons[0]
    return None


def has_transcripts(folder: Path) -> bool:
    """Say whether most recordings of a folder have a text beside them."""
    recordings = recordings_below(folder)
    beside = sum(path.with_suffix(".txt").is_file() for path in recordings)
    return bool(recordings) and (
        2 * beside > len(recordings) or any(folder.rglob(f"*{LIBRISPEECH}"))
    )
