"""An image, a text or a recording to one label out of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial

from modelwright import metrics
from modelwright.arrays import Array, Floats
from modelwright.kinds import TASK_KINDS, OutputKind
from modelwright.tasks.task import Prediction, SampleStats, Task

Decision = tuple[str, float]
"""A label and the probability from which on it is predicted."""


def _numbered(threshold: Decision | None, labels: Sequence[str]) -> tuple[int, float] | None:
    return None if threshold is None else (list(labels).index(threshold[0]), threshold[1])


def _sample_stats(
    outputs: Floats, targets: Array, labels: Sequence[str], *, threshold: Decision | None = None
) -> SampleStats:
    """Return the fields of `metrics.Outcomes`."""
    outcomes = metrics.outcomes(
        outputs,
        targets,
        unknown=max(len(labels) - outputs.shape[1], 0),
        threshold=_numbered(threshold, labels),
    )
    return {field.name: getattr(outcomes, field.name) for field in fields(outcomes)}


def _compute(stats: SampleStats) -> Mapping[str, float]:
    return {"accuracy": float((stats["ranks"] == 0).mean()), **metrics.mean_loss(stats["losses"])}


def _decode(
    outputs: Floats, labels: Sequence[str], top: int, *, threshold: Decision | None = None
) -> list[list[Prediction]]:
    probabilities = metrics.softmax(outputs)
    scores = metrics.decision_scores(outputs, _numbered(threshold, labels))
    order = metrics.top_classes(scores, min(top, len(labels)))
    return [
        [{"label": labels[k], "probability": float(row[k])} for k in best]
        for row, best in zip(probabilities, order, strict=True)
    ]


TASKS = tuple(
    Task(
        name=name,
        output_kind=OutputKind.SINGLE_LABEL,
        select_by="accuracy",
        goal=("accuracy", ">= 0.9"),
        sample_stats=_sample_stats,
        compute=_compute,
        decode=_decode,
        ties_by="log_loss",
        describe=lambda target, labels: labels[int(target)],
    )
    for name, kinds in TASK_KINDS.items()
    if OutputKind.SINGLE_LABEL in kinds.outputs
)


def with_threshold(task: Task, label: str, probability: float) -> Task:
    """Return a task whose answers begin with a label wherever its probability is large enough."""
    decision = (label, probability)
    return replace(
        task,
        sample_stats=partial(_sample_stats, threshold=decision),
        decode=partial(_decode, threshold=decision),
    )
