"""A small network for quick, strong results on small images, after the CIFAR-10 speed records.

Described by Jordan 2024 (`94 % on CIFAR-10 in 3.29 Seconds on a Single GPU`, sections 3.1 to 3.3):
a first convolution with fixed whitening filters, three plain groups, norms without scale, filters
that start as the identity, and scaled outputs.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from modelwright.errors import RequestError
from modelwright.models.network import Frame, ImageBody, ImageNetwork, too_small
from modelwright.recipe.networks import SpeednetModel

PATCH = 2
"""The side of the first convolution's patches."""
SMALLEST = 9
"""The smallest side: less is pooled away by three halvings after the unpadded first convolution."""
_TRIMMED_BELOW = 20
"""Above this side, copying a map to pad it unevenly costs more than the spare row and column."""
_WHITENING_EPS = 5e-4
"""Added to each variance before its root, so that directions without variance aren't blown up."""
_NORM_EPS, _NORM_MOMENTUM = 1e-12, 0.4


class PooledConv(nn.Conv2d):
    """A padded 3×3 convolution in front of a pooling by 2, which drops the last row of an odd map.

    In training, that row and column of small maps aren't computed: the same result for less work.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `[N, out, H, W]`; where trimmed, each side is one less if it is odd."""
        height, width = input.shape[2:]
        # In training alone: an exported graph is plain, and was found no faster for the trimming.
        if not self.training or max(height, width) >= _TRIMMED_BELOW:
            return F.conv2d(input, self.weight, padding=1)
        right, bottom = 1 - width % 2, 1 - height % 2
        return F.conv2d(F.pad(input, (1, right, 1, bottom)), self.weight)


class Norm(nn.BatchNorm2d):
    """A norm over the batch whose scale stays 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_NORM_EPS, momentum=_NORM_MOMENTUM)
        self.weight.requires_grad_(False)


class Group(nn.Module):
    """Convolution, pooling by 2, norm, GELU; convolution, norm, GELU."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv1 = PooledConv(channels, filters, 3, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = Norm(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = Norm(filters)

    def forward(self, images: Tensor) -> Tensor:
        """Return `[N, filters, H // 2, W // 2]`."""
        x = F.gelu(self.norm1(self.pool(self.conv1(images))))
        return F.gelu(self.norm2(self.conv2(x)))


class Speednet(ImageBody):
    """`whiten`, three `groups`, the largest value of each map, and a linear `head`; of any size.

    Where `spec.whiten` fixes the first filters, `whiten(network, pixels)` sets them.

    Raises:
        RecipeError: the images are too small for it.
    """

    def __init__(self, spec: SpeednetModel, frame: Frame) -> None:
        super().__init__()
        if min(frame.height, frame.width) < SMALLEST:
            raise too_small(
                "speednet",
                frame.height,
                frame.width,
                needs=f"It needs at least {SMALLEST} on each side",
                fix="Use `cnn` or `resnet`, or raise `transforms.size`",
            )
        self.scale = spec.scale
        first = 2 * frame.channels * PATCH**2
        self.whiten = nn.Conv2d(frame.channels, first, PATCH)
        self.whiten.weight.requires_grad_(not spec.whiten)
        channels = (first, *spec.widths)
        self.groups = nn.Sequential(*(Group(a, b) for a, b in pairwise(channels)))
        self.head = nn.Linear(channels[-1], frame.num_outputs, bias=False)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        x = self.groups(F.gelu(self.whiten(images)))
        # Not `amax`, whose gradient asks which values equal the largest: compiled in bf16, where
        # that is rounded and they aren't yet, none does, and 0 is divided by 0.
        return F.adaptive_max_pool2d(x, 1).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs `[N, K]` for images `[N, C, H, W]`."""
        return super().forward(images) * self.scale


@torch.no_grad()
def whiten(network: nn.Module, pixels: NDArray[np.uint8] | Tensor) -> None:
    """Set a speednet's first filters so that patches of these images come out uncorrelated.

    The filters are the eigenvectors of the patches' second moments, each over the root of its
    eigenvalue, and their negatives (Page 2019; Jordan 2024, section 3.1).

    Args:
        network: what `build` returned for a `speednet`.
        pixels: training images `[N, H, W, C]`; 5,000 are plenty.

    Raises:
        RequestError: the network has no such filters, or there is no image.
    """
    if not isinstance(network, ImageNetwork) or not isinstance(network.body, Speednet):
        raise RequestError("only a `speednet` has filters to whiten")
    if not len(pixels):
        raise RequestError("whitening needs at least one image")
    conv = network.body.whiten
    weight = conv.weight
    size = weight[0].numel()
    moments = torch.zeros(size, size, dtype=torch.float64, device=weight.device)
    count = 0
    for part in torch.split(torch.as_tensor(pixels), 500):
        images = network.steps(part.to(weight.device)).permute(0, 3, 1, 2)
        patches = F.unfold(images, PATCH).transpose(1, 2).reshape(-1, size).double()
        moments += patches.T @ patches
        count += len(patches)
    values, vectors = torch.linalg.eigh(moments / count)
    # An eigenvector's sign is the solver's whim; the largest entry is made positive.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    filters = (vectors * largest.sign() / (values.clamp_min(0) + _WHITENING_EPS).sqrt()).T
    filters = filters.reshape(size, *weight.shape[1:]).to(weight.dtype)
    weight.copy_(torch.cat([filters, -filters]))
