"""Networks that say at each step of a recording which letter is spoken, or none, for the CTC loss.

Both begin as Deep Speech 2 does (Amodei et al. 2016, section 3): two convolutions over bands and
time of a log-mel spectrogram, which also make the steps. Above them stand convolutions over time
(Collobert et al. 2016) or recurrent layers. Padding is masked at each layer and each step is
normalised by itself, so that an answer depends on nothing but its recording, in training too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.audio_cnn import Perturb, Response
from modelwright.models.logmel import LogMel, SpecAugment
from modelwright.models.padding import mask, masked_mean
from modelwright.models.rnn import Gru, Lstm
from modelwright.recipe.model import AudioNormalize

STRIDES: dict[int, tuple[int, int]] = {1: (1, 1), 2: (2, 1), 4: (2, 2)}
"""By frames a step: the strides over time of the two convolutions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendConfig:
    """How a recording becomes steps: features, what is varied in training, and two convolutions."""

    sampling_rate: int
    n_mels: int
    channels: int = 32
    """Of the two convolutions."""
    stride: Literal[1, 2, 4] = 2
    """Frames a step."""
    time_masks: int = 2
    """Stretches of time that are hidden in training."""
    freq_masks: int = 2
    """Ranges of bands that are hidden in training."""
    waveform: bool = True
    """Whether recordings are varied in training."""
    normalize: AudioNormalize = False
    """Whether features are taken beside each recording's own level; see `LogMel`."""


class AudioFrontend(nn.Module):
    """Samples to steps: a log-mel spectrogram, and two convolutions that halve its bands."""

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.waveform = Perturb(config.sampling_rate) if config.waveform else None
        self.response = Response() if config.waveform else None
        self.logmel = LogMel(config.sampling_rate, n_mels=config.n_mels, normalize=config.normalize)
        self.masks = SpecAugment(
            time_masks=config.time_masks,
            frequency_masks=config.freq_masks,
            widest=max(config.n_mels // 6, 1),
        )
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self.strides = STRIDES[config.stride]
        channels, bands = 1, config.n_mels
        for stride in self.strides:
            self.convs.append(
                nn.Conv2d(channels, config.channels, 3, stride=(2, stride), padding=1)
            )
            channels, bands = config.channels, (bands + 1) // 2
            self.norms.append(nn.LayerNorm(channels * bands))
        self.width = channels * bands

    def steps(self, length: Tensor) -> Tensor:
        """Return how many steps recordings of so many samples `[N]` have, `[N]`."""
        found = self.logmel.frames(length)
        for stride in self.strides:
            found = (found - 1) // stride + 1
        return found

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return steps `[N, S, D]`, zero at padding, and how many each recording has `[N]`.

        Args:
            samples: int16 `[N, T]`.
            length: int64 `[N]`, samples before the padding.
        """
        if self.waveform is not None:
            samples, length = self.waveform(samples, length)
        features, steps = self.logmel(samples, length)
        if self.response is not None:
            features = self.response(features, steps)
        features = self.masks(features, steps)
        maps = (features * mask(steps, features.shape[2])[:, None])[:, None]
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            held = conv(maps)
            steps = (steps - 1) // stride + 1
            channels, bands = held.shape[1:3]
            x = F.relu(norm(held.permute(0, 3, 1, 2).flatten(2)))
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

    def forward(self, x: Tensor, own: Tensor) -> Tensor:
        """Return steps `[N, S, D]`; `own` `[N, S, 1]` says which of them aren't padding."""
        held = self.conv((self.norm(x) * own).transpose(1, 2)).transpose(1, 2)
        changed: Tensor = x + self.dropout(F.relu(held))
        return changed


class ConvCtc(nn.Module):
    """Recordings to letters by convolutions over time.

    Args:
        num_outputs: K, the letters and the blank, which is class 0.
        hearing: how recordings become steps.
        width: D, of a step.
        layers: convolutions over time.
        kernel: the steps that each of them sees, an odd number.
        dropout: the share dropped after each layer, in training.
    """

    def __init__(
        self,
        num_outputs: int,
        config: FrontendConfig,
        *,
        width: int,
        layers: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.frontend = AudioFrontend(config)
        self.entry = nn.Linear(self.frontend.width, width)
        self.blocks = nn.ModuleList(
            TimeBlock(width, kernel, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_outputs)

    def features(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return the mean over its steps of what the head gets, `[N, D]`; as `forward`."""
        return masked_mean(*self._states(samples, length))

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[N, S, K]` and steps `[N]`, for samples `[N, T]` and lengths `[N]`."""
        x, steps = self._states(samples, length)
        return self.head(x), steps

    def _states(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head gets at each step, `[N, S, D]`, and steps `[N]`."""
        x, steps = self.frontend(samples, length)
        own = mask(steps, x.shape[1])[..., None]
        x = self.entry(self.dropout(x))
        for block in self.blocks:
            x = block(x, own)
        return self.norm(x), steps


class RnnCtc(nn.Module):
    """Recordings to letters by recurrent layers.

    Args:
        num_outputs: K, the letters and the blank, which is class 0.
        hearing: how recordings become steps.
        cell: the kind of layer.
        hidden: of the state in each direction, H.
        layers: recurrent layers, L.
        bidirectional: read from both ends.
        dropout: the share dropped before and between the layers and before the last, in training.
    """

    def __init__(
        self,
        num_outputs: int,
        config: FrontendConfig,
        *,
        cell: Literal["lstm", "gru"],
        hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.frontend = AudioFrontend(config)
        kind = Lstm if cell == "lstm" else Gru
        self.recurrent = kind(
            self.frontend.width, hidden, layers=layers, bidirectional=bidirectional, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden * self.recurrent.directions, num_outputs)

    def features(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return the mean over its steps of what the head gets, `[N, R·H]`; as `forward`."""
        return masked_mean(*self._states(samples, length))

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[N, S, K]` and steps `[N]`, for samples `[N, T]` and lengths `[N]`."""
        x, steps = self._states(samples, length)
        return self.head(x), steps

    def _states(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head gets at each step, `[N, S, R·H]`, and steps `[N]`."""
        x, steps = self.frontend(samples, length)
        x, _ = self.recurrent(self.dropout(x), steps)
        return self.dropout(x), steps
