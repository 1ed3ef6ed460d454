"""An image, a text or a recording to one label out of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from modelwright import metrics
from modelwright.kinds import OutputKind
from modelwright.tasks.task import Floats, Prediction, SampleStats, Task


def _sample_stats(outputs: Floats, targets: NDArray[Any], labels: Sequence[str]) -> SampleStats:
    found = metrics.outcomes(outputs, targets, unknown=max(len(labels) - outputs.shape[1], 0))
    return {"hits": found.hits, "losses": found.losses}


def _compute(stats: SampleStats) -> Mapping[str, float]:
    return {"accuracy": float(stats["hits"].mean()), **metrics.mean_loss(stats["losses"])}


def _decode(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    probabilities = metrics.softmax(outputs)
    best = metrics.top_classes(outputs, min(top, len(labels)))
    return [
        [{"label": labels[k], "probability": float(row[k])} for k in order]
        for row, order in zip(probabilities, best, strict=True)
    ]


TASKS = tuple(
    Task(
        name=name,
        output_kind=OutputKind.SINGLE_LABEL,
        select_by="accuracy",
        sample_stats=_sample_stats,
        compute=_compute,
        decode=_decode,
        ties_by="log_loss",
    )
    for name in ("image-classification", "text-classification", "audio-classification")
)
