from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.models.detector import locations
from modelwright.training.objectives.detection import (
    BOX_WEIGHT,
    LEAST_QUALITY,
    Detection,
    assign,
    focal_loss,
    giou,
)
from tests.training.objectives.making import batch

PLACES = locations(64, 64, (8, 16))
A, K = len(PLACES), 3


def outputs(count=2, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, A, K, generator=random, dtype=dtype) - 2
    sides = torch.rand(count, A, 4, generator=random, dtype=dtype) * 16 + 2
    centres = PLACES[:, :2].to(dtype)
    return scores, torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1)


def targets(*images, most=None):
    """Boxes and labels of some images, each a list of (label, box)."""
    size = max(map(len, images)) if most is None else most
    boxes, labels = torch.zeros(len(images), size, 4), torch.full((len(images), size), -1)
    for n, items in enumerate(images):
        for m, (label, box) in enumerate(items):
            labels[n, m], boxes[n, m] = label, torch.tensor(box)
    return boxes, labels


TWO = [(0, [4.0, 6.0, 30.0, 40.0]), (2, [25.0, 20.0, 60.0, 61.0])]
ONE = [(1, [40.0, 3.0, 61.0, 28.0])]


def test_focal_loss_is_lins_for_yes_and_no():
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)
    yes, no = focal_loss(logits, torch.ones(9)), focal_loss(logits, torch.zeros(9))
    p = logits.sigmoid()
    torch.testing.assert_close(yes, -((1 - p) ** 2) * p.log())
    torch.testing.assert_close(no, -(p**2) * (1 - p).log())


def test_focal_loss_is_least_at_the_quality():
    quality = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    at = quality.logit().requires_grad_()
    losses = focal_loss(at, quality)
    losses.sum().backward()
    assert losses.abs().max() < 1e-12
    assert at.grad.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([0, 0, 2, 2], 1.0),
        ([1, 0, 3, 2], 2 / 6),  # shares 2 of 6, and together they fill what is around them
        ([1, 1, 3, 3], 1 / 7 - 2 / 9),
        ([4, 0, 6, 2], -4 / 12),
        ([2, 2, 4, 4], -8 / 16),
    ],
)
def test_giou_worked_by_hand(second, expected):
    first = torch.tensor([0, 0, 2, 2], dtype=torch.float64)
    assert giou(first, torch.tensor(second).double()).item() == pytest.approx(expected)


def test_gradients_are_right():
    first, second = (torch.rand(6, 4, dtype=torch.float64) * 4 for _ in "ab")
    first[:, 2:] += first[:, :2] + 1
    second[:, 2:] += second[:, :2] + 1
    assert torch.autograd.gradcheck(giou, (first.requires_grad_(), second))
    logits = torch.randn(7, dtype=torch.float64, requires_grad=True)
    quality = torch.tensor([0, 0, 0.2, 0.5, 0.7, 1, 1]).double()
    assert torch.autograd.gradcheck(focal_loss, (logits, quality))


def test_the_whole_loss_is_its_parts_and_its_gradient_theirs():
    """No gradient goes through the assignment: with what was assigned held, autograd agrees."""
    scores, boxes = (item.requires_grad_() for item in outputs())
    losses, weights = Detection(PLACES)((scores, boxes), batch(targets(TWO, ONE)))
    (losses * weights).sum().backward()
    held = assign(scores.detach(), boxes.detach(), *targets(TWO, ONE), PLACES, most=10)

    def parts(scores, boxes):
        off = (held.weights * (1 - giou(boxes, held.boxes))).sum()
        return focal_loss(scores, held.scores).sum() + BOX_WEIGHT * off

    again = [item.detach().clone().requires_grad_() for item in (scores, boxes)]
    total = parts(*again)
    torch.testing.assert_close(total, (losses * weights).sum())
    total.backward()
    torch.testing.assert_close(again[0].grad, scores.grad)
    torch.testing.assert_close(again[1].grad, boxes.grad)
    few = [item.detach()[:, :6].clone().requires_grad_() for item in (scores, boxes)]
    rest = [item.detach()[:, 6:] for item in (scores, boxes)]
    whole = [torch.cat(pair, dim=1) for pair in zip(few, rest, strict=True)]
    assert torch.autograd.gradcheck(
        lambda s, b: parts(torch.cat([s, rest[0]], 1), torch.cat([b, rest[1]], 1)), few
    )
    torch.testing.assert_close(parts(*whole), total)


# -- assignment ------------------------------------------------------------------------------


def by_hand(scores, boxes, items, most):
    """TOOD's assignment of one image as loops: each location's box, class and quality."""
    centres = PLACES[:, :2].numpy()
    boxes, scores = boxes.numpy(), scores.sigmoid().numpy()

    def iou(a, b):
        sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        shared = np.prod(np.maximum(sides, 0))
        return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

    wants = {}
    for m, (label, box) in enumerate(items):
        box = np.array(box)
        inside = (centres > box[:2]).all(1) & (centres < box[2:]).all(1)
        middle = (box[:2] + box[2:]) / 2
        finest = PLACES[:, 2].numpy() == 8
        inside[np.where(finest, ((centres - middle) ** 2).sum(1), np.inf).argmin()] = True
        fit = [(scores[a, label] * iou(boxes[a], box) ** 6, -a) for a in np.flatnonzero(inside)]
        for alignment, a in sorted(fit, reverse=True)[:most]:
            wants.setdefault(-a, []).append((iou(boxes[-a], box), m, alignment))
    owners = {a: max(found) for a, found in wants.items()}
    quality = np.zeros(len(centres))
    for m in range(len(items)):
        mine = {a: found for a, found in owners.items() if found[1] == m}
        if mine:
            best = max(max(found[0] for found in mine.values()), LEAST_QUALITY)
            top = max(found[2] for found in mine.values())
            for a, found in mine.items():
                quality[a] = found[2] / top * best
    return owners, quality


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 12))
def test_assignment_equals_loops(seed, count, most):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 45, (count, 2))
    sides = random.uniform(2, 30, (count, 2))
    items = [
        (int(random.integers(K)), [*map(float, np.float32(np.concatenate([c, c + s])))])
        for c, s in zip(corners, sides, strict=True)
    ]
    scores, boxes = outputs(1, seed)
    found = assign(scores, boxes, *targets(items, most=count + 2), PLACES, most=most)
    owners, quality = by_hand(scores[0], boxes[0], items, most)
    np.testing.assert_allclose(found.weights[0].numpy(), quality, atol=1e-6)
    expected = torch.zeros(A, K, dtype=torch.float64)
    for a, (_, m, _) in owners.items():
        expected[a, items[m][0]] = quality[a]
        assert found.boxes[0, a].tolist() == items[m][1]
    torch.testing.assert_close(found.scores[0], expected, atol=1e-6, rtol=0)


def test_a_location_goes_to_the_box_that_it_overlaps_most_not_to_the_best_aligned():
    scores, boxes = outputs(1)
    at = int(((PLACES[:, :2] - 20).abs().sum(1)).argmin())
    first, second = [4.0, 4.0, 36.0, 36.0], [8.0, 8.0, 40.0, 40.0]
    boxes[0] = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=boxes.dtype)
    boxes[0, at] = torch.tensor([5.0, 5.0, 37.0, 37.0], dtype=boxes.dtype)  # nearer to the first
    scores[0, at] = torch.tensor([-9.0, 9.0, -9.0])  # but surely of the second's class
    found = assign(scores, boxes, *targets([(0, first), (1, second)]), PLACES, most=1)
    assert found.boxes[0, at].tolist() == first
    assert found.scores[0, at].argmax() == 0


def test_a_box_between_all_locations_is_learnt_too():
    scores, boxes = outputs(1)
    tiny = [(1, [9.0, 9.0, 10.0, 10.0])]  # No centre lies in it, and few boxes touch it.
    found = assign(scores, boxes, *targets(tiny), PLACES, most=10)
    chosen = found.weights[0].nonzero()[:, 0]
    assert PLACES[chosen].tolist() == [[12.0, 12.0, 8.0]]
    assert found.weights[0, chosen].item() == pytest.approx(LEAST_QUALITY)
    far = boxes + 1000
    found = assign(scores, far, *targets(tiny), PLACES, most=10)
    assert found.weights.sum().item() == pytest.approx(LEAST_QUALITY)


def test_perfect_outputs_cost_nothing_but_imperfect_ones_do():
    boxes, labels = targets(ONE)
    scores = torch.full((1, A, K), -20.0)
    places = torch.cat([PLACES[:, :2] - 3, PLACES[:, :2] + 3], dim=1)[None]
    at = ((PLACES[:64, :2] - torch.tensor([50.5, 15.5])) ** 2).sum(1).argmin()
    scores[0, at, 1], places[0, at] = 20.0, boxes[0, 0]
    perfect, weight = Detection(PLACES, most=1)((scores, places), batch((boxes, labels)))
    assert perfect.item() == pytest.approx(0.0, abs=1e-5)
    assert weight.item() == 1.0
    moved = places + torch.tensor([2.0, 0.0, 2.0, 0.0])
    assert Detection(PLACES, most=1)((scores, moved), batch((boxes, labels)))[0].item() > 0.1


# -- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 4])
def test_images_without_boxes_are_legal(most):
    scores, boxes = outputs()
    found, weights = Detection(PLACES)((scores, boxes), batch(targets([], [], most=most)))
    torch.testing.assert_close(found, focal_loss(scores, torch.zeros_like(scores)).sum((1, 2)))
    assert weights.tolist() == [1.0, 1.0]


def test_padding_and_the_other_samples_change_nothing():
    scores, boxes = outputs(3)
    together = Detection(PLACES)((scores, boxes), batch(targets(TWO, [], ONE)))
    padded = Detection(PLACES)((scores, boxes), batch(targets(TWO, [], ONE, most=9)))
    torch.testing.assert_close(padded, together)
    for n, items in enumerate((TWO, [], ONE)):
        pair = scores[n : n + 1], boxes[n : n + 1]
        alone = Detection(PLACES)(pair, batch(targets(items, most=2)))
        torch.testing.assert_close(alone, tuple(item[n : n + 1] for item in together))
    wanted, labels = targets(TWO, most=4)
    apart = Detection(PLACES)(
        (scores[:1], boxes[:1]), batch((wanted[:, [2, 0, 3, 1]], labels[:, [2, 0, 3, 1]]))
    )
    torch.testing.assert_close(apart, tuple(item[:1] for item in together))


def test_sixteen_bits_are_widened():
    scores, boxes = outputs(dtype=torch.float32)
    losses, weights = Detection(PLACES)((scores.bfloat16(), boxes), batch(targets(TWO, ONE)))
    assert losses.dtype == weights.dtype == torch.float32


def test_a_few_steps_find_the_box():
    torch.manual_seed(0)
    scores = torch.full((1, A, K), -4.0, requires_grad=True)
    sides = torch.zeros(1, A, 4, requires_grad=True)
    optimizer = torch.optim.Adam([scores, sides], lr=0.2)
    objective, wanted = Detection(PLACES), batch(targets(TWO))
    for _ in range(60):
        reach = F.softplus(sides) * PLACES[:, 2:]
        centres = PLACES[:, :2]
        boxes = torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], dim=-1)
        losses, weights = objective((scores, boxes), wanted)
        optimizer.zero_grad()
        (losses * weights).sum().div(weights.sum()).backward()
        optimizer.step()
    for label, box in TWO:
        best = scores[0, :, label].argmax()
        assert giou(boxes[0, best], torch.tensor(box)).item() > 0.9
        assert scores[0, best, label].sigmoid().item() > 0.7
