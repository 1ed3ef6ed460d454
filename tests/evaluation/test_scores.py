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
from modelwright.tasks import TASKS
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
