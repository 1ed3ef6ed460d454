"""The audit log: who did what with which model, so that changes to the log show.

A record is a line of JSON and a leaf of a Merkle tree (RFC 6962). From time to time the root of all
lines is signed with Ed25519 into `LOG.checkpoints` (C2SP tlog-checkpoint). A copy of that file kept
elsewhere shows a log that was cut off or written anew; what came after the newest checkpoint isn't
protected yet. No input and no answer of a model is ever in it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from modelwright.errors import RequestError, ResourceError
from modelwright.files import JsonObject, locked
from modelwright.security.merkle import Tree, leaf_hash
from modelwright.security.signing_keys import PublicKey, read_private_key, read_public_key

WRITE_S = 0.05
"""A record is in the file at most so much later; a killed process loses no more."""
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_NOTES, _MOST_WAITING, _MOST_FINDINGS = ".checkpoints", 100_000, 20
_NOTE = re.compile(
    r"^(?P<text>(?P<origin>[^ \n]+)\n(?P<size>\d{1,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n)\n"
    r"(?:— [^\n]+\n)*?— (?P=origin) (?P<signature>[A-Za-z0-9+/]{91}=)\n",
    re.MULTILINE,
)
"""A checkpoint; others may have signed it too."""


class AuditLogError(ResourceError):
    """The log can't be written, is in use, or isn't what its checkpoints say."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What was asked, and what became of it."""

    time: float
    """Seconds since 1970."""
    principal: str
    action: str
    model: str
    digest: str
    """The model digest."""
    verdict: str
    status: int
    cost: float


_FIELDS = tuple(each.name for each in fields(AuditRecord))


class AuditLog:
    """An audit log that is being written, by one process at a time. It is safe for threads.

    Args:
        path: the log; one that is there goes on, and is read through once.
        key: the file of the Ed25519 key that signs (PEM, PKCS #8).
        fsync_every: so many seconds of records a power cut may take; with 0 each `append` waits for
            the disk.
        checkpoint_every: so often the root is signed, in seconds.

    Raises:
        AuditLogError: another process writes it, the disk fails, or it isn't what its newest
            checkpoint says.
        RequestError: the key can't be read.
    """

    def __init__(
        self, path: Path, key: Path, *, fsync_every: float = 1.0, checkpoint_every: float = 60.0
    ) -> None:
        self.path, self._key = path, read_private_key(str(key))
        self._fsync_every, self._checkpoint_every = fsync_every, checkpoint_every
        self._notes = Path(f"{path}{_NOTES}")
        self._waiting: list[bytes] = []
        self._failure, self._is_synced = "", True
        self._synced_at = self._signed_at = time.monotonic()
        self._lock, self._file_lock = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        if path.exists() and not path.is_file():
            raise AuditLogError("this is no plain file", where=str(path))
        with contextlib.ExitStack() as held, _audit_errors(path):
            busy = "another process writes this audit log"
            held.enter_context(locked(Path(f"{path}.lock"), wait_s=0, busy=busy))
            self._handle = os.open(path, _APPEND, 0o600)
            held.callback(os.close, self._handle)
            self._go_on()
            self._held = held.pop_all()
        self._thread = threading.Thread(target=self._work, name="audit-log", daemon=True)
        self._thread.start()

    def append(self, record: AuditRecord) -> int:
        """Add a record, and return its number. It is in the file within `WRITE_S`.

        Raises:
            AuditLogError: records can't be written at present (a full disk). Those before this one
                are kept until they can; this one isn't taken, unless `fsync_every` is 0.
            ValueError: a number is infinite or none.
        """
        with self._lock:
            if self._failure or len(self._waiting) >= _MOST_WAITING:
                why = self._failure or "The disk is too slow"
                raise AuditLogError("the audit log is stuck", where=str(self.path), why=why)
            number = self._next
            self._waiting.append(
                _line({"n": number, **{name: getattr(record, name) for name in _FIELDS}})
            )
            self._next += 1
        if self._fsync_every == 0:
            self.flush()
        return number

    def flush(self) -> None:
        """Wait until everything is on the disk, or raise `AuditLogError`."""
        self._write(sync=True)

    def checkpoint(self) -> None:
        """Wait until everything is on the disk and signed, or raise `AuditLogError`."""
        self._write(sync=True, sign=True)

    def close(self) -> None:
        """Write and sign everything, and let go of the log; where that fails raise at the end."""
        self._closing.set()
        self._thread.join()
        with self._held:
            self.checkpoint()

    def _go_on(self) -> None:
        """Read what is there, check it against the newest checkpoint, and seal off half a line."""
        newest = ([None, *_notes(self._notes)])[-1]
        self._signed = int(newest["size"]) if newest else 0
        there = _contents(self.path, {self._signed})
        is_ours = newest is None or _is_signed(newest, self._key.public)
        if newest and not (is_ours and newest["root"] == there.roots.get(self._signed)):
            fix = "See `modelwright audit-log verify`; move both files away to begin anew"
            raise AuditLogError("it isn't what its checkpoint says", where=str(self.path), fix=fix)
        self._tree, self._offset = there.tree, there.offset
        self._origin = there.origin or f"modelwright-audit-{secrets.token_hex(8)}"
        event: JsonObject = {"event": "begin", "origin": self._origin, "time": time.time()}
        if there.tail:
            self._offset += len(there.tail)
            _append(self._handle, b"\n", self._offset)
            self._offset += 1
            self._tree.add(leaf_hash(there.tail))
            event |= {"event": "torn", "line": self._tree.size - 1}
        self._next = self._tree.size
        if there.tail or self._next == 0:
            self._waiting.append(_line({"n": self._next, **event}))
            self._next += 1
        self._write(sync=True)

    def _work(self) -> None:
        while not self._closing.wait(0.5 if self._failure else WRITE_S):
            now = time.monotonic()
            sign = now - self._signed_at >= self._checkpoint_every
            with contextlib.suppress(AuditLogError):  # `append` says so, and this tries again.
                self._write(sync=sign or now - self._synced_at >= self._fsync_every, sign=sign)

    def _write(self, *, sync: bool, sign: bool = False) -> None:
        with self._file_lock:
            with self._lock:
                taken, self._waiting = self._waiting, []
            try:
                with _audit_errors(self.path):
                    if not os.path.samestat(os.stat(self.path), os.fstat(self._handle)):  # noqa: PTH116
                        raise OSError("the file was moved away")
                    if taken:
                        data = b"".join(line + b"\n" for line in taken)
                        _append(self._handle, data, self._offset)
                        self._offset += len(data)
                        for line in taken:
                            self._tree.add(leaf_hash(line))
                        taken, self._is_synced = [], False
                    if sync and not self._is_synced:
                        os.fsync(self._handle)
                        self._is_synced, self._synced_at = True, time.monotonic()
                    if sign:
                        self._sign()
            except AuditLogError as error:
                with self._lock:
                    self._waiting, self._failure = taken + self._waiting, error.why
                raise
            self._failure = ""

    def _sign(self) -> None:
        self._signed_at = time.monotonic()
        if self._tree.size == self._signed:
            return
        root = base64.b64encode(self._tree.root()).decode()
        text = f"{self._origin}\n{self._tree.size}\n{root}\n"
        signature = _key_id(self._origin, self._key.public) + self._key.sign(text.encode())
        note = f"\n{text}\n— {self._origin} {base64.b64encode(signature).decode()}\n".encode()
        handle = os.open(self._notes, _APPEND, 0o644)
        try:
            _append(handle, note, os.fstat(handle).st_size)
            os.fsync(handle)
        finally:
            os.close(handle)
        self._signed = self._tree.size


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a log holds, and what is wrong with it."""

    records: int
    signed: int
    """So many of them, from the first on, are under a checkpoint that fits."""
    checkpoints: int
    torn: tuple[int, ...]
    """Lines that a stop left half-written; the log says so itself."""
    findings: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify(path: Path, public_key: Path | str, checkpoint: Path | None = None) -> AuditReport:
    """Compare a log with its checkpoints, and with such that were kept elsewhere.

    The root is computed anew at each checkpoint, so that all of them must be of one history.

    Raises:
        RequestError: a file isn't there, or is no key.
    """
    signer = read_public_key(str(public_key))
    kept = _notes(checkpoint) if checkpoint else []
    if checkpoint and not kept:
        raise RequestError("this holds no checkpoint", where=str(checkpoint))
    notes = sorted([*_notes(Path(f"{path}{_NOTES}")), *kept], key=lambda note: int(note["size"]))
    try:
        there = _contents(path, {int(note["size"]) for note in notes})
    except (OSError, ValueError) as error:
        raise RequestError(f"it can't be read ({error})", where=str(path)) from error
    findings, signed = there.findings, 0
    for note in notes:
        size, origin = int(note["size"]), note["origin"]
        if not _is_signed(note, signer):
            findings.append(f"a checkpoint of {size} lines isn't signed by this key")
        elif size > there.tree.size:
            findings.append(f"the log is cut off: {there.tree.size} of {size} lines are left")
        elif origin != there.origin:
            findings.append(f"a checkpoint is of the log {origin}, and this is {there.origin}")
        elif note["root"] != there.roots[size]:
            findings.append(f"the first {size} lines aren't those that were signed")
        else:
            signed = size
    if not signed:
        findings.append("no checkpoint shows that this log is whole")
    shown = tuple(findings[:_MOST_FINDINGS])
    return AuditReport(there.tree.size, signed, len(notes), tuple(there.torn), shown)


@dataclass(slots=True)
class _Contents:
    """What was read of a log: up to `offset` whole lines, then `tail`."""

    tree: Tree = field(default_factory=Tree)
    origin: str = ""
    offset: int = 0
    tail: bytes = b""
    torn: list[int] = field(default_factory=list)
    roots: dict[int, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def _contents(path: Path, sizes: Container[int]) -> _Contents:
    """Read a log, with the roots of its first lines where they are so many as one of `sizes`."""
    there, strange, ahead = _Contents(), -1, 0
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                there.tail = line
                break
            at, record = there.tree.size, _record(line)
            there.origin = there.origin or str(record.get("origin", ""))
            if strange >= 0:
                if record.get("event") == "torn" and record.get("line") == strange:
                    there.torn.append(strange + 1)
                else:
                    there.findings.append(f"line {strange + 1} is no record")
            strange = -1 if record else at
            number = record.get("n", at + ahead)
            if number != at + ahead:
                ahead = number - at if isinstance(number, int) else ahead
                there.findings.append(
                    f"line {at + 1} is record {number!s:.40}: some are gone or moved"
                )
            there.tree.add(leaf_hash(line[:-1]))
            there.offset += len(line)
            if there.tree.size in sizes:
                there.roots[there.tree.size] = base64.b64encode(there.tree.root()).decode()
    if strange >= 0:
        there.findings.append(f"line {strange + 1} is no record")
    return there


def _line(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()  # ASCII


def _record(line: bytes) -> JsonObject:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(line), dict):
            return value
    return {}


def _append(handle: int, data: bytes, end: int) -> None:
    """Write all of the data at the end of a file, or leave it as it was."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
    except OSError:
        os.ftruncate(handle, end)
        raise


def _notes(path: Path) -> list[re.Match[str]]:
    """Return the checkpoints in a file; one that was half written is passed over."""
    text = _read(path).decode("utf-8", "replace") if path.exists() else ""
    return list(_NOTE.finditer(text))


def _key_id(name: str, key: PublicKey) -> bytes:
    """Return the first bytes of a signature, by which its key is known (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n\x01" + key.raw).digest()[:4]


def _is_signed(note: re.Match[str], key: PublicKey) -> bool:
    signature = base64.b64decode(note["signature"])
    is_by = signature[:4] == _key_id(note["origin"], key)
    return is_by and key.verifies(signature[4:], note["text"].encode())


@contextlib.contextmanager
def _audit_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"{error.strerror or error}"
        raise AuditLogError("the audit log can't be written", where=str(path), why=why) from error
    except ResourceError as error:
        raise AuditLogError(error.what, where=str(path), why=error.why, fix=error.fix) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise RequestError(f"it can't be read ({error})", where=str(path)) from error
