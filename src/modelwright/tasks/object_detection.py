"""An image to boxes, each with one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelwright.kinds import OutputKind
from modelwright.metrics import detection
from modelwright.tasks import boxes
from modelwright.tasks.task import Outputs, Prediction, Ranking, SampleStats, Targets, Task

LEAST_SCORE, MOST_OVERLAP, MOST = 0.05, 0.6, 100
"""Which boxes are measured: the least score, the most overlap within a class, how many."""
LEAST_SHOWN = 0.3
"""The least score of a box that is given as an answer."""


def _detections(outputs: Outputs, *, least: float, most: int) -> list[boxes.Detections]:
    scores, places = outputs
    return boxes.decode(scores, places, least_score=least, most_overlap=MOST_OVERLAP, most=most)


def _sample_stats(outputs: Outputs, targets: Targets, labels: Sequence[str]) -> SampleStats:
    """Return each image's detections, padded with label −1, and how many boxes it has.

    `label` and `score` `[N, MOST]`, `matched` `[N, MOST, overlaps]`, `truths` `[N, K]`.
    """
    count, overlaps = len(targets), len(detection.OVERLAPS)
    stats = {
        "label": np.full((count, MOST), -1, dtype=np.int64),
        "score": np.zeros((count, MOST)),
        "matched": np.zeros((count, MOST, overlaps), dtype=np.bool_),
        "truths": np.zeros((count, len(labels)), dtype=np.int64),
    }
    for at, item in enumerate(_detections(outputs, least=LEAST_SCORE, most=MOST)):
        image_stats = detection.image_statistics(
            item.boxes,
            item.labels,
            item.scores,
            true_boxes=targets["boxes"][at],
            true_labels=targets["labels"][at],
            num_classes=len(labels),
        )
        size = len(image_stats.labels)
        stats["label"][at, :size] = image_stats.labels
        stats["score"][at, :size] = image_stats.scores
        stats["matched"][at, :size] = image_stats.matched
        stats["truths"][at] = image_stats.truths[0]
    return stats


def _compute(stats: SampleStats) -> Mapping[str, float]:
    is_found = stats["label"] >= 0
    statistics = detection.DetectionStatistics(
        labels=stats["label"][is_found],
        scores=stats["score"][is_found],
        matched=stats["matched"][is_found],
        truths=stats["truths"],
    )
    precisions = detection.average_precision(statistics)
    return {"map50": float(np.nanmean(precisions[:, 0])), "map50_95": float(np.nanmean(precisions))}


def _decode(outputs: Outputs, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    """Return boxes `[x1, y1, x2, y2]` in pixels of the network's input, surest first.

    Each place has one label, the surest; all that are sure enough are given, whatever `top` is.
    """
    return [
        [
            {
                "label": labels[int(label)],
                "probability": float(score),
                "box": [float(edge) for edge in box],
            }
            for label, score, box in zip(item.labels, item.scores, item.boxes, strict=True)
        ]
        for item in map(_one_per_place, _detections(outputs, least=LEAST_SHOWN, most=MOST))
    ]


def _one_per_place(item: boxes.Detections) -> boxes.Detections:
    """Leave out the less sure of two labels of one place."""
    same = np.zeros_like(item.labels)
    kept = boxes.suppress(item.boxes, item.scores, same, most_overlap=MOST_OVERLAP, most=MOST)
    return boxes.Detections(item.boxes[kept], item.labels[kept], item.scores[kept])


TASK = Task(
    name="object-detection",
    output_kind=OutputKind.BOXES,
    select_by="map50",
    goal=("map50", ">= 0.5"),
    sample_stats=_sample_stats,
    compute=Ranking(_compute, lambda stats: (stats["truths"] > 0).sum(axis=0)),
    decode=_decode,
)
