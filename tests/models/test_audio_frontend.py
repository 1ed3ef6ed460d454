"""What audio networks see, and how recordings vary in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright.models.audio_frontend import (
    GAIN_DB,
    GAIN_DEVIATION,
    GAIN_KNOTS,
    NOISE_DB,
    SILENCE_S,
    SPEED,
    AudioFrontend,
    BandGains,
    WaveformAugment,
    set_audio_augment,
)
from modelwright.models.network import AudioFrame
from modelwright.recipe.preparation import AugmentSpec

RATE = 8000


def tones(lengths, seed=0):
    """Return int16 tones padded to the longest, and their lengths."""
    random = np.random.default_rng(seed)
    found = np.zeros((len(lengths), max(lengths)), dtype=np.int16)
    for row, length in enumerate(lengths):
        wave = np.sin(np.arange(length) * random.uniform(0.1, 1.5)) * 9000
        found[row, :length] = wave + random.normal(0, 200, length)
    return torch.from_numpy(found), torch.tensor(lengths)


def test_recordings_are_varied_in_training_alone():
    varied = WaveformAugment(RATE)
    samples, lengths = tones([2000, 1000])
    torch.manual_seed(1)
    first, first_lengths = varied(samples, lengths)
    second, _ = varied(samples, lengths)
    torch.manual_seed(1)
    again, _ = varied(samples, lengths)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not first[1, int(first_lengths[1]) :].any()  # padding stays silent
    assert first.abs().max() <= 32768
    held, held_lengths = varied.eval()(samples, lengths)
    assert held is samples
    assert held_lengths is lengths


def silent_noise(monkeypatch):
    monkeypatch.setattr("modelwright.models.audio_frontend.NOISE_DB", (-300.0, -299.0))


def test_recordings_are_played_faster_or_slower_between_silences(monkeypatch):
    silent_noise(monkeypatch)
    count, length = 400, 2000
    samples = torch.zeros(count, length + 500, dtype=torch.int16)
    samples[:, :length] = 9000
    torch.manual_seed(0)
    varied, lengths = WaveformAugment(RATE)(samples, torch.full((count,), length))
    sounding = varied > 1000
    before, recordings = sounding.int().argmax(1), sounding.sum(1)
    after = lengths - before - recordings
    ratio = recordings / length
    assert ((ratio > 1 / (1 + SPEED) - 0.01) & (ratio < 1 / (1 - SPEED) + 0.01)).all()
    most = SILENCE_S * RATE
    for silence in (before, after):
        assert silence.min() >= 0
        assert most * 0.9 < silence.max() <= most + 1
        assert 0.4 < (silence > 1).float().mean() < 0.6
    assert abs(float(torch.corrcoef(torch.stack([before, after]).float())[0, 1])) < 0.2


def test_speed_gain_and_silence_keep_the_sound_itself(monkeypatch):
    """Played back by linear interpolation in numpy, the varied sound is the recording."""
    silent_noise(monkeypatch)
    samples, lengths = tones([3000, 1800, 2500])
    torch.manual_seed(3)
    varied, found = WaveformAugment(RATE)(samples, lengths)
    torch.manual_seed(3)
    speed, gain, _, before, _ = torch.rand(5, 3, 1).numpy().astype(float)[..., 0]
    for row, length in enumerate(lengths.tolist()):
        factor = 1 + SPEED * (2 * speed[row] - 1)
        start = int(max(2 * before[row] - 1, 0) * SILENCE_S * RATE)
        at = np.arange(int(length / factor)) * factor
        wanted = np.interp(at, np.arange(length + 1), np.append(samples[row, :length], 0))
        wanted *= 10 ** (GAIN_DB * (2 * gain[row] - 1) / 20)
        heard = varied[row, start : start + len(wanted)].numpy()
        np.testing.assert_allclose(heard, wanted, atol=40)
        assert varied[row, :start].abs().sum() < 1e-3
        assert found[row] >= start + len(wanted)


@pytest.mark.parametrize("loudness", [20, 20_000])
def test_noise_is_measured_by_each_sounds_own_peak(loudness):
    torch.manual_seed(0)
    samples = torch.zeros(64, 8000, dtype=torch.int16)
    samples[:, 0] = loudness
    noisy, found = WaveformAugment(RATE)(samples, torch.full((64,), 8000))
    levels = torch.stack(
        [row[1700:count].std() for row, count in zip(noisy, found.tolist(), strict=True)]
    )
    decibels = 20 * torch.log10(levels / loudness)
    low, high = NOISE_DB
    assert decibels.min() > low - GAIN_DB - 1
    assert decibels.max() < high + GAIN_DB + 1
    assert decibels.max() - decibels.min() > 15


def test_silence_stays_silent_and_finite():
    silence, lengths = torch.zeros(4, 900, dtype=torch.int16), torch.tensor([900, 1, 200, 900])
    varied, _ = WaveformAugment(RATE)(silence, lengths)
    assert not varied.any()


def test_gains_lie_on_lines_between_a_few_bands_and_spare_padding():
    torch.manual_seed(0)
    features, frames = torch.zeros(300, 31, 9), torch.tensor([9, 4, 1]).repeat(100)
    varied = BandGains()(features, frames)
    assert not varied[1, :, 4:].any()
    assert torch.equal(varied[0, :, 0], varied[0, :, 8])  # the same all the time
    gains = varied[..., 0]
    assert not torch.equal(gains[0], gains[3])
    knots = gains[:, :: 30 // (GAIN_KNOTS - 1)]
    assert 0.9 < knots.std() / GAIN_DEVIATION < 1.1
    bends = gains.diff(dim=1).diff(dim=1).abs() > 1e-5
    assert bends.any(0).nonzero()[:, 0].tolist() == [9, 19]
    assert BandGains().eval()(features, frames) is features


def test_augmentation_is_set_for_every_frontend_and_leaves_no_weights():
    frontend = AudioFrontend(AudioFrame(RATE, 16, "none", num_outputs=3)).train()
    samples, lengths = tones([1500, 900])
    plain, _ = frontend(samples, lengths)
    assert torch.equal(plain, frontend(samples, lengths)[0])
    names = set(frontend.state_dict())
    network = torch.nn.Sequential(frontend)
    set_audio_augment(network, AugmentSpec())
    assert set(frontend.state_dict()) == names
    assert not torch.equal(plain, frontend(samples, lengths)[0][..., : plain.shape[2]])
    set_audio_augment(network, AugmentSpec(waveform=False, time_masks=0, freq_masks=0))
    assert torch.equal(plain, frontend(samples, lengths)[0])
