"""Metrics of sets of labels against scikit-learn or a hand-worked value, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from modelwright import metrics
from modelwright.errors import DataError

CLOSE = 1e-12  # both sides compute in float64


def sample(seed: int, *, count: int = 300, num_labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.random((count, num_labels)) < 0.3
    outputs = random.normal(size=(count, num_labels)) + np.where(targets, 1.0, -1.0)
    return outputs.astype(np.float32), targets


def test_exact_match_is_scikit_learns_accuracy() -> None:
    outputs, targets = sample(1)
    wanted = reference.accuracy_score(targets, outputs >= 0)
    found = metrics.exact_match(metrics.label_outcomes(outputs, targets))
    assert found == pytest.approx(wanted, abs=CLOSE)


def test_f1_micro_is_scikit_learns() -> None:
    outputs, targets = sample(2)
    counts = metrics.label_counts(metrics.label_outcomes(outputs, targets))
    wanted = reference.f1_score(targets, outputs >= 0, average="micro")
    assert metrics.f1_micro(*counts) == pytest.approx(wanted, abs=CLOSE)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("absent", ["none", "never wanted", "never chosen", "neither"])
def test_rates_and_their_averages_are_scikit_learns(name: str, absent: str) -> None:
    outputs, targets = sample(3)
    if absent in ("never wanted", "neither"):
        targets[:, 4] = False
    if absent in ("never chosen", "neither"):
        outputs[:, 4] = -1.0
    chosen = outputs >= 0
    score = {
        "precision": reference.precision_score,
        "recall": reference.recall_score,
        "f1": reference.f1_score,
    }[name]
    wanted = score(targets, chosen, average=None, zero_division=0)
    counts = metrics.label_counts(metrics.label_outcomes(outputs, targets))
    scores = metrics.scores_of(*counts)
    np.testing.assert_allclose(getattr(scores, name), wanted, atol=CLOSE)
    occurs = np.flatnonzero((targets | chosen).any(axis=0))
    mean = score(targets, chosen, labels=occurs, average="macro", zero_division=0)
    assert metrics.averages(*counts)[f"{name}_macro"] == pytest.approx(mean, abs=CLOSE)


def test_the_loss_is_scikit_learns_of_each_label() -> None:
    outputs, targets = sample(4)
    outputs = outputs.astype(np.float64)
    shares = metrics.sigmoid(outputs)
    wanted = np.mean(
        [
            reference.log_loss(targets[:, at], shares[:, at], labels=[False, True])
            for at in range(targets.shape[1])
        ]
    )
    losses = metrics.label_outcomes(outputs, targets)["losses"]
    assert losses.mean() == pytest.approx(wanted, abs=CLOSE)


def test_the_loss_neither_overflows_nor_underflows() -> None:
    outputs = np.array([[1e4, -1e4]], dtype=np.float32)
    found = metrics.label_outcomes(np.vstack([outputs, outputs]), np.array([[0, 1], [1, 0]]))
    assert found["losses"].tolist() == [1e4, 0.0]


def test_a_label_is_chosen_from_one_half_on() -> None:
    found = metrics.label_outcomes(np.array([[0.0, -1e-6, 1e-6]]), np.array([[1, 1, 1]]))
    assert found["predicted"].tolist() == [[True, False, True]]


def test_no_label_at_all_is_right_where_none_is_wanted() -> None:
    found = metrics.label_outcomes(np.full((2, 3), -1.0), np.array([[0, 0, 0], [0, 1, 0]]))
    assert metrics.exact_match(found) == 0.5
    assert metrics.f1_micro(*metrics.label_counts(found)) == 0.0


@given(
    arrays.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 5))),
    st.integers(0, 2**32 - 1),
)
def test_figures_are_shares_and_perfect_where_all_is_right(targets: np.ndarray, seed: int) -> None:
    outputs = np.random.default_rng(seed).normal(size=targets.shape)
    found = metrics.label_outcomes(outputs, targets)
    counts = metrics.label_counts(found)
    for value in (metrics.exact_match(found), metrics.f1_micro(*counts)):
        assert 0.0 <= value <= 1.0
    right = metrics.label_outcomes(np.where(targets, 5.0, -5.0), targets)
    assert metrics.exact_match(right) == 1.0
    assert metrics.f1_micro(*metrics.label_counts(right)) == float(targets.any())


@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        ([[np.nan, 0.0]], [[0, 1]], "aren't finite"),
        ([[0.0, 0.0]], [[0]], "need a target for each label"),
        ([[0.0, 0.0]], [[0, 2]], "targets are 1 or 0"),
    ],
)
def test_what_is_no_outcome_is_refused(outputs: object, targets: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        metrics.label_outcomes(np.array(outputs), np.array(targets))


def test_nothing_is_measured_of_no_samples() -> None:
    found = metrics.label_outcomes(np.empty((0, 2)), np.empty((0, 2), dtype=np.bool_))
    with pytest.raises(DataError, match="no samples"):
        metrics.exact_match(found)


# -- labels that no output stands for --------------------------------------------------------


def test_unknown_labels_are_missed_as_scikit_learn_counts_them() -> None:
    outputs, targets = sample(5)
    more = np.random.default_rng(5).random((len(targets), 2)) < 0.2
    wanted = np.concatenate([targets, more], axis=1)
    found = metrics.label_outcomes(outputs, wanted, unknown=2)
    chosen = np.pad(outputs >= 0, ((0, 0), (0, 2)))
    counts = metrics.label_counts(found)
    assert metrics.exact_match(found) == reference.accuracy_score(wanted, chosen)
    micro = reference.f1_score(wanted, chosen, average="micro")
    macro = reference.f1_score(wanted, chosen, average="macro", zero_division=0)
    assert metrics.f1_micro(*counts) == pytest.approx(micro, abs=CLOSE)
    assert metrics.averages(*counts)["f1_macro"] == pytest.approx(macro, abs=CLOSE)


def test_samples_with_an_unknown_label_have_no_loss() -> None:
    outputs, targets = sample(6)
    more = np.zeros((len(targets), 1), dtype=bool)
    more[:30] = True
    found = metrics.label_outcomes(outputs, np.concatenate([targets, more], axis=1), unknown=1)
    known = metrics.label_outcomes(outputs[30:], targets[30:])["losses"]
    assert np.isinf(found["losses"][:30]).all()
    np.testing.assert_allclose(found["losses"][30:], known)
