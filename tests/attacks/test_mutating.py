"""Files changed at random are answered or refused. Many of them: `make test-slow`."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from modelwright.modelfile.operators import FROM_MICROSOFT, OPERATORS
from tests.attacks import data_targets, graphs, mutating, targets
from tests.attacks.mutations import mutated_bytes
from tests.attacks.running import Outcome

FEW = 25
"""Files of each target in the fast test."""
LEAST = 6
"""So many of them must get behind the first checks; it is a third to two thirds in the long run."""
COUNT = int(os.environ.get("ATTACKS_COUNT", "100000"))
START = int(os.environ.get("ATTACKS_START", "0"))
"""The seeds of the slow test; a range that was done needn't be done again."""


@pytest.mark.parametrize(
    "target",
    [targets.members, data_targets.boxes, data_targets.images, data_targets.sounds],
    ids=lambda target: target.__name__,
)
def test_what_is_not_changed_is_answered(target, tmp_path: Path, monkeypatch) -> None:
    """Else every changed file might be refused for something else."""
    for module in (targets, data_targets):
        monkeypatch.setattr(module, "mutated_bytes", lambda data, draw, most=0: data)
    monkeypatch.setattr(targets, "_mutate_parts", lambda parts, draw: None)
    monkeypatch.setattr(data_targets, "_changed_file", lambda name, data, draw: data)
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert list(target(random.Random(seed), folder)) == [None]


def test_every_operator_has_an_example() -> None:
    held = {node.op_type for of in graphs.examples().values() for item in of for node in item.nodes}
    assert held == {*OPERATORS, *FROM_MICROSOFT}


def test_a_seed_makes_the_same_file() -> None:
    data = bytes(range(200))
    first, second = (
        [mutated_bytes(data, random.Random(seed)) for seed in range(20)] for _ in range(2)
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
    ended = [mutating.try_seed(seed, tmp_path) for seed in range(FEW * len(mutating.TARGETS))]
    assert [item for item in ended if item[1].is_fault] == []
    behind = Counter(name for name, outcome, _ in ended if outcome != Outcome.REFUSED)
    names = [target.__name__ for target in mutating.TARGETS]
    assert [name for name in names if behind[name] < LEAST] == []


def test_a_range_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """No worker is started: both blocks are known."""
    known = [
        {"start": 0, "count": mutating.BLOCK, "counts": [["images", "refused", 3]], "faults": []},
        {"start": mutating.BLOCK, "count": 1, "counts": [["images", "hang", 1]], "faults": ["x"]},
    ]
    out = tmp_path / "counts.jsonl"
    out.write_text("".join(f"{json.dumps(block)}\n" for block in known))
    tally = mutating.run_range(0, mutating.BLOCK + 1, out=out)
    assert tally.counts == {("images", "refused"): 3, ("images", "hang"): 1}
    assert tally.faults == ["x"]


@pytest.mark.slow
def test_many_changed_files_are_answered_or_refused() -> None:
    tally = mutating.run_range(START, COUNT)
    print(tally.table())  # noqa: T201 (the count is what is asked for)
    assert tally.faults == []
    assert tally.counts.total() == COUNT
