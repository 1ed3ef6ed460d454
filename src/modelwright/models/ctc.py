"""Networks that predict at each step of a recording a character or a blank, for the CTC loss.

Both begin as Deep Speech 2 does (Amodei et al. 2016, section 3): two convolutions over bands and
time of a log-mel spectrogram, which also make the steps. Above them stand convolutions over time
(Collobert et al. 2016) or recurrent layers. Padding is masked at each layer and each step is
normalised by itself, so that an answer depends on nothing but its recording, in training too.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.audio_frontend import AudioFrontend
from modelwright.models.network import AudioFrame
from modelwright.models.padding import mask, masked_mean
from modelwright.models.rnn import CELLS
from modelwright.recipe.networks import ConvCtcModel, RnnCtcModel

STRIDES: dict[int, tuple[int, int]] = {1: (1, 1), 2: (2, 1), 4: (2, 2)}
"""By frames a step: the strides over time of the two convolutions."""


class ConvSubsampling(nn.Module):
    """Samples to steps: features, and two convolutions over bands and time that halve the bands.

    Args:
        frame: the sizes of the network's ends.
        channels: of the two convolutions.
        stride: frames a step.
    """

    def __init__(self, frame: AudioFrame, *, channels: int, stride: Literal[1, 2, 4]) -> None:
        super().__init__()
        self.frontend = AudioFrontend(frame)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self.strides = STRIDES[stride]
        inputs, bands = 1, frame.n_mels
        for hop in self.strides:
            self.convs.append(nn.Conv2d(inputs, channels, 3, stride=(2, hop), padding=1))
            inputs, bands = channels, (bands + 1) // 2
            self.norms.append(nn.LayerNorm(channels * bands))
        self.width = channels * bands

    def steps(self, length: Tensor) -> Tensor:
        """Return how many steps recordings of so many samples `[N]` have, `[N]`."""
        steps = self.frontend.logmel.frames(length)
        for stride in self.strides:
            steps = (steps - 1) // stride + 1
        return steps

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return steps `[N, S, D]`, zero at padding, and how many each recording has `[N]`.

        Args:
            samples: int16 `[N, T]`.
            length: int64 `[N]`, samples before the padding.
        """
        features, steps = self.frontend(samples, length)
        maps = features[:, None]
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            maps = conv(maps)
            steps = (steps - 1) // stride + 1
            channels, bands = maps.shape[1:3]
            x = F.relu(norm(maps.permute(0, 3, 1, 2).flatten(2)))
            x = x * mask(steps, x.shape[1])[..., None]
            maps = x.view(*x.shape[:2], channels, bands).permute(0, 2, 3, 1)
        return x, steps


class TimeBlock(nn.Module):
    """A convolution over time, added to what it was made from; normalised first."""

    def __init__(self, width: int, kernel: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        """Return steps `[N, S, D]`; `is_real` `[N, S, 1]` says which of them aren't padding."""
        added = self.conv((self.norm(x) * is_real).transpose(1, 2)).transpose(1, 2)
        changed: Tensor = x + self.dropout(F.relu(added))
        return changed


class CtcNetwork(nn.Module):
    """Recordings to characters: steps, layers over them, and a linear `head` at each step.

    Class 0 is the blank.
    """

    subsampling: ConvSubsampling
    head: nn.Linear

    def features(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return the mean over its steps of what the head gets, `[N, D]`; as `forward`."""
        return masked_mean(*self.states(samples, length))

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[N, S, K]` and steps `[N]`, for samples `[N, T]` and lengths `[N]`."""
        x, steps = self.states(samples, length)
        return self.head(x), steps

    def states(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head gets at each step, `[N, S, D]`, and steps `[N]`."""
        raise NotImplementedError


class ConvCtc(CtcNetwork):
    """Recordings to characters by convolutions over time."""

    def __init__(self, spec: ConvCtcModel, frame: AudioFrame) -> None:
        super().__init__()
        self.subsampling = ConvSubsampling(frame, channels=spec.channels, stride=spec.stride)
        self.entry = nn.Linear(self.subsampling.width, spec.width)
        self.blocks = nn.ModuleList(
            TimeBlock(spec.width, spec.kernel, dropout=spec.dropout) for _ in range(spec.layers)
        )
        self.norm = nn.LayerNorm(spec.width)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(spec.width, frame.num_outputs)

    def states(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head gets at each step, `[N, S, D]`, and steps `[N]`."""
        x, steps = self.subsampling(samples, length)
        is_real = mask(steps, x.shape[1])[..., None]
        x = self.entry(self.dropout(x))
        for block in self.blocks:
            x = block(x, is_real)
        return self.norm(x), steps


class RnnCtc(CtcNetwork):
    """Recordings to characters by recurrent layers."""

    def __init__(self, spec: RnnCtcModel, frame: AudioFrame) -> None:
        super().__init__()
        self.subsampling = ConvSubsampling(frame, channels=spec.channels, stride=spec.stride)
        self.recurrent = CELLS[spec.cell](
            self.subsampling.width,
            spec.hidden,
            layers=spec.layers,
            bidirectional=spec.bidirectional,
            dropout=spec.dropout,
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(spec.hidden * self.recurrent.directions, frame.num_outputs)

    def states(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head gets at each step, `[N, S, R·H]`, and steps `[N]`."""
        x, steps = self.subsampling(samples, length)
        if torch.onnx.is_in_onnx_export():
            # onnxruntime would end the process if there were no step. A graph from others might
            # give none, so a reader wants to see one, which is behind all that are real.
            of_each = steps.to(x.dtype).unsqueeze(1).unsqueeze(2)  # An index would be a slice.
            empty = of_each * torch.zeros(x.shape[-1], dtype=x.dtype)
            read, _ = self.recurrent(torch.cat([x, empty], dim=1), steps)
            return read[:, :-1], steps
        x, _ = self.recurrent(self.dropout(x), steps)
        return self.dropout(x), steps
