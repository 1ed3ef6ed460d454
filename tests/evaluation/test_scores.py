"""Measuring a task that isn't a classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modelwright import metrics
from modelwright.errors import DataError
from modelwright.evaluation import Place, measure_scores
from modelwright.tasks import LABEL_SETS, TASKS
from tests.evaluation.small import Remembered, numbered


def number_scores(outputs: NDArray[Any], targets: NDArray[Any]) -> Mapping[str, float]:
    sums = metrics.number_sums(outputs, targets)
    return {"mae": metrics.mae(sums), "r2": metrics.r2(sums)}


TASK = replace(
    TASKS["image-classification"],
    name="image-to-number",
    tally=lambda outputs, targets, labels: {"outputs": outputs, "targets": targets},
    summary=lambda tally: number_scores(tally["outputs"], tally["targets"]),
)


def test_a_task_of_numbers() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=200).astype(np.float32)
    outputs = (targets + random.normal(scale=0.5, size=200)).astype(np.float32)[:, None]
    found = measure_scores(
        Remembered(outputs, ()), numbered(targets), TASK, fingerprint="data", place=Place("here")
    )
    records = {record.metric: record for record in found.evidence}
    for metric, value in number_scores(outputs, targets).items():
        assert records[metric].value == pytest.approx(value)
        assert records[metric].low < value < records[metric].high
    assert (records["mae"].n, records["mae"].split, records["mae"].data) == (200, "test", "data")
    # the mean of |N(0, 0.5)| is 0.5 · √(2/π)
    assert records["mae"].low < 0.5 * (2 / np.pi) ** 0.5 < records["mae"].high
    np.testing.assert_array_equal(found.tally["outputs"], outputs)


def test_outputs_that_are_not_finite_are_refused() -> None:
    model = Remembered(np.array([[np.inf]], np.float32), ())
    with pytest.raises(DataError, match="aren't finite"):
        measure_scores(model, numbered(np.zeros(1)), TASK, fingerprint="data", place=Place("here"))
    with pytest.raises(DataError, match="no samples"):
        measure_scores(model, numbered(np.zeros(0)), TASK, fingerprint="data", place=Place("here"))


LABELS = ("a", "b", "c")
SETS = LABEL_SETS["text-classification"]


def sets_of(outputs: NDArray[Any], targets: NDArray[Any]) -> Any:
    model = Remembered(outputs.astype(np.float32), LABELS)
    return measure_scores(model, numbered(targets), SETS, fingerprint="data", place=Place("here"))


def test_label_sets_are_measured_as_wholes_and_label_by_label() -> None:
    random = np.random.default_rng(1)
    targets = random.random((200, 3)) < 0.4
    outputs = random.normal(size=(200, 3)) + np.where(targets, 1.0, -1.0)
    found = sets_of(outputs, targets)
    overall = {record.metric: record for record in found.evidence if not record.slice}
    for metric, value in SETS.scores(outputs, targets, LABELS).items():
        assert overall[metric].value == pytest.approx(value, abs=1e-6)
        assert overall[metric].low < value < overall[metric].high
    recall = {item.slice: item for item in found.evidence if item.metric == "recall" and item.slice}
    assert list(recall) == ["label=a", "label=b", "label=c"]
    first = recall["label=a"]
    assert first.value == (outputs[:, 0] >= 0)[targets[:, 0]].mean()
    assert first.n == targets[:, 0].sum()
    assert first.low < first.value < first.high
    assert (first.split, first.model, first.hardware) == ("test", "sha256:model", "here")


def test_bounds_of_label_sets_leave_room_where_all_is_right() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]] * 8, dtype=np.bool_)
    found = sets_of(np.where(targets, 9.0, -9.0), targets)
    overall = {record.metric: record for record in found.evidence if not record.slice}
    for metric in ("exact_match", "f1_micro", "f1_macro", "precision_macro", "recall_macro"):
        assert (overall[metric].value, overall[metric].high) == (1.0, 1.0)
        assert 0.7 < overall[metric].low < 0.95


def test_no_label_anywhere_is_measured_without_a_division_by_zero() -> None:
    found = sets_of(np.full((5, 3), -1.0), np.zeros((5, 3), dtype=np.bool_))
    overall = {record.metric: record.value for record in found.evidence if not record.slice}
    assert (overall["exact_match"], overall["f1_micro"], overall["f1_macro"]) == (1.0, 0.0, 0.0)


def test_unknown_labels_count_as_missed_and_are_listed() -> None:
    random = np.random.default_rng(2)
    targets = random.random((200, 4)) < 0.4
    outputs = random.normal(size=(200, 3)) + np.where(targets[:, :3], 1.0, -1.0)
    samples = replace(numbered(targets), unknown=("new",))
    model = Remembered(outputs.astype(np.float32), LABELS)
    found = measure_scores(model, samples, SETS, fingerprint="data", place=Place("here"))
    overall = {record.metric: record for record in found.evidence if not record.slice}
    chosen = np.pad(outputs >= 0, ((0, 0), (0, 1)))
    assert overall["exact_match"].value == (chosen == targets).all(axis=1).mean()
    lost = int(targets[:, 3].sum())
    assert overall["log_loss"].n == 200 - lost
    assert f"without {lost} samples of classes that aren't in training" in (
        overall["log_loss"].method
    )
    assert "without" not in overall["exact_match"].method
    (recall,) = (
        item for item in found.evidence if item.metric == "recall" and item.slice == "label=new"
    )
    assert (recall.value, recall.n) == (0.0, lost)
    assert found.names == (*LABELS, "new")
