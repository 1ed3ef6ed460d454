"""The graph steps of an image network: pixels are scaled and normalised inside the network.

They are declared in a model file as `scale` and `normalize`, and computed as one affine map a
channel, so that training, export and serving can't differ in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from modelwright.errors import ModelFileError, RequestError
from modelwright.files import Json, JsonObject

WHITE = 255.0
"""The brightest value of a uint8 pixel."""


class PixelSteps(nn.Module):
    """Scales pixels to 0…1, then normalises each channel: `(pixels / scale − mean) / std`.

    Args:
        mean: the mean of each channel `[C]`, of pixels in 0…1.
        std: the deviation of each channel `[C]`, above 0.
        scale: what stands for 1.

    Raises:
        RequestError: the figures don't fit together.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, scale: float = WHITE
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise RequestError(
                f"normalising needs a mean and a deviation for each channel, "
                f"and got {len(mean)} and {len(std)}"
            )
        if not all(value > 0 for value in std) or not scale > 0:
            raise RequestError(
                f"normalising needs deviations above 0, and got {[float(v) for v in std]}",
                why="A channel that never changes has deviation 0",
                fix="Use 1 for such a channel, or `transforms.normalize: half`",
            )
        self.scale = float(scale)
        self.register_buffer("mean", torch.tensor([float(value) for value in mean]))
        self.register_buffer("std", torch.tensor([float(value) for value in std]))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return pixels `[N, H, W, C]`, of any number format, normalised in the weights' format."""
        values = pixels.to(self.mean.dtype)
        if not self.training:  # As it is exported: each step with its figures by name.
            return (values / self.scale - self.mean) / self.std
        # Tiled to whole rows, in one pass: channel by channel takes five times as long.
        width, rows = pixels.shape[-2], values.flatten(-2)
        factor = (1.0 / (self.scale * self.std)).repeat(width)
        shift = (-self.mean / self.std).repeat(width)
        return torch.addcmul(shift, rows, factor).view(pixels.shape)

    def to_json(self) -> list[JsonObject]:
        """Return the steps as a model file declares them."""
        return [
            {"step": "scale", "by": self.scale},
            {"step": "normalize", "mean": self.mean.tolist(), "std": self.std.tolist()},
        ]

    @staticmethod
    def from_json(steps: Sequence[Mapping[str, Json]]) -> PixelSteps:
        """Read what `to_json` returned.

        Raises:
            ModelFileError: it isn't that.
        """
        match list(steps):
            case [
                {"step": "scale", "by": float() | int() as by, **others},
                {"step": "normalize", "mean": list() as mean, "std": list() as std, **more},
            ] if (
                not others
                and not more
                and all(type(value) in (int, float) for value in (by, *mean, *std))
            ):
                try:
                    return PixelSteps(mean, std, scale=by)
                except RequestError as error:
                    raise ModelFileError(error.what, why=error.why) from error
        raise ModelFileError(
            f"the graph steps aren't `scale`, then `normalize`: {str(list(steps))[:120]}"
        )
