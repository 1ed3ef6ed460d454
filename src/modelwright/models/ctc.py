"""Networks that say at each step of a sound which letter is spoken, or none, for the CTC loss.

Both begin as Deep Speech 2 does (Amodei et al. 2016, section 3): convolutions over bands and time
of a log-mel spectrogram, which also make the steps. Above them stand convolutions over time
(Collobert et al. 2016) or recurrent layers. Padding is masked at each layer, and no statistics are
taken of it, so that an answer depends on nothing but its sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.logmel import LogMel, SpecAugment, mask
from modelwright.models.rnn import Gru, Lstm
from modelwright.models.sound import Perturb


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """How a sound becomes steps: features, what is varied in training, and convolutions."""

    sampling_rate: int
    mels: int
    widths: tuple[int, ...] = (32, 64, 128)
    """The channels of each block of convolutions."""
    stride: Literal[1, 2, 4] = 2
    """Frames a step."""
    mask_time: int = 2
    """Stretches of time that are hidden in training."""
    mask_bands: int = 2
    """Ranges of bands that are hidden in training."""
    perturb: bool = True
    """Whether sounds are varied in training."""


class OwnNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015) whose statistics leave padding out."""

    def forward(self, input: Tensor, own: Tensor | None = None) -> Tensor:
        """Return maps `[N, C, M, S]`; `own` `[N, 1, 1, S]` says which steps aren't padding."""
        if not self.training or own is None:
            return super().forward(input)
        # In fp32 also under autocast: sums over a whole batch need the digits.
        maps = input.float() if input.dtype != torch.float64 else input
        count = own.sum() * maps.shape[2]
        mean = (maps * own).sum((0, 2, 3), keepdim=True) / count
        variance = ((maps - mean).square() * own).sum((0, 2, 3), keepdim=True) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(variance.flatten().to(self.running_var.dtype), self.momentum)
        scale = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return (maps - mean) * scale + self.bias[:, None, None]


class EarBlock(nn.Module):
    """Convolution over bands and time, a pooling by 2 of bands or of both, norm and ReLU."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = OwnNorm(width)
        self.stride = stride

    def forward(self, maps: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, width, M // 2, S']` for maps `[N, C, M, S]`, 0 at padding; and steps."""
        padding = ~mask(steps, maps.shape[3])[:, None, None]
        held = self.conv(maps)
        held = held.masked_fill(padding, torch.finfo(held.dtype).min)
        # An odd last step stays: a short sound must not vanish.
        held = F.pad(held, (0, self.stride - 1), value=torch.finfo(held.dtype).min)
        held = F.max_pool2d(held, (2, self.stride))
        steps = (steps - 1) // self.stride + 1
        own = mask(steps, held.shape[3])[:, None, None]
        # Pooled first, a quarter is left to normalise.
        held = F.relu(self.norm(held.masked_fill(~own, 0.0), own))
        return held * own, steps


class Ear(nn.Module):
    """Samples to steps: a log-mel spectrogram, and convolutions over its bands and time.

    Raises:
        RecipeError: there are fewer bands than the blocks halve away, or fewer blocks than
            halvings of time.
    """

    def __init__(self, hearing: Hearing) -> None:
        super().__init__()
        widths, halvings = hearing.widths, hearing.stride.bit_length() - 1
        if hearing.mels >> len(widths) == 0:
            raise RecipeError(
                f"{len(widths)} blocks halve {hearing.mels} bands away",
                fix="Use fewer `model.widths`, or raise `sound.mels`",
            )
        if len(widths) < halvings:
            raise RecipeError(
                f"{len(widths)} block can't make steps of {hearing.stride} frames",
                fix="Use more `model.widths`, or a smaller `model.stride`",
            )
        self.perturb = Perturb() if hearing.perturb else None
        self.logmel = LogMel(hearing.sampling_rate, mels=hearing.mels)
        self.masks = SpecAugment(
            time_masks=hearing.mask_time,
            frequency_masks=hearing.mask_bands,
            widest=max(hearing.mels // 6, 1),
        )
        self.strides = [2 if at < halvings else 1 for at in range(len(widths))]
        channels = [1, *widths]
        self.blocks = nn.ModuleList(
            EarBlock(before, width, stride=stride)
            for before, width, stride in zip(channels, widths, self.strides, strict=False)
        )
        self.width = widths[-1] * (hearing.mels >> len(widths))

    def steps(self, length: Tensor) -> Tensor:
        """Return how many steps sounds of so many samples `[N]` have, `[N]`."""
        found = self.logmel.frames(length)
        for stride in self.strides:
            found = (found - 1) // stride + 1
        return found

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return steps `[N, S, D]`, zero at padding, and how many each sound has `[N]`.

        Args:
            samples: int16 `[N, T]`.
            length: int64 `[N]`, samples before the padding.
        """
        if self.perturb is not None:
            samples, length = self.perturb(samples, length)
        features, steps = self.logmel(samples, length)
        features = self.masks(features, steps)
        maps = (features * mask(steps, features.shape[2])[:, None])[:, None]
        for block in self.blocks:
            maps, steps = block(maps, steps)
        return maps.flatten(1, 2).transpose(1, 2), steps


class TimeBlock(nn.Module):
    """A convolution over time, added to what it was made from; normalised first."""

    def __init__(self, width: int, kernel: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, own: Tensor) -> Tensor:
        """Return steps `[N, S, D]`; `own` `[N, S, 1]` says which of them aren't padding."""
        held = self.conv((self.norm(x) * own).transpose(1, 2)).transpose(1, 2)
        changed: Tensor = x + self.dropout(F.relu(held))
        return changed


class ConvCtc(nn.Module):
    """Sounds to letters by convolutions over time.

    Args:
        num_outputs: K, the letters and the blank, which is class 0.
        hearing: how sounds become steps.
        width: D, of a step.
        layers: convolutions over time.
        kernel: the steps that each of them sees, an odd number.
        dropout: the share dropped after each layer, in training.
    """

    def __init__(
        self,
        num_outputs: int,
        hearing: Hearing,
        *,
        width: int,
        layers: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.ear = Ear(hearing)
        self.entry = nn.Linear(self.ear.width, width)
        self.blocks = nn.ModuleList(
            TimeBlock(width, kernel, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[N, S, K]` and steps `[N]`, for samples `[N, T]` and lengths `[N]`."""
        x, steps = self.ear(samples, length)
        own = mask(steps, x.shape[1])[..., None]
        x = self.entry(self.dropout(x))
        for block in self.blocks:
            x = block(x, own)
        return self.head(self.norm(x)), steps


class RnnCtc(nn.Module):
    """Sounds to letters by recurrent layers.

    Args:
        num_outputs: K, the letters and the blank, which is class 0.
        hearing: how sounds become steps.
        cell: the kind of layer.
        hidden: of the state in each direction, H.
        layers: recurrent layers, L.
        bidirectional: read from both ends.
        dropout: the share dropped before and between the layers and before the last, in training.
    """

    def __init__(
        self,
        num_outputs: int,
        hearing: Hearing,
        *,
        cell: Literal["lstm", "gru"],
        hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.ear = Ear(hearing)
        kind = Lstm if cell == "lstm" else Gru
        self.recurrent = kind(
            self.ear.width, hidden, layers=layers, bidirectional=bidirectional, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden * self.recurrent.directions, num_outputs)

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[N, S, K]` and steps `[N]`, for samples `[N, T]` and lengths `[N]`."""
        x, steps = self.ear(samples, length)
        x, _ = self.recurrent(self.dropout(x), steps)
        return self.head(self.dropout(x)), steps
