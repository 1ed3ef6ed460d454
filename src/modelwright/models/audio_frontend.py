"""From a recording to the features that audio networks see, and how these vary in training.

In training each recording is varied: speed and loudness (Ko et al. 2015), silence around it, noise,
each band's gain (Nam et al. 2022), and masks over the spectrogram (Park et al. 2019). None of it is
part of a model file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.logmel import LogMel, SpecAugment
from modelwright.models.network import AudioFrame
from modelwright.models.padding import mask
from modelwright.recipe.preparation import AugmentSpec

_FULL_SCALE = 32768.0
SPEED, SILENCE_S, GAIN_DB, NOISE_DB = 0.1, 0.2, 6.0, (-60.0, -25.0)
"""How far speed and loudness vary, how long a silence at most is set before and after a recording,
and between which levels under its own peak noise is added."""
GAIN_KNOTS, GAIN_DEVIATION = 4, 0.25
"""At how many bands gains are drawn, and how far they vary, in a band's deviations."""


class WaveformAugment(nn.Module):
    """Varies speed, loudness and noise of each recording in training; drawn from torch's generator.

    Half of the recordings begin after a silence, and half end with one: some who record cut theirs
    off and some don't, and a network that is trained on few of them would learn that instead of the
    speech.

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


class BandGains(nn.Module):
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


class AudioFrontend(nn.Module):
    """Samples to log-mel features, varied in training where `set_augment` asks for it."""

    def __init__(self, frame: AudioFrame) -> None:
        super().__init__()
        self.sampling_rate, self.n_mels = frame.sampling_rate, frame.n_mels
        self.logmel = LogMel(self.sampling_rate, n_mels=self.n_mels, normalize=frame.normalize)
        self.waveform: WaveformAugment | None = None
        self.gains: BandGains | None = None
        self.masks: SpecAugment | None = None

    def set_augment(self, augment: AugmentSpec) -> None:
        """Vary recordings in training as a recipe's section `augment` says."""
        self.waveform = WaveformAugment(self.sampling_rate) if augment.waveform else None
        self.gains = BandGains() if augment.waveform else None
        self.masks = SpecAugment(
            time_masks=augment.time_masks,
            frequency_masks=augment.freq_masks,
            widest=max(self.n_mels // 6, 1),
        )

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return features `[N, M, F]`, zero at padding, and how many frames each has `[N]`.

        Args:
            samples: int16 `[N, T]`.
            length: int64 `[N]`, samples before the padding.
        """
        if self.waveform is not None:
            samples, length = self.waveform(samples, length)
        features, frames = self.logmel(samples, length)
        if self.gains is not None:
            features = self.gains(features, frames)
        if self.masks is not None:
            features = self.masks(features, frames)
        return features * mask(frames, features.shape[2])[:, None], frames


def set_audio_augment(network: nn.Module, augment: AugmentSpec) -> None:
    """Let every audio frontend of a network vary recordings in training."""
    for module in network.modules():
        if isinstance(module, AudioFrontend):
            module.set_augment(augment)
