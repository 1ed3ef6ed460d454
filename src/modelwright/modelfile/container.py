"""Opening and writing the file itself: members in, members out, everything else refused.

The reader trusts nothing that it hasn't compared: it finds the manifest, checks its digest,
regenerates every byte outside the members from it, and compares. Members are then read one by one,
each chunk checked against its digest. Nothing is ever decompressed, and no name becomes a path.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modelwright.errors import ModelFileError, SealError, located
from modelwright.files import atomic_write, digest
from modelwright.modelfile import layout
from modelwright.modelfile.manifest import (
    MANIFEST,
    SIGNATURE,
    Manifest,
    chunk_digests,
    describe_member,
    order_members,
)
from modelwright.modelfile.strict import MOST_JSON_BYTES
from modelwright.security.age import HEAD, DamagedSealError, is_sealed
from modelwright.security.sealing import opened, read_identities

if TYPE_CHECKING:
    from modelwright.security.trust import Policy, Signer

FileLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""Where a model file is read from: a path, its bytes, or a binary stream that can seek."""
MOST_MEMBERS = 1000
MOST_DIRECTORY_BYTES = 1 << 20
MOST_SIGNATURE_BYTES = 1 << 20
DAMAGED = "Copy the file again from where it came, or run the recipe again"
_READABLE = "Give a path, a model file's bytes, or a binary stream that can seek"
_NOT_ONE = "Give a file that `modelwright run` wrote, such as runs/NAME/model.mw"


class Container:
    """An open model file whose manifest and records have been checked; its members haven't yet."""

    def __init__(
        self,
        stream: BinaryIO,
        manifest: Manifest,
        starts: Mapping[str, int],
        signature: bytes | None,
    ) -> None:
        self._stream = stream
        self._starts = starts
        self.manifest = manifest
        self.signature = signature
        self.file_bytes = _size(stream)
        self.signed: tuple[Signer, datetime] | None = None
        """Who signed it and when; `None` where no trust policy asked."""

    def read(self, name: str) -> bytes:
        """Return the whole content of a member, checked."""
        member = self.manifest.member(name)
        data = _read_at(self._stream, self._starts[name], member.size)
        if chunk_digests(memoryview(data)) != (member.chunks or (member.digest,)):
            raise _damaged(f"`{name}` has been changed since it was written")
        return data

    def check_crc32(self, name: str, data: bytes) -> None:
        """Refuse a checksum, as ordinary ZIP tools use it, that doesn't fit a member's content."""
        if zlib.crc32(data) != self.manifest.member(name).crc32:
            raise _damaged(f"the checksum of `{name}` isn't that of its content")


@contextlib.contextmanager
def open_container(
    file: FileLike,
    *,
    trust: Policy | str | os.PathLike[str] | None = None,
    is_checked: bool = True,
    identities: Sequence[str] | None = None,
) -> Iterator[Container]:
    """Open a model file; its place is added to every error that the block raises about the file.

    A stream is read from its beginning, wherever it stands, and is left open. Whoever reads a
    model file comes through here, so a trust policy is obeyed here and nowhere else.

    Args:
        file: its path, its bytes, or a binary stream that can seek.
        trust: a trust policy, or the file of one; by default that of `MODELWRIGHT_TRUST`, if any.
        is_checked: whether it must be trusted; only what signs or describes a file may open it
            unchecked.
        identities: references to what opens a sealed file, which is opened in memory: `file:PATH`,
            `env:NAME`; by default those of `MODELWRIGHT_IDENTITY`.

    Raises:
        ModelFileError: it isn't one, is damaged, is of another format, or isn't trusted.
        SealError: it is sealed, and none of the identities opens it.
        RequestError: the trust policy can't be read, or isn't one.
    """
    place = place_of(file)
    with located(place, ModelFileError), located(place, SealError), _open(file) as stream:
        container = _check(_unsealed(stream, identities))
        if is_checked:
            from modelwright.modelfile.signing import check_trust  # It needs this module.

            container.signed = check_trust(container, file, trust)
        yield container


def refuse_sealed(file: FileLike, *, why: str) -> None:
    """Refuse a sealed file where the model would be written to the disk as it is.

    Raises:
        SealError: it is sealed.
    """
    with _open(file) as stream:
        if is_sealed(_read_at(stream, 0, min(_size(stream), HEAD))):
            fix = "Open it first: modelwright open FILE --identity IDENTITY"
            raise SealError("the model file is sealed", where=place_of(file), why=why, fix=fix)


def _unsealed(stream: BinaryIO, identities: Sequence[str] | None) -> BinaryIO:
    """Return the stream, or of a sealed file what it holds, in memory."""
    total = _size(stream)
    if not is_sealed(_read_at(stream, 0, min(total, HEAD))):
        return stream
    read = None if identities is None else read_identities(identities)
    try:
        return io.BytesIO(opened(_read_at(stream, 0, total), read))
    except DamagedSealError as error:
        raise ModelFileError(error.what, why=error.why, fix=error.fix) from None


def place_of(file: FileLike) -> str:
    """Return what a file is called in messages."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    if isinstance(file, bytes | bytearray | memoryview):
        return "the bytes given"
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else "the stream given"


def write_container(
    path: Path, members: Mapping[str, bytes], manifest: Manifest, *, signature: bytes | None = None
) -> int:
    """Write the members with their manifest aside, then rename; return how many bytes it took.

    Raises:
        ModelFileError: the manifest isn't of these members.
        ResourceError: the disk is full, or the place can't be written; `path` is as it was.
    """
    names = order_members(members)
    if [member.name for member in manifest.members] != names:
        raise ModelFileError("the manifest isn't of these members")
    if signature is not None and not 0 < len(signature) <= MOST_SIGNATURE_BYTES:
        raise ModelFileError(
            f"a signature of {len(signature):,} bytes can't be written",
            fix=f"It may have 1 to {MOST_SIGNATURE_BYTES:,}",
        )
    last = manifest.to_bytes()
    contents = [members[name] for name in names]
    entries = [member.entry for member in manifest.members]
    for name, content in ((SIGNATURE, signature), (MANIFEST, last)):
        if content is not None:
            contents.append(content)
            entries.append(describe_member(name, content).entry)
    signed = digest(signature) if signature is not None else None
    plan = layout.lay_out(entries, layout.write_comment(digest(last), signed))
    with atomic_write(path) as stream:
        for (_, gap), content in zip(plan.gaps, contents, strict=False):
            stream.write(gap)
            stream.write(content)
        stream.write(plan.gaps[-1][1])
    return plan.total


@dataclass(frozen=True, slots=True)
class _Record:
    """One entry of the directory, as read."""

    name: str
    size: int
    crc32: int
    position: int


def _check(stream: BinaryIO) -> Container:
    """Find the manifest, then compare every byte outside the members with what it asks for."""
    total = _size(stream)
    end, comment = _find_end(stream, total)
    manifest_digest, signature_digest = layout.read_comment(comment)
    records = _read_directory(stream, end, total)
    names = [record.name for record in records]
    if names[-1] != MANIFEST:
        raise _damaged(f"the last member isn't `{MANIFEST}`")
    manifest_bytes = _read_small(stream, records[-1], most=MOST_JSON_BYTES)
    if digest(manifest_bytes) != manifest_digest:
        raise _damaged(f"`{MANIFEST}` has been changed since it was written")
    manifest = Manifest.from_bytes(manifest_bytes)
    entries = [member.entry for member in manifest.members]
    signature = None
    if signature_digest is not None:
        if len(records) < 2 or records[-2].name != SIGNATURE:
            raise _damaged(f"the member `{SIGNATURE}` is missing")
        signature = _read_small(stream, records[-2], most=MOST_SIGNATURE_BYTES)
        if digest(signature) != signature_digest:
            raise _damaged(f"`{SIGNATURE}` has been changed since it was written")
        entries.append(describe_member(SIGNATURE, signature).entry)
    entries.append(describe_member(MANIFEST, manifest_bytes).entry)
    expected = [entry.name for entry in entries]
    if names != expected:
        odd = sorted(set(names) ^ set(expected)) or ["their order"]
        raise _damaged(f"members and manifest don't agree on {odd[0][:80]!r}")
    plan = layout.lay_out(entries, comment)
    if plan.total != total:
        raise _damaged(f"the file has {total} bytes, and its members ask for {plan.total}")
    for position, gap in plan.gaps:
        actual = _read_at(stream, position, len(gap))
        if actual != gap:
            at = next(i for i, (a, b) in enumerate(zip(actual, gap, strict=True)) if a != b)
            raise _damaged(f"byte {position + at}, outside the members, has been changed")
    return Container(stream, manifest, dict(zip(expected, plan.starts, strict=True)), signature)


def _find_end(stream: BinaryIO, total: int) -> tuple[int, bytes]:
    """Return where the end record stands, and the archive's comment."""
    head = _read_at(stream, 0, min(total, 4))
    begin = max(0, total - layout.END_SIZE - layout.MOST_COMMENT)
    tail = _read_at(stream, begin, total - begin)
    at = tail.rfind(layout.END)
    while at >= 0:
        if at + layout.END_SIZE <= len(tail):
            (length,) = struct.unpack_from("<H", tail, at + 20)
            if at + layout.END_SIZE + length == len(tail):
                return begin + at, tail[at + layout.END_SIZE :]
        at = tail.rfind(layout.END, 0, at + len(layout.END) - 1)
    if head != b"PK\x03\x04":
        empty = "it is empty" if not total else ""
        raise ModelFileError("this isn't a model file", why=empty, fix=_NOT_ONE)
    raise _damaged("the file was cut short, or something stands behind its end")


def _read_directory(stream: BinaryIO, end: int, total: int) -> list[_Record]:
    """Return the directory's entries; what a model file never has is refused by its name."""
    record = _read_at(stream, end, layout.END_SIZE)
    disk, first_disk, here, count, size, position, _ = struct.unpack("<4x4H2IH", record)
    stop = end
    if position == 0xFFFFFFFF:
        stop = end - layout.LOCATOR_SIZE - layout.END_64_SIZE
        wide = _read_at(stream, stop, layout.END_64_SIZE)
        disk, first_disk, here, count, size, position = struct.unpack("<4x8x4x2I4Q", wide)
    if disk or first_disk or here != count:
        raise _damaged("the archive claims to be spread over several files")
    if position + size != stop or size > MOST_DIRECTORY_BYTES or not 0 < count <= MOST_MEMBERS:
        raise _damaged("the archive's directory has an impossible size")
    data, at, records = _read_at(stream, position, size), 0, []
    for _ in range(count):
        entry, at = _read_record(data, at)
        if entry.position + entry.size > total:
            raise _damaged(f"the member {entry.name[:80]!r} reaches beyond the end of the file")
        records.append(entry)
    names = [record.name for record in records]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelFileError(f"the member {twice[0][:80]!r} is there twice", fix=DAMAGED)
    return records


def _read_record(data: bytes, at: int) -> tuple[_Record, int]:
    try:
        magic, _, _, flags, method, _, _, crc, packed, size, *rest = struct.unpack_from(
            "<4s6H3I5H2I", data, at
        )
    except struct.error as error:
        raise _damaged("the archive's directory was cut short") from error
    name_length, extra_length, comment_length, disk, _, mode, position = rest
    start = at + 46
    after = start + name_length + extra_length + comment_length
    if magic != b"PK\x01\x02" or after > len(data) or disk:
        raise _damaged("the archive's directory has been changed")
    name = data[start : start + name_length].decode("ascii", "replace")
    parts = name.replace("\\", "/").split("/")
    shown = repr(name[:80])
    if not name or name.startswith(("/", "\\")) or ".." in parts or ":" in name or "\0" in name:
        raise ModelFileError(f"the member {shown} has a name that leaves the file", fix=DAMAGED)
    if flags & 1:
        raise ModelFileError(f"the member {shown} is encrypted by ZIP's own means", fix=DAMAGED)
    if (mode >> 16) & 0o170000 == 0o120000:
        raise ModelFileError(f"the member {shown} is a symbolic link", fix=DAMAGED)
    extra = data[start + name_length : start + name_length + extra_length]
    wide = list(struct.unpack(f"<{len(extra[4:]) // 8}Q", extra[4 : 4 + len(extra[4:]) // 8 * 8]))
    if size == 0xFFFFFFFF and packed == 0xFFFFFFFF and len(wide) >= 2:
        size, packed = wide.pop(0), wide.pop(0)
    if position == 0xFFFFFFFF and wide:
        position = wide.pop(0)
    if method or packed != size:
        raise ModelFileError(
            f"the member {shown} is compressed, and a model file's are stored",
            fix="Don't repack a model file with a ZIP tool; copy the file as it is",
        )
    return _Record(name, size, crc, position), after


def _read_small(stream: BinaryIO, record: _Record, *, most: int) -> bytes:
    """Return the content of a member that the manifest doesn't list."""
    if not 0 < record.size <= most:
        raise _damaged(f"`{record.name}` is empty or too long")
    header = _read_at(stream, record.position, 30)
    name_length, extra_length = struct.unpack_from("<2H", header, 26)
    return _read_at(stream, record.position + 30 + name_length + extra_length, record.size)


@contextlib.contextmanager
def _open(file: FileLike) -> Iterator[BinaryIO]:
    if isinstance(file, str | os.PathLike):
        with _open_path(Path(file)) as stream:
            yield stream
    elif isinstance(file, bytes | bytearray | memoryview):
        yield io.BytesIO(file)
    elif hasattr(file, "read") and hasattr(file, "seek"):
        yield file
    else:
        raise ModelFileError(f"a {type(file).__name__} isn't a model file", fix=_READABLE)


def _open_path(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # A pipe would be waited for, and can't be read from its end.
            raise ModelFileError("this is a pipe or a device, not a plain file", fix=_NOT_ONE)
        return path.open("rb")
    except FileNotFoundError as error:
        raise ModelFileError("there is no such file", fix=_NOT_ONE) from error
    except IsADirectoryError as error:
        raise ModelFileError("this is a folder, not a model file", fix=_NOT_ONE) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"the file can't be opened ({why})") from error


def _size(stream: BinaryIO) -> int:
    with _reading():
        stream.seek(0, os.SEEK_END)
        return stream.tell()


def _read_at(stream: BinaryIO, position: int, length: int) -> bytes:
    if position < 0:
        raise _damaged("the archive's directory points before the file's start")
    parts, missing = [], length
    with _reading():
        stream.seek(position)
        # A stream may give less at a time than is asked for.
        while missing > 0 and (part := stream.read(missing)):
            if not isinstance(part, bytes):
                raise ModelFileError(
                    f"the stream gives {type(part).__name__}, not bytes", fix=_READABLE
                )
            parts.append(part)
            missing -= len(part)
    if missing:
        raise _damaged("the file was cut short")
    return b"".join(parts)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Say what a system's error or a stream's means: it is closed, or can't seek."""
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"the file can't be read ({why})", fix=_READABLE) from error


def _damaged(what: str) -> ModelFileError:
    return ModelFileError(what, why="The model file is damaged", fix=DAMAGED)
