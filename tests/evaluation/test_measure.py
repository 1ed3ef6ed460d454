"""Measuring a classification: figures, intervals, and what stands beside them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from modelwright import metrics
from modelwright.errors import DataError
from modelwright.evaluation import WITHOUT_NEAR, Measurement, Place, measure
from modelwright.ledger import Evidence, Ledger
from modelwright.recipe.evaluate import AT_THRESHOLD, METRICS, TIMED
from modelwright.tasks import TASKS
from tests.evaluation.small import Remembered, numbered

PLACE = Place("a processor", "a runtime", 2)


def model_of(targets: np.ndarray, *, num_classes: int, seed: int = 0) -> Remembered:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(targets), num_classes)).astype(np.float32)
    logits[np.arange(len(targets)), targets] += 2
    return Remembered(logits, tuple(f"class {number}" for number in range(num_classes)))


def measured(model: Remembered, targets: np.ndarray, **options: object) -> Measurement:
    return measure(model, numbered(targets), fingerprint="data", place=PLACE, **options)  # type: ignore[arg-type]


def figures(found: Measurement) -> dict[str, Evidence]:
    return {record.metric: record for record in found.evidence if not record.slice}


def test_every_metric_of_the_recipe_is_measured_and_no_other() -> None:
    targets = np.arange(60) % 6
    found = figures(measured(model_of(targets, num_classes=6), targets))
    of_labels = {name for name, metric in METRICS.items() if not metric.of or "labels" in metric.of}
    assert set(found) == of_labels - {*TIMED, *AT_THRESHOLD}


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
    scores = TASKS["image-classification"].scores(model.logits, targets, model.labels)
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
    assert model.largest_batch <= chunk


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
    assert found.classes.support.tolist() == [3, 2, 1, 0]
    assert found.confusion.dense()[0].tolist() == [2, 1, 0, 0]
    assert found.reliability.samples.sum() == 6


def test_the_most_confident_mistakes_come_first() -> None:
    targets = np.array([0, 0, 0, 0])
    logits = np.array([[3, 0], [0, 1], [0, 9], [0, 2]], dtype=np.float32)
    found = measured(Remembered(logits, ("a", "b")), targets)
    assert [item.position for item in found.mistakes] == [2, 3, 1]
    assert found.mistakes[0].row == 1  # the split stands in reverse in the store
    assert (found.mistakes[0].target, found.mistakes[0].predicted) == (0, 1)
    assert found.outcomes.predicted.tolist() == [0, 1, 1, 1]


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


def test_five_classes_or_fewer_have_a_top5_that_says_nothing() -> None:
    targets = np.arange(10) % 5
    record = figures(measured(model_of(targets, num_classes=5), targets))["top5_accuracy"]
    assert (record.value, record.low, record.high) == (1.0, 1.0, 1.0)
    assert "by definition" in record.method


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
    other = Remembered(np.zeros((4, 3), np.float32), ("a", "b"))
    with pytest.raises(DataError, match=r"shape \[4, 3\] for 4 samples and 2 labels"):
        measured(other, targets)


# -- classes that training has none of -------------------------------------------------------


def with_unknown() -> tuple[Remembered, Measurement]:
    """Measure 60 samples of three classes, 12 of which are of one that the model doesn't know."""
    targets = np.arange(60) % 2
    model = model_of(targets, num_classes=2)
    targets[:12] = 2
    samples = replace(numbered(targets), unknown=("<emu>",))
    return model, measure(model, samples, fingerprint="data", place=PLACE)


def test_unknown_classes_count_as_wrong_and_are_listed() -> None:
    model, found = with_unknown()
    hits = int((model.logits.argmax(axis=1) == np.arange(60) % 2)[12:].sum())
    overall = figures(found)
    assert overall["accuracy"].value == pytest.approx(hits / 60)
    assert overall["accuracy"].n == 60
    assert "12 are of classes that aren't in training, and count as wrong" in (
        overall["accuracy"].method
    )
    # With two classes the right one is always among five, unless it is none of them.
    assert overall["top5_accuracy"].value == pytest.approx(48 / 60)
    assert overall["top5_accuracy"].high < 1
    for metric in ("f1_macro", "recall_macro", "accuracy", "log_loss", "calibration_error"):
        assert overall[metric].low < overall[metric].value < overall[metric].high, metric
    assert overall["recall_macro"].value == pytest.approx(found.classes.recall[:2].sum() / 3)
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
    found = figures(measure(model, samples, fingerprint="data", place=PLACE))
    assert "log_loss" not in found
    assert found["accuracy"].value == 0.0
