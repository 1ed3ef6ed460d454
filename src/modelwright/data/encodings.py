"""The encoding of text files: a byte order mark, UTF-8, or the likeliest of those still in use."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from modelwright.errors import DataError

UTF8 = "utf-8"
CANDIDATES = (
    *("gb18030", "big5", "cp932", "euc_jp", "euc_kr"),
    *("cp1251", "cp1252", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"),
    *("cp1250", "cp1254", "cp1257", "mac_roman"),
)
"""What a file that isn't UTF-8 may be, in the order in which ties are decided.

ISO 8859-1 is written as Windows-1252 today, which holds all of its letters.
"""
_LATIN = frozenset(("cp1250", "cp1254", "cp1257", "mac_roman"))
_BEYOND_LATIN_1, _FEWEST_LETTERS = 1.25, 3
"""Each of these has to be so much likelier than cp1252, by so many letters: of fewer, a detector
names any."""
_CHARDET = {"euc_jp": "euc_jis_2004"}
"""What the detector calls encodings, where not as Python does."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # Before UTF-16, of which it is a prefix.
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 1 << 18
"""So many bytes of lines that aren't ASCII are looked at."""
_SHOWN = 10
"""So many lines are shown as they are decoded."""
_WIDTH = 80
"""So much of each."""


@dataclass(frozen=True, slots=True)
class DetectedEncoding:
    """An encoding that was recognised, but is not certain."""

    encoding: str
    lines: tuple[str, ...]
    """The first lines that aren't ASCII, as it decodes them."""

    @property
    def shown(self) -> str:
        """Return these lines, for messages."""
        return " / ".join(self.lines)


def decode_text(data: bytes, *, where: str, what: str = "text", encoding: str | None = None) -> str:
    """Return the text of a file's bytes.

    Args:
        data: the bytes. A byte order mark decides, and isn't part of the text.
        where: the file, for messages.
        what: what it is, for messages.
        encoding: the encoding of a file without a mark; UTF-8 where not said.

    Raises:
        DataError: it can't be decoded. The message names the likely encoding.
    """
    marked = marked_encoding(data)
    try:
        return data.decode(marked or encoding or "utf-8")
    except UnicodeDecodeError as error:
        raise _undecodable(data, error, where, what, marked or encoding) from error


def to_utf8(data: bytes, *, where: str, what: str = "text", encoding: str | None = None) -> bytes:
    """Return a text's bytes as UTF-8 without a byte order mark; arguments as `decode_text`.

    Bytes that are said to be UTF-8 are returned as they are, whether they are or not: of many
    lines, single ones may not be.

    Raises:
        DataError: they have another encoding, and can't be decoded.
    """
    marked = marked_encoding(data)
    if marked == "utf-8-sig":
        return data[len(codecs.BOM_UTF8) :]
    if marked is None and encoding in (None, UTF8):
        return data
    return decode_text(data, where=where, what=what, encoding=encoding).encode()


def marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark names, or `None` without one."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def detect_encoding(data: bytes) -> DetectedEncoding | None:
    """Return the likely encoding of bytes that are not UTF-8 and have no byte order mark.

    Those candidates compete that decode all bytes. A detector ranks them by the lines that are not
    ASCII; of those that it doesn't tell apart, the first of `CANDIDATES` is taken.

    Returns:
        `None` where no candidate decodes all bytes, or where they are UTF-8.
    """
    if marked_encoding(data) is not None or decodes(data, "utf-8"):
        return None
    possible = [name for name in CANDIDATES if decodes(data, name)]
    if not possible or b"\0" in data:  # A NUL is no text; UTF-16 has them, with a mark.
        return None
    lines = non_ascii_lines(data)
    chosen = _ranked(b"\n".join(lines), possible) if len(possible) > 1 else possible[0]
    shown = tuple(line.decode(chosen).strip()[:_WIDTH] for line in lines[:_SHOWN])
    return DetectedEncoding(chosen, shown)


def detect_of_lines(lines: Iterable[bytes]) -> DetectedEncoding | None:
    """Return the likely encoding of a file, read line by line; `None` where it is UTF-8.

    As `detect_encoding`, for files of any size. A file is UTF-8 also where single lines, fewer than
    one in ten of those that aren't ASCII, can't be decoded; and where no candidate decodes all.
    """
    possible, odd = list(CANDIDATES), 0
    shown: list[bytes] = []
    count = total = 0
    for line in lines:
        if line.isascii():
            continue
        count += 1
        odd += not decodes(line, UTF8)
        possible = [name for name in possible if decodes(line, name)]
        if total <= _LOOKED_AT:
            shown.append(line)
            total += len(line)
    if not possible or 10 * odd < max(count, 1):
        return None
    chosen = _ranked(b"\n".join(shown), possible) if len(possible) > 1 else possible[0]
    return DetectedEncoding(
        chosen, tuple(line.decode(chosen).strip()[:_WIDTH] for line in shown[:_SHOWN])
    )


def decodes(data: bytes, encoding: str) -> bool:
    """Say whether all bytes can be decoded so."""
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def non_ascii_lines(data: bytes) -> list[bytes]:
    """Return the first lines that hold bytes over 127, up to a limit."""
    lines, total = [], 0
    for line in data.splitlines():
        if line.isascii():
            continue
        lines.append(line)
        total += len(line)
        if total > _LOOKED_AT:
            break
    return lines


def _ranked(data: bytes, possible: Iterable[str]) -> str:
    from chardet import detect_all

    order = list(possible)
    names = [_CHARDET.get(name, name) for name in order]
    # Names as Python's codecs have them: a detector may say `Windows-1252`.
    ranks = {
        codecs.lookup(result["encoding"]).name: result["confidence"]
        for result in detect_all(
            data, ignore_threshold=True, include_encodings=names, no_match_encoding=names[0]
        )
        if result["encoding"] is not None
    }
    confidence = {name: ranks.get(codecs.lookup(name).name, 0.0) for name in order}
    best = max(order, key=confidence.__getitem__)
    if best not in _LATIN or "cp1252" not in confidence:
        return best
    is_likelier = confidence[best] >= _BEYOND_LATIN_1 * confidence["cp1252"]
    has_letters = sum(byte > 127 for byte in data) >= _FEWEST_LETTERS
    is_other = data.decode(best) != data.decode("cp1252")
    return best if is_likelier and has_letters and is_other else "cp1252"


def _undecodable(
    data: bytes, error: UnicodeDecodeError, where: str, what: str, encoding: str | None
) -> DataError:
    line = data.count(b"\n", 0, error.start) + 1
    byte = f"byte 0x{error.object[error.start]:02x} in line {line:,}"
    detected = detect_encoding(data) if encoding is None else None
    if detected is None:
        return DataError(
            f"this {what} isn't {encoding or 'UTF-8'}",
            where=where,
            why=f"The {byte} can't be decoded",
            fix="Save it as UTF-8, or name its encoding in `data.encoding`",
        )
    return DataError(
        f"this {what} isn't UTF-8; it is likely {detected.encoding}",
        where=where,
        why=f"The {byte} isn't UTF-8. As {detected.encoding} its lines read: {detected.shown}",
        fix=f"If they read well, write `data: {{encoding: {detected.encoding}}}`; "
        "else save it as UTF-8",
    )
