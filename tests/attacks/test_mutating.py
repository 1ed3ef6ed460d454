"""Files changed at random are answered or refused. A million of them: `make test-slow`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.attacks import mutating
from tests.attacks.running import Outcome

FEW = 210
"""Files of the fast test."""
COUNT = int(os.environ.get("ATTACKS_COUNT", "1000000"))
START = int(os.environ.get("ATTACKS_START", "0"))
"""The seeds of the slow test; a range that was done needn't be done again."""


@pytest.mark.parametrize("target", mutating.TARGETS, ids=lambda target: target.__name__)
def test_what_is_not_changed_is_answered(target, tmp_path: Path, monkeypatch) -> None:
    """Else every changed file might be refused for something else."""
    monkeypatch.setattr(mutating, "mutated_bytes", lambda data, draw: data)
    monkeypatch.setattr(mutating, "mutated_json", lambda value, draw: value)
    monkeypatch.setattr(mutating, "_mutate_parts", lambda parts, draw: None)
    for seed in range(3):
        target(random.Random(seed), tmp_path)


def test_a_seed_makes_the_same_file() -> None:
    data = bytes(range(200))
    first, second = (
        [mutating.mutated_bytes(data, random.Random(seed)) for seed in range(20)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 15


def test_a_fault_is_one(tmp_path: Path, monkeypatch) -> None:
    def broken(draw: random.Random, folder: Path) -> None:
        raise LookupError("of no one")

    monkeypatch.setattr(mutating, "TARGETS", (broken,))
    name, outcome, why = mutating.try_seed(7, tmp_path)
    assert (name, outcome) == ("broken", Outcome.TRACEBACK)
    assert "of no one" in why


def test_a_few_changed_files_are_answered_or_refused(tmp_path: Path) -> None:
    ended = [mutating.try_seed(seed, tmp_path) for seed in range(FEW)]
    assert [item for item in ended if item[1].is_fault] == []
    assert {item[1] for item in ended} == {Outcome.ANSWERED, Outcome.REFUSED}


@pytest.mark.slow
def test_many_changed_files_are_answered_or_refused() -> None:
    counts, faults = mutating.run_range(START, COUNT)
    for (name, outcome), number in sorted(counts.items()):
        print(f"{name:14} {outcome:10} {number:>9,}")  # noqa: T201 (the count is what is asked for)
    assert faults == []
    assert counts.total() == COUNT
