"""An image, a text or a recording to one number, or to several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelwright import metrics
from modelwright.arrays import Array, Doubles, Floats
from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.tasks.task import Prediction, SampleStats, Scoring, Task


def _sample_stats(outputs: Floats, targets: Array, labels: Sequence[str]) -> SampleStats:
    """Return predictions and targets `[N, D]`."""
    predicted, expected = (
        np.asarray(values, dtype=np.float64).reshape(len(targets), -1)
        for values in (outputs, targets)
    )
    if not np.isfinite(predicted).all():
        raise DataError("the model's predictions aren't finite")
    return {"predicted": predicted, "targets": expected}


def _columns(stats: SampleStats) -> Doubles:
    return metrics.number_columns(stats["predicted"], stats["targets"])


def _decode(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    return [
        [{"label": name, "value": float(value)} for name, value in zip(labels, row, strict=True)]
        for row in outputs
    ]


def _describe(values: Floats, labels: Sequence[str]) -> str:
    numbers = [f"{value:.6g}" for value in values]
    named = [f"{label} {number}" for label, number in zip(labels, numbers, strict=True)]
    return ", ".join(named if len(labels) > 1 else numbers)


TASK = Task(
    name="regression",
    output_kind=OutputKind.REGRESSION,
    select_by="rmse",
    goal=("r2", ">= 0.5"),
    sample_stats=_sample_stats,
    compute=Scoring(_columns, metrics.number_metrics, {"rmse": (np.square, np.sqrt)}),
    decode=_decode,
    describe=_describe,
)
