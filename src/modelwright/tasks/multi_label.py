"""An image, a text or a recording to any number of labels, each predicted by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelwright import metrics
from modelwright.arrays import Array, Bools, Floats
from modelwright.kinds import TASK_KINDS, OutputKind
from modelwright.tasks.task import Prediction, SampleStats, Task


def _sample_stats(outputs: Floats, targets: Array, labels: Sequence[str]) -> SampleStats:
    unknown = max(len(labels) - outputs.shape[1], 0)
    return metrics.label_outcomes(outputs, targets, unknown=unknown)


def _compute(stats: SampleStats) -> Mapping[str, float]:
    counts = metrics.label_counts(stats)
    averages = metrics.averages(*counts)
    return {
        "exact_match": metrics.exact_match(stats),
        "f1_micro": metrics.f1_micro(*counts),
        **{name: float(averages[name]) for name in ("f1_macro", "precision_macro", "recall_macro")},
        **metrics.mean_loss(stats["losses"]),
    }


def _decode(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    return [
        [
            {
                "label": labels[k],
                "probability": float(row[k]),
                "predicted": bool(row[k] >= metrics.DECISION_THRESHOLD),
            }
            for k in np.argsort(-row, kind="stable")[:top]
        ]
        for row in metrics.sigmoid(outputs)
    ]


def _describe(chosen: Bools, labels: Sequence[str]) -> str:
    return ", ".join(labels[at] for at in np.flatnonzero(chosen).tolist()) or "none"


TASKS = tuple(
    Task(
        name=name,
        output_kind=OutputKind.MULTI_LABEL,
        select_by="f1_macro",
        goal=("f1_macro", ">= 0.5"),
        sample_stats=_sample_stats,
        compute=_compute,
        decode=_decode,
        ties_by="log_loss",
        label_counts=metrics.label_counts,
        describe=_describe,
        top=None,
    )
    for name, kinds in TASK_KINDS.items()
    if OutputKind.MULTI_LABEL in kinds.outputs
)
