"""What is measured and what is answered of a detector's scores and boxes."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.kinds import OutputKind
from modelwright.tasks import TASKS

TASK = TASKS["object-detection", OutputKind.BOXES]
LABELS = ("cat", "dog")
PLACES = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [50, 50, 60, 60]], np.float32)


def logits(chances):
    chances = np.array([chances], np.float64)
    return np.log(chances / (1 - chances)).astype(np.float32)


def test_each_place_has_its_surest_label_alone():
    # The second place is the first but for a row; both labels of the third may be right.
    scores = logits([[0.9, 0.8], [0.7, 0.95], [0.6, 0.5], [0.29, 0.31]])
    (answers,) = TASK.decode((scores, PLACES[None]), LABELS, 1)  # All are given, whatever `top` is.
    assert [(item["label"], item["box"]) for item in answers] == [
        ("dog", [0, 0, 10, 9]),
        ("cat", [20, 20, 30, 30]),
        ("dog", [50, 50, 60, 60]),
    ]
    assert [item["probability"] for item in answers] == pytest.approx([0.95, 0.6, 0.31], abs=1e-6)


def test_less_sure_boxes_than_are_answered_are_measured():
    scores = logits([[0.9, 0.04], [0.01, 0.01], [0.2, 0.06], [0.01, 0.01]])
    targets = np.zeros(1, [("boxes", np.float32, (3, 4)), ("labels", np.int64, 3)])
    targets["boxes"][0, :2] = PLACES[[0, 2]]
    targets["labels"] = [0, 1, -1]
    stats = TASK.sample_stats((scores, PLACES[None]), targets, LABELS)
    assert stats["label"][0, :4].tolist() == [0, 0, 1, -1]
    assert stats["score"][0, :4] == pytest.approx([0.9, 0.2, 0.06, 0.0], abs=1e-6)
    assert stats["matched"][0, :4, 0].tolist() == [True, False, True, False]
    assert stats["truths"].tolist() == [[1, 1]]
    assert TASK.compute(stats) == pytest.approx({"map50": 1.0, "map50_95": 1.0})
    # An unknown class, behind those that outputs stand for, is found in no image.
    more = TASK.sample_stats((scores, PLACES[None]), targets, (*LABELS, "emu"))
    assert more["truths"].tolist() == [[1, 1, 0]]
