"""The source `folder`: one folder of images a class, with or without `train/`, `val/`, `test/`."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from modelwright.data.encodings import to_utf8
from modelwright.data.formats import foreign_among
from modelwright.data.inputs import INPUTS
from modelwright.data.listing import (
    LITTER,
    SPLITS,
    UNLABELLED,
    Listing,
    parent_folder,
    read_file,
    require_parent,
)
from modelwright.data.sealed import plain_name
from modelwright.errors import DataError
from modelwright.files import digest, find_path
from modelwright.kinds import InputKind
from modelwright.recipe.data import FolderData


def find_folder(name: str, base: Path, *, group: str | None) -> Path:
    """Return the folder that a recipe names.

    Raises:
        DataError: there is none, or its files are to be grouped by what a folder hasn't.
    """
    root = find_path(name, base)
    if not root.is_dir():
        raise DataError(
            "this is a file, and `source: folder` needs a folder",
            where=str(root),
            fix="For a table write `source: table`",
        )
    require_parent(group)
    return root


def list_folder(
    spec: FolderData, *, base: Path, group: str | None, kind: InputKind = InputKind.IMAGE
) -> Listing:
    """Return the files of a folder, in the order of their paths.

    With the group `parent`, files of one folder stay in one split.

    Raises:
        DataError: there is no such folder, or nothing to learn from in it.
    """
    root = find_folder(spec.path, base, group=group)
    files, passed = _walk(root, kind) if spec.label_pattern is None else _all(root, kind)
    if not files:
        raise _nothing(root, passed, kind)
    paths, labels, splits, sizes, times = map(list, zip(*sorted(files), strict=True))
    faults: dict[int, str] = {}
    if spec.label_pattern is not None:
        labels, faults = _matched(paths, spec.label_pattern)
    marks = (f"{path} {size} {at}" for path, size, at in zip(paths, sizes, times, strict=True))
    how = [f"folder 2 {kind}", group or "", spec.label_pattern or "", spec.encoding or ""]

    def read(row: int) -> bytes:
        data = read_file(root / paths[row])
        if kind != InputKind.TEXT:
            return data
        return to_utf8(data, where=paths[row], encoding=spec.encoding)

    return Listing(
        title=f"folder {root.name}",
        key=digest("\n".join([*how, *marks]).encode(errors="surrogateescape")),
        labels=labels,
        splits=splits,
        origins=paths,
        metadata=parent_folder(paths, group),
        read=read,
        notes=_passed_over(passed),
        kind=kind,
        faults=faults,
    )


def _all(root: Path, kind: InputKind) -> tuple[list[_File], Counter[str]]:
    """Return all samples below a folder, without labels; a folder at the top may be a split."""
    passed: Counter[str] = Counter()
    splits = {place.name: split for place, split in _splits(root, kind)}
    prefix, files = len(str(root)) + 1, []
    for file, facts in _files(str(root), set()):
        if not _is_sample(file, kind):
            passed[os.path.splitext(file)[1].lower() or "without a suffix"] += 1  # noqa: PTH122
            continue
        relative = file[prefix:].replace(os.sep, "/")
        split = splits.get(relative.partition("/")[0], "")
        files.append((relative, "", split, facts.st_size, facts.st_mtime_ns))
    return files, passed


def _matched(paths: Sequence[str], pattern: str) -> tuple[list[str], dict[int, str]]:
    """Return the label that a pattern finds in each path, and the paths that it finds none in.

    Raises:
        DataError: it finds none in any.
    """
    search = re.compile(pattern).search
    names = [plain_name(path) for path in paths]
    matches = [search(name.removesuffix(PurePosixPath(name).suffix)) for name in names]
    labels = [match[1] or "" if match is not None else "" for match in matches]
    if not any(labels):
        raise DataError(
            f"`{pattern}` fits no file, such as `{paths[0]}`",
            where="data.label_pattern",
            fix="Write a regular expression whose group is the label, for paths without endings",
        )
    why = "its name doesn't fit `data.label_pattern`"
    return labels, {at: why for at, label in enumerate(labels) if not label}


_OUTSIDE, _HIDDEN = "outside a class folder", "in folders whose names begin with a dot"
_File = tuple[str, str, str, int, int]
"""Path, label, split, size, time."""


def _walk(root: Path, kind: InputKind) -> tuple[list[_File], Counter[str]]:
    passed: Counter[str] = Counter()
    classes: list[tuple[os.DirEntry[str], str]] = []
    splits = _splits(root, kind)
    for place, split in splits or [(root, "")]:
        for entry in _folders(place):
            if entry.name.lower() in UNLABELLED:
                passed[f"in `{entry.name}`, which have no label"] += _holds(entry.path, kind)
            else:
                classes.append((entry, split))
        passed += _loose(place, kind)
    if splits:
        passed += _loose(root, kind)
    files: list[_File] = []
    suffixes = INPUTS[kind].suffixes
    prefix = len(str(root)) + 1
    here = root.stat()
    for entry, split in classes:
        for file, facts in _files(entry.path, {(here.st_dev, here.st_ino)}):
            suffix = os.path.splitext(plain_name(file))[1].lower()  # noqa: PTH122 (60,000 paths a second count)
            if suffix not in suffixes:
                passed[suffix or "without a suffix"] += 1
                continue
            relative = file[prefix:].replace(os.sep, "/")
            files.append((relative, entry.name, split, facts.st_size, facts.st_mtime_ns))
    return files, passed


def _splits(root: Path, kind: InputKind) -> list[tuple[Path, str]]:
    """Return the folders of splits with their names, where the folder comes split.

    Raises:
        DataError: other folders with samples stand beside them.
    """
    tops = _folders(root)
    named = [(Path(top.path), SPLITS[top.name.lower()]) for top in tops if _is_split(top.name)]
    others = [top for top in tops if not _is_split(top.name)]
    # A class may well be called `train`; with a second split beside it, splits are meant.
    if len({split for _, split in named}) < 2 and (others or not named):
        return []
    misplaced = [top.name for top in others if _holds(top.path, kind)]
    if misplaced:
        raise DataError(
            f"the folder `{misplaced[0]}` stands beside those of the splits, "
            f"{' and '.join(f'`{place.name}`' for place, _ in named)}",
            where=str(root),
            fix="Move it into one of them, or take it away",
        )
    return named


def _is_split(name: str) -> bool:
    return name.lower() in SPLITS


def _holds(folder: str, kind: InputKind) -> int:
    """Return how many samples a folder holds, at any depth."""
    return sum(_is_sample(file, kind) for file, _ in _files(folder, set()))


def _is_sample(file: str, kind: InputKind) -> bool:
    return os.path.splitext(plain_name(file))[1].lower() in INPUTS[kind].suffixes  # noqa: PTH122


def _loose(folder: Path, kind: InputKind) -> Counter[str]:
    """Count the samples that stand in no class's folder, or in hidden ones."""
    passed: Counter[str] = Counter()
    for item in os.scandir(folder):
        if _is_file(item):
            passed[_OUTSIDE] += _is_sample(item.name, kind)
        elif _is_folder(item) and item.name.startswith("."):
            passed[_HIDDEN] += _holds(item.path, kind)
    return +passed


def _is_folder(item: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder; a link that leads to itself is none."""
    with contextlib.suppress(OSError):
        return item.is_dir()
    return False


def _is_file(item: os.DirEntry[str]) -> bool:
    """Say whether an entry is a file; a link that leads to itself is none."""
    with contextlib.suppress(OSError):
        return item.is_file()
    return False


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [
                item
                for item in entries
                if _is_folder(item) and not item.name.startswith(".") and item.name not in LITTER
            ]
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror})", where=str(folder)) from error
    return sorted(kept, key=lambda item: item.name)


def _files(folder: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder; what was seen, as by a link back up, isn't entered."""
    try:
        here = os.stat(folder)  # noqa: PTH116
        if (here.st_dev, here.st_ino) in seen:
            return
        seen.add((here.st_dev, here.st_ino))
        with os.scandir(folder) as entries:
            for item in entries:
                if item.name.startswith(".") or item.name in LITTER:
                    continue
                if _is_folder(item):
                    yield from _files(item.path, seen)
                elif _is_file(item):
                    yield item.path, item.stat()
                elif item.is_symlink() and not os.path.exists(item.path):  # noqa: PTH110
                    # It leads nowhere, which whoever reads the sample says.
                    yield item.path, item.stat(follow_symlinks=False)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror})", where=folder) from error


def _passed_over(passed: Counter[str]) -> tuple[str, ...]:
    if not passed:
        return ()
    shown = ", ".join(f"{count} {name}" for name, count in passed.most_common(4))
    return (f"{passed.total()} files were passed over: {shown}",)


def _nothing(root: Path, passed: Counter[str], kind: InputKind) -> DataError:
    noun = kind.plural
    if passed[_OUTSIDE]:
        return DataError(
            f"the {noun} stand directly in the folder, so they have no labels",
            where=str(root),
            fix=f"Make one folder a class and move each {kind} into its class's, or write a table "
            f"with the columns {kind} and label and use `source: table`",
        )
    return DataError(
        f"there are no {noun} in this folder",
        where=str(root),
        why=holding(root) or "; ".join(_passed_over(passed)) or "It is empty",
        fix=foreign_among(file for file, _ in _files(str(root), set()))
        or f"It should hold one folder a class, with {INPUTS[kind].formats} files",
    )


def holding(root: Path) -> str:
    """Return what files a folder holds, for messages; of an empty one nothing."""
    paths = (Path(file) for file, _ in _files(str(root), set()))
    counts = Counter(file.suffix.lower() or "without a suffix" for file in paths)
    shown = ", ".join(f"{count:,} {name}" for name, count in counts.most_common(4))
    files = "1 file" if counts.total() == 1 else f"{counts.total():,} files"
    return f"It holds {files}: {shown}" if counts else ""
