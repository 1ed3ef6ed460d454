"""Networks that say at each step of a recording which letter is spoken, or none, for the CTC loss.

Both begin as Deep Speech 2 does (Amodei et al. 2016, section 3): two convolutions over bands and
time of a log-mel spectrogram, which also make the steps. Above them stand convolutions over time
(Collobert et al. 2016) or recurrent layers. Padding is masked at each layer and each step is
normalised by itself, so that an answer depends on nothing but its recording, in training too.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.audio_frontend import AudioFrontend, FrontendConfig
from modelwright.models.padding import mask, masked_mean
from modelwright.models.rnn import Gru, Lstm

STRIDES: dict[int, tuple[int, int]] = {1: (1, 1), 2: (2, 1), 4: (2, 2)}
"""By frames a step: the strides over time of the two convolutions."""


class ConvSubsampling(nn.Module):
    """Samples to steps: features, and two convolutions over bands and time that halve the bands.

    Args:
        config: the features.
        channels: of the two convolutions.
        stride: frames a step.
    """

    def __init__(
        self, config: FrontendConfig, *, channels: int = 32, stride: Literal[1, 2, 4] = 2
    ) -> None:
        super().__init__()
        self.frontend = AudioFrontend(config)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self.strides = STRIDES[stride]
        inputs, bands = 1, config.n_mels
        for hop in self.strides:
            self.convs.append(nn.Conv2d(inputs, channels, 3, stride=(2, hop), padding=1))
            inputs, bands = channels, (bands + 1) // 2
            self.norms.append(nn.LayerNorm(channels * bands))
        self.width = channels * bands

    def steps(self, length: Tensor) -> Tensor:
        """Return how many steps recordings of so many samples `[N]` have, `[N]`."""
        found = self.frontend.logmel.frames(length)
        for stride in self.strides:
            found = (found - 1) // stride + 1
        return found

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return steps `[N, S, D]`, zero at padding, and how many each recording has `[N]`.

        Args:
            samples: int16 `[N, T]`.
            length: int64 `[N]`, samples before the padding.
        """
        features, steps = self.frontend(samples, length)
        maps = features[:, None]
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
        subsampling: how recordings become steps.
        width: D, of a step.
        layers: convolutions over time.
        kernel: the steps that each of them sees, an odd number.
        dropout: the share dropped after each layer, in training.
    """

    def __init__(
        self,
        num_outputs: int,
        subsampling: ConvSubsampling,
        *,
        width: int,
        layers: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.subsampling = subsampling
        self.entry = nn.Linear(subsampling.width, width)
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
        x, steps = self.subsampling(samples, length)
        own = mask(steps, x.shape[1])[..., None]
        x = self.entry(self.dropout(x))
        for block in self.blocks:
            x = block(x, own)
        return self.norm(x), steps


class RnnCtc(nn.Module):
    """Recordings to letters by recurrent layers.

    Args:
        num_outputs: K, the letters and the blank, which is class 0.
        subsampling: how recordings become steps.
        cell: the kind of layer.
        hidden: of the state in each direction, H.
        layers: recurrent layers, L.
        bidirectional: read from both ends.
        dropout: the share dropped before and between the layers and before the last, in training.
    """

    def __init__(
        self,
        num_outputs: int,
        subsampling: ConvSubsampling,
        *,
        cell: Literal["lstm", "gru"],
        hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.subsampling = subsampling
        kind = Lstm if cell == "lstm" else Gru
        self.recurrent = kind(
            subsampling.width, hidden, layers=layers, bidirectional=bidirectional, dropout=dropout
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
        x, steps = self.subsampling(samples, length)
        x, _ = self.recurrent(self.dropout(x), steps)
        return self.dropout(x), steps
