"""The loss of a detector: which locations are assigned to which box, and how wrong they are.

Locations are assigned by how well they already do (task-aligned assignment: Feng et al. 2021,
`TOOD`, section 3.3): scores learn the quality of the location's box, boxes learn by generalised IoU
(Rezatofighi et al. 2019). Compared with fixed rules of size and place, this learns in fewer epochs
and makes the best score stand at the best box.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelwright.data.batches import Batch, target_parts
from modelwright.training.precision import at_least_fp32

ALPHA, BETA = 1.0, 6.0
"""How much score and overlap count in an assignment (Feng et al. 2021, section 4.1)."""
GAMMA = 2.0
"""How little counts what is nearly right (Lin et al. 2017, `Focal Loss`, section 5.1)."""
BOX_WEIGHT = 2.0
"""What the boxes' loss counts beside the scores' (as in Feng et al.'s own settings)."""
LEAST_QUALITY = 0.1
"""What the best location of a box is to score at least: a box that none overlaps yet must be
learnt too."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Assignment:
    """The target of each location; a function of the outputs that no gradient goes through."""

    scores: Tensor
    """`[N, A, K]`: the quality of the location's box under the box's class, else 0."""
    boxes: Tensor
    """`[N, A, 4]`: the box that the location is assigned to; its own where there is none."""
    weights: Tensor
    """`[N, A]`: how much the location's box counts; 0 where it is assigned to none."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Focal loss of the scores and GIoU loss of the boxes, over all locations of an image.

    An image's weight is the summed quality of its assigned locations, at least 1, so that the
    weighted mean over a batch is the batch's sum over the batch's quality, as published.

    Args:
        locations: centre x, centre y and stride of each location `[A, 3]` (`detector.locations`).
        most: the most locations that are assigned to a box.
    """

    locations: Tensor
    most: int = 10

    def __call__(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample `[N]`.

        Args:
            outputs: logits `[N, A, K]`, and boxes `[N, A, 4]` in pixels.
            batch: its targets are boxes `[N, M, 4]`, padded with 0, and their labels `[N, M]`,
                padded with −1; padding may stand anywhere, and an image without boxes is all
                padding.
        """
        true_boxes, labels = target_parts(batch)
        scores, boxes = (at_least_fp32(output) for output in outputs)
        target = assign(
            scores.detach(), boxes.detach(), true_boxes, labels, self.locations, most=self.most
        )
        weights = target.scores.sum((1, 2)).clamp_min(1.0)
        score_loss = focal_loss(scores, target.scores).sum((1, 2))
        box_loss = ((1.0 - giou(boxes, target.boxes)) * target.weights).sum(1)
        return (score_loss + BOX_WEIGHT * box_loss) / weights, weights


def focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Return cross-entropy times `|quality − score|^γ`, for targets in 0…1, element by element.

    It is Lin et al.'s for targets 0 and 1, and their generalisation to quality between (Li et al.
    2020, `Generalized Focal Loss`, equation 2).
    """
    losses = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return losses * (quality - logits.sigmoid()).abs() ** GAMMA


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalised IoU of boxes `[…, 4]` pair by pair, −1…1 (Rezatofighi et al. 2019).

    >>> giou(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 2.0, 1.0])).item()
    0.0
    """
    shared, either = _areas(first, second)
    reach = torch.maximum(first[..., 2:], second[..., 2:])
    reach = (reach - torch.minimum(first[..., :2], second[..., :2])).prod(-1)
    return shared / (either + _TINY) - (reach - either) / (reach + _TINY)


def _areas(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas that pairs of boxes share, and that either covers; shapes broadcast."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    sizes = (box[..., 2:] - box[..., :2] for box in (first, second))
    one, two = (size.clamp_min(0).prod(-1) for size in sizes)
    return shared, one + two - shared


def assign(
    scores: Tensor,
    boxes: Tensor,
    true_boxes: Tensor,
    labels: Tensor,
    locations: Tensor,
    *,
    most: int,
) -> Assignment:
    """Assign locations to each box, and return their targets.

    A location may be assigned to a box that its centre lies in; the one of the finest map nearest
    to the box's middle always may, so that no box is too small to be learnt. Of these the `most`
    best are, by `score^α · IoU^β`; one of several boxes goes to that which it overlaps most. The
    target of a score is its alignment, scaled so that a box's best has the best one's IoU.

    Scores are logits `[N, A, K]`, boxes `[N, A, 4]`, true boxes `[N, M, 4]` and their labels
    `[N, M]`, −1 where there is no box; locations are `[A, 3]`.
    """
    if not labels.shape[1]:  # A largest value is sought among the boxes, so there must be one.
        true_boxes, labels = F.pad(true_boxes, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
    true_boxes = true_boxes.to(boxes)
    is_box = labels >= 0
    classes = labels.clamp_min(0)
    index = classes[:, None, :].expand(-1, scores.shape[1], -1)
    score = scores.sigmoid().gather(2, index).transpose(1, 2)  # [N, M, A]
    shared, either = _areas(true_boxes[:, :, None], boxes[:, None])
    overlap = shared / (either + _TINY)
    alignment = (score**ALPHA * overlap**BETA).clamp_min(_TINY**2)
    allowed = _candidates(true_boxes, locations.to(boxes)) & is_box[:, :, None]
    chosen = _best(alignment, allowed, most)
    # A location chosen for several boxes goes to the one that it overlaps most.
    owner = torch.where(chosen, overlap, -1.0).argmax(1, keepdim=True)
    mine = torch.zeros_like(chosen).scatter_(1, owner, True) & chosen
    alignment, overlap = alignment * mine, overlap * mine
    best = overlap.amax(2, keepdim=True).clamp_min(LEAST_QUALITY)
    scale = best / alignment.amax(2, keepdim=True).clamp_min(_TINY**3)
    quality = (alignment * scale).amax(1)  # [N, A]
    owner, has_box = owner[:, 0], mine.any(1)
    own_boxes = true_boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    targets = torch.zeros_like(scores)
    targets.scatter_(2, classes.gather(1, owner)[..., None], quality[..., None])
    return Assignment(targets, torch.where(has_box[..., None], own_boxes, boxes), quality)


def _candidates(true_boxes: Tensor, locations: Tensor) -> Tensor:
    """Return which locations may be assigned to which box `[N, M, A]`."""
    x, y, stride = locations.unbind(1)
    x1, y1, x2, y2 = true_boxes[..., None].unbind(2)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    # With the strides counted in, the nearest is always one of the finest map.
    distance = (x - (x1 + x2) / 2) ** 2 + (y - (y1 + y2) / 2) ** 2 + stride**2
    return inside.scatter(2, distance.argmin(2, keepdim=True), True)


def _best(alignment: Tensor, allowed: Tensor, most: int) -> Tensor:
    """Return which locations are among the `most` best of each box `[N, M, A]`."""
    ranked = torch.where(allowed, alignment, -1.0)
    best = ranked.topk(min(most, ranked.shape[2]), dim=2).indices
    return torch.zeros_like(allowed).scatter_(2, best, True) & allowed
