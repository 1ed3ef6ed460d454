"""A network over recordings: a log-mel spectrogram, convolutions, and pooling over time.

Padding is masked at each layer, so that an answer doesn't depend on the rest of its batch. In
training each recording is varied: speed and loudness (Ko et al. 2015), silence around it, noise,
each band's gain (Nam et al. 2022), and masks over the spectrogram (Park et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.logmel import LogMel, SpecAugment
from modelwright.models.padding import mask
from modelwright.recipe.model import AudioNormalize

_FULL_SCALE = 32768.0
SPEED, SILENCE_S, GAIN_DB, NOISE_DB = 0.1, 0.2, 6.0, (-60.0, -25.0)
"""How far speed and loudness vary, how long a silence at most is set before and after a recording,
and between which levels under its own peak noise is added."""
GAIN_KNOTS, GAIN_DEVIATION = 4, 0.25
"""At how many bands gains are drawn, and how far they vary, in a band's deviations."""


class Perturb(nn.Module):
    """Varies speed, loudness and noise of each recording in training; drawn from torch's generator.

    Half of the recordings begin after a silence, and half end with one: some who record cut theirs
    off and some don't, and a network that hears only a few of them would take that for what is
    said.

    Args:
        sampling_rate: of the recordings.
    """

    def __init__(self, sampling_rate: int) -> None:
        super().__init__()
        self.most_silence = round(SILENCE_S * sampling_rate)

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return samples `[N, T]`, in training as floats of another T, and their lengths `[N]`."""
        if not self.training:
            return samples, length
        speed, gain, noise, *sides = torch.rand(5, len(samples), 1, device=samples.device)
        before, after = ((2.0 * x - 1.0).clamp(min=0.0) * self.most_silence for x in sides)
        values = samples.float()
        peak = values.abs().max(1, keepdim=True).values
        values, length = _moved(
            values,
            length,
            1.0 + SPEED * (2.0 * speed - 1.0),
            before=before.long(),
            after=after.long(),
            size=int(samples.shape[1] / (1.0 - SPEED)) + 1 + 2 * self.most_silence,
        )
        # A quiet recording isn't drowned: noise is measured by its own peak.
        low, high = NOISE_DB
        level = peak * 10.0 ** ((low + (high - low) * noise) / 20.0)
        loudness = 10.0 ** (GAIN_DB * (2.0 * gain - 1.0) / 20.0)
        values = (values + level * torch.randn_like(values)) * loudness
        values = values * mask(length, values.shape[1])
        return values.clamp(-_FULL_SCALE, _FULL_SCALE - 1.0), length


def _moved(
    values: Tensor, length: Tensor, factor: Tensor, *, before: Tensor, after: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Play each row `[N, T]` by a factor `[N, 1]` faster, between silences `[N, 1]` of samples.

    Between samples stand straight lines. Returns rows `[N, size]` and their lengths `[N]`.
    """
    last = values.shape[1] - 1
    at = (torch.arange(size, device=values.device) - before) * factor
    left = at.long().clamp(0, last)
    right = (left + 1).clamp(max=last)
    part = (at - left).clamp(0.0, 1.0)
    moved = values.gather(1, left) * (1.0 - part) + values.gather(1, right) * part
    # What follows a row is its padding, of zeros; what precedes it isn't.
    moved = moved * ((at >= 0) & (at < length[:, None]))
    sounding = (length / factor[:, 0]).long().clamp(min=1)
    return moved, sounding + (before + after)[:, 0]


class Response(nn.Module):
    """Varies how loud each band is in training, as microphones and rooms do.

    Gains are drawn at a few bands and lie on straight lines between them, for each recording anew
    (FilterAugment in its linear form, Nam et al. 2022).
    """

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Return features `[N, M, F]`, in training with gains; padding, after `frames`, stays."""
        if not self.training:
            return features
        count, bands, time = features.shape
        drawn = torch.randn(count, 1, GAIN_KNOTS, device=features.device) * GAIN_DEVIATION
        gains = F.interpolate(drawn, bands, mode="linear", align_corners=True)
        return features + gains.transpose(1, 2) * mask(frames, time)[:, None]


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
        sampling_rate: of the recordings.
        mels: M, the bands of the spectrogram.
        widths: the channels of each block; each halves bands and time.
        dropout: the share dropped before the last layer, in training.
        time_masks: stretches of time that are hidden in training.
        freq_masks: ranges of bands that are hidden in training.
        perturb: whether recordings are varied in training.
        relative: whether features are taken beside each recording's own level; see `LogMel`.

    Raises:
        RecipeError: there are fewer bands than the blocks halve away.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        sampling_rate: int,
        n_mels: int,
        widths: Sequence[int],
        dropout: float,
        time_masks: int = 2,
        freq_masks: int = 2,
        waveform: bool = True,
        normalize: AudioNormalize = False,
    ) -> None:
        super().__init__()
        if n_mels >> len(widths) == 0:
            raise RecipeError(
                f"{len(widths)} blocks halve {n_mels} bands away",
                fix="Use fewer `model.widths`, or raise `audio.n_mels`",
            )
        self.waveform = Perturb(sampling_rate) if waveform else None
        self.response = Response() if waveform else None
        self.logmel = LogMel(sampling_rate, n_mels=n_mels, normalize=normalize)
        self.masks = SpecAugment(
            time_masks=time_masks, frequency_masks=freq_masks, widest=max(n_mels // 6, 1)
        )
        channels = [1, *widths]
        self.blocks = nn.ModuleList(map(Block, channels, widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * widths[-1] * (n_mels >> len(widths)), num_outputs)

    def features(self, samples: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        if self.waveform is not None:
            samples, length = self.waveform(samples, length)
        features, steps = self.logmel(samples, length)
        if self.response is not None:
            features = self.response(features, steps)
        features = self.masks(features, steps)
        maps = (features * mask(steps, features.shape[2])[:, None])[:, None]
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
