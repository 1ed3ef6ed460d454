"""The tasks of several labels: their statistics, metrics and answers."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright import metrics
from modelwright.kinds import CLASSIFICATION, TASK_KINDS, OutputKind
from modelwright.recipe import parse_recipe
from modelwright.recipe.targets import METRICS
from modelwright.tasks import TASKS, concatenate, task_of

TASK = TASKS["text-classification", OutputKind.MULTI_LABEL]


def test_a_recipe_finds_its_task():
    table = "version: 1\ntask: text-classification\ndata: {source: table, path: x"
    several = parse_recipe(f"{table}, multi_label: true}}", where="recipe.yaml")
    assert task_of(several) is TASK
    one = parse_recipe(f"{table}}}", where="recipe.yaml")
    assert task_of(one) is TASKS["text-classification", OutputKind.SINGLE_LABEL]


def test_every_task_is_there_for_each_of_its_kinds():
    assert set(TASKS) == {
        (name, output) for name, kinds in TASK_KINDS.items() for output in kinds.outputs
    }
    assert {kind for _, kind in TASKS} >= set(CLASSIFICATION)


@pytest.mark.parametrize("task", TASKS.values(), ids=[f"{a}-{b}" for a, b in TASKS])
def test_a_task_selects_by_a_metric_of_its_kind(task):
    assert task.output_kind in METRICS[task.select_by].outputs
    if task.ties_by is not None:
        assert not METRICS[task.ties_by].higher_is_better


def test_answers_are_all_labels_best_first_and_say_which_are_predicted():
    logits = np.array([[-2.0, 3.0, 0.0], [-1.0, -3.0, -2.0]], dtype=np.float32)
    first, second = TASK.decode(logits, ("a", "b", "c"), 3)
    assert [item["label"] for item in first] == ["b", "c", "a"]
    assert [item["predicted"] for item in first] == [True, True, False]
    assert [item["predicted"] for item in second] == [False] * 3
    assert first[0]["probability"] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert [len(found) for found in TASK.decode(logits, ("a", "b", "c"), 2)] == [2, 2]


def test_concatenated_statistics_give_the_whole():
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(40, 4)), random.random((40, 4)) < 0.4
    parts = [
        TASK.sample_stats(logits[at : at + 9], targets[at : at + 9], ()) for at in range(0, 40, 9)
    ]
    whole = TASK.scores(logits, targets, ())
    assert TASK.compute(concatenate(parts)) == pytest.approx(whole)
    found = metrics.label_outcomes(logits, targets)
    assert whole["exact_match"] == metrics.exact_match(found)
    assert TASK.select_by in whole
    assert TASK.ties_by in whole
