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


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization whose statistics leave padding out."""

    def forward(self, maps: Tensor, is_real: Tensor | None = None) -> Tensor:
        """Return maps `[N, C, M, S]` normalised; `is_real` `[N, 1, 1, S]` is 0 at padding."""
        if not self.training or is_real is None:
            return super().forward(maps)
        values = maps.to(torch.promote_types(maps.dtype, torch.float32))
        real = is_real.to(values.dtype)
        count = real.sum() * maps.shape[2]
        mean = (values * real).sum((0, 2, 3), keepdim=True) / count
        centred = values - mean
        variance = ((centred * real) ** 2).sum((0, 2, 3), keepdim=True) / count
        self._follow(mean, variance * count / (count - 1).clamp(min=1))
        scale = self.weight.view(1, -1, 1, 1) * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale + self.bias.view(1, -1, 1, 1)
        return normalised.to(maps.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(now.flatten(), self.momentum)
        self.num_batches_tracked += 1


class Block(nn.Module):
    """Convolution, norm and ReLU over bands and time, then a pooling by 2 of both."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.norm = MaskedBatchNorm2d(filters)

    def forward(self, maps: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, filters, M // 2, (S + 1) // 2]` for maps `[N, C, M, S]`, 0 at padding."""
        is_real = mask(steps, maps.shape[3])[:, None, None]
        x = F.relu(self.norm(self.conv(maps), is_real)) * is_real
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
