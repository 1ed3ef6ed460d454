"""Which epoch is chosen, and when training stops."""

from __future__ import annotations

import pytest

from modelwright.training.selection import Selection


def considered(values, *, higher_is_better=True, patience=None, ties=None):
    selection = Selection("a", higher_is_better, patience, None if ties is None else "b")
    stalled = []
    for number, value in enumerate(values):
        record = {"val_a": value} | ({} if ties is None else {"val_b": ties[number]})
        selection.consider(record, {})
        stalled.append(selection.has_stalled)
    return selection, stalled


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_stops_as_many_epochs_after_the_best_as_patience_says(patience):
    selection, stalled = considered([0.5, 0.7, 0.6, 0.7, 0.6], patience=patience)
    assert selection.best_index == 1
    assert stalled == [False, False, *(after >= patience for after in (1, 2, 3))]


def test_without_patience_training_never_stops():
    assert considered([0.5, 0.4, 0.3, 0.2])[1] == [False] * 4


@pytest.mark.parametrize(("higher", "best"), [(True, 2), (False, 1)])
def test_the_best_is_the_highest_or_the_lowest(higher, best):
    assert considered([0.5, 0.1, 0.9, 0.3], higher_is_better=higher)[0].best_index == best


def test_ties_go_to_the_lower_second_score_then_to_the_earlier():
    assert considered([0.5, 0.5, 0.5], ties=[0.3, 0.2, 0.2])[0].best_index == 1
