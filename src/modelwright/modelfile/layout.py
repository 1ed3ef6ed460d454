"""Every byte of the file outside its members, as a pure function of names, sizes and checksums.

The ZIP records are those of APPNOTE 6.3: stored, dated 1980-01-01, each member aligned to 64 bytes
by an extra field. ZIP64 records stand only where a size or an offset needs them. The reader
regenerates these bytes and compares, so nothing can hide between the members.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from modelwright.errors import ModelFileError

FORMAT = 3
ALIGNMENT = 64
END = b"PK\x05\x06"
END_SIZE = 22
END_64_SIZE = 56
LOCATOR_SIZE = 20
MOST_COMMENT = 0xFFFF

_ALIGNMENT_FIELD = 0xD935  # the extra field that Android's zipalign writes
_ZIP64_FIELD = 0x0001
_FULL_32 = 0xFFFFFFFF
_DATE = 0x0021  # 1980-01-01, the first date that ZIP knows
_PLAIN_FILE = 0o100644 << 16
_MADE_BY_UNIX = 0x0300
_COMMENT = re.compile(
    rb"modelwright model file, format ([1-9][0-9]{0,5})\n(?:"
    rb"manifest (sha256:[0-9a-f]{64})\n(?:signature (sha256:[0-9a-f]{64})\n)?)?"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ZIP records say of one member."""

    name: str
    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The offsets of everything in a file."""

    gaps: tuple[tuple[int, bytes], ...]
    """The bytes outside the members with their offsets, in order."""
    starts: tuple[int, ...]
    """Where the content of each member begins."""
    total: int


def lay_out(entries: list[Entry], comment: bytes) -> Layout:
    """Return the layout of a file of these members, in this order."""
    gaps, starts, directory, position = [], [], [], 0
    for entry in entries:
        header = _local_header(entry, position)
        gaps.append((position, header))
        directory.append(_directory_record(entry, position))
        starts.append(position + len(header))
        position += len(header) + entry.size
    tail = _tail(b"".join(directory), len(entries), position, comment)
    gaps.append((position, tail))
    return Layout(tuple(gaps), tuple(starts), position + len(tail))


def _local_header(entry: Entry, position: int) -> bytes:
    name, large = entry.name.encode(), entry.size >= _FULL_32
    extra = struct.pack("<HHQQ", _ZIP64_FIELD, 16, entry.size, entry.size) if large else b""
    unpadded = position + 30 + len(name) + len(extra) + 6
    padding = -unpadded % ALIGNMENT
    extra += struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + padding, ALIGNMENT) + bytes(padding)
    size = _FULL_32 if large else entry.size
    return (
        struct.pack(
            "<4s5H3I2H",
            b"PK\x03\x04",
            45 if large else 10,
            0,  # no flags: not encrypted, no descriptor, ASCII names
            0,  # stored
            0,
            _DATE,
            entry.crc32,
            size,
            size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def _directory_record(entry: Entry, position: int) -> bytes:
    name = entry.name.encode()
    wide = [entry.size, entry.size] if entry.size >= _FULL_32 else []
    wide += [position] if position >= _FULL_32 else []
    extra = struct.pack(f"<HH{len(wide)}Q", _ZIP64_FIELD, 8 * len(wide), *wide) if wide else b""
    return (
        struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            _MADE_BY_UNIX | (45 if wide else 10),
            45 if wide else 10,
            0,
            0,
            0,
            _DATE,
            entry.crc32,
            min(entry.size, _FULL_32),
            min(entry.size, _FULL_32),
            len(name),
            len(extra),
            0,
            0,
            0,
            _PLAIN_FILE,
            min(position, _FULL_32),
        )
        + name
        + extra
    )


def _tail(directory: bytes, count: int, position: int, comment: bytes) -> bytes:
    size, wide = len(directory), b""
    if position >= _FULL_32:
        versions = (_MADE_BY_UNIX | 45, 45)
        places = (0, 0, count, count, size, position)
        record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, *versions, *places)
        locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, position + size, 1)
        wide = record + locator
    end = struct.pack(
        "<4s4H2IH", END, 0, 0, count, count, size, min(position, _FULL_32), len(comment)
    )
    return directory + wide + end + comment


def write_comment(manifest: str, signature: str | None) -> bytes:
    """Return the ZIP comment: the format, and the digests of what the manifest can't hold."""
    text = f"modelwright model file, format {FORMAT}\nmanifest {manifest}\n"
    return (text + (f"signature {signature}\n" if signature else "")).encode()


def read_comment(comment: bytes) -> tuple[str, str | None]:
    """Return the digests of the manifest and of the signature."""
    match = re.match(_COMMENT, comment)
    if match is None:
        raise ModelFileError(
            "this is a ZIP archive, but not a model file",
            fix="Give a file that `modelwright run` wrote, such as runs/NAME/model.mw",
        )
    if int(match[1]) != FORMAT:
        older = "Run the recipe in the file again, or use the version that wrote it"
        raise ModelFileError(
            f"this model file has format {int(match[1])}, and this version reads format {FORMAT}",
            fix="Update modelwright" if int(match[1]) > FORMAT else older,
        )
    if match.end() != len(comment) or match[2] is None:
        raise ModelFileError("the archive's comment has been changed")
    return match[2].decode(), match[3].decode() if match[3] else None
