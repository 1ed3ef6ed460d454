"""An image to one label out of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from numpy.typing import NDArray

from modelwright import metrics
from modelwright.tasks.task import Floats, Prediction, SampleStats, Task


def _tally(outputs: Floats, targets: NDArray[Any], labels: Sequence[str]) -> SampleStats:
    """Return the fields of `metrics.Outcomes`."""
    outcomes = metrics.outcomes(outputs, targets, unknown=max(len(labels) - outputs.shape[1], 0))
    return {field.name: getattr(outcomes, field.name) for field in fields(outcomes)}


def _summary(tally: SampleStats) -> Mapping[str, float]:
    return {"accuracy": float((tally["ranks"] == 0).mean()), **metrics.mean_loss(tally["losses"])}


def _decode(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    probabilities = metrics.softmax(outputs)
    best = metrics.top_classes(outputs, min(top, len(labels)))
    return [
        [{"label": labels[k], "probability": float(row[k])} for k in order]
        for row, order in zip(probabilities, best, strict=True)
    ]


TASK = Task(
    name="image-classification",
    select_by="accuracy",
    higher_is_better=True,
    tally=_tally,
    summary=_summary,
    decode=_decode,
    ties_by="log_loss",
)
