"""The baseline of detection, on boxes worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelwright.data import Split
from modelwright.data.ragged import Joined, Ragged
from modelwright.evaluation import average_boxes
from modelwright.tasks import TASKS

TASK = TASKS["object-detection"]


def split(name, *images):
    """Return a split of images whose boxes are given with their class."""
    boxes = [np.array([box for _, box in image], np.float32).reshape(-1, 4) for image in images]
    labels = [np.array([label for label, _ in image], np.int64) for image in images]
    targets = Joined(
        (
            Ragged.of("boxes", boxes, "float32", length_name="", multiple=1),
            Ragged.of("labels", labels, "int64", length_name="", multiple=1, pad=-1),
        )
    )
    rows = np.arange(len(images), dtype=np.int64)
    return Split(name, np.zeros((len(images), 1, 1, 1), np.uint8), rows, targets)


def test_the_average_box_of_each_class_is_answered():
    train = split(
        "train",
        [(0, (0, 0, 8, 8)), (1, (20, 20, 30, 30))],
        [(0, (2, 2, 10, 10))],
        [],
    )
    right = split("test", [(0, (1, 1, 9, 9))], [(1, (20, 20, 30, 30)), (0, (1, 1, 9, 9))])
    figures = {
        item.metric: item
        for item in average_boxes(train, right, TASK, ("cat", "dog"), fingerprint="sha256:1")
    }
    assert {item.subject for item in figures.values()} == {"baseline:box"}
    # All cats are found; of two dogs that are said, surest first, the second is one.
    assert figures["map50"].value == pytest.approx((1.0 + 0.5) / 2)
    wrong = split("test", [(0, (40, 40, 50, 50))])
    (found, _) = average_boxes(train, wrong, TASK, ("cat", "dog"), fingerprint="sha256:1")
    assert found.value == 0.0


def test_a_draw_without_a_box_counts_for_nothing():
    train = split("train", [(0, (0, 0, 8, 8))])
    samples = split("test", [(0, (0, 0, 8, 8))], [], [])
    (found, _) = average_boxes(train, samples, TASK, ("cat",), fingerprint="sha256:1")
    drawn = int(found.method.split()[-2].replace(",", ""))
    assert 500 < drawn < 900  # (2/3)³ of a thousand draw nothing but the empty images.


def test_boxes_of_an_unknown_class_count_as_missed():
    train = split("train", [(0, (0, 0, 8, 8))])
    samples = split("test", [(0, (0, 0, 8, 8))], [(1, (0, 0, 8, 8))])
    samples = replace(samples, unknown=("emu",))
    figures = average_boxes(train, samples, TASK, ("cat",), fingerprint="sha256:1")
    known = split("test", [(0, (0, 0, 8, 8))], [])
    both = average_boxes(train, known, TASK, ("cat",), fingerprint="sha256:1")
    for one, other in zip(figures, both, strict=True):
        assert one.value == pytest.approx(other.value / 2)
