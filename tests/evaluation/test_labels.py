"""Figures of labels, against scikit-learn and by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn import metrics as reference

from modelwright import metrics
from modelwright.evaluation import intervals
from modelwright.evaluation.labels import (
    LABELS_IN_LEDGER,
    accuracy,
    averages,
    per_label_figures,
    single_label_figures,
)
from modelwright.evaluation.measurement import sampled
from modelwright.evaluation.studentized import FEW_WRONG

RECORD = partial(sampled, split="test", data="data")


@pytest.fixture
def answered() -> metrics.Outcomes:
    random = np.random.default_rng(0)
    targets = random.integers(0, 7, 300)
    logits = random.normal(size=(300, 7))
    logits[np.arange(300), targets] += 1.5
    return metrics.outcomes(logits, targets)


def cells_of(answered: metrics.Outcomes) -> metrics.Confusion:
    return metrics.confusion(answered.predicted, answered.targets, num_classes=7)


def test_figures_are_scikit_learns(answered: metrics.Outcomes) -> None:
    records = {
        item.metric: item
        for item in single_label_figures(answered, cells_of(answered), RECORD, num_classes=7)
    }
    pair = (answered.targets, answered.predicted)
    assert records["accuracy"].value == pytest.approx(reference.accuracy_score(*pair))
    for average in ("macro", "weighted"):
        rates = reference.precision_recall_fscore_support(*pair, average=average)
        for metric, value in zip(("precision", "recall", "f1"), rates[:3], strict=True):
            assert records[f"{metric}_{average}"].value == pytest.approx(value)
    assert records["log_loss"].value == pytest.approx(answered.losses.mean())
    assert records["top5_accuracy"].value == (answered.ranks < 5).mean()
    for record in records.values():
        assert record.low < record.value < record.high, record.metric
        assert (record.n, record.split) == (300, "test")


@pytest.mark.parametrize("wrong", [0, 1, FEW_WRONG])
def test_what_few_mistakes_cost_is_bounded_by_their_share(wrong: int) -> None:
    logits = np.tile([[3.0, 0.0]], (200, 1))
    answered = metrics.outcomes(logits, (np.arange(200) < wrong).astype(np.int64))
    cells = metrics.confusion(answered.predicted, answered.targets, num_classes=2)
    records = single_label_figures(answered, cells, RECORD, num_classes=2)
    (loss,) = (item for item in records if item.metric == "log_loss")
    # A mistake costs what the model's own confidence says, and no sample is like another.
    cost, most = np.log(1 + np.exp(3.0)), intervals.share(wrong, 200).high
    assert loss.value == pytest.approx(np.log(1 + np.exp(-3.0)) + 3.0 * wrong / 200)
    assert loss.high == pytest.approx(loss.value + (most - wrong / 200) * cost)


def test_accuracy_has_an_exact_interval() -> None:
    record = accuracy(np.repeat([True, False], [81, 182]), RECORD, method="counted", slice="x")
    assert (record.low, record.high) == intervals.share(81, 263)
    assert (record.n, record.slice, record.method) == (263, "x", "counted; exact interval")


def test_averages_say_how_they_were_answered(answered: metrics.Outcomes) -> None:
    cells = cells_of(answered)
    bounds = intervals.average_bounds(cells)
    for record in averages(cells, RECORD, method="by heart; "):
        assert (record.low, record.high) == bounds[record.metric]
        assert record.method.startswith("by heart; mean over the classes")


def test_each_label_has_exact_intervals(answered: metrics.Outcomes) -> None:
    scores = metrics.class_scores(cells_of(answered))
    per_label, records = per_label_figures(scores, "abcdefg", RECORD, known=6)
    assert len(records) == 3 * 7
    by_name = {(item.slice, item.metric): item for item in records}
    recall = by_name["label=c", "recall"]
    of_class = answered.targets == 2
    hits = int((answered.predicted[of_class] == 2).sum())
    assert (recall.value, recall.n) == (pytest.approx(hits / of_class.sum()), of_class.sum())
    assert (recall.low, recall.high) == pytest.approx(intervals.share(hits, int(of_class.sum())))
    assert per_label.bounds.recall[0][2] == recall.low
    assert "not in training" in by_name["label=g", "f1"].method
    assert "not in training" not in recall.method


def test_very_many_labels_are_not_listed() -> None:
    size = LABELS_IN_LEDGER + 1
    scores = metrics.scores_of(*(np.ones(size, np.int64) for _ in range(3)))
    per_label, records = per_label_figures(scores, ["x"] * size, RECORD, known=size)
    assert records == []
    assert len(per_label.scores.recall) == size
