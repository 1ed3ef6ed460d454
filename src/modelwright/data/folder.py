"""The source `folder`: one folder of images a class, with or without `train/`, `val/`, `test/`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from modelwright.data.listing import SPLITS, Listing, find_path, read_file
from modelwright.errors import DataError
from modelwright.files import digest

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npy")
)


def list_folder(name: str, *, base: Path, group: str | None) -> Listing:
    """Return the images of a folder, in the order of their paths.

    Args:
        name: the folder.
        base: where a relative path starts.
        group: `parent` where files of one folder belong together, else `None`.

    Raises:
        DataError: there is no such folder, or nothing to learn from in it.
    """
    root = find_path(name, base)
    if not root.is_dir():
        raise DataError(
            "this is a file, and `source: folder` needs a folder",
            where=str(root),
            fix="For a table write `source: table`",
        )
    if group not in (None, "parent"):
        raise DataError(
            f"a folder has no column `{group}`",
            where="data.split.column",
            fix="Write `column: parent` to keep the files of one folder together",
        )
    found, passed = _walk(root)
    if not found:
        raise _nothing(root, passed)
    found.sort()
    return Listing(
        title=f"folder {root.name}",
        key=digest(
            "\n".join(
                ["folder 1", group or "", *(f"{p} {size} {at}" for p, _, _, size, at in found)]
            ).encode(errors="surrogateescape")
        ),
        labels=[label for _, label, _, _, _ in found],
        splits=[split for _, _, split, _, _ in found],
        origins=[path for path, _, _, _, _ in found],
        extras=[path.rpartition("/")[0] if group else "" for path, _, _, _, _ in found],
        read=lambda row: read_file(root / found[row][0]),
        notes=_passed_over(passed),
    )


_File = tuple[str, str, str, int, int]
"""Path, label, split, size, time."""


def _walk(root: Path) -> tuple[list[_File], Counter[str]]:
    passed: Counter[str] = Counter()
    tops = _folders(root)
    is_split = bool(tops) and all(entry.name.lower() in SPLITS for entry in tops)
    classes: list[tuple[os.DirEntry[str], str]] = []
    for top in tops:
        if is_split:
            split = SPLITS[top.name.lower()]
            classes += [(entry, split) for entry in _folders(Path(top.path))]
        else:
            classes.append((top, ""))
    found: list[_File] = []
    prefix = len(str(root)) + 1
    here = root.stat()
    for entry, split in classes:
        for file, facts in _files(entry.path, {(here.st_dev, here.st_ino)}):
            suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122 (60,000 paths a second count)
            if suffix not in SUFFIXES:
                passed[suffix or "without a suffix"] += 1
                continue
            relative = file[prefix:].replace(os.sep, "/")
            found.append((relative, entry.name, split, facts.st_size, facts.st_mtime_ns))
    for item in os.scandir(root):
        if item.is_file() and os.path.splitext(item.name)[1].lower() in SUFFIXES:  # noqa: PTH122
            passed["images outside a class folder"] += 1
    return found, passed


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [item for item in entries if item.is_dir() and not item.name.startswith(".")]
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
                if item.name.startswith("."):
                    continue
                if item.is_dir():
                    yield from _files(item.path, seen)
                elif item.is_file():
                    yield item.path, item.stat()
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror})", where=folder) from error


def _passed_over(passed: Counter[str]) -> tuple[str, ...]:
    if not passed:
        return ()
    shown = ", ".join(f"{count} {name}" for name, count in passed.most_common(4))
    return (f"{passed.total()} files were passed over: {shown}",)


def _nothing(root: Path, passed: Counter[str]) -> DataError:
    if passed["images outside a class folder"]:
        return DataError(
            "the images stand directly in the folder, so nothing says what they show",
            where=str(root),
            fix="Make one folder a class and move each image into its class's, or write a table "
            "with the columns image and label and use `source: table`",
        )
    return DataError(
        "there are no images in this folder",
        where=str(root),
        why="; ".join(_passed_over(passed)) or "It is empty",
        fix="It should hold one folder a class, with JPEG, PNG, WebP, BMP, TIFF or GIF files",
    )
