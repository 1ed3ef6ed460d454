from __future__ import annotations

import numpy as np
import pytest

from modelwright.errors import RequestError
from modelwright.transforms import view_batches

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 2), dtype=np.uint8)


def test_no_views_is_the_batch_itself():
    found, weights = view_batches(PIXELS, "none")
    assert np.array_equal(found[0], PIXELS)
    assert weights.tolist() == [1.0]


def test_flip_is_the_batch_and_its_mirror_image():
    found, weights = view_batches(PIXELS, "flip")
    assert np.array_equal(found[1], np.flip(PIXELS, 2))
    assert weights.tolist() == [0.5, 0.5]


def test_six_views_are_shifted_and_mirrored_with_half_the_weight_unshifted():
    found, weights = view_batches(PIXELS, 6)
    padded = np.pad(PIXELS, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    assert found.shape == (6, *PIXELS.shape)
    assert weights.sum() == pytest.approx(1.0)
    still = {0: PIXELS, 3: np.flip(PIXELS, 2)}
    for at, view in still.items():
        assert np.array_equal(found[at], view)
        assert weights[at] == 0.25
    assert np.array_equal(found[1], padded[:, :-2, :-2])
    assert np.array_equal(found[2], padded[:, 2:, 2:])


def test_other_views_are_refused():
    with pytest.raises(RequestError):
        view_batches(PIXELS, 5)
