"""Random variation of images with their boxes: a pure function of (seed, epoch, position).

Pixels are varied as in `augment`, and the boxes with them. Images are uint8 `[N, H, W, C]`, boxes
float32 `[N, M, 4]` in their pixels, labels int64 `[N, M]`; where a label is −1 there is no box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modelwright.arrays import Bools, Doubles, Ints
from modelwright.data.augment import boxes as draw_parts
from modelwright.data.augment import (
    factors,
    flips,
    jitter_colors,
    move,
    overturns,
    shifts,
    turn_over,
    zoom,
)
from modelwright.data.counter_rng import CounterRNG
from modelwright.recipe.preparation import AugmentSpec


@dataclass(frozen=True, slots=True)
class BoxedBatch:
    """Images with their boxes."""

    images: Tensor
    boxes: Tensor
    labels: Tensor


def augment_boxed(
    batch: BoxedBatch, spec: AugmentSpec, draws: CounterRNG, *, least_visible: float
) -> BoxedBatch:
    """Return each image varied, and its boxes with it.

    A box of which less than the share `least_visible` stays in the image is left out.
    """
    height, width = batch.images.shape[1:3]
    images, boxes, labels = batch.images, batch.boxes, batch.labels
    if spec.flip != "none" or spec.translate:
        # Shifted first, then mirrored, as `move` does. A reflected border would show objects that
        # no box is for.
        (down, right), mirrored = shifts(spec, draws), flips(spec, draws)
        images = move(images, down, right, mirrored, padding="zero")
        boxes = shift_boxes(boxes, np.stack([right, down], axis=1))
        boxes = flip_boxes(boxes, mirrored, width, axis=0)
    if spec.vertical_flip:
        overturned = overturns(draws)
        images = turn_over(images, overturned)
        boxes = flip_boxes(boxes, overturned, height, axis=1)
    if spec.crop is not None:
        parts = draw_parts(spec.crop, draws, (height, width))
        images, boxes = zoom(images, parts), zoom_boxes(boxes, parts, (height, width))
    if spec.color_jitter is not None:
        images = jitter_colors(images, factors(spec.color_jitter, draws))
    boxes, labels = cut_boxes(boxes, labels, (height, width), least_visible=least_visible)
    return BoxedBatch(images, boxes, labels)


def shift_boxes(boxes: Tensor, by: Ints) -> Tensor:
    """Return boxes moved by so many pixels right and down `[N, 2]`."""
    return boxes + torch.from_numpy(np.tile(by, 2)).to(boxes)[:, None]


def flip_boxes(boxes: Tensor, flipped: Bools, size: int, *, axis: int) -> Tensor:
    """Return boxes flipped where `flipped` `[N]`.

    `size` is the width of the images for axis 0 (left and right), the height for axis 1.
    """
    low, high = axis, axis + 2
    mirrored = boxes.clone()
    mirrored[..., low], mirrored[..., high] = size - boxes[..., high], size - boxes[..., low]
    return torch.where(torch.from_numpy(flipped).to(boxes.device)[:, None, None], mirrored, boxes)


def zoom_boxes(boxes: Tensor, parts: Doubles, size: tuple[int, int]) -> Tensor:
    """Return boxes as they lie when a part of each image fills it.

    Parts are top, left, height and width `[N, 4]`; `size` is H and W of the images.
    """
    top, left, high, wide = torch.from_numpy(parts).to(boxes)[:, :, None].unbind(1)
    start = torch.stack([left, top, left, top], dim=-1)
    scale = torch.stack([size[1] / wide, size[0] / high] * 2, dim=-1)
    return (boxes - start) * scale


def cut_boxes(
    boxes: Tensor, labels: Tensor, size: tuple[int, int], *, least_visible: float
) -> tuple[Tensor, Tensor]:
    """Cut boxes at the image's edge, and turn those of which too little is left into padding."""
    edges = torch.tensor([size[1], size[0]] * 2, device=boxes.device)
    cut = torch.minimum(boxes.clamp_min(0), edges)
    whole, left = ((item[..., 2:] - item[..., :2]).clamp_min(0).prod(-1) for item in (boxes, cut))
    stays = (labels >= 0) & (left > 0) & (left >= least_visible * whole)
    return torch.where(stays[..., None], cut, 0.0), torch.where(stays, labels, -1)
