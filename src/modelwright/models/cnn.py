"""A convolutional network: blocks of convolution and pooling, then fully connected layers."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

from modelwright.models.network import ACTIVATIONS, Frame, ImageBody, flat, same_conv, too_small
from modelwright.recipe.networks import CnnModel, ConvBlock


class Cnn(ImageBody):
    """Convolution blocks `blocks`, fully connected layers `hidden`, and a linear `head`.

    Raises:
        RecipeError: the images are too small for the poolings.
    """

    def __init__(self, spec: CnnModel, frame: Frame) -> None:
        super().__init__()
        high, wide = _map_size(spec, frame.height, frame.width)
        channels = frame.channels
        blocks = []
        for block in spec.blocks:
            blocks.append(_block(spec, block, channels))
            channels = block.filters
        self.blocks = nn.Sequential(*blocks)
        widths = (channels * high * wide, *spec.head)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = ACTIVATIONS[spec.activation]()
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(widths[-1], frame.num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        x = flat(self.blocks(images))
        for layer in self.hidden:
            x = self.activation(layer(self.dropout(x)))
        dropped: Tensor = self.dropout(x)
        return dropped


def _block(spec: CnnModel, block: ConvBlock, channels: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, block.convolutions + 1):
        layers[f"conv{number}"] = same_conv(
            channels, block.filters, block.kernel, bias=not spec.batch_norm
        )
        if spec.batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(block.filters)
        layers[f"activation{number}"] = ACTIVATIONS[spec.activation]()
        channels = block.filters
    if block.pool > 1:
        average = spec.pooling == "average"
        layers["pool"] = nn.AvgPool2d(block.pool) if average else nn.MaxPool2d(block.pool)
    return nn.Sequential(layers)


def _map_size(spec: CnnModel, height: int, width: int) -> tuple[int, int]:
    """Return the height and width of the last map."""
    high, wide = height, width
    for block in spec.blocks:
        high, wide = high // block.pool, wide // block.pool
    if high and wide:
        return high, wide
    pools = " × ".join(str(block.pool) for block in spec.blocks)
    raise too_small(
        "cnn",
        height,
        width,
        needs=f"Its blocks pool by {pools}, and nothing would be left",
        fix="Take fewer blocks, set `pool: 1` in some, or raise `transforms.size`",
    )
