"""Images inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from modelwright.report.pictures import BOXED_SIDE, MISTAKE_SIDE, are_coarse, picture, with_boxes


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_grey_or_coloured_and_never_larger_than_looked_at(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, channels), dtype=np.uint8)
    data = picture(pixels, side=MISTAKE_SIDE).partition("base64,")[2]
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert shown.size == (192, 115)
    assert shown.mode == ("L" if channels == 1 else "RGB")
    small = pixels[:8, :8]
    data = picture(small, side=MISTAKE_SIDE).partition("base64,")[2]
    kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).reshape(small.shape)
    np.testing.assert_array_equal(kept, small)
    assert are_coarse(small)
    assert not are_coarse(pixels)


def test_predicted_boxes_are_solid_and_reference_boxes_dashed():
    pixels = np.full((88, 44, 1), 100, np.uint8)
    drawn = with_boxes(pixels, predicted=[(4, 8, 20, 40)], reference=[(10, 50, 44, 88)])
    scale = BOXED_SIDE // 88
    assert drawn.shape == (BOXED_SIDE, BOXED_SIDE // 2, 3)
    red, blue = (drawn == np.array(colour) for colour in ((255, 64, 32), (0, 190, 255)))
    edge = np.arange(4 * scale, 20 * scale)
    assert red.all(-1)[8 * scale, edge].all()
    assert red.all(-1)[40 * scale, edge].all()
    dashed = blue.all(-1)[50 * scale, 10 * scale : 44 * scale]
    assert 0.4 < dashed.mean() < 0.7
    assert (drawn[20 * scale, 10 * scale] == 100).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 8, 8), (-5.5, -2, 30, 30), (3, 3, 3, 3), (4.2, 1.1, 4.3, 7.9)]
)
def test_any_box_can_be_drawn(box):
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert with_boxes(pixels, predicted=[box], reference=[box]).shape == (BOXED_SIDE, BOXED_SIDE, 3)
