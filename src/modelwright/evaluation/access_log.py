"""How often a test set was looked at: a list beside all runs that only grows.

Each look that leads to a change makes a test set's figures a little too good, so looks are counted
by the samples' fingerprint, over every run of this user on this machine. The list can't be made
again, so it stands in the user's state folder and not in the cache, unless `MODELWRIGHT_CACHE`
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
    """What is known of the looks at one test set."""

    count: int
    """How often it was opened, this time included."""
    notes: tuple[str, ...] = ()
    """What couldn't be read or written, a sentence each."""


def list_path() -> Path:
    """Return where the list stands."""
    moved = os.environ.get("MODELWRIGHT_CACHE")
    if moved:
        return Path(moved) / "test_set_access.jsonl"
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base else Path.home() / ".local" / "state"
    return home / "modelwright" / "test_set_access.jsonl"


def record_access(
    fingerprint: str,
    *,
    run: str,
    model: str = "",
    path: Path | None = None,
    now: datetime | None = None,
) -> TestSetAccess:
    """Note that a test set is looked at, and return all looks at it so far.

    It is called before the measurement, so that a look that fails is counted too. A list that can't
    be written is said in the notes, and doesn't cost the run its measurement.

    Args:
        fingerprint: the digest of the test samples.
        run: the run's name.
        model: the digest of the model that is measured.
        path: the list; that of this user where not said.
        now: the time; that of the clock where not said.
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
        note = f"This opening of the test set could not be written down: {error}"
        return TestSetAccess(known.count + 1, (*known.notes, note))


def _known(path: Path, fingerprint: str) -> TestSetAccess:
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        notes: tuple[str, ...] = ()
    except OSError as error:
        lines = []
        notes = (f"The list of openings can't be read: {as_resource_error(error, path)}",)
    entries = [_entry(line) for line in lines if line.strip()]
    damaged = entries.count(None)
    if damaged:
        said = "1 damaged line was" if damaged == 1 else f"{damaged} damaged lines were"
        notes = (*notes, f"{said} passed over in {path}, so the count may be too low.")
    return TestSetAccess(sum(entry["test"] == fingerprint for entry in entries if entry), notes)


def _entry(line: bytes) -> dict[str, str] | None:
    """Return the opening that a line holds, or `None` where it is damaged."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):  # undecodable bytes are a ValueError too
        return None
    keys = ("test", "run", "model", "at")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in keys):
        return None
    return {key: value[key] for key in keys}
