from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data import augment_boxes
from modelwright.data.augment_boxes import (
    BoxedBatch,
    cut_boxes,
    flip_boxes,
    shift_boxes,
    zoom_boxes,
)
from modelwright.data.counter_rng import CounterRNG
from modelwright.recipe.preparation import AugmentSpec, ColorJitter, CropAugment

STILL = AugmentSpec()
ALL = AugmentSpec(
    flip="random",
    vertical_flip=True,
    translate=5,
    crop=CropAugment(scale=(0.4, 1.0)),
    color_jitter=ColorJitter(brightness=0.2, contrast=0.2),
)
SIDE = 40


def batch(count=12, *, seed=0):
    """Black images, in each a bright rectangle with a box around it, then padding."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, SIDE, SIDE + 8, 3), np.uint8)
    boxes, labels = np.zeros((count, 3, 4), np.float32), np.full((count, 3), -1)
    for n in range(count):
        x, y = random.integers(6, 18, 2)
        wide, high = random.integers(8, 20, 2)
        images[n, y : y + high, x : x + wide] = 250
        boxes[n, 1], labels[n, 1] = (x, y, x + wide, y + high), n % 4
    return BoxedBatch(*(torch.from_numpy(item) for item in (images, boxes, labels)))


def draws(count=12, *, seed=0, epoch=0, start=0):
    return CounterRNG(seed, epoch, np.arange(start, start + count))


def around(image):
    """The box around the bright pixels of an image."""
    ys, xs = np.nonzero(image[..., 0] > 90)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def augment_boxed(samples, spec, numbers):
    return augment_boxes.augment_boxed(samples, spec, numbers, least_visible=0.25)


@pytest.mark.parametrize(
    "how",
    [
        STILL,
        AugmentSpec(flip="random"),
        AugmentSpec(vertical_flip=True),
        AugmentSpec(translate=5),
        AugmentSpec(crop=CropAugment(scale=(0.5, 1.0))),
        AugmentSpec(color_jitter=ColorJitter(brightness=0.2, contrast=0.2)),
        ALL,
    ],
)
def test_boxes_stay_around_what_they_are_around(how):
    before = batch()
    seen = 0
    for epoch in range(4):
        found = augment_boxed(before, how, draws(epoch=epoch))
        assert found.images.dtype == torch.uint8
        assert found.images.shape == before.images.shape
        assert (found.labels[:, [0, 2]] == -1).all()
        for n in range(12):
            if found.labels[n, 1] >= 0:
                assert found.labels[n, 1] == n % 4
                box = around(found.images[n].numpy())
                # Zooming blurs an edge over a pixel or two.
                assert found.boxes[n, 1].tolist() == pytest.approx(box, abs=1.5)
                seen += 1
    assert seen > 40


def test_nothing_asked_changes_nothing():
    before, found = batch(), augment_boxed(batch(), STILL, draws())
    for name in ("images", "boxes", "labels"):
        assert torch.equal(getattr(found, name), getattr(before, name))


def test_a_sample_depends_on_seed_epoch_and_its_own_position_alone():
    whole = augment_boxed(batch(), ALL, draws())
    again = augment_boxed(batch(), ALL, draws())
    part = BoxedBatch(batch().images[3:7], batch().boxes[3:7], batch().labels[3:7])
    found = augment_boxed(part, ALL, draws(4, start=3))
    for name in ("images", "boxes", "labels"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
        assert torch.equal(getattr(found, name), getattr(whole, name)[3:7])
    for other in (draws(seed=1), draws(epoch=1)):
        assert not torch.equal(augment_boxed(batch(), ALL, other).boxes, whole.boxes)


def test_the_batch_isnt_changed():
    before = batch()
    augment_boxed(before, ALL, draws())
    for name in ("images", "boxes", "labels"):
        assert torch.equal(getattr(before, name), getattr(batch(), name))


def test_both_flips_are_drawn_apart():
    """All four combinations come, about as often."""
    how = AugmentSpec(flip="random", vertical_flip=True)
    one = BoxedBatch(
        torch.zeros(400, 4, 4, 1, dtype=torch.uint8),
        torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(400, 1, 4),
        torch.zeros(400, 1, dtype=torch.int64),
    )
    corners = augment_boxed(one, how, draws(400)).boxes[:, 0, :2]
    _, counts = torch.unique(corners, dim=0, return_counts=True)
    assert len(counts) == 4
    assert counts.min() > 60


corner = st.integers(0, 20)
box_lists = st.lists(st.tuples(corner, corner, st.integers(1, 9), st.integers(1, 9)), min_size=1)


def tensor(items):
    return torch.tensor([[[x, y, x + w, y + h] for x, y, w, h in items]], dtype=torch.float32)


@given(box_lists, st.integers(1, 40))
def test_flipping_twice_changes_nothing(items, side):
    boxes, yes = tensor(items), np.array([True])
    for axis in (0, 1):
        once = flip_boxes(boxes, yes, side, axis=axis)
        assert torch.equal(flip_boxes(once, yes, side, axis=axis), boxes)
        assert torch.equal(flip_boxes(boxes, ~yes, side, axis=axis), boxes)


@given(box_lists, st.integers(-9, 9), st.integers(-9, 9))
def test_shifting_there_and_back_changes_nothing(items, x, y):
    boxes, by = tensor(items), np.array([[x, y]])
    assert torch.equal(shift_boxes(shift_boxes(boxes, by), -by), boxes)
    assert (
        shift_boxes(boxes, by)[0, 0].tolist() == (boxes[0, 0] + torch.tensor([x, y, x, y])).tolist()
    )


def test_a_part_is_stretched_over_the_image():
    boxes = torch.tensor([[[10.0, 5.0, 20.0, 15.0]]])
    parts = np.array([[5.0, 10.0, 20.0, 10.0]])  # top, left, height, width
    assert zoom_boxes(boxes, parts, (40, 40)).tolist() == [[[0, 0, 40, 20]]]


@settings(max_examples=50)
@given(box_lists, st.integers(1, 25), st.floats(0, 1))
def test_cutting_keeps_what_is_visible(items, side, least):
    boxes, labels = tensor(items), torch.arange(len(items))[None]
    cut, found = cut_boxes(boxes, labels, (side, side), least_visible=least)
    for n, (x, y, wide, high) in enumerate(items):
        left = max(min(x + wide, side) - x, 0) * max(min(y + high, side) - y, 0)
        stays = left > 0 and left >= np.float32(least) * np.float32(wide * high)
        assert found[0, n] == (n if stays else -1)
        expected = [min(v, side) for v in (x, y, x + wide, y + high)] if stays else [0] * 4
        assert cut[0, n].tolist() == expected
