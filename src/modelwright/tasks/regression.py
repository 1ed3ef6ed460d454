"""An image, a text or a recording to one number, or to several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright import metrics
from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.tasks.task import Floats, Prediction, SampleStats, Task


def _sample_stats(outputs: Floats, targets: NDArray[Any], labels: Sequence[str]) -> SampleStats:
    """Return predictions and targets `[N, D]`.

    Raises:
        DataError: a prediction isn't finite.
    """
    predicted = np.asarray(outputs, dtype=np.float64).reshape(len(targets), -1)
    if not np.isfinite(predicted).all():
        raise DataError("the model's predictions aren't finite")
    wanted = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
    return {"predicted": predicted, "targets": wanted}


def _compute(stats: SampleStats) -> Mapping[str, float]:
    return metrics.number_metrics(stats["predicted"], stats["targets"])


def _decode(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    return [
        [{"label": name, "value": float(value)} for name, value in zip(labels, row, strict=True)]
        for row in outputs
    ]


TASK = Task(
    name="regression",
    output_kind=OutputKind.REGRESSION,
    select_by="rmse",
    sample_stats=_sample_stats,
    compute=_compute,
    decode=_decode,
)
