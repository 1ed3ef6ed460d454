"""The list of looks at a test set: it counts, survives damage, and two processes at once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modelwright.evaluation import record_access
from modelwright.evaluation.access_log import list_path


def at(day: int) -> datetime:
    return datetime(2026, 11, day, 12, 0, 0, tzinfo=UTC)


def samples(name: str, count: int = 40) -> NDArray[np.uint8]:
    """Return the digests of the contents of some samples."""
    digests = [hashlib.sha256(f"{name} {at}".encode()).digest()[:16] for at in range(count)]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(count, 16)


CATS, DOGS = samples("cat"), samples("dog")


def test_accesses_are_counted_over_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "state" / "test_set_access.jsonl"
    first = record_access(CATS, run="one", model="m1", path=path, now=at(1))
    assert (first.count, first.notes) == (1, ())
    assert record_access(DOGS, run="one", model="m1", path=path, now=at(2)).count == 1
    assert record_access(CATS, run="two <b>", model="m2", path=path, now=at(3)).count == 2
    assert record_access(CATS[::-1], run="one", model="m1", path=path, now=at(4)).count == 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[2].pop("sketch") == lines[0]["sketch"]
    assert lines[2] == {
        "samples": 40,
        "run": "two <b>",
        "model": "m2",
        "at": "2026-11-03T12:00:00Z",
    }


@pytest.mark.parametrize("count", [100, 20_000])
def test_part_of_a_test_set_counts_as_it(count: int, tmp_path: Path) -> None:
    path, whole = tmp_path / "list.jsonl", samples("cat", count)
    record_access(whole, run="one", path=path)
    part = record_access(np.concatenate([whole[: count // 2], DOGS]), run="two", path=path)
    assert part.count == 2
    assert part.shared == pytest.approx(count / 2 / (count / 2 + 40), abs=0.15)
    again = record_access(whole, run="three", path=path)
    assert again.count == 3
    assert again.shared == pytest.approx(0.75, abs=0.1)


def test_former_test_samples_in_training_are_said(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    record_access(CATS, run="runs/one", path=path, now=at(5))
    found = record_access(DOGS, run="two", trained=CATS[:30], path=path)
    assert found.count == 1
    assert found.notes[0].startswith(
        "About 75% of the test samples of an earlier run (runs/one, 2026-11-05) are trained on now"
    )
    assert record_access(DOGS, run="two", trained=samples("bird"), path=path).notes == ()


def test_damaged_lines_are_passed_over_and_said(tmp_path: Path) -> None:
    path = tmp_path / "test_set_access.jsonl"
    record_access(CATS, run="one", path=path)
    with path.open("ab") as stream:
        stream.write(b'{"samples":4,"run":3}\n\xff\xfe\n[1]\n\n' + b"[" * 100_000 + b"\n")
        stream.write(b'{"samples":4,"sketch":"AAA=","run":"a","model":"","at":""}\n')
        torn = json.loads(path.read_bytes().splitlines()[0])
        torn["sketch"] = "?" + torn["sketch"]
        stream.write(json.dumps(torn).encode() + b"\n")
    found = record_access(CATS, run="two", path=path)
    assert found.count == 2
    assert len(found.notes) == 1
    assert found.notes[0].startswith("6 damaged lines were passed over")
    with path.open("ab") as stream:
        stream.write(b'{"samples":4,"run":"torn')  # killed while it wrote
    assert record_access(CATS, run="three", path=path).count == 3


def test_a_place_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = record_access(CATS, run="one", path=tmp_path / "file" / "test_set_access.jsonl")
    assert found.count == 1
    assert any("could not be recorded" in note for note in found.notes)


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test_set_access.jsonl"
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from modelwright.evaluation.access_log import record_access\n"
        "cats = np.arange(160, dtype=np.uint8).reshape(10, 16)\n"
        "for _ in range(25): record_access(cats, run=sys.argv[2], path=Path(sys.argv[1]))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("a", "b")
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    cats = np.arange(160, dtype=np.uint8).reshape(10, 16)
    found = record_access(cats, run="c", path=path)
    assert (found.count, found.notes) == (51, ())


def test_where_the_list_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWRIGHT_CACHE", "/elsewhere")
    assert list_path() == Path("/elsewhere/test_set_access.jsonl")
    monkeypatch.delenv("MODELWRIGHT_CACHE")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert list_path() == Path("/state/modelwright/test_set_access.jsonl")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert list_path() == Path.home() / ".local" / "state" / "modelwright" / "test_set_access.jsonl"


def test_a_list_that_cannot_be_read_costs_no_run(tmp_path: Path) -> None:
    path = tmp_path / "test_set_access.jsonl"
    path.mkdir()
    found = record_access(CATS, run="one", path=path)
    assert found.count == 1
    assert found.notes[0].startswith("The list of accesses can't be read: ")
    assert found.notes[1].startswith("This access to the test set could not be recorded: ")
