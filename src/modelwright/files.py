"""Files and bytes: atomic writes, canonical JSON, digests, locks, the cache.

Whatever the project writes goes through `atomic_write` or `folder_aside`, so that a full disk, a
kill or a power cut leaves the old file or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from modelwright.errors import DataError, ResourceError, nearest

try:
    import fcntl
except ImportError:  # Windows has no fcntl; msvcrt takes its place there.
    fcntl = None  # type: ignore[assignment]


Json = Any
"""A JSON value: null, a truth value, a number, text, a list or an object of them."""
JsonObject = dict[str, Json]


def canonical_json(value: Json) -> bytes:
    """Return the one UTF-8 encoding of a JSON value: sorted keys, no blanks, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of the bytes, as `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes, which are never held all at once."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def json_digest(value: Json) -> str:
    """Return the digest of the canonical encoding of a JSON value."""
    return digest(canonical_json(value))


def as_resource_error(error: OSError, path: Path) -> ResourceError:
    """Say what an operating system's error means and what to do about it."""
    where = str(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            "the disk is full",
            where=where,
            why="Nothing that stood there before was changed",
            fix="Free some space, or point --out or MODELWRIGHT_CACHE at another disk; run again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(
            "no permission to write here",
            where=where,
            fix="Choose another folder (--out DIR, or MODELWRIGHT_CACHE for the cache)",
        )
    return ResourceError(f"can't be written ({error.strerror or error})", where=where)


@contextlib.contextmanager
def resource_errors(path: Path) -> Iterator[None]:
    """Raise what the operating system refuses in the block as a `ResourceError` about `path`."""
    try:
        yield
    except OSError as error:
        raise as_resource_error(error, path) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


ASIDE = ".aside."
"""What the name of everything that is written aside begins with."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path`; on success sync it and rename it over `path`.

    Raises:
        ResourceError: the disk is full, or the folder can't be written; `path` is as it was.
    """
    with resource_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{ASIDE}{path.name[:40]}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as stream:
        stream.write(data)


def copy_file(source: Path, target: Path) -> None:
    """Copy a whole file atomically."""
    with source.open("rb") as stream, atomic_write(target) as copied:
        shutil.copyfileobj(stream, copied)


def write_json(path: Path, value: Json) -> None:
    """Write readable JSON atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_json(path: Path) -> Json:
    """Read a JSON file that the project wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def append_line(path: Path, value: Json) -> None:
    """Append one JSON value as a line; a torn last line (after a kill) is cut off first."""
    with resource_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size:
                stream.seek(size - 1)
                if stream.read(1) != b"\n":
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.write(canonical_json(value) + b"\n")


def find_path(name: str, base: Path) -> Path:
    """Return a path that a recipe names: in the recipe's folder, else under `MODELWRIGHT_DATA`.

    Raises:
        DataError: it is in neither place.
    """
    path = Path(name).expanduser()
    places = [base / path]  # A path that is absolute stays as it is.
    if os.environ.get("MODELWRIGHT_DATA"):
        places.append(Path(os.environ["MODELWRIGHT_DATA"]) / path)
    for place in places:
        with contextlib.suppress(OSError):
            if place.exists():
                return place
    beside = places[0].parent
    known = [item.name for item in beside.iterdir()] if beside.is_dir() else []
    raise DataError(
        f"there is no `{name}`",
        where=str(places[0]),
        why=nearest(places[0].name, known) if known else f"The folder {beside} isn't there either",
        fix="Relative paths start from the recipe's folder, then from MODELWRIGHT_DATA",
    )


def is_file(path: Path) -> bool:
    """Say whether there is a file; a name that is too long for one, or holds a NUL, is of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_lines(path: Path) -> list[Json]:
    """Read a file of JSON lines, passing over torn and damaged ones; a missing file has none."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    values = []
    for line in whole.split(b"\n"):
        with contextlib.suppress(ValueError):
            values.append(json.loads(line))
    return values


@contextlib.contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `path`; on success rename it to `path`, replacing what was there.

    Raises:
        ResourceError: the disk is full, or the place can't be written; `path` is as it was.
    """
    with resource_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{ASIDE}{path.name[:40]}.", dir=path.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder that this one holds alone."""
    for path in folder.glob(f"{ASIDE}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float | None = None, busy: str = "") -> Iterator[None]:
    """Hold an exclusive lock on `path` while the block runs; the system frees it if we die.

    The lock file is made where it is missing, and left there. Without `wait_s` it waits for another
    holder as long as it takes.

    Raises:
        ResourceError: another process holds the lock, as `busy` says.
    """
    with resource_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    with stream:
        deadline = None if wait_s is None else time.monotonic() + wait_s
        while not _try_lock(stream):
            if deadline is not None and time.monotonic() >= deadline:
                raise ResourceError(busy or "another process is using it", where=str(path.parent))
            time.sleep(0.05)
        yield


def _try_lock(stream: BinaryIO) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """Return the folder for what can be made again: `MODELWRIGHT_CACHE`, else the user's cache."""
    if chosen := os.environ.get("MODELWRIGHT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modelwright"


def state_folder() -> Path:
    """Return the folder for what can't be made again: `MODELWRIGHT_CACHE`, else the user's state.

    One variable moves both, so that tests and containers keep away from the user's own.
    """
    if moved := os.environ.get("MODELWRIGHT_CACHE"):
        return Path(moved)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "modelwright"
