"""A network over recordings: a log-mel spectrogram, convolutions, and pooling over time.

Padding is masked at each layer, so that an answer doesn't depend on the rest of its batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.audio_frontend import AudioFrontend
from modelwright.models.network import AudioFrame, SequenceNetwork
from modelwright.models.padding import mask
from modelwright.recipe.networks import AudioCnnModel


class Block(nn.Module):
    """Convolution, norm and ReLU over bands and time, then a pooling by 2 of both."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, filters, M // 2, (S + 1) // 2]` for maps `[N, C, M, S]`, 0 at padding."""
        is_real = mask(steps, maps.shape[3])[:, None, None]
        x = F.relu(self.norm(self.conv(maps))) * is_real
        # An odd last step stays: a short recording must not vanish.
        return F.max_pool2d(F.pad(x, (0, 1)), 2), (steps + 1) // 2


class AudioCnn(SequenceNetwork):
    """Recordings to labels or numbers; each block halves bands and time.

    Raises:
        RecipeError: there are fewer bands than the blocks halve away.
    """

    def __init__(self, spec: AudioCnnModel, frame: AudioFrame) -> None:
        super().__init__()
        widths, bands = spec.widths, frame.n_mels >> len(spec.widths)
        if bands == 0:
            raise RecipeError(
                f"{len(widths)} blocks halve {frame.n_mels} bands away",
                fix="Use fewer `model.widths`, or raise `audio.n_mels`",
            )
        self.frontend = AudioFrontend(frame)
        self.blocks = nn.ModuleList(map(Block, (1, *widths), widths))
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(2 * widths[-1] * bands, frame.num_outputs)

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
