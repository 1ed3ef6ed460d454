from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import DataError
from modelwright.metrics.detection import (
    OVERLAPS,
    DetectionStatistics,
    average_precision,
    image_statistics,
    iou_matrix,
)

REFERENCE = 1e-6
"""pycocotools adds a tiny number to each divisor."""
K = 3


def statistics(boxes, labels, scores, true_boxes, true_labels, num_classes=K):
    return image_statistics(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
        true_boxes=np.array(true_boxes, np.float32).reshape(-1, 4),
        true_labels=np.array(true_labels, np.int64),
        num_classes=num_classes,
    )


def row(x, side=10):
    """A box at a place of its own."""
    return [100 * x, 0, 100 * x + side, 10]


def drawn_images(seed, count=12, num_classes=K):
    """Images whose detections are their boxes moved about, with misses, extras and wrong labels."""
    random = np.random.default_rng(seed)
    for number in range(count):
        truths = int(random.integers(0, 6)) if number else 3
        corners = random.uniform(0, 80, (truths, 2))
        true = np.concatenate([corners, corners + random.uniform(5, 40, (truths, 2))], axis=1)
        true_labels = random.integers(0, num_classes, truths)
        again = np.repeat(np.arange(truths), 3)
        boxes = true[again] + random.normal(0, 2.5, (len(again), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        wrong = random.random(len(again)) < 0.2
        labels = np.where(wrong, random.integers(0, num_classes, len(again)), true_labels[again])
        # Whole-number coordinates are the same in float32, float64, and as widths.
        yield (
            boxes.round().astype(np.float32),
            labels,
            random.permutation(len(again) * 3)[: len(again)] / 1000 + number / 10_000,
            true.round().astype(np.float32),
            true_labels,
        )


def join(parts):
    names = ("labels", "scores", "matched", "truths")
    return DetectionStatistics(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def joined(images, num_classes=K):
    return join([statistics(*image, num_classes=num_classes) for image in images])


def of_coco(images, num_classes=K):
    """The mean precisions that COCO's own code finds, and those of each class."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    truths, found = [], []
    for number, (boxes, labels, scores, true_boxes, true_labels) in enumerate(images, start=1):
        for (x1, y1, x2, y2), label in zip(true_boxes.tolist(), true_labels.tolist(), strict=True):
            truths.append(
                {
                    "id": len(truths) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
        for box, label, score in zip(boxes.tolist(), labels, scores.tolist(), strict=True):
            x1, y1, x2, y2 = box
            found.append(
                {
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        data.dataset = {
            "images": [{"id": number + 1} for number in range(len(images))],
            "categories": [{"id": label + 1} for label in range(num_classes)],
            "annotations": truths,
        }
        data.createIndex()
        measured = evaluation.COCOeval(data, data.loadRes(found), "bbox")
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][:, :, :, 0, -1]  # [T, R, K], −1 without boxes
    precision = np.where(precision < 0, np.nan, precision)
    return np.nanmean(precision), np.nanmean(precision[0]), precision.mean(axis=1)


@pytest.mark.parametrize("seed", range(6))
def test_mean_average_precision_is_cocos(seed):
    images = list(drawn_images(seed))
    found = average_precision(joined(images))
    whole, half, by_class = of_coco(images)
    assert np.nanmean(found) == pytest.approx(whole, abs=REFERENCE)
    assert np.nanmean(found[:, 0]) == pytest.approx(half, abs=REFERENCE)
    assert found[:, 0] == pytest.approx(by_class[0], abs=REFERENCE, nan_ok=True)
    assert found.mean(axis=1) == pytest.approx(by_class.mean(0), abs=REFERENCE, nan_ok=True)


def test_equal_scores_and_overlaps_go_as_in_cocos_code():
    box = np.array([[0, 0, 10, 10]] * 2, np.float32)
    two = (box, np.zeros(2, np.int64), np.array([0.5, 0.5]), box, np.zeros(2, np.int64))
    shifted = box + np.array([[0, 0, 0, 0], [2, 0, 2, 0]], np.float32)
    other = (shifted, np.zeros(2, np.int64), np.array([0.5, 0.5]), box[:1] + 1, np.zeros(1, int))
    found = average_precision(joined([two, other]))
    whole, half, _ = of_coco([two, other])
    assert (np.nanmean(found), np.nanmean(found[:, 0])) == pytest.approx(
        (whole, half), abs=REFERENCE
    )


def test_more_than_a_hundred_detections_of_a_class_dont_count():
    boxes = [row(x) for x in range(101)]
    found = statistics(boxes, [0] * 101, np.linspace(1, 0.1, 101), boxes, [0] * 101)
    assert len(found.scores) == 100
    # Recall reaches 100/101: only the last of the 101 steps stays empty.
    assert np.nanmean(average_precision(found)[:, 0]) == pytest.approx(100 / 101)


def test_a_case_worked_by_hand():
    """Two boxes; right, wrong, right: precision 1 up to recall 1/2, then 2/3."""
    found = statistics(
        [row(0), row(5), row(1)], [0, 0, 0], [0.9, 0.8, 0.7], [row(0), row(1)], [0, 0]
    )
    expected = (51 * 1 + 50 * 2 / 3) / 101
    result = average_precision(found)
    assert np.nanmean(result[:, 0]) == pytest.approx(expected)
    assert np.nanmean(result) == pytest.approx(expected)
    assert np.isnan(result[1:]).all()


def test_overlap_decides_at_which_thresholds_a_box_counts():
    """IoU 0.8 counts at 0.5 … 0.8, seven of ten thresholds."""
    found = statistics([[0, 0, 8, 10]], [0], [0.9], [[0, 0, 10, 10]], [0])
    assert found.matched[0].tolist() == (OVERLAPS <= 0.8).tolist()
    result = average_precision(found)
    assert (np.nanmean(result[:, 0]), np.nanmean(result)) == (
        pytest.approx(1.0),
        pytest.approx(0.7),
    )


def test_a_box_is_found_once_and_only_under_its_label():
    twice = statistics([row(0), row(0)], [0, 0], [0.9, 0.8], [row(0)], [0])
    assert twice.matched[:, 0].tolist() == [True, False]
    other = statistics([row(0)], [1], [0.9], [row(0)], [0])
    assert np.nanmean(average_precision(other)[:, 0]) == 0.0


def test_padding_is_no_box():
    found = statistics([row(0)], [0], [0.9], [row(0), [0, 0, 0, 0]], [0, -1])
    assert found.truths.tolist() == [[1, 0, 0]]
    assert np.nanmean(average_precision(found)[:, 0]) == pytest.approx(1.0)


def test_an_image_may_have_neither_boxes_nor_detections():
    empty = statistics([], [], [], [], [])
    full = statistics([row(0)], [0], [0.9], [row(0)], [0])
    assert np.nanmean(average_precision(join([empty, full, empty]))[:, 0]) == pytest.approx(1.0)
    with pytest.raises(DataError, match="no boxes"):
        average_precision(empty)


@pytest.mark.parametrize(
    ("boxes", "labels", "scores"),
    [
        ([[0, 0, np.nan, 1]], [0], [0.5]),
        ([[0, 0, 1, 1]], [0], [np.inf]),
        ([[0, 0, 1, 1]], [K], [0.5]),
        ([[0, 0, 1, 1]], [-1], [0.5]),
        ([[0, 0, 1, 1]] * 2, [0, K], [0.5, 0.5]),
        ([[0, 0, 1, 1]] * 2, [-1, 0], [0.5, 0.5]),
        ([[0, 0, 1, 1]], [0, 1], [0.5, 0.5]),
        ([[0, 0, 1, 1]], [0], [0.5, 0.5]),
    ],
)
def test_what_makes_no_sense_is_refused(boxes, labels, scores):
    with pytest.raises(DataError):
        statistics(boxes, labels, scores, [row(0)], [0])


corners = st.integers(0, 20)
drawn_boxes = st.lists(st.tuples(corners, corners, corners, corners), min_size=1, max_size=5).map(
    lambda items: np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in items])
)


@given(drawn_boxes, drawn_boxes)
def test_overlap_equals_counting_pixels(first, second):
    def cells(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    found = iou_matrix(first, second)
    assert np.array_equal(found, iou_matrix(second, first).T)
    for a, one in enumerate(first):
        for b, two in enumerate(second):
            either = cells(one) | cells(two)
            expected = len(cells(one) & cells(two)) / len(either) if either else 0.0
            assert found[a, b] == pytest.approx(expected)


def test_half_an_overlap_is_enough():
    found = statistics([[0, 0, 10, 5]], [0], [0.9], [[0, 0, 10, 10]], [0])
    assert found.matched.tolist() == [[True, *[False] * 9]]


@pytest.mark.parametrize("label", [-1, 1])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(DataError, match="aren't numbers of 1 classes"):
        statistics([row(0)], [label], [0.9], [row(0)], [0], num_classes=1)


def test_a_class_that_is_never_answered_counts_with_a_precision_of_0():
    """Training had none of it; the network has no output for it, and its boxes are all missed."""
    found = statistics([row(0)], [0], [0.9], [row(0), row(1)], [0, 1], num_classes=2)
    known = average_precision(statistics([row(0)], [0], [0.9], [row(0)], [0], num_classes=1))
    both = average_precision(found)
    assert np.nanmean(known[:, 0]) == 1.0
    assert both[:, 0].tolist() == [1.0, 0.0]
    assert (np.nanmean(both[:, 0]), np.nanmean(both)) == (0.5, 0.5)
