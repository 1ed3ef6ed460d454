"""A single-stage detector without anchors, after FCOS (Tian et al. 2019).

A backbone gives maps at strides 8, 16, 32 …; a feature pyramid (Lin et al. 2017, `Feature
Pyramid Networks`) hands what the coarse ones have seen down to the fine ones; every location of
every map then predicts a score for each label, and the distances to the four sides of its box.
There is no centre-ness branch: the scores learn how well a box fits (see the objective).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from modelwright.models.efficientnet import TAPS, EfficientNetTrunk
from modelwright.models.network import Frame, too_small
from modelwright.models.resnet import BasicBlock, projection
from modelwright.recipe.networks import DetectorModel

FINEST = 8
"""The stride of the finest map with locations: the side of the square that each stands for."""
PRIOR = -math.log(99.0)
"""Every score starts near 0.01 (Lin et al. 2017, `Focal Loss`, section 3.3): most see nothing."""


class ResidualStages(nn.Module):
    """The backbone `residual`: a stem and stages of residual blocks, each of which halves."""

    def __init__(self, spec: DetectorModel, channels: int) -> None:
        super().__init__()
        widths = spec.widths
        self.stem = _convolution(channels, widths[0], 3, stride=2)
        stages, inner = [], widths[0]
        for outer in widths:
            blocks = [BasicBlock(inner, outer, 2, projection)]
            blocks += [BasicBlock(outer, outer, 1, projection) for _ in range(spec.depth - 1)]
            stages.append(nn.Sequential(*blocks))
            inner = outer
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 8, 16, 32 … for images `[N, C, H, W]`, finest first."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]


def _backbone(spec: DetectorModel, channels: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a backbone, and the channels of its maps."""
    if spec.backbone == "residual":
        return ResidualStages(spec, channels), spec.widths[1:]
    return EfficientNetTrunk(channels), tuple(TAPS.values())


class Detector(nn.Module):
    """A backbone, a feature pyramid, towers for scores and boxes, and two linear ends.

    The layers `head` (scores) and `box` serve all maps. The prior of the scores stands outside
    `head`, so that a new `head` for other classes starts as it should. The size of the images fixes
    the number of locations.

    Raises:
        RecipeError: the images are smaller than the coarsest stride.
    """

    def __init__(self, spec: DetectorModel, frame: Frame) -> None:
        super().__init__()
        neck = spec.neck
        self.height, self.width = frame.height, frame.width
        backbone, widths = _backbone(spec, frame.channels)
        self.strides = tuple(FINEST << level for level in range(len(widths)))
        if min(frame.height, frame.width) < self.strides[-1]:
            is_residual = isinstance(backbone, ResidualStages)
            raise too_small(
                "detector",
                frame.height,
                frame.width,
                needs=f"Its coarsest map has one location for {self.strides[-1]} pixels",
                fix=("Take fewer `widths`, or raise" if is_residual else "Raise")
                + " `transforms.size`",
            )
        self.backbone = backbone
        # Norms count each map's own statistics, so the maps share no tower.
        self.laterals = nn.ModuleList(_convolution(wide, neck, 1) for wide in widths)
        self.merges = nn.ModuleList(_convolution(neck, neck, 3) for _ in widths)
        self.score_towers = nn.ModuleList(_convolution(neck, neck, 3) for _ in widths)
        self.box_towers = nn.ModuleList(_convolution(neck, neck, 3) for _ in widths)
        self.box = nn.Linear(neck, 4)
        self.head = nn.Linear(
            neck, frame.num_outputs
        )  # Last: optimizers treat the last weight apart.

    def features(self, images: Tensor) -> Tensor:
        """Return the mean over all locations of what `head` gets, `[N, D]`, for `[N, C, H, W]`."""
        return self._seen(self._pyramid(images)).mean(1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and boxes of all locations for images `[N, C, H, W]`.

        Returns:
            Logits `[N, A, K]`, and boxes `[N, A, 4]` (x1, y1, x2, y2) in pixels of these images;
            they may reach out of the image.
        """
        maps = self._pyramid(images)
        seen = self._seen(maps)
        around = _rows([tower(x) for tower, x in zip(self.box_towers, maps, strict=True)])
        scores, sides = self.head(seen), self.box(around)
        # 16-bit floats can't represent a position in a large image to the pixel.
        sides = sides if sides.dtype == torch.float64 else sides.float()
        places = locations(self.height, self.width, self.strides).to(sides)
        centres, strides = places[:, :2], places[:, 2:]
        reach = F.softplus(sides) * strides
        corners = [centres - reach[..., :2], centres + reach[..., 2:]]
        return scores + PRIOR, torch.cat(corners, dim=-1)

    def _seen(self, maps: list[Tensor]) -> Tensor:
        """Return what `head` gets at each location, `[N, A, neck]`."""
        return _rows([tower(x) for tower, x in zip(self.score_towers, maps, strict=True)])

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        """Return one map a stride, finest first, each `[N, neck, H / stride, W / stride]`."""
        seen = self.backbone(images)
        maps = [lateral(x) for lateral, x in zip(self.laterals, seen, strict=True)]
        for level in reversed(range(len(maps) - 1)):
            fine = maps[level]
            coarse = F.interpolate(maps[level + 1], size=fine.shape[2:], mode="nearest")
            maps[level] = fine + coarse
        return [merge(x) for merge, x in zip(self.merges, maps, strict=True)]


def locations(height: int, width: int, strides: tuple[int, ...]) -> Tensor:
    """Return the locations of an image: centre x, centre y and stride `[A, 3]`, in pixels.

    The finest map comes first, and each goes row by row.

    >>> locations(16, 8, (8,)).tolist()
    [[4.0, 4.0, 8.0], [4.0, 12.0, 8.0]]
    """
    grids = []
    for stride in strides:
        y = (torch.arange(math.ceil(height / stride)) + 0.5) * stride
        x = (torch.arange(math.ceil(width / stride)) + 0.5) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        grid = torch.stack([grid_x, grid_y, torch.full_like(grid_x, stride)], dim=-1)
        grids.append(grid.reshape(-1, 3))
    return torch.cat(grids)


def locations_of(network: nn.Module) -> Tensor:
    """Return the locations of a detector `[A, 3]`, also where it has become a graph."""
    if isinstance(network, GraphModule):
        found: Tensor = network.meta["locations"]
        return found
    body = network.body
    assert isinstance(body, Detector)
    return locations(body.height, body.width, body.strides)


def _convolution(channels: int, filters: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    )


def _rows(maps: list[Tensor]) -> Tensor:
    """Return maps `[N, D, h, w]` as rows `[N, A, D]`."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
