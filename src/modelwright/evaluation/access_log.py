"""How often a test set was used: an append-only list for all runs.

Where results lead to changes of the model, a test set's figures become too good, so accesses are
counted over every run of this user on this machine. They follow the samples: of each test set the
list keeps those digests of contents that are smallest (a bottom-k sketch: Cohen and Kaplan 2007),
from which the share of samples that two sets have in common is known, or estimated. So another
seed, a limit or other labels don't start the count anew. The list can't be recreated, so it is in
the user's state folder and not in the cache, unless `MODELWRIGHT_CACHE` moves both.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ResourceError
from modelwright.files import append_line, as_resource_error, locked, state_folder

_WAIT_S = 10.0
_SKETCH = 256
"""So many digests of a test set are kept; of smaller ones all are."""
_DIGEST = np.dtype(">u8")
"""So much of each digest is kept."""
LEAST_SHARED = 0.01
"""A test set counts as used again where at least this share of its samples was."""
LEAST_TRAINED = 0.02
"""The share of a former test set that is worth a sentence where it is trained on."""

Digests = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TestSetAccess:
    """The accesses to the samples of one test set."""

    count: int
    """How often they, or some of them, were used, including this time."""
    shared: float = 1.0
    """The share of the samples that the accesses before this one used, in the mean."""
    notes: tuple[str, ...] = ()
    """Sentences on what couldn't be read or written, and on former test samples in training."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the list."""

    size: int
    sketch: NDArray[np.uint64]
    run: str
    at: str


def list_path() -> Path:
    """Return the path of the list."""
    return state_folder() / "test_set_access.jsonl"


def record_access(
    digests: Digests,
    *,
    run: str,
    model: str = "",
    trained: Digests | None = None,
    path: Path | None = None,
    now: datetime | None = None,
) -> TestSetAccess:
    """Record an access to a test set, and return all accesses to its samples so far.

    It is called before the measurement, so that one that fails is counted too. If the list can't be
    written, the notes say so, and the run goes on.

    Args:
        digests: of the contents of the test samples `[N, 16]`.
        run: the run's name.
        model: the model's digest.
        trained: the digests of the training samples, among which former test samples are looked
            for.
        path: the list; by default that of this user.
        now: by default the current time.
    """
    path = path or list_path()
    moment = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    marks = np.unique(_marks(digests))
    sketch = marks[:_SKETCH].astype(_DIGEST).tobytes()
    entry = {"samples": len(marks), "sketch": base64.b64encode(sketch).decode()}
    problems: tuple[str, ...] = ()
    try:
        with locked(path.with_suffix(".lock"), wait_s=_WAIT_S):
            entries, problems = _entries(path)
            append_line(path, {**entry, "run": run, "model": model, "at": moment})
    except ResourceError as error:
        entries, problems = _entries(path)
        problems = (*problems, f"This access to the test set could not be recorded: {error}")
    shares = [_share(each, marks) for each in entries]
    before = [share for share in shares if share >= LEAST_SHARED]
    notes = () if trained is None else _trained_on(entries, np.unique(_marks(trained)))
    return TestSetAccess(
        len(before) + 1, sum(before) / len(before) if before else 1.0, (*problems, *notes)
    )


def _marks(digests: Digests) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each digest as a number."""
    first = np.ascontiguousarray(digests[:, : _DIGEST.itemsize])
    return first.view(_DIGEST).reshape(-1).astype(np.uint64)


def _share(entry: _Entry, marks: NDArray[np.uint64]) -> float:
    """Return which share of the samples with these marks a former access used."""
    if not len(marks) or not len(entry.sketch):
        return 0.0
    common = np.isin(entry.sketch, marks, assume_unique=True).mean() * entry.size
    return min(float(common) / len(marks), 1.0)


def _trained_on(entries: Sequence[_Entry], marks: NDArray[np.uint64]) -> tuple[str, ...]:
    """Say which former test sets are trained on now: the one of which the most is."""
    shares = [
        float(np.isin(each.sketch, marks, assume_unique=True).mean()) if len(each.sketch) else 0.0
        for each in entries
    ]
    most = max(shares, default=0.0)
    if most < LEAST_TRAINED:
        return ()
    former = entries[shares.index(most)]
    return (
        f"About {most:.0%} of the test samples of an earlier run ({former.run}, {former.at[:10]}) "
        "are trained on now, so what was measured there and here can't be compared as on unseen "
        "samples",
    )


def _entries(path: Path) -> tuple[list[_Entry], tuple[str, ...]]:
    """Return the lines of the list, and sentences on those that can't be read."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        return [], (f"The list of accesses can't be read: {as_resource_error(error, path)}",)
    entries = [_entry_of(line) for line in lines if line.strip()]
    damaged = entries.count(None)
    notes: tuple[str, ...] = ()
    if damaged:
        lines_were = "1 damaged line was" if damaged == 1 else f"{damaged} damaged lines were"
        notes = (f"{lines_were} passed over in {path}, so the count may be too low.",)
    return [entry for entry in entries if entry is not None], notes


def _entry_of(line: bytes) -> _Entry | None:
    """Return what a line says, or `None` where it is damaged."""
    try:
        match json.loads(line):
            case {
                "samples": int(size),
                "sketch": str(sketch),
                "run": str(run),
                "model": str(),
                "at": str(at),
            } if size >= 0:
                marks = np.frombuffer(base64.b64decode(sketch, validate=True), _DIGEST)
                return _Entry(size, marks.astype(np.uint64), run, at)
    except (ValueError, RecursionError):  # undecodable bytes are a ValueError too
        pass
    return None
