from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from modelwright.errors import DataError
from modelwright.metrics.detection import iou_matrix
from modelwright.tasks.boxes import (
    BoxedImage,
    LabelledBox,
    box_arrays,
    check_boxes,
    decode,
    framing,
    rescaled,
    suppress,
    visible,
)
from modelwright.transforms import ImageInput, decode_image

MODES = ("stretch", "shorter", "letterbox")


def boxed(*corners, width=20, height=10):
    boxes = tuple(LabelledBox(f"l{n}", *map(float, box)) for n, box in enumerate(corners))
    return BoxedImage(width, height, boxes)


# -- samples ---------------------------------------------------------------------------------


def test_boxes_in_the_image_stay_as_they_are():
    image = boxed((0, 0, 20, 10), (1, 2, 3, 4))
    found = check_boxes(image, where="a.xml")
    assert (found.image, found.clipped, found.dropped, found.messages) == (image, 0, 0, ())


def test_what_hangs_over_is_cut_and_what_has_no_area_is_left_out():
    image = boxed((-1, 2, 5, 6), (25, 0, 30, 5), (3, 3, 3, 9), (9, 4, 5, 6), (18, 8, 22, 12))
    found = check_boxes(image, where="a.xml")
    assert [(box.label, box.x1, box.y1, box.x2, box.y2) for box in found.image.boxes] == [
        ("l0", 0.0, 2.0, 5.0, 6.0),
        ("l4", 18.0, 8.0, 20.0, 10.0),
    ]
    assert (found.clipped, found.dropped) == (2, 3)
    assert found.messages == (
        "a.xml: box 1 (`l0`) hangs over the image's edge and is cut there",
        "a.xml: box 2 (`l1`) lies outside the image and is left out",
        "a.xml: box 3 (`l2`) has no area and is left out",
        "a.xml: box 4 (`l3`) has no area and is left out",
        "a.xml: box 5 (`l4`) hangs over the image's edge and is cut there",
    )


@given(st.lists(st.tuples(*[st.integers(-30, 30)] * 4), max_size=6))
def test_nothing_is_lost_silently(corners):
    image = boxed(*corners)
    found = check_boxes(image, where="")
    assert len(found.image.boxes) + found.dropped == len(corners)
    assert len(found.messages) == found.clipped + found.dropped
    assert check_boxes(found.image, where="").messages == ()
    for box in found.image.boxes:
        assert 0 <= box.x1 < box.x2 <= 20
        assert 0 <= box.y1 < box.y2 <= 10


def test_annotations_of_another_size_are_scaled():
    found = rescaled(boxed((2, 2, 10, 5)), width=40, height=5)
    assert found == BoxedImage(40, 5, (LabelledBox("l0", 4.0, 1.0, 20.0, 2.5),))


def test_arrays_hold_the_labels_numbers():
    boxes, labels = box_arrays(boxed((1, 2, 3, 4), (5, 6, 7, 8)), ["l1", "l0"])
    assert boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (boxes.dtype, labels.dtype, labels.tolist()) == (np.float32, np.int64, [1, 0])
    assert box_arrays(boxed(), [])[0].shape == (0, 4)
    with pytest.raises(DataError, match="`l0`"):
        box_arrays(boxed((1, 2, 3, 4)), ["l1"])


# -- resizing --------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", MODES)
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (48, 48), (32, 24), (101, 37)])
def test_boxes_go_where_the_pixels_go(resize, size):
    """A white square drawn in the image lies, resized, where the framing says."""
    wide, high = size
    box = (wide * 0.4, high * 0.4, wide * 0.65, high * 0.65)
    box = tuple(round(value) for value in box)
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    spec = ImageInput(height=24, width=32, channels=1, resize=resize, interpolation="bilinear")
    pixels = decode_image(image, spec)[..., 0] / 255
    x1, y1, x2, y2 = framing(spec, width=wide, height=high).to_input(np.array(box))
    mass = pixels.sum()
    ys, xs = np.mgrid[:24, :32] + 0.5
    assert (xs * pixels).sum() / mass == pytest.approx((x1 + x2) / 2, abs=0.15)
    assert (ys * pixels).sum() / mass == pytest.approx((y1 + y2) / 2, abs=0.15)
    assert mass == pytest.approx((x2 - x1) * (y2 - y1), rel=0.06)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(MODES),
    *[st.integers(1, 3000)] * 2,
    *[st.integers(1, 600)] * 2,
    st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
)
def test_boxes_come_back(resize, wide, high, width, height, shares):
    spec = ImageInput(height=height, width=width, channels=1, resize=resize)
    frame = framing(spec, width=wide, height=high)
    box = np.array(shares) * np.array((wide, high) * 2)
    again = frame.to_image(frame.to_input(box))
    # float32 keeps seven digits of a place in the input, which may be far outside it.
    reach = max(wide, high, 1) * max(frame.scale) / min(frame.scale)
    assert again == pytest.approx(box, abs=1e-5 * reach)


@given(st.sampled_from(MODES), *[st.integers(1, 300)] * 2)
def test_an_image_of_the_inputs_size_isnt_moved(resize, width, height):
    spec = ImageInput(height=height, width=width, channels=3, resize=resize)
    frame = framing(spec, width=width, height=height)
    assert frame.scale == (1.0, 1.0)
    assert frame.shift == (0.0, 0.0)


def test_answers_are_cut_at_the_images_edge():
    spec = ImageInput(height=20, width=20, channels=1, resize="letterbox")
    frame = framing(spec, width=40, height=20)  # Lies in rows 5 to 15.
    assert frame.to_image(np.array([-3.0, 0.0, 25.0, 20.0])).tolist() == [0, 0, 40, 20]
    assert frame.to_image(np.array([5.0, 5.0, 10.0, 10.0])).tolist() == [10, 0, 20, 10]


def test_a_crop_leaves_out_what_is_hardly_visible():
    spec = ImageInput(height=20, width=20, channels=1, resize="shorter")
    frame = framing(spec, width=40, height=20)  # The middle 20 columns.
    boxes = frame.to_input(np.array([[0, 0, 9, 9], [8, 0, 12, 4], [9, 0, 13, 4], [15, 5, 20, 9]]))
    cut, stays = visible(boxes, width=20, height=20, least=0.6)
    assert stays.tolist() == [False, False, True, True]
    assert cut[2:].tolist() == [[0, 0, 3, 4], [5, 5, 10, 9]]
    assert visible(boxes, width=20, height=20, least=0.0)[1].tolist() == [False, True, True, True]


# -- answers ---------------------------------------------------------------------------------


def by_hand(boxes, scores, labels, most_overlap):
    """Suppression as a loop over pairs."""
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], n))
    kept = []
    for n in order:
        others = [m for m in kept if labels[m] == labels[n]]
        if all(iou_matrix(boxes[m][None], boxes[n][None])[0, 0] <= most_overlap for m in others):
            kept.append(n)
    return kept


def drawn(seed, count=40):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 30, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 30, (count, 2))], axis=1)
    return boxes, random.integers(0, 5, count) / 5, random.integers(0, 3, count)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(0, 40))
def test_suppression_equals_a_loop_over_pairs(seed, overlap, most):
    boxes, scores, labels = drawn(seed)
    found = suppress(boxes, scores, labels, most_overlap=overlap, most=most)
    assert found.tolist() == by_hand(boxes, scores, labels, overlap)[:most]


def test_of_equal_boxes_the_first_stays():
    boxes = np.array([[0, 0, 4, 4]] * 3)
    same = suppress(boxes, np.ones(3), np.zeros(3, int), most_overlap=0.5, most=9)
    assert same.tolist() == [0]
    apart = suppress(boxes, np.ones(3), np.arange(3), most_overlap=0.5, most=9)
    assert apart.tolist() == [0, 1, 2]


def test_answers_are_read_from_outputs():
    logits = np.full((2, 3, 2), -9.0, np.float32)
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 2, 0], logits[0, 2, 1] = 2.0, 1.0, 3.0, -0.5
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    first, second = decode(
        logits, np.stack([boxes, boxes]), least_score=0.3, most_overlap=0.5, most=9
    )
    assert first.labels.tolist() == [0, 1, 1]
    assert first.boxes.tolist() == boxes[[2, 0, 2]].tolist()
    assert first.scores == pytest.approx(1 / (1 + np.exp([-3.0, -2.0, 0.5])), rel=1e-6)
    assert (second.boxes.shape, second.labels.shape, second.scores.shape) == ((0, 4), (0,), (0,))
    even = decode(np.zeros((1, 3, 2)), boxes[None], least_score=0.5, most_overlap=0.5, most=9)
    assert even[0].scores.tolist() == [0.5] * 4  # The least score itself is returned.
    one = decode(logits, np.stack([boxes, boxes]), least_score=0.0, most_overlap=0.5, most=1)
    assert [len(found.labels) for found in one] == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_refused(value):
    with pytest.raises(DataError, match="finite"):
        decode(
            np.full((1, 1, 1), value),
            np.zeros((1, 1, 4)),
            least_score=0.1,
            most_overlap=0.5,
            most=1,
        )
