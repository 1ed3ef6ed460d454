"""Hand-crafted features: shapes, what they see, and what leaves them as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from modelwright.models.linear import (
    BLOCK,
    HOG_SIDE,
    ORIENTATIONS,
    TEXTURE_WEIGHT,
    Blocks,
    Hog,
    cell_pixels,
)


def hog_features(pixels: np.ndarray) -> np.ndarray:
    """Return the blocks' features of pixels `[N, H, W, C]`, those that tell where what is."""
    hog = Hog(*pixels.shape[1:3])
    return hog(images_of(pixels)).numpy()[:, : hog.num_places]


def images_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(4, 4), (8, 8), (5, 9), (28, 28), (32, 32), (64, 48), (33, 61)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_is_as_announced(height: int, width: int, channels: int) -> None:
    found = hog_features(picture(0, 2, height, width, channels))
    side = cell_pixels(height, width)
    assert found.shape == (2, (height // side - 1) * (width // side - 1) * 4 * ORIENTATIONS)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0


def test_too_small_an_image_has_no_features() -> None:
    assert cell_pixels(3, 100) == 0
    assert Hog(3, 100).size == 0


@pytest.mark.parametrize("factor", [2, 3])
def test_large_images_are_reduced_as_by_pillows_box_filter(factor: int) -> None:
    pixels = picture(3, 1, HOG_SIDE * factor, HOG_SIDE * factor, 3)
    small = np.asarray(Image.fromarray(pixels[0]).reduce(factor))
    # Pillow rounds to whole pixels.
    np.testing.assert_allclose(hog_features(pixels), hog_features(small[None]), atol=0.1)


def test_textures_are_means_and_deviations_of_blocks_at_three_sizes() -> None:
    pixels = picture(5, 2, 32, 40, 1)
    hog = Hog(32, 40)
    assert hog.size == hog.num_places + 3 * 2 * BLOCK
    found = hog(images_of(pixels)).numpy()[:, hog.num_places :] / TEXTURE_WEIGHT
    for at, factor in enumerate((1, 2, 4)):
        small = images_of(pixels).reshape(2, 1, 32 // factor, factor, 40 // factor, factor)
        blocks = Blocks(32 // factor, 40 // factor, 4)(small.mean((3, 5))).flatten(2).numpy()
        mean, deviation = np.split(found[:, at * 2 * BLOCK : (at + 1) * 2 * BLOCK], 2, axis=1)
        np.testing.assert_allclose(mean, blocks.mean(2), atol=1e-5)
        np.testing.assert_allclose(deviation, blocks.std(2), atol=2e-3)


def test_the_second_half_of_an_image_has_the_same_texture_as_the_first() -> None:
    tile = picture(6, 1, 16, 16, 1)
    pixels = np.tile(tile, (1, 4, 4, 1))
    hog = Hog(64, 64)
    moved = hog(images_of(np.roll(pixels, 8, axis=1))).numpy()[0, hog.num_places :]
    found = hog(images_of(pixels)).numpy()[0, hog.num_places :]
    size = 2 * BLOCK
    np.testing.assert_allclose(moved[:size], found[:size], atol=0.03 * TEXTURE_WEIGHT)


@pytest.mark.parametrize(("height", "width"), [(1000, 30), (64, 1024), (65, 65), (4, 500)])
def test_narrow_images_keep_pixels_on_both_sides(height: int, width: int) -> None:
    assert Hog(height, width).size > 0


def test_votes_are_the_angles_and_lengths_of_gradients() -> None:
    """Against arcus tangent of two arguments, and sums cell by cell."""
    pixels = picture(4, 1, 8, 8, 1)
    values = np.sqrt(pixels[0, ..., 0] / 255.0)
    across, down = np.zeros((8, 8)), np.zeros((8, 8))
    across[:, 1:-1], down[1:-1] = values[:, 2:] - values[:, :-2], values[2:] - values[:-2]
    place = (np.degrees(np.arctan2(down, across)) % 180.0) / 20.0 - 0.5
    cells = np.zeros((4, 4, ORIENTATIONS))
    for (row, column), at in np.ndenumerate(place):
        lower, share = int(np.floor(at)), at - np.floor(at)
        length = np.hypot(across[row, column], down[row, column])
        cells[row // 2, column // 2, lower % ORIENTATIONS] += length * (1 - share)
        cells[row // 2, column // 2, (lower + 1) % ORIENTATIONS] += length * share
    found = Blocks(8, 8, 2).cells(torch.from_numpy(values[None, None]).float())
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), cells, atol=1e-5)


def test_a_flat_image_has_no_gradients() -> None:
    assert not hog_features(np.full((1, 16, 16, 3), 77, np.uint8)).any()


def test_an_edge_votes_for_its_orientation() -> None:
    upright = np.zeros((1, 16, 16, 1), np.uint8)
    upright[:, :, 8:] = 255
    flat = np.swapaxes(upright, 1, 2)
    votes = [
        hog_features(pixels).reshape(-1, ORIENTATIONS).sum(axis=0) for pixels in (upright, flat)
    ]
    # A gradient at 0° stands between the last and the first bin, one at 90° in the middle one.
    assert set(np.argsort(votes[0])[-2:].tolist()) == {0, 8}
    assert votes[1].argmax() == 4


def test_light_and_contrast_change_little_and_the_channel_does_not_matter() -> None:
    grey = (picture(1, 1, 32, 32, 1) // 2 + 60).astype(np.uint8)
    colour = np.zeros((1, 32, 32, 3), np.uint8)
    colour[..., 1:2] = grey
    features = hog_features(grey)
    np.testing.assert_allclose(hog_features(colour), features, atol=1e-6)
    darker = hog_features((grey // 2).astype(np.uint8))
    cosine = float((features * darker).sum() / np.linalg.norm(features) / np.linalg.norm(darker))
    assert cosine > 0.99


def test_a_negative_has_the_same_orientations() -> None:
    # Unsigned orientations: light on dark is dark on light, but for the square root.
    blocks = np.zeros((1, 16, 16, 1), np.uint8)
    blocks[:, 4:12, 4:12] = 255
    np.testing.assert_allclose(hog_features(blocks), hog_features(255 - blocks), atol=1e-5)


def test_batches_change_nothing() -> None:
    pixels = picture(2, 40, 256, 256, 1)  # more than are taken at once
    np.testing.assert_allclose(hog_features(pixels)[33:34], hog_features(pixels[33:34]), atol=1e-6)
