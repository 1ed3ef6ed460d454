"""An image to boxes, each with one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.metrics import detection
from modelwright.tasks import boxes
from modelwright.tasks.task import Outputs, Prediction, SampleStats, Task

LEAST_SCORE, MOST_OVERLAP, MOST = 0.05, 0.6, 100
"""Which boxes are measured: the least score, the most overlap within a class, how many."""
LEAST_SHOWN = 0.3
"""The least score of a box that is given as an answer."""


def _detections(outputs: Outputs, *, least: float, most: int) -> list[boxes.Detections]:
    scores, places = outputs
    return boxes.decode(scores, places, least_score=least, most_overlap=MOST_OVERLAP, most=most)


def _sample_stats(outputs: Outputs, targets: Any, labels: Sequence[str]) -> SampleStats:
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
    for at, found in enumerate(_detections(outputs, least=LEAST_SCORE, most=MOST)):
        of_image = detection.image_statistics(
            found.boxes,
            found.labels,
            found.scores,
            true_boxes=targets["boxes"][at],
            true_labels=targets["labels"][at],
            num_classes=len(labels),
        )
        size = len(of_image.labels)
        stats["label"][at, :size] = of_image.labels
        stats["score"][at, :size] = of_image.scores
        stats["matched"][at, :size] = of_image.matched
        stats["truths"][at] = of_image.truths[0]
    return stats


def statistics_of(stats: SampleStats) -> detection.DetectionStatistics:
    """Return what became of each detection."""
    is_found = stats["label"] >= 0
    return detection.DetectionStatistics(
        labels=stats["label"][is_found],
        scores=stats["score"][is_found],
        matched=stats["matched"][is_found],
        truths=stats["truths"],
    )


def _compute(stats: SampleStats) -> Mapping[str, float]:
    statistics = statistics_of(stats)
    if not statistics.truths.any():
        raise DataError("there are no boxes to find in these samples, so nothing can be measured")
    found = detection.average_precision(statistics)
    return {"map50": found.map_50, "map50_95": found.map_50_95}


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
            for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
        ]
        for found in map(_one_per_place, _detections(outputs, least=LEAST_SHOWN, most=MOST))
    ]


def _one_per_place(found: boxes.Detections) -> boxes.Detections:
    """Leave out the less sure of two labels of one place."""
    same = np.zeros_like(found.labels)
    kept = boxes.suppress(found.boxes, found.scores, same, most_overlap=MOST_OVERLAP, most=MOST)
    return boxes.Detections(found.boxes[kept], found.labels[kept], found.scores[kept])


TASK = Task(
    name="object-detection",
    output_kind=OutputKind.BOXES,
    select_by="map50",
    sample_stats=_sample_stats,
    compute=_compute,
    decode=_decode,
)
