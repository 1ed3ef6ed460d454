"""EfficientNet-Lite0: inverted residuals with depthwise convolutions, for photographs.

The network is that of Tan and Le 2019 (`EfficientNet`, table 1) in its Lite variant of 2020, which
has ReLU6 in place of swish and no squeeze-and-excitation. The details are those of its published
weights, which TensorFlow trained: padding `same`, which is uneven at stride 2, and ε = 1e-3.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.network import Frame, ImageBody, too_small
from modelwright.models.pretrained_io import first_line
from modelwright.recipe.networks import EfficientNetLite0Model

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""What the published weights were trained with, for pixels in 0…1: (x - 127) / 128 in 0…255."""
_STEM, _TOP, _EPS = 32, 1280, 1e-3
_STAGES = (
    # kernel, stride, expansion, filters, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
TAPS = {4: 40, 10: 112, 15: 320}
"""The last block at each of the strides 8, 16 and 32, and the channels of its map."""


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding `same`: ⌈H / stride⌉ rows, the spare one below.

    The kernel is odd, and the stride 1 or 2.
    """

    def __init__(
        self, channels: int, filters: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        # At stride 1 the padding is even, and the convolution's own.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(
            channels, filters, kernel, stride=stride, padding=padding, groups=groups, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return `[N, filters, ⌈H / stride⌉, ⌈W / stride⌉]`."""
        if self.stride[0] > 1:
            high, wide = (self._padding(side) for side in input.shape[2:])
            input = F.pad(input, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return super().forward(input)

    def _padding(self, side: int) -> int:
        """Return the rows or columns to add on both sides together, at stride 2."""
        return self.kernel_size[0] - 2 + side % 2


def _layer(conv: nn.Conv2d, *, is_linear: bool = False) -> nn.Sequential:
    layer = nn.Sequential()
    layer.add_module("conv", conv)
    layer.add_module("norm", nn.BatchNorm2d(conv.out_channels, eps=_EPS))
    if not is_linear:
        layer.add_module("activation", nn.ReLU6())
    return layer


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; beside a shortcut where the shape stays."""

    def __init__(
        self, channels: int, filters: int, *, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _layer(SameConv(channels, inner, 1)) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(SameConv(inner, inner, kernel, stride=stride, groups=inner))
        self.project = _layer(SameConv(inner, filters, 1), is_linear=True)
        self.has_shortcut = stride == 1 and channels == filters

    def forward(self, images: Tensor) -> Tensor:
        """Return `[N, filters, ⌈H / stride⌉, ⌈W / stride⌉]`."""
        x: Tensor = self.project(self.depthwise(self.expand(images)))
        return x + images if self.has_shortcut else x


class EfficientNetTrunk(nn.Module):
    """The stem and the 16 blocks: what a classifier and a detector have in common."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = _layer(SameConv(channels, _STEM, 3, stride=2))
        blocks, inner = [], _STEM
        for kernel, first_stride, expansion, filters, count in _STAGES:
            for index in range(count):
                blocks.append(
                    InvertedResidual(
                        inner,
                        filters,
                        kernel=kernel,
                        stride=1 if index else first_stride,
                        expansion=expansion,
                    )
                )
                inner = filters
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps at strides 8, 16 and 32 for images `[N, C, H, W]`, finest first."""
        x, maps = self.stem(images), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                maps.append(x)
        return maps


class EfficientNetLite0(ImageBody):
    """The trunk, 1,280 filters, the mean over the map, and a linear `head`; of any size.

    Raises:
        RecipeError: the images are smaller than the coarsest stride.
    """

    def __init__(self, spec: EfficientNetLite0Model, frame: Frame) -> None:
        super().__init__()
        least = spec.smallest_side
        if min(frame.height, frame.width) < least:
            raise too_small(
                spec.name,
                frame.height,
                frame.width,
                needs=f"Its coarsest map has one place for {least} pixels",
                fix=f"Write `transforms: {{size: {least}}}`, or more: 224 is usual",
            )
        self.trunk = EfficientNetTrunk(frame.channels)
        self.top = _layer(SameConv(_STAGES[-1][3], _TOP, 1))
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(_TOP, frame.num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        pooled: Tensor = self.dropout(self.top(self.trunk(images)[-1]).mean((2, 3)))
        return pooled


# -- the published weights ---------------------------------------------------------------------

_NAMES = (
    (r"^_conv_stem\.", "trunk.stem.conv."),
    (r"^_bn0\.", "trunk.stem.norm."),
    (r"^_conv_head\.", "top.conv."),
    (r"^_bn1\.", "top.norm."),
    (r"^_fc\.", "head."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"trunk.blocks.\1.expand.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"trunk.blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"trunk.blocks.\1.depthwise.conv."),
    (r"^_blocks\.(\d+)\._bn1\.", r"trunk.blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"trunk.blocks.\1.project.conv."),
    (r"^_blocks\.(\d+)\._bn2\.", r"trunk.blocks.\1.project.norm."),
)
"""The names of the published weights, and those of the network here."""


def read_published(data: bytes, *, where: str) -> dict[str, Tensor]:
    """Return published weights by their names in `EfficientNetLite0`.

    Args:
        data: a file as torch saves a dictionary of tensors; whoever calls this has checked its
            digest. No code in it is run.
        where: its place, for messages.

    Raises:
        RecipeError: it holds something else.
    """
    try:
        found = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RecipeError(
            "this isn't a file of weights that torch has saved", where=where, why=first_line(error)
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise RecipeError("this file holds other things than weights by name", where=where)
    return {_own_name(str(name)): item.contiguous() for name, item in found.items()}


def _own_name(name: str) -> str:
    for pattern, own in _NAMES:
        if re.match(pattern, name):
            return re.sub(pattern, own, name)
    return name
