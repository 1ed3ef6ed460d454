"""Linear models: the outputs are weighted sums of features that aren't learnt.

The features are here too: histograms of oriented gradients of images, statistics of a log-mel
spectrogram of recordings. The simple methods that every model is compared with take the same ones.
The weights are found by `training.linear`.

Histograms of oriented gradients are written from Dalal and Triggs 2005, `Histograms of Oriented
Gradients for Human Detection`, section 6: square-root gamma, centred differences of the strongest
colour channel, 9 unsigned orientations with votes shared between neighbouring ones, blocks of 2 × 2
cells, L2-Hys normalisation. They are taken twice. Block by block they tell where what is: of an
image of 64 pixels or fewer, in whole square cells of which about eight stand along the shorter
side. Their mean and deviation over the image tell its texture, wherever it is: in cells of 4
pixels, at three sizes of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelwright.errors import DataError, RecipeError, RequestError
from modelwright.models.logmel import LogMel
from modelwright.models.network import (
    AudioFrame,
    FeatureNetwork,
    Frame,
    ImageBody,
    NgramFrame,
    SequenceNetwork,
    too_small,
)
from modelwright.models.padding import mask
from modelwright.models.steps import WHITE
from modelwright.recipe.model import LinearModel
from modelwright.recipe.preparation import AudioSpec
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.inputs import Input

Array = NDArray[Any]
Features = NDArray[np.float32]

ORIENTATIONS = 9
CLIP = 0.2
"""Where L2-Hys clips a normalised block (section 6.4)."""
HOG_SIDE, TEXTURE_SIDE = 64, 128
"""Longer sides of images are reduced by whole factors to this many pixels or fewer: to see where
what is, and to see textures, which are fine."""
TEXTURE_CELL, TEXTURE_SIZES = 4, (1, 2, 4)
"""The side of a cell of a texture, in pixels, and by what the image is reduced before."""
TIME_PARTS = 4
"""The parts of a recording that have means of their own."""
TEXTURE_WEIGHT = 16.0
"""The factor on means and deviations, which vary a quarter as much as single blocks and are an
eighth as many: so both parts count in a linear model that penalises all weights alike."""
_EPSILON = 1e-3  # keeps the noise of a flat block small; gradients lie between 0 and about 1.4


def build_linear(spec: LinearModel, frame: Frame | NgramFrame | AudioFrame) -> nn.Module:
    """Return a linear model's network for one kind of sample, or an image network's body.

    Raises:
        RecipeError: the images are too small for it.
    """
    match frame:
        case Frame():
            return HogLinear(frame)
        case NgramFrame():
            return NgramLinear(frame)
        case AudioFrame():
            return LogmelLinear(frame)


class FeaturesOnly(nn.Module):
    """A network without its last layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the last layer gets `[N, D]`."""
        return cast(FeatureNetwork, self.network).features(*inputs)


class PixelFeatures(FeaturesOnly):
    """An image network without its last layer, with one input, as it is exported."""

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]  # Of one input.
        """Return what the last layer gets `[N, D]` for pixels `[N, H, W, C]`."""
        return super().forward(pixels)


class NgramLinear(nn.Module):
    """A linear layer on the weights of a text's n-grams, of which few aren't 0."""

    def __init__(self, frame: NgramFrame) -> None:
        super().__init__()
        self.head = nn.Linear(frame.ngrams, frame.num_outputs)

    def features(self, ngrams: Tensor, weights: Tensor) -> Tensor:
        """Return the weight of each n-gram, `[N, V]`; the arguments are those of `forward`."""
        features = weights.new_zeros(len(ngrams), self.head.in_features)
        return features.scatter_add_(1, ngrams, weights)

    def forward(self, ngrams: Tensor, weights: Tensor) -> Tensor:
        """Return outputs `[N, K]` for the numbers of n-grams `[N, T]` and their weights `[N, T]`.

        Padding has weight 0.
        """
        rows = nn.functional.embedding(ngrams, self.head.weight.T)
        summed: Tensor = (weights[:, None].to(rows.dtype) @ rows)[:, 0]
        return summed + self.head.bias


class HogLinear(ImageBody):
    """A linear layer on histograms of oriented gradients."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.hog = Hog(frame.height, frame.width)
        if not self.hog.size:
            raise too_small(
                "linear",
                frame.height,
                frame.width,
                needs="Histograms of oriented gradients need 4 pixels a side",
                fix="Enlarge them with `transforms: {size: 16}`",
            )
        self.head = nn.Linear(self.hog.size, frame.num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return the histograms `[N, D]` of images `[N, C, H, W]` in 0…1."""
        features: Tensor = self.hog(images)
        return features


class LogmelLinear(SequenceNetwork):
    """A linear layer on statistics of a log-mel spectrogram over time."""

    def __init__(self, frame: AudioFrame) -> None:
        super().__init__()
        self.logmel = LogMel(frame.sampling_rate, n_mels=frame.n_mels, normalize=frame.normalize)
        self.head = nn.Linear((3 + TIME_PARTS) * frame.n_mels, frame.num_outputs)

    def features(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return mean, deviation and mean change of each band, and its means in parts of the time.

        `[N, 7·M]`. The change is the absolute difference of two frames in a row, of a single frame
        0. The parts are equally long; one without a frame has 0.
        """
        bands, frames = self.logmel(samples, length)
        is_real = mask(frames, bands.shape[2])[:, None]
        count = frames[:, None].clamp(min=1)
        mean = (bands * is_real).sum(2) / count
        deviation = ((bands - mean[..., None]).square() * is_real).sum(2) / count
        changes = (bands[..., 1:] - bands[..., :-1]).abs() * is_real[..., 1:]
        change = changes.sum(2) / (count - 1).clamp(min=1)
        # The root of 0 has no gradient, which training such a network further would meet.
        deviation = (deviation + _EPSILON**2).sqrt()
        return torch.cat([mean, deviation, change, *_means_of_parts(bands, frames)], 1)


def _means_of_parts(bands: Tensor, frames: Tensor) -> Iterator[Tensor]:
    """Yield the mean of each band `[N, M]` in each part of the time, of bands `[N, M, T]`."""
    places = torch.arange(bands.shape[2], device=bands.device)
    part_of = places * TIME_PARTS // frames[:, None].clamp(min=1)
    for part in range(TIME_PARTS):
        is_in = part_of == part
        yield (bands * is_in[:, None]).sum(2) / is_in.sum(1, keepdim=True).clamp(min=1)


def simple_features(input: Input, audio: AudioSpec) -> Callable[[Array], Features]:
    """Return what computes the features of images or recordings, as simple methods see them.

    It takes pixels `[N, H, W, C]`, or records of samples `[T]` and a length, and returns `[N, D]`.
    It raises `DataError` where samples of this kind have no such features.
    """

    def features(rows: Array) -> Features:
        try:
            network = _features_of(input, audio)
        except (RecipeError, RequestError) as error:
            raise DataError(error.what, why=error.why) from error
        step = max(_BYTES_AT_ONCE // max(rows[:1].nbytes, 1), 1)
        parts = [rows[at : at + step] for at in range(0, len(rows), step)]
        with torch.inference_mode():
            return np.concatenate([network(*_tensors(part)).numpy() for part in parts])

    return features


_BYTES_AT_ONCE = 1 << 22
"""Of samples whose features are computed at once; a spectrogram takes a hundred times as many."""


def _tensors(rows: Array) -> Iterator[Tensor]:
    """Yield the inputs of a network: an array, or the fields of records."""
    for name in rows.dtype.names or (...,):
        yield torch.from_numpy(np.array(rows[name]))


def _features_of(input: Input, audio: AudioSpec) -> Callable[..., Tensor]:
    match input:
        case ImageInput():
            body = HogLinear(Frame(input.channels, input.height, input.width, 1)).eval()
            return lambda pixels: body.features(pixels.float().permute(0, 3, 1, 2) / WHITE)
        case AudioInput():
            frame = AudioFrame(input.sampling_rate, audio.n_mels, audio.normalize, 1)
            return LogmelLinear(frame).eval().features
    raise RequestError("texts are seen as n-grams")


# -- histograms of oriented gradients --------------------------------------------------------------


def cell_pixels(height: int, width: int) -> int:
    """Return the side of a cell, or 0 where an image is too small for a block of 2 × 2 cells.

    >>> cell_pixels(8, 8), cell_pixels(28, 28), cell_pixels(32, 32), cell_pixels(224, 224)
    (2, 4, 4, 28)
    """
    shorter = min(height, width)
    return max(2, (shorter + 4) // 8) if shorter >= 4 else 0


class Hog(nn.Module):
    """Histograms of oriented gradients of an image, block by block and over the image.

    For the blocks one by one it is reduced to 64 pixels or fewer; a narrow image becomes at most
    twice as long as wide, so that its shorter side keeps 4 pixels where it has them. What is left
    at a border is cut off.

    Args:
        height: of the images.
        width: of the images.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        longest = min(HOG_SIDE, 2 * max(4, min(height, width, HOG_SIDE)))
        self.down, self.across = -(-height // longest), -(-width // longest)
        height_left, width_left = height // self.down, width // self.across
        self.places = Blocks(height_left, width_left, cell_pixels(height_left, width_left))
        first = -(-max(height, width) // TEXTURE_SIDE)
        self.factors = [first * size for size in TEXTURE_SIZES]
        self.textures = nn.ModuleList(
            textures
            for factor in self.factors
            if (textures := Blocks(height // factor, width // factor, TEXTURE_CELL)).count
        )
        self.num_places = self.places.count * BLOCK
        """How many features tell where what is: the first."""
        self.size = self.num_places and self.num_places + 2 * BLOCK * len(self.textures)
        """D, how many features an image has; 0 where it is too small."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the features `[N, D]` of images `[N, C, H, W]` in 0…1.

        First each block's histograms, then for each size the mean and the deviation of each
        orientation of a block's cells over the blocks.
        """
        places = self.places(_reduced(images, self.down, self.across))
        features = [places.permute(0, 2, 3, 1).flatten(1)]
        for factor, textures in zip(self.factors, self.textures, strict=False):
            blocks = textures(_reduced(images, factor, factor)).flatten(2)
            mean = blocks.mean(2)
            variance = (blocks - mean[..., None]).square().mean(2)
            features += [mean * TEXTURE_WEIGHT, (variance + _EPSILON**2).sqrt() * TEXTURE_WEIGHT]
        return torch.cat(features, 1)


BLOCK = 4 * ORIENTATIONS
"""How many numbers describe a block."""


class Blocks(nn.Module):
    """Normalised blocks of 2 × 2 cells.

    Args:
        height: of the images.
        width: of the images.
        side: of a cell, in pixels; 0 gives no block.
    """

    def __init__(self, height: int, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.rows, self.columns = (height // side, width // side) if side else (0, 0)
        self.top = (height - self.rows * side) // 2
        self.left = (width - self.columns * side) // 2
        self.count = max(self.rows - 1, 0) * max(self.columns - 1, 0)
        """How many blocks an image has."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the blocks `[N, 36, rows - 1, columns - 1]` of images `[N, C, H, W]` in 0…1."""
        cells = self.cells(images.clamp(min=0.0).sqrt())
        blocks = [cells[:, :, :-1, :-1], cells[:, :, :-1, 1:]]
        blocks += [cells[:, :, 1:, :-1], cells[:, :, 1:, 1:]]
        return _normalised(_normalised(torch.cat(blocks, 1)).clamp(max=CLIP))

    def cells(self, images: Tensor) -> Tensor:
        """Return the votes of each cell `[N, orientations, rows, columns]`."""
        across = nn.functional.pad(images[..., 2:] - images[..., :-2], (1, 1))
        down = nn.functional.pad(images[..., 2:, :] - images[..., :-2, :], (0, 0, 1, 1))
        strongest = (across.square() + down.square()).argmax(1, keepdim=True)
        bottom, right = self.top + self.rows * self.side, self.left + self.columns * self.side
        across, down = (
            each.gather(1, strongest)[..., self.top : bottom, self.left : right]
            for each in (across, down)
        )
        magnitude = (across.square() + down.square()).sqrt()
        # Opposite directions are one orientation, so a tangent tells it.
        slope = down / torch.where(across == 0.0, 1e-12, across)
        place = torch.atan(slope) * (ORIENTATIONS / math.pi) - 0.5
        centres = torch.arange(ORIENTATIONS, device=images.device, dtype=images.dtype)
        apart = (place - centres[:, None, None]).abs()
        apart = torch.minimum(apart, (ORIENTATIONS - apart).abs())
        votes = (1.0 - apart).clamp(min=0.0) * magnitude
        return nn.functional.avg_pool2d(votes, self.side) * float(self.side**2)


def _reduced(images: Tensor, down: int, across: int) -> Tensor:
    if down == across == 1:
        return images
    return nn.functional.avg_pool2d(images, (down, across))


def _normalised(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(1, keepdim=True) + _EPSILON**2).sqrt()
