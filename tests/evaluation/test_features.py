"""What simple methods see: reduced images, against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from modelwright.evaluation.features import reduced


@pytest.mark.parametrize(
    ("size", "becomes"),
    [
        ((224, 224), (56, 56)),
        ((65, 65), (32, 32)),
        ((128, 128), (64, 64)),
        ((64, 1024), (64, 64)),
        ((40, 20), (40, 20)),
        ((1000, 30), (58, 30)),  # Every 17 rows: at most twice as long as wide.
        ((4, 500), (4, 7)),  # Every 63 columns: at most 8 pixels, for 4 are kept.
        ((2, 500), (2, 7)),
    ],
)
def test_images_are_reduced_by_the_smallest_factors(
    size: tuple[int, int], becomes: tuple[int, int]
) -> None:
    small = reduced(np.full((1, *size, 3), 9, np.uint8), 64)
    assert small.shape[1:3] == becomes
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
