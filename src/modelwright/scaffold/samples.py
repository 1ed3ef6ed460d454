"""Which files and bytes are samples, and where the files are that a table names."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from modelwright.data.inputs import INPUTS
from modelwright.data.listing import files_below
from modelwright.files import is_file
from modelwright.kinds import InputKind

_MOST_FILES = 1_000_000
"""Of a folder of more files the first are looked at."""
_TRIED = 50
"""So many cells are looked for among the files."""
_MOST, _NUMBERS = 0.5, 0.9
"""The share of cells that name files, at least; of cells that are plain numbers."""
_BEGINNINGS: dict[InputKind, tuple[bytes, ...]] = {
    InputKind.IMAGE: (
        *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"),
        *(b"P5", b"P6", b"P2", b"P3"),
    ),
    InputKind.AUDIO: (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3"),
}


def sniff(cell: Any) -> InputKind | None:
    """Return what some bytes are, by their beginning; `None` for other cells and unknown bytes."""
    if isinstance(cell, dict):  # As Hugging Face's datasets keep images: bytes, or else a path.
        cell = cell.get("bytes")
    if not isinstance(cell, bytes):
        return None
    if cell[:4] == b"RIFF":
        return {b"WAVE": InputKind.AUDIO, b"WEBP": InputKind.IMAGE}.get(cell[8:12])
    for kind, beginnings in _BEGINNINGS.items():
        if cell.startswith(beginnings):
            return kind
    return None


def kind_of(file: str) -> InputKind | None:
    """Return what a file is, by its name; `None` where it is no sample."""
    suffix = PurePosixPath(file).suffix.lower()
    return next((kind for kind, adapter in INPUTS.items() if suffix in adapter.suffixes), None)


class FileIndex:
    """The files below a folder, hidden ones left out.

    Where `is_listed` is false the folder isn't listed, as it may be anyone's home: files are then
    found by their whole paths alone.
    """

    def __init__(self, root: Path, *, is_listed: bool = True) -> None:
        self.root = root
        self._is_listed = is_listed

    @cached_property
    def files(self) -> list[str]:
        """Their paths below the folder, in order."""
        below = files_below(self.root) if self._is_listed else ()
        return [file for file, _ in zip(below, range(_MOST_FILES), strict=False)]

    @cached_property
    def by_kind(self) -> dict[InputKind, list[str]]:
        """The samples by what they are."""
        kinds: dict[InputKind, list[str]] = {kind: [] for kind in InputKind}
        for file in self.files:
            kind = kind_of(file)
            if kind is not None:
                kinds[kind].append(file)
        return kinds

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            path = PurePosixPath(file)
            names[path.name].append(file)
            names[path.stem].append(file)
        return names

    def find(self, cells: Sequence[str], kind: InputKind, base: str = "") -> str | None:
        """Return the pattern of paths by which most cells name files of a kind.

        `{}` stands for the cell: `train/{}.jpg`; `*` for one of several folders: `*/{}.jpg`. `None`
        where fewer than half name one; of plain numbers, which may mean anything, fewer than nine
        tenths. Paths start from the folder `base` in this one.
        """
        tried = [cell for cell in cells if 0 < len(cell) < 500 and "\0" not in cell][:_TRIED]
        patterns = Counter(next(self._patterns(cell, kind, base), "") for cell in tried)
        patterns.pop("", None)
        if not patterns:
            return None
        pattern, count = patterns.most_common(1)[0]
        shared = _shared_pattern(list(patterns))
        if count < len(tried) and shared is not None:
            pattern, count = shared, patterns.total()
        share = _NUMBERS if all(cell.isdigit() for cell in tried) else _MOST
        return pattern if count > share * len(tried) else None

    def _patterns(self, cell: str, kind: InputKind, base: str) -> Iterator[str]:
        if kind_of(cell) == kind and is_file(self.root / base / cell):
            yield "{}"
        cell = cell.replace("\\", "/").removeprefix("./")
        for file in self._by_name.get(PurePosixPath(cell).name, ()):
            if kind_of(file) != kind:
                continue
            suffix = PurePosixPath(file).suffix
            for ending in ("", suffix):
                whole = f"/{cell}{ending}"
                if f"/{file}".endswith(whole):
                    above = file[: len(file) - len(whole) + 1]
                    if base:
                        above = posixpath.relpath(above or ".", base) + "/"
                    yield f"{above}{{}}{ending}"


def _shared_pattern(patterns: Sequence[str]) -> str | None:
    """Return the pattern that stands for several, where they differ in one folder alone.

    >>> _shared_pattern(["part_1/{}.jpg", "part_2/{}.jpg"]), _shared_pattern(["{}.jpg", "a/{}.jpg"])
    ('*/{}.jpg', None)
    """
    split = [pattern.split("/") for pattern in patterns]
    if len(split) < 2 or len({len(parts) for parts in split}) > 1:
        return None
    same = [len(set(parts)) == 1 for parts in zip(*split, strict=True)]
    if same.count(False) != 1 or not same[-1]:
        return None
    return "/".join(part if is_same else "*" for part, is_same in zip(split[0], same, strict=True))
