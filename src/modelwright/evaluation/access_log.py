"""How often a test set was used: an append-only list for all runs.

Where results lead to changes of the model, a test set's figures become too good, so accesses are
counted by the samples' fingerprint, over every run of this user on this machine. The list can't be
recreated, so it is in the user's state folder and not in the cache, unless `MODELWRIGHT_CACHE`
moves both.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelwright.errors import ResourceError
from modelwright.files import append_line, as_resource_error, locked

_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class TestSetAccess:
    """The accesses to one test set."""

    count: int
    """How often it was used, including this time."""
    notes: tuple[str, ...] = ()
    """Sentences on what couldn't be read or written."""


def list_path() -> Path:
    """Return the path of the list."""
    if moved := os.environ.get("MODELWRIGHT_CACHE"):
        return Path(moved) / "test_set_access.jsonl"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "modelwright" / "test_set_access.jsonl"


def record_access(
    fingerprint: str,
    *,
    run: str,
    model: str = "",
    path: Path | None = None,
    now: datetime | None = None,
) -> TestSetAccess:
    """Record an access to a test set, and return all accesses so far.

    It is called before the measurement, so that one that fails is counted too. If the list can't be
    written, the notes say so, and the run goes on.

    The test set is known by the fingerprint of its samples, the run by its name, the model by its
    digest. By default the path is that of this user's list, and the time the current one.
    """
    path = path or list_path()
    moment = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = {"test": fingerprint, "run": run, "model": model, "at": moment}
    try:
        with locked(path.with_suffix(".lock"), wait_s=_WAIT_S):
            append_line(path, entry)
            return _known(path, fingerprint)
    except ResourceError as error:
        known = _known(path, fingerprint)
        note = f"This access to the test set could not be recorded: {error}"
        return TestSetAccess(known.count + 1, (*known.notes, note))


def _known(path: Path, fingerprint: str) -> TestSetAccess:
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        notes: tuple[str, ...] = ()
    except OSError as error:
        lines = []
        notes = (f"The list of accesses can't be read: {as_resource_error(error, path)}",)
    tests = [_test_of(line) for line in lines if line.strip()]
    damaged = tests.count(None)
    if damaged:
        lines_were = "1 damaged line was" if damaged == 1 else f"{damaged} damaged lines were"
        notes = (*notes, f"{lines_were} passed over in {path}, so the count may be too low.")
    return TestSetAccess(tests.count(fingerprint), notes)


def _test_of(line: bytes) -> str | None:
    """Return the fingerprint of the test set in a line, or `None` where the line is damaged."""
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):  # undecodable bytes are a ValueError too
        return None
    keys = ("test", "run", "model", "at")
    is_whole = isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys)
    return entry["test"] if is_whole else None
