"""What every image network has around its family's body: graph steps, and the layout of memory."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.kinds import InputKind
from modelwright.models.steps import PixelSteps
from modelwright.recipe.preparation import AudioNormalize

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
"""The recipe's nonlinearities."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of an image network's two ends."""

    kind: ClassVar = InputKind.IMAGE
    channels: int
    height: int
    width: int
    num_outputs: int


@dataclass(frozen=True, slots=True)
class TextFrame:
    """The size of a text network's two ends."""

    kind: ClassVar = InputKind.TEXT
    vocabulary: int
    max_length: int
    num_outputs: int


@dataclass(frozen=True, slots=True)
class NgramFrame:
    """The size of the two ends of a network on n-grams of texts."""

    kind: ClassVar = InputKind.TEXT
    ngrams: int
    """V, how many are known."""
    num_outputs: int


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """The size of an audio network's two ends, and the features that it sees."""

    kind: ClassVar = InputKind.AUDIO
    sampling_rate: int
    n_mels: int
    normalize: AudioNormalize
    """What features are taken relative to; see `LogMel`."""
    num_outputs: int


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network that also gives its representation of a sample: every family does."""

    def features(self, *inputs: Tensor) -> Tensor:
        """Return what the last layer gets, `[N, D]`, for the inputs of `forward`.

        Where the last layer works at many places of a sample (steps of a recording, tokens of a
        text, locations of an image), it is the mean over the places that aren't padding.
        """


class ImageBody(nn.Module):
    """An image network without its graph steps: one vector an image, and a linear `head` on it."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs `[N, K]` for images `[N, C, H, W]`."""
        outputs: Tensor = self.head(self.features(images))
        return outputs


class SequenceNetwork(nn.Module):
    """A network over padded texts or recordings: one vector a sample, and a linear `head` on it."""

    head: nn.Linear

    def features(self, inputs: Tensor, length: Tensor, /) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, length: Tensor) -> Tensor:
        """Return the outputs `[N, K]` for inputs `[N, T]` of which `length` `[N]` are real.

        Inputs are tokens, or int16 samples of a recording.
        """
        outputs: Tensor = self.head(self.features(inputs, length))
        return outputs


class ImageNetwork(nn.Module):
    """Pixels in, raw outputs out: graph steps, then a family's body.

    Args:
        steps: scale and normalize.
        body: takes images `[N, C, H, W]`, channels last in memory, and returns `[N, K]`. Its last
            layer is called `head`.
    """

    def __init__(self, steps: PixelSteps, body: nn.Module) -> None:
        super().__init__()
        self.steps = steps
        self.body = body

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the body's head gets, `[N, D]`, for pixels as `forward` takes them."""
        return cast("FeatureNetwork", self.body).features(self._images(pixels))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the outputs `[N, K]` for pixels `[N, H, W, C]`, uint8 or floats in 0…255."""
        outputs: Tensor = self.body(self._images(pixels))
        return outputs

    def _images(self, pixels: Tensor) -> Tensor:
        # Pixels lie channels last already, so this view costs nothing.
        images: Tensor = self.steps(pixels).permute(0, 3, 1, 2)
        return images


def matches(name: str, pattern: str) -> bool:
    """Say whether a parameter's or layer's name fits a pattern, with or without `body.` before."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(
        name.removeprefix("body."), pattern
    )


def matching(names: Sequence[str], patterns: Sequence[str], *, kind: str, where: str) -> list[str]:
    """Return those names that fit any of several patterns.

    Args:
        names: of parameters or layers.
        patterns: what a recipe says.
        kind: what the names are of, for the message.
        where: the setting that the patterns are from.

    Raises:
        RecipeError: a pattern fits no name.
    """
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise RecipeError(
                f"`{pattern}` matches no {kind} of the network",
                where=where,
                why=f"It has {shown or 'none'}",
            )
    return [name for name in names if any(matches(name, pattern) for pattern in patterns)]


def flat(images: Tensor) -> Tensor:
    """Return `[N, C, H, W]` as `[N, H·W·C]`: the order in which channels-last memory lies."""
    return images.permute(0, 2, 3, 1).flatten(1)


class EvenConv(nn.Conv2d):
    """A convolution with an even kernel that keeps the size: the spare row goes to the far side."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `[N, out, H, W]`."""
        (high, wide), (near_y, near_x) = self.kernel_size, _near(self.kernel_size)
        padded = F.pad(input, (near_x, wide - 1 - near_x, near_y, high - 1 - near_y))
        return F.conv2d(padded, self.weight, self.bias)


def _near(kernel: tuple[int, ...]) -> tuple[int, int]:
    return (kernel[0] - 1) // 2, (kernel[1] - 1) // 2


def same_conv(channels: int, filters: int, kernel: int, *, bias: bool) -> nn.Conv2d:
    """Return a convolution whose padding keeps the size, for any kernel."""
    if kernel % 2 == 0:
        return EvenConv(channels, filters, kernel, bias=bias)
    return nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=bias)


def too_small(family: str, height: int, width: int, *, needs: str, fix: str) -> RecipeError:
    """Return the error for images that a network would pool away."""
    return RecipeError(
        f"images of {height}×{width} pixels are too small for this `{family}`", why=needs, fix=fix
    )
