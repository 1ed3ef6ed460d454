"""What simple methods see: reduced images, against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from modelwright.evaluation.features import reduced


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
