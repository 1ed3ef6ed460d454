"""Checksums of cached pieces: a bit that turned on the disk would train another model in silence.

When a piece has been written whole, its digest is put into a file beside it; it is compared when a
process first opens the piece.
"""

from __future__ import annotations

from pathlib import Path

from modelwright.errors import DataError
from modelwright.files import file_digest, write_bytes

_SUFFIX = ".sha256"
_checked: set[tuple[str, int, int, int]] = set()
"""The pieces that this process has found whole: their path, size, time and number."""


def write_checksum(path: Path) -> None:
    """Write the digest of a piece beside it, as the last step of making it."""
    write_bytes(_checksum_file(path), f"{file_digest(path)}\n".encode())


def has_checksum(path: Path) -> bool:
    """Say whether a piece has been made."""
    return path.is_file() and _checksum_file(path).is_file()


def verify_checksum(path: Path) -> None:
    """Compare a piece with its digest, once a process.

    Raises:
        DataError: it isn't what was written.
    """
    try:
        facts = path.stat()
        mark = (str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino)
        if mark in _checked:
            return
        is_whole = _checksum_file(path).read_text("ascii").strip() == file_digest(path)
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path) from error
    if not is_whole:
        raise damaged(path)
    _checked.add(mark)


def damaged(path: Path) -> DataError:
    """Return what to say of a piece that isn't what was written."""
    return DataError(
        "this cached piece of the data is damaged",
        where=str(path),
        why="Its bytes aren't those that were written",
        fix="Remove the file and run again: it is built anew",
    )


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)
