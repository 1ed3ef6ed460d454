"""Measuring a model of every kind of prediction: figures, and what stands beside them."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from modelwright import metrics
from modelwright.errors import DataError
from modelwright.evaluation import WITHOUT_NEAR, Measurement, Place, measure
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.recipe.targets import METRICS
from modelwright.tasks import TASKS, Task
from tests.evaluation.small import Remembered, numbered

PLACE = Place("a processor", "a runtime", 2)


def model_of(targets: np.ndarray, *, num_classes: int, seed: int = 0) -> Remembered:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(targets), num_classes)).astype(np.float32)
    logits[np.arange(len(targets)), targets] += 2
    return Remembered(logits, tuple(f"class {number}" for number in range(num_classes)))


CLASSES = TASKS["image-classification", OutputKind.SINGLE_LABEL]


def measured(
    model: Remembered, targets: np.ndarray, task: Task = CLASSES, **options: Any
) -> Measurement:
    return measure(model, numbered(targets), task, fingerprint="data", place=PLACE, **options)


def figures(found: Measurement) -> dict[str, Evidence]:
    return {record.metric: record for record in found.evidence if not record.slice}


def test_every_metric_of_the_recipe_is_measured_and_no_other() -> None:
    targets = np.arange(60) % 6
    found = figures(measured(model_of(targets, num_classes=6), targets))
    expected = {
        name
        for name, metric in METRICS.items()
        if OutputKind.SINGLE_LABEL in metric.outputs
        and not (metric.is_timed or metric.needs_threshold or metric.needs_baselines)
        and not metric.needs_compression
    }
    assert set(found) == expected


def test_figures_are_those_of_the_metrics_and_lie_in_their_bounds() -> None:
    targets = np.random.default_rng(1).integers(0, 6, 300)
    model = model_of(targets, num_classes=6)
    found = figures(measured(model, targets))
    wanted = {
        "accuracy": metrics.accuracy(model.logits, targets),
        "top5_accuracy": reference.top_k_accuracy_score(targets, model.logits, k=5),
        "log_loss": reference.log_loss(targets, metrics.softmax(model.logits)),
    }
    for kind in ("macro", "weighted"):
        rates = reference.precision_recall_fscore_support(
            targets, model.logits.argmax(axis=1), average=kind
        )
        for name, rate in zip(("precision", "recall", "f1"), rates[:3], strict=True):
            wanted[f"{name}_{kind}"] = rate
    for metric, value in wanted.items():
        assert found[metric].value == pytest.approx(value, abs=1e-6), metric
        assert found[metric].low < value < found[metric].high, metric
        assert found[metric].n == 300
    scores = CLASSES.scores(model.logits, targets, model.labels)
    for metric, value in scores.items():
        assert found[metric].value == pytest.approx(value), metric
    for metric in ("size_bytes", "file_bytes", "parameters", "multiply_adds"):
        record = found[metric]
        assert record.low == record.high == record.value == getattr(model, metric)
        assert record.n == 1


def test_evidence_says_of_what_and_where() -> None:
    targets = np.arange(20) % 2
    record = figures(measured(model_of(targets, num_classes=2), targets))["accuracy"]
    assert (record.model, record.split, record.data) == ("sha256:model", "test", "data")
    assert (record.hardware, record.runtime, record.threads) == ("a processor", "a runtime", 2)
    json.dumps(record.to_json(), allow_nan=False)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(chunk: int) -> None:
    targets = np.random.default_rng(2).integers(0, 4, 50)
    model = model_of(targets, num_classes=4)
    whole = measured(model_of(targets, num_classes=4), targets)
    assert measured(model, targets, chunk=chunk).evidence == whole.evidence
    assert max(model.batches) <= chunk


def test_per_class_evidence_and_the_table_agree() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2])
    logits = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 1, 0]] * 5  # class 3 never occurs
    found = measured(Remembered(logits, ("a", "b", "c", "<d>")), targets)
    ledger = Ledger(found.evidence)
    recall = ledger.find("recall", slice="label=a")
    assert recall is not None
    assert (recall.value, recall.n) == (pytest.approx(2 / 3), 3)
    precision = ledger.find("precision", slice="label=b")
    assert precision is not None
    assert (precision.value, precision.n) == (pytest.approx(2 / 3), 3)
    absent = ledger.find("f1", slice="label=<d>")
    assert absent is not None
    assert (absent.value, absent.low, absent.high, absent.n) == (0.0, 0.0, 1.0, 0)
    assert found.per_label is not None
    assert found.per_label.scores.support.tolist() == [3, 2, 1, 0]
    assert found.confusion is not None
    assert found.confusion.dense()[0].tolist() == [2, 1, 0, 0]
    assert found.reliability is not None
    assert found.reliability.samples.sum() == 6
    assert (found.numbers, found.texts) == (None, ())


def test_the_most_confident_mistakes_come_first() -> None:
    targets = np.array([0, 0, 0, 0])
    logits = np.array([[3, 0], [0, 1], [0, 9], [0, 2]], dtype=np.float32)
    found = measured(Remembered(logits, ("a", "b")), targets)
    assert found.worst is not None
    assert found.worst.tolist() == [2, 3, 1]
    assert found.stats["predicted"].tolist() == [0, 1, 1, 1]


def test_accuracy_without_near_duplicates() -> None:
    targets = np.array([0, 0, 0, 0])
    logits = np.array([[3, 0], [0, 1], [3, 0], [3, 0]], dtype=np.float32)
    model = Remembered(logits, ("a", "b"))
    found = measured(model, targets, near_duplicates=np.array([3, 99]))  # the first sample
    record = Ledger(found.evidence).find("accuracy", slice=WITHOUT_NEAR)
    assert record is not None
    assert (record.value, record.n) == (pytest.approx(2 / 3), 3)
    clean = measured(model, targets, near_duplicates=np.array([99]))
    assert Ledger(clean.evidence).find("accuracy", slice=WITHOUT_NEAR) is None


@pytest.mark.parametrize(("num_classes", "has_top5"), [(5, False), (6, True)])
def test_the_top5_of_five_classes_or_fewer_is_not_measured(num_classes, has_top5) -> None:
    targets = np.arange(12) % num_classes
    found = figures(measured(model_of(targets, num_classes=num_classes), targets))
    assert ("top5_accuracy" in found) is has_top5


def test_one_sample_and_one_class_are_measured() -> None:
    found = figures(measured(Remembered(np.zeros((1, 1), np.float32), ("a",)), np.array([0])))
    assert found["accuracy"].value == 1.0
    assert found["accuracy"].low < 0.3


def test_a_hundred_thousand_classes() -> None:
    targets = np.arange(40) * 2000
    model = model_of(targets, num_classes=100_000)
    found = measured(model, targets)
    assert figures(found)["f1_macro"].n == 40
    assert not any(record.slice for record in found.evidence)
    assert found.confusion is not None
    assert len(found.confusion.counts) == 40


def test_what_cannot_be_measured_is_refused() -> None:
    targets = np.arange(4) % 2
    with pytest.raises(DataError, match="test split holds no samples"):
        measured(model_of(targets, num_classes=2), targets[:0])
    broken = model_of(targets, num_classes=2)
    broken.logits[1, 0] = np.nan
    with pytest.raises(DataError, match="aren't finite"):
        measured(broken, targets)
    with pytest.raises(DataError, match="from 0 to 1"):
        measured(model_of(targets, num_classes=2), targets + 5)


# -- classes that training has none of -------------------------------------------------------


def with_unknown() -> tuple[Remembered, Measurement]:
    """Measure 60 samples of three classes, 12 of which are of one that the model doesn't know."""
    targets = np.arange(60) % 2
    model = model_of(targets, num_classes=2)
    targets[:12] = 2
    samples = replace(numbered(targets), unknown=("<emu>",))
    return model, measure(model, samples, CLASSES, fingerprint="data", place=PLACE)


def test_unknown_classes_count_as_wrong_and_are_listed() -> None:
    model, found = with_unknown()
    hits = int((model.logits.argmax(axis=1) == np.arange(60) % 2)[12:].sum())
    overall = figures(found)
    assert overall["accuracy"].value == pytest.approx(hits / 60)
    assert overall["accuracy"].n == 60
    assert "12 are of classes that aren't in training, and count as wrong" in (
        overall["accuracy"].method
    )
    assert "top5_accuracy" not in overall
    for metric in ("f1_macro", "recall_macro", "accuracy", "log_loss", "calibration_error"):
        assert overall[metric].low < overall[metric].value < overall[metric].high, metric
    assert found.per_label is not None
    assert found.confusion is not None
    assert overall["recall_macro"].value == pytest.approx(
        found.per_label.scores.recall[:2].sum() / 3
    )
    assert (found.labels, found.names) == (("class 0", "class 1"), ("class 0", "class 1", "<emu>"))
    recall = Ledger(found.evidence).find("recall", slice="label=<emu>")
    assert recall is not None
    assert (recall.value, recall.n) == (0.0, 12)
    assert "not in training, so never predicted" in recall.method
    assert found.confusion.dense()[2, 2] == 0
    assert found.confusion.dense()[2].sum() == 12
    json.dumps([record.to_json() for record in found.evidence], allow_nan=False)


def test_the_log_loss_leaves_unknown_classes_out_and_says_so() -> None:
    model, found = with_unknown()
    record = figures(found)["log_loss"]
    wanted = reference.log_loss(np.arange(48) % 2, metrics.softmax(model.logits[12:]))
    assert record.value == pytest.approx(wanted)
    assert record.n == 48
    assert "without 12 samples of classes that aren't in training" in record.method


def test_samples_of_unknown_classes_alone_have_no_log_loss() -> None:
    model = model_of(np.arange(8) % 2, num_classes=2)
    samples = replace(numbered(np.full(8, 2)), unknown=("emu",))
    found = figures(measure(model, samples, CLASSES, fingerprint="data", place=PLACE))
    assert "log_loss" not in found
    assert found["accuracy"].value == 0.0


# -- numbers -----------------------------------------------------------------------------------

NUMBERS = TASKS["regression", OutputKind.REGRESSION]


def numbers(count: int = 200) -> tuple[Remembered, np.ndarray]:
    random = np.random.default_rng(0)
    targets = random.normal(size=(count, 1)).astype(np.float32)
    outputs = (targets + random.normal(scale=0.5, size=(count, 1))).astype(np.float32)
    return Remembered(outputs, ("width",)), targets


def test_numbers_are_measured() -> None:
    model, targets = numbers()
    found = measured(model, targets, NUMBERS)
    records = figures(found)
    for metric, value in NUMBERS.scores(model.logits, targets, ("width",)).items():
        assert records[metric].value == pytest.approx(value)
        assert records[metric].low < value < records[metric].high
    assert (records["mae"].n, records["mae"].split, records["mae"].data) == (200, "test", "data")
    # the mean of |N(0, 0.5)| is 0.5 · √(2/π)
    assert records["mae"].low < 0.5 * (2 / np.pi) ** 0.5 < records["mae"].high
    assert records["size_bytes"].value == 30
    assert found.numbers is not None
    np.testing.assert_array_equal(found.numbers[0], model.logits)
    assert found.worst is not None
    assert found.worst[0] == np.abs(model.logits - targets).argmax()
    assert (found.confusion, found.per_label, found.reliability) == (None, None, None)


def test_figures_without_near_duplicates_stand_beside() -> None:
    model, targets = numbers(50)
    rows = numbered(targets).rows

    def without(near: Any) -> dict[str, Evidence]:
        found = measured(model, targets, NUMBERS, near_duplicates=near)
        return {item.metric: item for item in found.evidence if item.slice == WITHOUT_NEAR}

    records = without(rows[:5])
    assert records["mae"].value == pytest.approx(np.abs(model.logits[5:] - targets[5:]).mean())
    assert records["mae"].low < records["mae"].value < records["mae"].high
    assert (records["mae"].n, records["mae"].hardware) == (45, "a processor")
    assert "without the 5 samples that resemble one of another split" in records["mae"].method
    assert without(None) == without(np.array([], np.int64)) == without(rows) == {}


# -- several labels ----------------------------------------------------------------------------

LABELS = ("a", "b", "c")
MULTI_LABEL = TASKS["text-classification", OutputKind.MULTI_LABEL]


def sets_of(outputs: np.ndarray, targets: np.ndarray) -> Measurement:
    return measured(Remembered(outputs.astype(np.float32), LABELS), targets, MULTI_LABEL)


def test_several_labels_are_measured_as_wholes_and_label_by_label() -> None:
    random = np.random.default_rng(1)
    targets = random.random((200, 3)) < 0.4
    outputs = random.normal(size=(200, 3)) + np.where(targets, 1.0, -1.0)
    found = sets_of(outputs, targets)
    overall = figures(found)
    for metric, value in MULTI_LABEL.scores(outputs, targets, LABELS).items():
        assert overall[metric].value == pytest.approx(value, abs=1e-6)
        assert overall[metric].low < value < overall[metric].high
    recall = {item.slice: item for item in found.evidence if item.metric == "recall" and item.slice}
    assert list(recall) == ["label=a", "label=b", "label=c"]
    first = recall["label=a"]
    assert first.value == (outputs[:, 0] >= 0)[targets[:, 0]].mean()
    assert first.n == targets[:, 0].sum()
    assert first.low < first.value < first.high
    assert (first.split, first.model, first.hardware) == ("test", "sha256:model", "a processor")
    assert found.worst is not None
    is_wrong = ((outputs >= 0) != targets).any(axis=1)
    assert is_wrong[found.worst].all()
    assert found.worst[0] == np.where(is_wrong, found.stats["losses"], 0).argmax()


def test_bounds_leave_room_where_all_labels_are_right() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]] * 8, dtype=np.bool_)
    overall = figures(sets_of(np.where(targets, 9.0, -9.0), targets))
    for metric in ("exact_match", "f1_micro", "f1_macro", "precision_macro", "recall_macro"):
        assert (overall[metric].value, overall[metric].high) == (1.0, 1.0)
        assert 0.7 < overall[metric].low < 0.95


def test_no_label_anywhere_is_measured_without_a_division_by_zero() -> None:
    overall = figures(sets_of(np.full((5, 3), -1.0), np.zeros((5, 3), dtype=np.bool_)))
    values = [overall[metric].value for metric in ("exact_match", "f1_micro", "f1_macro")]
    assert values == [1.0, 0.0, 0.0]


def test_unknown_labels_count_as_missed_and_are_listed() -> None:
    random = np.random.default_rng(2)
    targets = random.random((200, 4)) < 0.4
    outputs = random.normal(size=(200, 3)) + np.where(targets[:, :3], 1.0, -1.0)
    samples = replace(numbered(targets), unknown=("new",))
    model = Remembered(outputs.astype(np.float32), LABELS)
    found = measure(model, samples, MULTI_LABEL, fingerprint="data", place=PLACE)
    overall = figures(found)
    predicted = np.pad(outputs >= 0, ((0, 0), (0, 1)))
    assert overall["exact_match"].value == (predicted == targets).all(axis=1).mean()
    lost = int(targets[:, 3].sum())
    assert overall["log_loss"].n == 200 - lost
    assert f"without {lost} samples of classes that aren't in training" in (
        overall["log_loss"].method
    )
    recall = Ledger(found.evidence).find("recall", slice="label=new")
    assert recall is not None
    assert (recall.value, recall.n) == (0.0, lost)
    assert found.names == (*LABELS, "new")


# -- texts and other outputs -------------------------------------------------------------------


class Writer(Remembered):
    """Answers each source with its first three words."""

    def predict(self, inputs: list[str], *, top: int) -> list[list[dict[str, str]]]:
        return [[{"text": " ".join(text.split()[:3])}] for text in inputs]


def test_texts_are_written_and_compared() -> None:
    sources = ["one two three four", "five six seven eight"] * 20
    references = ["one two three", "five six nine"] * 20
    task = TASKS["summarization", OutputKind.SEQ2SEQ]
    targets = np.zeros(40, dtype=[("next", "int64", (2,))])
    targets["next"] = [1, 2]
    samples = replace(numbered(targets), pairs=lambda: (sources, references))
    model = Writer(np.zeros((40, 2, 4), np.float32), ())
    found = measure(model, samples, task, fingerprint="data", place=PLACE)
    records = figures(found)
    assert found.texts[:2] == ("one two three", "five six seven")
    assert records["rouge1"].value == pytest.approx((1 + 2 / 3) / 2)
    assert records["rouge1"].low < records["rouge1"].value < records["rouge1"].high
    assert "texts generated as the model file says" in records["rouge1"].method
    assert records["perplexity"].value == pytest.approx(4)  # all of four tokens alike
    assert (found.worst, found.confusion) == (None, None)


def test_large_outputs_are_answered_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.arange(100) % 6
    model = model_of(targets, num_classes=6)
    whole = measured(model, targets)
    assert model.batches == [32, 68]
    module = importlib.import_module("modelwright.evaluation.measure")
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", 60)
    model.batches.clear()
    assert measured(model, targets).evidence == whole.evidence
    assert model.batches == [32, *[10] * 6, 8]
