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
from modelwright.evaluation import WITHOUT_NEAR, Place, measure_scores
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


def test_figures_without_near_duplicates_stand_beside() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=50).astype(np.float32)
    outputs = (targets + random.normal(size=50)).astype(np.float32)[:, None]
    split = numbered(targets)

    def without(near: Any) -> Any:
        found = measure_scores(
            Remembered(outputs, ()),
            split,
            TASK,
            fingerprint="data",
            place=Place("here"),
            near_duplicates=near,
        )
        return {item.metric: item for item in found.evidence if item.slice == WITHOUT_NEAR}

    found = without(split.rows[:5])
    assert found["mae"].value == pytest.approx(np.abs(outputs[5:, 0] - targets[5:]).mean())
    assert found["mae"].low < found["mae"].value < found["mae"].high
    assert (found["mae"].n, found["mae"].hardware) == (45, "here")
    assert "without the 5 samples that resemble one of another split" in found["mae"].method
    assert without(None) == without(np.array([], np.int64)) == without(split.rows) == {}


MEAN = replace(
    TASK,
    tally=lambda outputs, targets, labels: {"value": outputs[:, 0]},
    summary=lambda tally: {"token_loss": float(tally["value"].mean())},
)


def stretches(values: NDArray[Any], texts: NDArray[Any]) -> Any:
    model = Remembered(values.astype(np.float32)[:, None], ())
    split = replace(numbered(np.zeros(len(values))), texts=texts)
    return measure_scores(model, split, MEAN, fingerprint="data", place=Place("here")).evidence[0]


def width(found: Any) -> float:
    assert found.low < found.value < found.high
    return float(found.high - found.low)


def test_stretches_of_one_text_are_drawn_together() -> None:
    # 40 texts of 25 stretches each, that differ by text: the mean of 40 values, not of 1,000.
    random, texts = np.random.default_rng(0), np.repeat(np.arange(40), 25)
    values = 5 + random.normal(size=40)[texts] + random.normal(size=1000) / 10
    found = stretches(values, texts)
    means = values.reshape(40, 25).mean(axis=1)
    assert width(found) == pytest.approx(2 * 2.02 * means.std(ddof=1) / 40**0.5, rel=0.15)
    assert "draws of whole texts, of which there are 40" in found.method
    shuffled = random.permutation(1000)
    assert width(stretches(values[shuffled], texts[shuffled])) == pytest.approx(
        width(found), rel=0.15
    )


def test_of_a_single_text_blocks_are_drawn() -> None:
    # Neighbours alike: the mean is of far fewer values than there are.
    random = np.random.default_rng(0)
    noise, values = random.normal(size=1000), np.zeros(1000)
    for at in range(1, 1000):
        values[at] = 0.8 * values[at - 1] + 0.6 * noise[at]
    one = stretches(5 + values, np.zeros(1000, np.int64))
    assert "blocks of 10 stretches in a row, for all are of one text" in one.method
    assert width(one) > 2 * width(stretches(5 + values, np.arange(1000)))
    two = stretches(5 + values, np.repeat([0, 1], 500))
    assert two.low >= 0
    single = stretches(np.ones(1), np.zeros(1, np.int64))
    assert (single.low, single.value, single.high) == (1, 1, 1)


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
