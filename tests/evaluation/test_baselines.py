"""Simple models: what they learn, what they leave out, and how the model file compares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation import (
    BASELINES,
    DIFFERENCE,
    Place,
    answer,
    baselines,
    measure,
    measure_baselines,
)
from modelwright.evaluation.linear import nearest_centroid, ridge
from modelwright.ledger import Ledger
from modelwright.run import Progress
from tests.evaluation.small import Remembered, striped


def in_parts(features: np.ndarray, classes: np.ndarray, size: int) -> object:
    starts = range(0, len(features), size)
    return lambda: [(features[at : at + size], classes[at : at + size]) for at in starts]


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    classes = random.integers(0, 4, 40)
    classes[classes == 2] = 3  # class 2 never occurs
    features = random.normal(size=(40, 5)) + classes[:, None]
    return features.astype(np.float32), classes


def test_nearest_centroid_is_scikit_learns(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    features, classes = blobs
    found = nearest_centroid(in_parts(features, classes, 7), num_classes=4)  # type: ignore[arg-type]
    wanted = NearestCentroid().fit(features, classes).predict(features)
    np.testing.assert_array_equal(found.answer(features), wanted)


def test_ridge_is_scikit_learns(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    features, classes = blobs  # too few to choose a strength from, so it is the usual one
    found = ridge(in_parts(features, classes, 7), num_classes=4)  # type: ignore[arg-type]
    centred = features - features.mean(axis=0)
    strength = 1e-2 * float((centred.astype(np.float64) ** 2).sum()) / 5
    wanted = Ridge(alpha=strength).fit(features, np.eye(4)[classes])
    np.testing.assert_allclose(found.weights, wanted.coef_.T, atol=1e-5)
    np.testing.assert_allclose(found.offset, wanted.intercept_, atol=1e-5)


def test_features_that_do_not_vary_answer_the_majority() -> None:
    features, classes = np.zeros((30, 3), np.float32), np.repeat([0, 1], [10, 20])
    found = ridge(in_parts(features, classes, 30), num_classes=2)  # type: ignore[arg-type]
    assert found.answer(features).tolist() == [1] * 30


def test_each_baseline_learns_what_it_can() -> None:
    train, test = striped(400, seed=1), striped(200, seed=2, name="test")
    ledger = Ledger(measure_baselines(train, test, fingerprint="data"))
    found = {
        record.subject.partition(":")[2]: record for record in ledger if record.metric == "accuracy"
    }
    assert list(found) == list(BASELINES["image"]) == ["majority", "centroid", "hog"]
    most_frequent = np.bincount(train.targets).argmax()
    assert found["majority"].value == (test.targets == most_frequent).mean()
    assert found["hog"].value > 0.95  # orientations tell all
    assert found["centroid"].value < 0.7  # and mean pixels next to nothing
    assert (found["hog"].split, found["hog"].data, found["hog"].n) == ("test", "data", 200)
    assert ledger.find("accuracy") is None  # nothing of it speaks of the model


def test_baselines_never_see_the_measured_targets() -> None:
    train, test = striped(100, seed=1), striped(50, seed=2, name="test")
    other = Split("test", test.inputs, test.rows, 1 - test.targets)
    for baseline in BASELINES["image"].values():
        answers = [baseline(train, split, 2).predicted for split in (test, other)]
        np.testing.assert_array_equal(*answers)


def test_another_kind_of_input_has_the_majority_only() -> None:
    tokens = Split("train", np.zeros((3, 8), np.int64), np.arange(3), np.array([1, 1, 0]))
    found = measure_baselines(tokens, tokens, fingerprint="data", kind="tables")
    assert {record.subject for record in found} == {"baseline:majority"}
    assert found[0].value == pytest.approx(2 / 3)


def test_the_model_is_compared_on_the_same_samples() -> None:
    train, test = striped(200, seed=1), striped(200, seed=2, name="test")
    test = Split("test", np.arange(200).reshape(-1, 1), np.arange(200), test.targets)
    perfect = Remembered(np.eye(2, dtype=np.float32)[test.targets] * 9, ("a", "b"))
    found = measure(perfect, test, fingerprint="data", place=Place("here"))
    evidence = measure_baselines(train, test, fingerprint="data", kind="tables", against=found)
    record = next(item for item in evidence if item.metric == DIFFERENCE)
    share = float((test.targets == np.bincount(train.targets).argmax()).mean())
    assert record.value == pytest.approx(1 - share)
    assert 0 < record.low < record.value < record.high
    assert (record.subject, record.model) == ("baseline:majority", "sha256:model")
    assert answer(Ledger(evidence)).startswith(
        "The network beats the strongest simple method, majority"
    )


def test_tiny_images_leave_hog_out_and_say_so() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 3, 3, 1)).astype(np.uint8)
    split = Split("test", pixels, np.arange(20), np.arange(20) % 2)
    notes: list[Progress] = []
    found = measure_baselines(split, split, fingerprint="data", observe=notes.append)
    assert {record.subject for record in found} == {"baseline:majority", "baseline:centroid"}
    said = [item.note for item in notes if item.note]
    assert said == ["The baseline `hog` is left out: images of 3 × 3 pixels are too small for it."]


@pytest.mark.parametrize(
    ("height", "width"), [(224, 224), (1000, 30), (64, 1024), (65, 65), (4, 500), (128, 128)]
)
def test_large_images_are_reduced(height: int, width: int) -> None:
    pixels = np.full((1, height, width, 3), 9, np.uint8)
    reduced = baselines._reduce(pixels, baselines.HOG_SIDE)
    split = Split("test", pixels, np.arange(1), np.zeros(1, np.int64))
    assert reduced.shape[1:3] == baselines._reduced_size(split, baselines.HOG_SIDE)
    assert max(reduced.shape[1:3]) <= 64
    assert (reduced == 9).all()


def test_reducing_takes_means() -> None:
    pixels = np.arange(130, dtype=np.uint8)[None, :, None, None].repeat(130, axis=2)
    reduced = baselines._reduce(pixels, 64)
    assert reduced[0, :3, 0, 0].tolist() == [1, 4, 7]


def test_more_than_the_budget_is_drawn_from_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_TRAIN_PIXELS", 8 * 8 * 150)
    monkeypatch.setattr(baselines, "_TEST_PIXELS", 8 * 8 * 60)
    train, test = striped(200, seed=1), striped(100, seed=2, name="test")
    answers = baselines.hog(train, test, 2)
    assert len(answers.predicted) == len(set(answers.positions.tolist())) == 60
    assert "fitted on 150 of 200 samples" in answers.method
    assert "asked 60 of 100 samples" in answers.method
    assert (answers.predicted == test.targets[answers.positions]).mean() > 0.9


def test_what_has_no_classes_is_refused() -> None:
    split = striped(10, seed=0)
    numbers = Split("train", split.inputs, split.rows, split.targets.astype(np.float32))
    with pytest.raises(DataError, match="need classes, and the train split holds none"):
        measure_baselines(numbers, split, fingerprint="data")
    empty = Split("test", split.inputs, split.rows[:0], split.targets[:0])
    with pytest.raises(DataError, match="the test split holds none"):
        measure_baselines(split, empty, fingerprint="data")


def test_very_many_classes_leave_the_features_out() -> None:
    split = striped(10, seed=0)
    many = Split("test", split.inputs, split.rows, split.targets + 99_998)
    notes: list[Progress] = []
    found = measure_baselines(many, many, fingerprint="data", observe=notes.append)
    assert {record.subject for record in found} == {"baseline:majority", "baseline:centroid"}
    assert any("100,000 classes are too many" in item.note for item in notes)


def test_classes_that_training_has_none_of_count_as_wrong() -> None:
    train, samples = striped(200, seed=0), striped(80, seed=1, name="test")
    targets = samples.targets.copy()
    targets[:20] = 3
    asked = replace(samples, targets=targets, unknown=("emu", "owl"))
    plain = {
        (item.subject, item.metric): item
        for item in measure_baselines(train, samples, fingerprint="d")
    }
    found = {
        (item.subject, item.metric): item
        for item in measure_baselines(train, asked, fingerprint="d")
    }
    assert found.keys() == plain.keys()
    hog = found["baseline:hog", "accuracy"]
    assert hog.n == 80
    assert hog.value == pytest.approx(0.75, abs=0.05)
    assert plain["baseline:hog", "accuracy"].value > 0.95
