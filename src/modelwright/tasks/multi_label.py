"""A text to all labels that it has, perhaps none: each label is there or not by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright import metrics
from modelwright.metrics import Ints
from modelwright.tasks.task import Floats, Prediction, SampleStats, Task


def _tally(outputs: Floats, targets: NDArray[Any], labels: Sequence[str]) -> SampleStats:
    """Return which labels each sample is given and has `[N, K + U]`, and its loss `[N]`."""
    unknown = max(len(labels) - outputs.shape[1], 0)
    found = metrics.label_outcomes(outputs, targets, unknown=unknown)
    return {"chosen": found.chosen, "wanted": found.wanted, "losses": found.losses}


def _outcomes(tally: SampleStats) -> metrics.LabelOutcomes:
    return metrics.LabelOutcomes(tally["chosen"], tally["wanted"], tally["losses"])


def label_counts(tally: SampleStats) -> tuple[Ints, Ints, Ints]:
    """Return how often each label is rightly chosen, chosen, and there: `[K]` each."""
    return metrics.label_counts(_outcomes(tally))


def _summary(tally: SampleStats) -> Mapping[str, float]:
    counts = label_counts(tally)
    averages = metrics.averages(*counts)
    return {
        "exact_match": metrics.exact_match(_outcomes(tally)),
        "f1_micro": metrics.f1_micro(*counts),
        **{name: float(averages[name]) for name in ("f1_macro", "precision_macro", "recall_macro")},
        **metrics.mean_loss(tally["losses"]),
    }


def _decode(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    return [
        [
            {
                "label": labels[k],
                "probability": float(row[k]),
                "chosen": bool(row[k] >= metrics.LEAST_CHOSEN),
            }
            for k in np.argsort(-row, kind="stable")[:top]
        ]
        for row in metrics.sigmoid(outputs)
    ]


TASK = Task(
    name="text-classification",
    select_by="f1_macro",
    higher_is_better=True,
    tally=_tally,
    summary=_summary,
    decode=_decode,
    ties_by="log_loss",
    input="text",
    target="labels",
    output_kind="labels",
    counts=label_counts,
    top=None,
)
"""Of the same name as the task of one label: what a recipe says of its data tells them apart, and
in a model file the kind of its outputs."""
