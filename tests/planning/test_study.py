"""The record of a search: it goes on where it was, and learns from what misses limits."""

from __future__ import annotations

import pytest

from modelwright.planning import Study

SPACE = {"network": ["a", "b", "c"], "numbers": ["none", "int8", "int4"]}
VALUES = {"a": 0.5, "b": 0.7, "c": 0.9}


def opened(path, **changes):
    study = Study(path, SPACE, seed=3, **({"higher_is_better": True} | changes))
    study.propose_first([{"network": "b", "numbers": "int8"}])
    return study


def carried_out(study, count):
    tried = []
    for _ in range(count):
        trial = study.ask()
        trial.begin()
        tried.append(tuple(trial.settings.values()))
        if trial.settings["numbers"] == "none":
            trial.reject({"size_bytes": 0.5}, {"number": trial.number})
        else:
            trial.tell(
                VALUES[trial.settings["network"]], {"size_bytes": -0.5}, {"number": trial.number}
            )
    return tried


def test_what_is_given_is_tried_first_and_once(tmp_path):
    study = opened(tmp_path / "search.db")
    assert carried_out(study, 1) == [("b", "int8")]
    assert carried_out(opened(tmp_path / "search.db"), 1) != [("b", "int8")]


def test_a_search_that_was_interrupted_proposes_the_same(tmp_path):
    whole = carried_out(opened(tmp_path / "whole.db"), 14)
    parts = []
    for count in (1, 5, 8):
        parts += carried_out(opened(tmp_path / "in parts?.db"), count)
    assert parts == whole
    assert [item["number"] for item in opened(tmp_path / "in parts?.db").ended()] == [*range(14)]


def test_the_trial_that_was_under_way_goes_on_first(tmp_path):
    study = opened(tmp_path / "search.db")
    carried_out(study, 2)
    killed = study.ask()
    assert killed.begin() == 0
    again = opened(tmp_path / "search.db").ask()
    assert (again.number, again.settings) == (killed.number, killed.settings)
    assert again.begin() == 1
    again.stop()
    assert opened(tmp_path / "search.db").ask().begin() == 1  # A stop isn't held against it.


def test_what_misses_a_limit_is_left_alone(tmp_path):
    tried = carried_out(opened(tmp_path / "search.db"), 40)
    assert sum(numbers == "none" for _, numbers in tried[20:]) <= 6
    assert sum(network == "c" for network, _ in tried[20:]) >= 8


def test_random_proposals_do_not_learn(tmp_path):
    tried = carried_out(opened(tmp_path / "search.db", is_random=True), 30)
    assert sum(numbers == "none" for _, numbers in tried) >= 5


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_worse_half_ends_early(tmp_path, higher_is_better):
    study = opened(tmp_path / "search.db", higher_is_better=higher_is_better)
    sign = 1 if higher_is_better else -1
    ended = []
    for value in (0.9, 0.8, 0.1, 0.95):
        trial = study.ask()
        assert not trial.is_hopeless(1, 0.0)
        is_hopeless = trial.is_hopeless(2, sign * value)
        ended.append(is_hopeless)
        if is_hopeless:
            trial.reject({}, {})
        else:
            trial.tell(sign * value, {}, {})
    assert ended == [False, True, True, False]
