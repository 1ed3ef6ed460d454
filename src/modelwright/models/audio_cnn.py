"""A network over recordings: a log-mel spectrogram, convolutions, and pooling over time.

Padding is masked at each layer, so that an answer doesn't depend on the rest of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.audio_frontend import AudioFrontend, FrontendConfig
from modelwright.models.padding import mask


class Block(nn.Module):
    """Convolution, norm and ReLU over bands and time, then a pooling by 2 of both."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, filters, M // 2, (S + 1) // 2]` for maps `[N, C, M, S]`, 0 at padding."""
        held = F.relu(self.norm(self.conv(maps))) * _over_time(steps, maps)
        # An odd last step stays: a short recording must not vanish.
        return F.max_pool2d(F.pad(held, (0, 1)), 2), (steps + 1) // 2


def _over_time(steps: Tensor, maps: Tensor) -> Tensor:
    return mask(steps, maps.shape[3])[:, None, None]


class AudioCnn(nn.Module):
    """Recordings to classes or numbers.

    Args:
        num_outputs: K.
        config: the features that it sees, of M bands.
        widths: the channels of each block; each halves bands and time.
        dropout: the share dropped before the last layer, in training.

    Raises:
        RecipeError: there are fewer bands than the blocks halve away.
    """

    def __init__(
        self,
        num_outputs: int,
        config: FrontendConfig,
        *,
        widths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        if config.n_mels >> len(widths) == 0:
            raise RecipeError(
                f"{len(widths)} blocks halve {config.n_mels} bands away",
                fix="Use fewer `model.widths`, or raise `audio.n_mels`",
            )
        self.frontend = AudioFrontend(config)
        channels = [1, *widths]
        self.blocks = nn.ModuleList(map(Block, channels, widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * widths[-1] * (config.n_mels >> len(widths)), num_outputs)

    def features(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        features, steps = self.frontend(samples, length)
        maps = features[:, None]
        for block in self.blocks:
            maps, steps = block(maps, steps)
        flat = maps.flatten(1, 2)  # [N, C·M, S], 0 at padding and nowhere below
        mean = flat.sum(2) / steps[:, None]
        # Not `amax`: see `Speednet.features`.
        pooled: Tensor = self.dropout(torch.cat([mean, flat.max(2).values], dim=1))
        return pooled

    def forward(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return outputs `[N, K]` for samples int16 `[N, T]` and their lengths `[N]`."""
        outputs: Tensor = self.head(self.features(samples, length))
        return outputs
