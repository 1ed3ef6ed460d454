"""What all records of a measurement share."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.evaluation.measurement import Measurement, recorder, sizes
from tests.evaluation.small import Remembered, numbered


@pytest.mark.parametrize(
    ("name", "split"), [("test", "test"), ("validation", "validation"), ("photos", "")]
)
def test_a_splits_name_says_which_evidence_it_gives(name: str, split: str) -> None:
    record = recorder(numbered(np.zeros(3), name=name), "data", model="m", threads=2)
    made = record("accuracy", 0.5, (0.1, 0.9), n=3, method="made up")
    assert (made.split, made.data, made.model, made.threads) == (split, "data", "m", 2)


def test_sizes_are_exact() -> None:
    records = sizes(Remembered(np.zeros((1, 1), np.float32), ("a",)))
    assert {item.metric: (item.low, item.value, item.high, item.n) for item in records} == {
        "size_bytes": (30, 30, 30, 1),
        "file_bytes": (40, 40, 40, 1),
        "parameters": (10, 10, 10, 1),
        "multiply_adds": (20, 20, 20, 1),
    }


def test_labels_that_the_model_does_not_know_go_on_behind_its_own() -> None:
    assert Measurement((), "m", {}, ("a", "b"), ("c",)).names == ("a", "b", "c")
