"""The list of looks at a test set: it counts, survives damage, and two processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelwright.evaluation import record_access
from modelwright.evaluation.access_log import list_path


def at(day: int) -> datetime:
    return datetime(2026, 11, day, 12, 0, 0, tzinfo=UTC)


def test_looks_are_counted_by_fingerprint_over_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "state" / "test_set_access.jsonl"
    first = record_access("cats", run="one", model="m1", path=path, now=at(1))
    assert (first.count, first.notes) == (1, ())
    assert record_access("dogs", run="one", model="m1", path=path, now=at(2)).count == 1
    assert record_access("cats", run="two <b>", model="m2", path=path, now=at(3)).count == 2
    assert record_access("cats", run="one", model="m1", path=path, now=at(4)).count == 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[2] == {
        "test": "cats",
        "run": "two <b>",
        "model": "m2",
        "at": "2026-11-03T12:00:00Z",
    }


def test_damaged_lines_are_passed_over_and_said(tmp_path: Path) -> None:
    path = tmp_path / "test_set_access.jsonl"
    record_access("cats", run="one", path=path)
    with path.open("ab") as stream:
        stream.write(b'{"test":"cats","run":3}\n\xff\xfe\n[1]\n\n' + b"[" * 100_000 + b"\n")
    found = record_access("cats", run="two", path=path)
    assert found.count == 2
    assert len(found.notes) == 1
    assert found.notes[0].startswith("4 damaged lines were passed over")
    with path.open("ab") as stream:
        stream.write(b'{"test":"cats","run":"torn')  # killed while it wrote
    assert record_access("cats", run="three", path=path).count == 3


def test_a_place_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = record_access("cats", run="one", path=tmp_path / "file" / "test_set_access.jsonl")
    assert found.count == 1
    assert any("could not be recorded" in note for note in found.notes)


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test_set_access.jsonl"
    script = (
        "import sys; from pathlib import Path\n"
        "from modelwright.evaluation.access_log import record_access\n"
        "for _ in range(25): record_access('cats', run=sys.argv[2], path=Path(sys.argv[1]))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("a", "b")
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    found = record_access("cats", run="c", path=path)
    assert (found.count, found.notes) == (51, ())


def test_where_the_list_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWRIGHT_CACHE", "/elsewhere")
    assert list_path() == Path("/elsewhere/test_set_access.jsonl")
    monkeypatch.delenv("MODELWRIGHT_CACHE")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert list_path() == Path("/state/modelwright/test_set_access.jsonl")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert list_path() == Path.home() / ".local" / "state" / "modelwright" / "test_set_access.jsonl"
