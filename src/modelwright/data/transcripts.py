"""Folders of recordings with a transcript beside each, for speech recognition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelwright.data.encodings import decode_text
from modelwright.data.folder import find_folder, holding
from modelwright.data.inputs import INPUTS
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.listing import SPLITS, Listing, files_below, parent_folder, read_file, stamp
from modelwright.data.sealed import plain_name, stored
from modelwright.errors import DataError
from modelwright.files import digest
from modelwright.kinds import InputKind

LIBRISPEECH = ".trans.txt"
"""Ends the name of a file with a line for each recording of its folder: its name, a blank, its
text."""


def list_transcripts(name: str, *, base: Path, group: str | None) -> Listing:
    """Return the recordings of a folder, at any depth, in the order of their paths.

    Folders at the top that are called as splits (`train`, `dev-clean`) are these. A recording
    without a text can't be used, and the listing says so.

    With the group `parent`, files of one folder stay in one split.

    Raises:
        DataError: there is no such folder, no recording in it, or a text isn't UTF-8.
    """
    root = find_folder(name, base, group=group)
    recordings = sorted(recordings_below(root))
    if not recordings:
        raise DataError(
            "there are no recordings in this folder",
            where=str(root),
            why=holding(root) or "It is empty",
            fix=f"It should hold {INPUTS[InputKind.AUDIO].formats} files, each with its text "
            "beside it: `NAME.txt`",
        )
    paths = [path.relative_to(root).as_posix() for path in recordings]
    texts = _texts(recordings)
    if not any(texts):
        raise DataError(
            "no recording has a text beside it",
            where=str(root),
            fix=f"Write the text of `{recordings[0].name}` into `{recordings[0].stem}.txt`",
        )
    rows = [repr(row) for row in zip(paths, map(stamp, recordings), texts, strict=True)]
    return Listing(
        title=f"folder {root.name}",
        key=digest("\n".join(["transcripts 1", group or "", *rows]).encode("utf-8", "replace")),
        labels=texts,
        splits=[_split(path) for path in paths],
        origins=paths,
        metadata=parent_folder(paths, group),
        read=lambda row: read_file(recordings[row]),
        kind=InputKind.AUDIO,
        faults={at: "no text stands beside it" for at, text in enumerate(texts) if not text},
    )


def recordings_below(root: Path) -> list[Path]:
    """Return the recordings of a folder, at any depth, but for hidden ones."""
    suffixes = INPUTS[InputKind.AUDIO].suffixes
    paths = (root / file for file in files_below(root))
    return [path for path in paths if path.suffix.lower() in suffixes and stored(path).is_file()]


def _split(path: str) -> str:
    """Return the split that a recording's first folder is called after: `train-clean-100`."""
    first, _, rest = path.partition("/")
    return SPLITS.get(first.lower().partition("-")[0], "") if rest else ""


def _texts(recordings: Sequence[Path]) -> list[str]:
    """Return the text beside each recording, empty where there is none."""
    listed: dict[Path, dict[str, str]] = {}
    texts = []
    for path in recordings:
        beside = path.with_suffix(".txt")
        if stored(beside).is_file():
            texts.append(" ".join(_read(beside).split()))
            continue
        if path.parent not in listed:
            listed[path.parent] = _listed(path.parent)
        texts.append(listed[path.parent].get(path.stem, ""))
    return texts


def _listed(folder: Path) -> dict[str, str]:
    """Return the texts of a folder's recordings by their names, from LibriSpeech's files."""
    texts = {}
    names = {plain_name(item.name) for item in folder.iterdir()}
    for name in sorted(name for name in names if name.endswith(LIBRISPEECH)):
        for line in _read(folder / name).splitlines():
            recording, _, text = line.strip().partition(" ")
            texts[recording] = text.strip()
    return texts


def _read(path: Path) -> str:
    return decode_text(read_maybe_packed(path), where=str(path))
