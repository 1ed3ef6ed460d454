"""What simple methods see: reduced images, against Pillow, and the average spectrum of tones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from modelwright.evaluation.features import BANDS, WINDOW, average_spectrum, reduced


@pytest.mark.parametrize(
    ("height", "width"), [(224, 224), (1000, 30), (64, 1024), (65, 65), (4, 500), (128, 128)]
)
def test_large_images_are_reduced(height: int, width: int) -> None:
    small = reduced(np.full((1, height, width, 3), 9, np.uint8), 64)
    assert max(small.shape[1:3]) <= 64
    assert min(small.shape[1:3]) >= min(4, height, width)
    assert (small == 9).all()


@pytest.mark.parametrize("factor", [2, 3])
def test_reducing_is_pillows_box_filter(factor: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64 * factor, 64 * factor, 3))
    pixels = pixels.astype(np.uint8)
    reference = np.asarray(Image.fromarray(pixels[0]).reduce(factor)).astype(int)
    # Pillow rounds halves up, NumPy to even.
    assert np.abs(reduced(pixels, 64)[0].astype(int) - reference).max() <= 1


def test_small_images_stay_as_they_are() -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    assert reduced(pixels, 32) is pixels


@pytest.mark.parametrize("band", [0, 3, 17, BANDS - 1])
def test_a_tone_is_loudest_in_its_band(band: int) -> None:
    bins = WINDOW // 2 // BANDS
    cycles = bins * band + bins / 2 + 0.5  # a window, at the middle of the band
    tone = 8000 * np.sin(2 * np.pi * cycles * np.arange(20 * WINDOW) / WINDOW)
    values = average_spectrum(tone.astype(np.int16))
    assert values.shape == (2 * BANDS,)
    assert values[:BANDS].argmax() == band
    assert values[BANDS + band] < 0.1  # a tone that goes on doesn't vary


def test_the_energy_of_noise_is_parsevals() -> None:
    noise = np.random.default_rng(0).normal(0, 1000, 400 * WINDOW).astype(np.int16)
    values = average_spectrum(noise)
    # Of white noise each bin expects σ² times the sum of the squared window; the mean of the
    # logarithm of the mean of eight (nearly) exponential values lies a little below that.
    expected = np.log(1000.0**2 * (np.hanning(WINDOW) ** 2).sum())
    assert np.abs(values[:BANDS] - expected).max() < 0.3


def test_an_empty_sound_has_features() -> None:
    assert np.isfinite(average_spectrum(np.zeros(1, np.int16))).all()
