"""The probability from which on a class is called: chosen on validation, measured on test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation import (
    Place,
    choose_threshold,
    chosen_threshold,
    measure_threshold,
    require_class,
    threshold_evidence,
)
from modelwright.evaluation.threshold import highest_threshold
from modelwright.ledger import Ledger
from modelwright.tasks.inference import Inference, Threshold

PLACE = Place("a processor", "a runtime", 1)


class Model:
    """Says how probable the second class is: what its input holds."""

    digest, labels = "sha256:0", ("well", "sick")
    parameters = multiply_adds = size_bytes = file_bytes = 1

    def __init__(self, threshold=None):
        self.inference = Inference(
            threshold=None if threshold is None else Threshold("sick", threshold)
        )

    def outputs(self, inputs):
        chance = inputs[:, 0].astype(np.float64)
        return np.stack([np.log1p(-chance), np.log(chance)], axis=1)


def split(name, chances, targets):
    inputs = np.array(chances, np.float32)[:, None]
    return Split(name, inputs, np.arange(len(inputs)), np.array(targets))


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=60).filter(
        lambda rows: any(own for _, own in rows)
    ),
    st.floats(0.01, 1.0),
)
def test_it_is_the_highest_that_keeps_the_recall(rows, min_recall):
    chances = np.array([chance for chance, _ in rows])
    own = np.array([own for _, own in rows])
    threshold = highest_threshold(chances, own, min_recall=min_recall)
    _, recalls, thresholds = precision_recall_curve(own, chances)
    enough = thresholds[recalls[:-1] >= min_recall - 1e-9]
    assert threshold == enough.max()


def test_nineteen_of_twenty_are_enough_for_95_percent():
    chances = np.arange(1, 21) / 21
    assert highest_threshold(chances, np.ones(20, bool), min_recall=0.95) == chances[1]


def test_recall_and_precision_from_it_on():
    validation = split("validation", [0.9, 0.6, 0.3, 0.8], [1, 1, 1, 0])
    chosen, method = choose_threshold(Model(), validation, label="sick", min_recall=0.6)
    assert chosen == pytest.approx(0.6)
    assert "at least 0.6 of the validation split's 3 `sick` are found" in method
    test = split("test", [0.7, 0.61, 0.2, 0.5, 0.65], [1, 1, 1, 1, 0])
    recall, precision = measure_threshold(Model(chosen), test, "t", PLACE)
    assert (recall.metric, recall.value, recall.n) == ("recall_at_threshold", 0.5, 4)
    assert (precision.metric, precision.value, precision.n) == (
        "precision_at_threshold",
        pytest.approx(2 / 3),
        3,
    )
    assert recall.low < 0.5 < recall.high


def test_the_evidence_of_a_threshold_says_whose_it_is_and_where_it_was_chosen():
    record = threshold_evidence(
        Threshold("sick", 0.6), method="by hand", model="sha256:0", fingerprint="v"
    )
    assert (record.value, record.low, record.high) == (0.6, 0.6, 0.6)
    assert (record.slice, record.split, record.data) == ("label=sick", "validation", "v")
    assert chosen_threshold(Ledger([record])) == record
    assert chosen_threshold(Ledger()) is None


def test_a_model_without_a_threshold_has_no_figures_at_one():
    assert measure_threshold(Model(), split("test", [0.1], [0]), "t", PLACE) == []


def test_nothing_called_has_no_precision():
    validation = split("validation", [0.9], [1])
    chosen, _ = choose_threshold(Model(), validation, label="sick", min_recall=1.0)
    test = split("test", [0.1, 0.2], [1, 0])
    recall, precision = measure_threshold(Model(chosen), test, "t", PLACE)
    assert (recall.value, precision.value, precision.low, precision.high) == (0.0, 0.0, 0.0, 1.0)


def test_a_class_that_isnt_there_is_refused():
    with pytest.raises(DataError, match="sick"):
        require_class("sock", Model.labels)
    with pytest.raises(DataError, match="holds no `sick`"):
        choose_threshold(Model(), split("validation", [0.1], [0]), label="sick", min_recall=0.9)


def test_classes_that_the_model_does_not_know_are_others():
    validation = replace(split("validation", [0.9, 0.95], [1, 2]), unknown=("lost",))
    chosen, _ = choose_threshold(Model(), validation, label="sick", min_recall=1.0)
    assert chosen == pytest.approx(0.9)
    test = replace(split("test", [0.95, 0.92], [1, 2]), unknown=("lost",))
    recall, precision = measure_threshold(Model(chosen), test, "t", PLACE)
    assert (recall.value, recall.n, precision.value, precision.n) == (1.0, 1, 0.5, 2)
