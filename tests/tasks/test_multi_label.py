"""The task of any number of labels: what it tallies, sums up and answers."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright import metrics
from modelwright.recipe import parse_recipe
from modelwright.tasks import LABEL_SETS, TASKS, join, task_giving, task_of

TASK = LABEL_SETS["text-classification"]


def test_a_recipe_and_a_file_find_it():
    table = "version: 1\ntask: text-classification\ndata: {source: table, path: x"
    several = parse_recipe(f"{table}, multi_label: true}}", where="recipe.yaml")
    assert task_of(several) is TASK
    one = parse_recipe(f"{table}}}", where="recipe.yaml")
    assert task_of(one) is TASKS["text-classification"]
    assert task_giving("text-classification", "labels") is TASK
    assert task_giving("text-classification", "logits") is TASKS["text-classification"]
    assert task_giving("regression", "values") is TASKS["regression"]
    assert task_giving("of the future", "labels") is None


def test_answers_are_all_labels_best_first_and_say_which_are_chosen():
    logits = np.array([[-2.0, 3.0, 0.0], [-1.0, -3.0, -2.0]], dtype=np.float32)
    first, second = TASK.decode(logits, ("a", "b", "c"), 3)
    assert [item["label"] for item in first] == ["b", "c", "a"]
    assert [item["chosen"] for item in first] == [True, True, False]
    assert [item["chosen"] for item in second] == [False] * 3
    assert first[0]["probability"] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert [len(found) for found in TASK.decode(logits, ("a", "b", "c"), 2)] == [2, 2]


def test_joined_tallies_sum_up_as_the_whole():
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(40, 4)), random.random((40, 4)) < 0.4
    parts = [TASK.tally(logits[at : at + 9], targets[at : at + 9], ()) for at in range(0, 40, 9)]
    whole = TASK.scores(logits, targets, ())
    assert TASK.summary(join(parts)) == pytest.approx(whole)
    found = metrics.label_outcomes(logits, targets)
    assert whole["exact_match"] == metrics.exact_match(found)
    assert TASK.select_by in whole
    assert TASK.ties_by in whole
