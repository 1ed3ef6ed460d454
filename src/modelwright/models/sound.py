"""A network over sounds: a log-mel spectrogram, convolutions, and pooling over time.

Padding is masked at each layer, so that an answer doesn't depend on the rest of its batch. In
training each sound is varied: speed and loudness (Ko et al. 2015), noise, and masks over the
spectrogram (Park et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.logmel import LogMel, SpecAugment, mask
from modelwright.recipe.model import Relative

_FULL_SCALE = 32768.0
SPEED, GAIN_DB, NOISE_DB = 0.1, 6.0, (-70.0, -30.0)
"""How far speed and loudness vary, and between which levels under full scale noise is added."""


class Perturb(nn.Module):
    """Varies speed, loudness and noise of each sound in training; drawn from torch's generator."""

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return samples `[N, T]`, in training as floats of another T, and their lengths `[N]`."""
        if not self.training:
            return samples, length
        speed, gain, noise = torch.rand(3, len(samples), 1, device=samples.device)
        values, length = _resampled(samples.float(), length, 1.0 + SPEED * (2.0 * speed - 1.0))
        low, high = NOISE_DB
        level = _FULL_SCALE * 10.0 ** ((low + (high - low) * noise) / 20.0)
        loudness = 10.0 ** (GAIN_DB * (2.0 * gain - 1.0) / 20.0)
        values = values * loudness + level * torch.randn_like(values)
        values = values * mask(length, values.shape[1])
        return values.clamp(-_FULL_SCALE, _FULL_SCALE - 1.0), length


def _resampled(values: Tensor, length: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Play each row `[N, T]` by a factor `[N, 1]` faster, between samples by straight lines."""
    last = values.shape[1] - 1
    size = int(values.shape[1] / (1.0 - SPEED)) + 1
    at = torch.arange(size, device=values.device) * factor
    left = at.long().clamp(max=last)
    right = (left + 1).clamp(max=last)
    part = (at - left).clamp(0.0, 1.0)
    moved = values.gather(1, left) * (1.0 - part) + values.gather(1, right) * part
    return moved, (length / factor[:, 0]).long().clamp(min=1)


class Block(nn.Module):
    """Convolution, norm and ReLU over bands and time, then a pooling by 2 of both."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, filters, M // 2, (S + 1) // 2]` for maps `[N, C, M, S]`, 0 at padding."""
        held = F.relu(self.norm(self.conv(maps))) * _over_time(steps, maps)
        # An odd last step stays: a short sound must not vanish.
        return F.max_pool2d(F.pad(held, (0, 1)), 2), (steps + 1) // 2


def _over_time(steps: Tensor, maps: Tensor) -> Tensor:
    return mask(steps, maps.shape[3])[:, None, None]


class SoundClassifier(nn.Module):
    """Sounds to classes or numbers.

    Args:
        num_outputs: K.
        sampling_rate: of the sounds.
        mels: M, the bands of the spectrogram.
        widths: the channels of each block; each halves bands and time.
        dropout: the share dropped before the last layer, in training.
        mask_time: stretches of time that are hidden in training.
        mask_bands: ranges of bands that are hidden in training.
        perturb: whether sounds are varied in training.
        relative: whether features are taken beside each sound's own level; see `LogMel`.

    Raises:
        RecipeError: there are fewer bands than the blocks halve away.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        sampling_rate: int,
        mels: int,
        widths: Sequence[int],
        dropout: float,
        mask_time: int = 2,
        mask_bands: int = 2,
        perturb: bool = True,
        relative: Relative = False,
    ) -> None:
        super().__init__()
        if mels >> len(widths) == 0:
            raise RecipeError(
                f"{len(widths)} blocks halve {mels} bands away",
                fix="Use fewer `model.widths`, or raise `sound.mels`",
            )
        self.perturb = Perturb() if perturb else None
        self.logmel = LogMel(sampling_rate, mels=mels, relative=relative)
        self.masks = SpecAugment(
            time_masks=mask_time, frequency_masks=mask_bands, widest=max(mels // 6, 1)
        )
        channels = [1, *widths]
        self.blocks = nn.ModuleList(map(Block, channels, widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * widths[-1] * (mels >> len(widths)), num_outputs)

    def forward(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return outputs `[N, K]` for samples int16 `[N, T]` and their lengths `[N]`."""
        if self.perturb is not None:
            samples, length = self.perturb(samples, length)
        features, steps = self.logmel(samples, length)
        features = self.masks(features, steps)
        maps = (features * mask(steps, features.shape[2])[:, None])[:, None]
        for block in self.blocks:
            maps, steps = block(maps, steps)
        flat = maps.flatten(1, 2)  # [N, C·M, S], 0 at padding and nowhere below
        mean = flat.sum(2) / steps[:, None]
        # Not `amax`: see `Speednet.forward`.
        outputs: Tensor = self.head(self.dropout(torch.cat([mean, flat.max(2).values], dim=1)))
        return outputs
