"""Hand-crafted features: shapes, what they see, and what leaves them as they are."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.evaluation.features import ORIENTATIONS, cell_pixels, hog_features


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(4, 4), (8, 8), (5, 9), (28, 28), (32, 32), (64, 48), (33, 100)]
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
    np.testing.assert_allclose(hog_features(blocks), hog_features(255 - blocks), atol=1e-6)


def test_batches_change_nothing() -> None:
    pixels = picture(2, 40, 256, 256, 1)  # more than are taken at once
    np.testing.assert_array_equal(hog_features(pixels)[33:34], hog_features(pixels[33:34]))
