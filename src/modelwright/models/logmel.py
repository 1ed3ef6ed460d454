"""Log-mel features as a graph step: int16 samples in, features out, on the device.

Frames are multiplied by a window and the cosines and sines of the discrete Fourier transform in one
matrix product, so that the step exports as plain ONNX and is fp32 everywhere: convolutions would be
rounded to TF32 by a GPU. The values are those of `librosa.feature.melspectrogram(center=False)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.arrays import Doubles, Ints
from modelwright.errors import RequestError
from modelwright.models.padding import mask
from modelwright.recipe.preparation import AudioNormalize

_FULL_SCALE = 32768.0
RANGE, LOUD = 8.0, 5.0
"""Of relative features, in nats under a recording's peak: where they end, and what counts as
loud."""
LEAST_DEVIATION = 0.1
"""Of a band over the training frames, in nats; with less it isn't scaled."""
_MOST_PADDED = 8
"""The transform is at most so many times as long as the window."""


class LogMel(nn.Module):
    """Logarithms of the power in mel bands, normalised by fixed figures of each band.

    A frame belongs to a sample where it lies wholly within it; a sample shorter than the window has
    one frame. Frames that hang over a sample's own length hold the floor, so that padding doesn't
    matter.

    Args:
        sampling_rate: of the samples.
        n_mels: M, how many bands.
        window_s: how long a frame is; Hann's window.
        hop_s: how far apart frames begin.
        low_hz: where the lowest band begins.
        high_hz: where the highest band ends; half the sampling rate where it is `None`.
        floor: what a smaller power is raised to before its logarithm is taken.
        normalize: `peak`: features are relative to the recording's own peak, and what lies far
            below it is silence, so that loudness doesn't matter. `bands`: so, and the mean of each
            band over the loud frames is subtracted, so that the microphone doesn't matter either
            (cepstral mean subtraction, Atal 1974).

    Raises:
        RequestError: there is no room for so many bands.
    """

    filters: Tensor
    bands: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        sampling_rate: int,
        *,
        n_mels: int = 64,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        low_hz: float = 20.0,
        high_hz: float | None = None,
        floor: float = 1e-8,
        normalize: AudioNormalize = "none",
    ) -> None:
        super().__init__()
        self.n_mels, self.floor, self.normalize = n_mels, floor, normalize
        self.window = max(round(window_s * sampling_rate), 2)
        self.hop = max(round(hop_s * sampling_rate), 1)
        high = sampling_rate / 2 if high_hz is None else high_hz
        bands = _bands(sampling_rate, self.window, n_mels=n_mels, low_hz=low_hz, high_hz=high)
        used = np.flatnonzero(bands.any(axis=1))
        filters = _filters(self.window, 2 * (len(bands) - 1), used)
        self.register_buffer("filters", torch.from_numpy(filters.astype(np.float32)))
        self.register_buffer("bands", torch.from_numpy(bands[used].astype(np.float32)))
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))

    def frames(self, length: Tensor) -> Tensor:
        """Return how many frames recordings of so many samples `[N]` have, `[N]`."""
        return 1 + (length - self.window).clamp(min=0) // self.hop

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return features `[N, M, F]` and how many frames each sample has `[N]`.

        Args:
            samples: int16 `[N, T]`.
            length: int64 `[N]`, samples before the padding.
        """
        frames = self.frames(length)
        # Logarithms of small powers need all digits, so autocast is off here.
        with torch.autocast(samples.device.type, enabled=False):
            values = samples.to(self.filters.dtype) / _FULL_SCALE
            # The last frame may begin at the last sample, so that no sample is too short.
            padded = nn.functional.pad(values, (0, self.window - 1))
            spectrum = padded.unfold(1, self.window, self.hop) @ self.filters
            real, imaginary = spectrum.chunk(2, dim=-1)
            power = (real.square() + imaginary.square()) @ self.bands
            logs = torch.log(power.clamp(min=self.floor)).transpose(1, 2)
            is_real = mask(frames, logs.shape[2])[:, None]
            logs = torch.where(is_real, logs, math.log(self.floor))
            if self.normalize != "none":
                logs = _relative(logs, is_real, means=self.normalize == "bands")
            return (logs - self.mean[:, None]) / self.std[:, None], frames


def _relative(logs: Tensor, is_real: Tensor, *, means: bool) -> Tensor:
    """Return logarithms `[N, M, F]` relative to each recording's peak and, with `means`, bands."""
    peak = logs.amax((1, 2), keepdim=True)  # Padding holds the floor, and is no peak.
    under = (logs - peak).clamp(min=-RANGE)
    if not means:
        return torch.where(is_real, under, -RANGE)
    # A frame near the bound counts in part: one that flipped would make two runtimes differ.
    loud = (logs.amax(1, keepdim=True) - peak + LOUD).clamp(0.0, 1.0) * is_real
    mean = (under * loud).sum(2, keepdim=True) / loud.sum(2, keepdim=True)
    return torch.where(is_real, under - mean, 0.0)


def fit_normalization(logmel: LogMel, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set the mean and deviation of each band to those of all frames of the training samples.

    Args:
        logmel: is changed in place.
        batches: samples `[N, T]` and lengths `[N]`, of the training split alone.

    Raises:
        RequestError: there are no samples.
    """
    logmel.mean.zero_()
    logmel.std.fill_(1.0)
    count, total = 0, torch.zeros(2, logmel.n_mels, dtype=torch.float64)
    for samples, length in batches:
        with torch.no_grad():
            features, frames = logmel(samples, length)
        features = features.transpose(1, 2)[mask(frames, features.shape[2])].double().cpu()
        count += len(features)
        total += torch.stack([features.sum(0), features.square().sum(0)])
    if not count:
        raise RequestError("features can't be normalised without a single sample")
    mean, square = total / count
    # A band that hardly changes is left as it is: dividing by so little would magnify the rounding
    # by which two runtimes differ. In bands with a signal, it is 1 and more.
    std = (square - mean.square()).clamp(min=0).sqrt()
    logmel.mean.copy_(mean)
    logmel.std.copy_(torch.where(std > LEAST_DEVIATION, std, 1.0))


class SpecAugment(nn.Module):
    """Blanks out stripes of time and of mel bands in training (Park et al. 2019, section 2).

    Stripes hold 0, the mean of normalised features. Drawn anew for each sample, from torch's own
    generator of the device.

    Args:
        time_masks: how many stripes of time, `m_T`.
        max_frames: the most frames of one, `T`.
        frequency_masks: how many stripes of bands, `m_F`.
        widest: the most bands of one, `F`.
        most: the largest share of a sample's frames that one stripe of time covers, `p`.
    """

    def __init__(
        self,
        *,
        time_masks: int = 2,
        max_frames: int = 20,
        frequency_masks: int = 2,
        widest: int = 12,
        most: float = 0.2,
    ) -> None:
        super().__init__()
        self.time_masks, self.max_frames, self.most = time_masks, max_frames, most
        self.frequency_masks, self.widest = frequency_masks, widest

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Return features `[N, M, F]`, with stripes in training mode, for frames `[N]`."""
        if not self.training:
            return features
        bands, time = features.shape[1:]
        widest = torch.full_like(frames, min(self.widest, bands))
        max_frames = (frames * self.most).long().clamp(max=self.max_frames)
        all_bands = torch.full_like(frames, bands)
        across = _stripes(self.frequency_masks, widest, all_bands, bands)
        along = _stripes(self.time_masks, max_frames, frames, time)
        return features.masked_fill(across[:, :, None] | along[:, None, :], 0.0)


def _stripes(count: int, widest: Tensor, places: Tensor, size: int) -> Tensor:
    """Draw stripes of 0 to `widest` places among the first `places`; return `[N, size]`."""
    draw = torch.rand(2, len(places), count, device=places.device)
    width = (draw[0] * (widest[:, None] + 1)).long()
    start = (draw[1] * (places[:, None] - width + 1)).long()[..., None]
    at = torch.arange(size, device=places.device)
    return ((at >= start) & (at < start + width[..., None])).any(1)


def _filters(window: int, points: int, bins: Ints) -> Doubles:
    """Return the Fourier transform's cosines, then its sines, under a window, `[window, 2·bins]`.

    The transform has as many points as a window that is padded with zeros would have.
    """
    at = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * at / window)
    # Whole numbers keep the angle exact where cosines of large arguments would not.
    angle = 2 * math.pi * (at[:, None] * bins % points) / points
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * hann[:, None]


def _bands(rate: int, window: int, *, n_mels: int, low_hz: float, high_hz: float) -> Doubles:
    """Return mel filters `[bins, M]` over the shortest transform in which none of them is empty.

    Triangles of equal area, equally wide on Slaney's mel scale (Auditory Toolbox, 1998): linear to
    1 kHz, logarithmic above.
    """
    if not 0 <= low_hz < high_hz <= rate / 2:
        raise RequestError(
            f"mel bands from {low_hz:g} to {high_hz:g} Hz don't fit recordings of {rate:,} samples "
            f"a second",
            why="Such recordings hold nothing above half their rate",
        )
    edges = _hertz(np.linspace(_mel(low_hz), _mel(high_hz), n_mels + 2))
    points = 1 << (window - 1).bit_length()
    for _ in range(_MOST_PADDED.bit_length() - 1):
        hertz = np.arange(points // 2 + 1)[:, None] * (rate / points)
        rising = (hertz - edges[:-2]) / np.diff(edges)[:-1]
        falling = (edges[2:] - hertz) / np.diff(edges)[1:]
        bands: Doubles = np.maximum(np.minimum(rising, falling), 0)
        if bands.any(axis=0).all():
            return bands * (2 / (edges[2:] - edges[:-2]))
        points *= 2
    raise RequestError(
        f"{n_mels} mel bands are too many for recordings of {rate:,} samples a second",
        why="Some of them would lie between two frequencies of the transform",
        fix="Take fewer, or a longer window",
    )


_HZ_A_MEL, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _HZ_A_MEL
    return _KNEE_HZ / _HZ_A_MEL + math.log(hertz / _KNEE_HZ) / _LOG_STEP


def _hertz(mel: Doubles) -> Doubles:
    knee = _KNEE_HZ / _HZ_A_MEL
    high = _KNEE_HZ * np.exp(_LOG_STEP * (mel - knee))
    return np.where(mel < knee, mel * _HZ_A_MEL, high)
