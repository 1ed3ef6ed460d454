"""Residual networks (He et al. 2016): depth 18 of table 1, and the CIFAR family of section 4.2.

The CIFAR family's shortcuts are free of parameters (option A: every other pixel, missing channels
zero); those of depth 18 are projections (option B).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.network import Frame, ImageBody
from modelwright.recipe.networks import ResnetModel

LARGE = 64
"""From this side on, `stem: auto` starts as for photographs: a 7×7 convolution and pooling."""


class ChannelPadding(nn.Module):
    """Option A: every other pixel, and zeros for the channels that are missing."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.missing = filters - channels

    def forward(self, images: Tensor) -> Tensor:
        """Return `[N, filters, H / stride, W / stride]`."""
        strided = images[:, :, :: self.stride, :: self.stride]
        return F.pad(strided, (0, 0, 0, 0, 0, self.missing))


class Pointwise(nn.Conv2d):
    """A 1×1 convolution with a stride that takes its pixels before it multiplies, in training.

    The values are the same. But oneDNN's gradient of a strided 1×1 convolution in bf16, channels
    last, writes beyond its memory where the channels aren't many (seen in torch 2.13).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `[N, filters, H / stride, W / stride]`."""
        if not self.training:
            return super().forward(input)
        down, across = self.stride
        return F.conv2d(input[:, :, ::down, ::across], self.weight, self.bias)


def projection(channels: int, filters: int, stride: int) -> nn.Module:
    """Return option B: a 1×1 convolution and a norm."""
    return nn.Sequential(
        Pointwise(channels, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters)
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        shortcut: Callable[[int, int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        changes = stride != 1 or channels != filters
        self.shortcut = shortcut(channels, filters, stride) if changes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return `[N, filters, H / stride, W / stride]`."""
        x = F.relu(self.norm1(self.conv1(images)))
        return F.relu(self.norm2(self.conv2(x)) + self.shortcut(images))


class Resnet(ImageBody):
    """A stem, stages of basic blocks, the mean over the map, and a linear `head`; of any size."""

    def __init__(self, spec: ResnetModel, frame: Frame) -> None:
        super().__init__()
        is_18 = spec.depth == 18
        shortcut = projection if is_18 else ChannelPadding
        widths = [64, 128, 256, 512] if is_18 else [16, 32, 64]
        widths = [max(round(width * spec.width), 1) for width in widths]
        stem = resolved_stem(spec, frame.height, frame.width)
        self.stem = _stem(stem, frame.channels, widths[0])
        stages, channels = [], widths[0]
        for number, filters in enumerate(widths):
            blocks = []
            for index in range(2 if is_18 else (spec.depth - 2) // 6):
                stride = 2 if number and not index else 1
                blocks.append(BasicBlock(channels, filters, stride, shortcut))
                channels = filters
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, frame.num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        pooled: Tensor = self.stages(self.stem(images)).mean((2, 3))
        return pooled


def resolved_stem(spec: ResnetModel, height: int, width: int) -> str:
    """Return what `stem` stands for at a size of images: `small` or `large`."""
    if spec.stem != "auto":
        return spec.stem
    return "large" if spec.depth == 18 and min(height, width) >= LARGE else "small"


def _stem(kind: str, channels: int, filters: int) -> nn.Sequential:
    kernel, stride = (7, 2) if kind == "large" else (3, 1)
    conv = nn.Conv2d(channels, filters, kernel, stride=stride, padding=kernel // 2, bias=False)
    stem = {"conv": conv, "norm": nn.BatchNorm2d(filters), "activation": nn.ReLU()}
    if kind == "large":
        stem["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(OrderedDict(stem))
