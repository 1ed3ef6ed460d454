"""Every metric of classes against scikit-learn or a hand-worked value, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from modelwright import metrics
from modelwright.arrays import Array, Doubles
from modelwright.errors import DataError
from modelwright.metrics import classification

CLOSE = 1e-12  # both sides compute in float64
CLOSE_FLOAT32 = 1e-6  # the reference rounds probabilities to the outputs' type first


def sample(seed: int, *, count: int = 400, num_classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, num_classes, count)
    outputs = random.normal(size=(count, num_classes)).astype(np.float32)
    outputs[np.arange(count), targets] += 1.5
    return outputs, targets


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy_is_scikit_learns(k: int) -> None:
    outputs, targets = sample(1)
    wanted = reference.top_k_accuracy_score(targets, outputs, k=k)
    found = (metrics.outcomes(outputs, targets).ranks < k).mean()
    assert found == pytest.approx(wanted, abs=CLOSE)
    if k == 1:
        assert metrics.accuracy(outputs, targets) == pytest.approx(wanted, abs=CLOSE)


def log_loss(outputs: np.ndarray, targets: np.ndarray) -> float:
    return metrics.mean_loss(metrics.outcomes(outputs, targets).losses)["log_loss"]


def test_log_loss_is_scikit_learns() -> None:
    outputs, targets = sample(2)
    probabilities = metrics.softmax(outputs)
    wanted = reference.log_loss(targets, probabilities)
    assert log_loss(outputs, targets) == pytest.approx(wanted, abs=CLOSE_FLOAT32)


def test_log_loss_neither_overflows_nor_underflows() -> None:
    outputs = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32)
    assert log_loss(outputs, np.array([0, 0])) == pytest.approx(1e4, rel=1e-9)


@pytest.mark.parametrize("kind", ["macro", "weighted"])
@pytest.mark.parametrize("absent", ["none", "never a target", "never predicted", "neither"])
def test_averages_are_scikit_learns(kind: str, absent: str) -> None:
    outputs, targets = sample(3)
    if absent in ("never a target", "neither"):
        targets = np.where(targets == 4, 5, targets)
    if absent in ("never predicted", "neither"):
        outputs[:, 4] = -100
    predicted = outputs.argmax(axis=1)
    scores = metrics.class_scores(metrics.confusion(predicted, targets, num_classes=7))
    found = metrics.averages(scores.hits, scores.predicted, scores.support)
    wanted = reference.precision_recall_fscore_support(
        targets, predicted, average=kind, zero_division=0
    )
    for name, value in zip(("precision", "recall", "f1"), wanted[:3], strict=True):
        assert found[f"{name}_{kind}"] == pytest.approx(value, abs=CLOSE), name


def test_class_scores_and_confusion_are_scikit_learns() -> None:
    outputs, targets = sample(4)
    targets = np.where(targets == 2, 3, targets)
    found = metrics.outcomes(outputs, targets)
    cells = metrics.confusion(found.predicted, found.targets, num_classes=7)
    labels = list(range(7))
    wanted = reference.confusion_matrix(targets, found.predicted, labels=labels)
    np.testing.assert_array_equal(cells.dense(), wanted)
    scores = metrics.class_scores(cells)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        targets, found.predicted, labels=labels, zero_division=0
    )
    np.testing.assert_allclose(scores.precision, precision, atol=CLOSE)
    np.testing.assert_allclose(scores.recall, recall, atol=CLOSE)
    np.testing.assert_allclose(scores.f1, f1, atol=CLOSE)
    np.testing.assert_array_equal(scores.support, support)


def test_calibration_error_by_hand() -> None:
    # Bins of a fifteenth: 0.5 and 0.52 fall into the eighth, 0.9 and 0.92 into the fourteenth.
    confidence = np.array([0.5, 0.52, 0.9, 0.92])
    hits = np.array([True, False, True, True])
    table = metrics.reliability(confidence, hits)
    wanted = (abs(0.51 - 0.5) * 2 + abs(0.91 - 1.0) * 2) / 4
    assert metrics.calibration_error(table) == pytest.approx(wanted, abs=CLOSE)


def test_a_confidence_of_exactly_one_counts() -> None:
    table = metrics.reliability(np.array([1.0, 1.0]), np.array([True, False]))
    assert table.samples[-1] == 2
    assert metrics.calibration_error(table) == 0.5


def test_ties_go_to_the_lower_class_everywhere() -> None:
    outputs = np.zeros((1, 200), dtype=np.float32)
    assert metrics.top_classes(outputs, 3).tolist() == [[0, 1, 2]]
    found = metrics.outcomes(np.zeros((3, 3)), np.array([0, 1, 2]))
    assert found.ranks.tolist() == [0, 1, 2]
    assert found.predicted.tolist() == [0, 0, 0]


@given(
    st.integers(1, 400), st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from([2, 1000])
)
def test_top_classes_are_the_first_of_a_stable_sort(
    num_classes: int, k: int, seed: int, levels: int
) -> None:
    outputs = np.random.default_rng(seed).integers(0, levels, (3, num_classes)).astype(np.float32)
    wanted = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(metrics.top_classes(outputs, min(k, num_classes)), wanted)


@given(st.integers(1, 39), st.integers(0, 2**32 - 1))
def test_batches_joined_are_the_whole(cut: int, seed: int) -> None:
    outputs, targets = sample(seed, count=40)
    whole = metrics.outcomes(outputs, targets)
    first, second = (
        metrics.outcomes(outputs[part], targets[part]) for part in (slice(cut), slice(cut, None))
    )
    np.testing.assert_array_equal(np.concatenate([first.ranks, second.ranks]), whole.ranks)
    np.testing.assert_array_equal(np.concatenate([first.losses, second.losses]), whole.losses)


def test_very_many_classes_are_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = sample(5)
    whole = metrics.outcomes(outputs, targets)
    monkeypatch.setattr(classification, "_OUTPUTS_AT_ONCE", 70)
    np.testing.assert_array_equal(metrics.outcomes(outputs, targets).losses, whole.losses)


def test_a_hundred_thousand_classes_need_no_square() -> None:
    targets = np.arange(1000) * 97
    cells = metrics.confusion(targets[::-1], targets, num_classes=100_000)
    scores = metrics.class_scores(cells)
    assert len(cells.counts) == 1000
    assert scores.support.sum() == 1000
    assert scores.hits.sum() == 0


def number_metrics(predictions: Array, targets: Array) -> Mapping[str, Doubles]:
    return metrics.number_metrics(metrics.number_columns(predictions, targets).sum(axis=0))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_number_metrics_are_scikit_learns(dimensions: int) -> None:
    random = np.random.default_rng(6)
    targets = random.normal(50, 3, size=(60, dimensions))
    predictions = targets + random.normal(size=targets.shape)
    found = number_metrics(predictions, targets)
    squared = reference.mean_squared_error(targets, predictions)
    assert found["rmse"] == pytest.approx(squared**0.5)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(targets, predictions))
    assert found["r2"] == pytest.approx(reference.r2_score(targets, predictions))


def test_numbers_of_some_samples_follow_from_their_sums() -> None:
    # A bootstrap sums the columns of a draw, whose mean differs from that of all samples.
    random = np.random.default_rng(7)
    targets = random.normal(50, 3, size=(60, 2))
    predictions = targets + random.normal(size=targets.shape)
    drawn = np.argsort(targets[:, 0])[:20]
    found = metrics.number_metrics(metrics.number_columns(predictions, targets)[drawn].sum(axis=0))
    assert found["r2"] == pytest.approx(reference.r2_score(targets[drawn], predictions[drawn]))


def test_r2_of_targets_that_do_not_vary() -> None:
    same = np.full(4, 2.0)
    assert number_metrics(same, same)["r2"] == 1.0
    assert number_metrics(same + 1, same)["r2"] == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(value: float) -> None:
    outputs = np.zeros((3, 2))
    outputs[1, 0] = value
    with pytest.raises(DataError, match=r"1 of 3 .* aren't finite .*first that of sample 1"):
        metrics.accuracy(outputs, np.array([0, 1, 0]))
    with pytest.raises(DataError, match="aren't finite"):
        metrics.softmax(outputs)
    with pytest.raises(DataError, match="aren't finite"):
        number_metrics(outputs, np.zeros((3, 2)))


def test_targets_that_do_not_fit_are_refused() -> None:
    outputs = np.zeros((2, 3))
    with pytest.raises(DataError, match="from 0 to 2, and these from 0 to 3"):
        metrics.accuracy(outputs, np.array([0, 3]))
    with pytest.raises(DataError, match="from -1"):
        metrics.accuracy(outputs, np.array([0, -1]))
    with pytest.raises(DataError, match="whole numbers"):
        metrics.accuracy(outputs, np.array([0.0, 1.0]))
    with pytest.raises(DataError, match="2 samples need as many"):
        metrics.accuracy(outputs, np.array([0]))
    with pytest.raises(DataError, match=r"\[samples, classes\]"):
        metrics.accuracy(np.zeros(3), np.array([0]))
    with pytest.raises(DataError, match="differ in shape"):
        number_metrics(np.zeros(3), np.zeros(2))


def test_no_samples_are_refused() -> None:
    nothing = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    with pytest.raises(DataError, match="no samples"):
        metrics.accuracy(*nothing)
    with pytest.raises(DataError, match="no samples"):
        metrics.calibration_error(metrics.reliability(np.zeros(0), np.zeros(0, dtype=bool)))
    with pytest.raises(DataError, match="no samples"):
        number_metrics(np.zeros(0), np.zeros(0))


# -- classes that no output stands for -------------------------------------------------------


@pytest.mark.parametrize("kind", ["macro", "weighted"])
def test_unknown_classes_are_mistakes_and_count_in_averages_as_in_scikit_learn(kind: str) -> None:
    outputs, targets = sample(5)
    targets[:40], targets[40:55] = 7, 8
    found = metrics.outcomes(outputs, targets, unknown=2)
    assert found.hits.mean() == (outputs.argmax(axis=1) == targets).mean()
    cells = metrics.confusion(found.predicted, targets, num_classes=9)
    scores = metrics.class_scores(cells)
    assert scores.support[7:].tolist() == [40, 15]
    assert scores.recall[7:].tolist() == scores.f1[7:].tolist() == [0.0, 0.0]
    values = metrics.averages(scores.hits, scores.predicted, scores.support)
    wanted = reference.f1_score(targets, found.predicted, average=kind, zero_division=0)
    assert values[f"f1_{kind}"] == pytest.approx(wanted, abs=CLOSE)


def test_unknown_classes_are_among_no_first_answers_and_have_no_loss() -> None:
    outputs, targets = sample(6, num_classes=3)
    known = log_loss(outputs[30:], targets[30:])
    targets[:30] = 3
    found = metrics.outcomes(outputs, targets, unknown=1)
    assert (found.ranks[:30] == metrics.NEVER).all()
    assert (found.ranks < 5).sum() == len(targets) - 30
    assert np.isinf(found.losses[:30]).all()
    assert metrics.mean_loss(found.losses) == {"log_loss": pytest.approx(known, abs=CLOSE)}
    assert metrics.mean_loss(found.losses[:30]) == {}
    parts = [
        metrics.outcomes(outputs[at], targets[at], unknown=1) for at in (slice(20), slice(20, 400))
    ]
    losses = np.concatenate([part.losses for part in parts])
    np.testing.assert_array_equal(losses, found.losses)


def test_more_classes_than_are_said_to_be_unknown_are_refused() -> None:
    outputs, targets = sample(7, num_classes=3)
    with pytest.raises(DataError, match="from 0 to 3, and these from 0 to 4"):
        metrics.outcomes(outputs, np.where(targets == 1, 4, targets), unknown=1)
