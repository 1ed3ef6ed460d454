from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import RequestError
from modelwright.transforms import speed_views, view_batches
from modelwright.transforms.views import SPEEDS

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 2), dtype=np.uint8)


def test_no_views_is_the_batch_itself():
    found, weights = view_batches(PIXELS, "none")
    assert np.array_equal(found[0], PIXELS)
    assert weights.tolist() == [1.0]


def test_flip_is_the_batch_and_its_mirror_image():
    found, weights = view_batches(PIXELS, "flip")
    assert np.array_equal(found[1], np.flip(PIXELS, 2))
    assert weights.tolist() == [0.5, 0.5]


def test_flip_shift_views_are_shifted_and_mirrored_with_half_the_weight_unshifted():
    found, weights = view_batches(PIXELS, "flip_shift")
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
        view_batches(PIXELS, "flop")


def test_a_tone_is_played_at_three_speeds():
    time = np.arange(4000)
    tone = np.zeros((2, 4000), np.int16)
    tone[0] = np.rint(9000 * np.sin(time * 0.1))
    tone[1, :1000] = tone[0, :1000]
    found = speed_views(tone, np.array([4000, 1000]))
    assert np.array_equal(found[0][0][:, :4000], tone)
    for (samples, length), speed in zip(found, SPEEDS, strict=True):
        assert samples.shape == (2, 4444)
        assert length.tolist() == [int(4000 / speed), int(1000 / speed)]
        for row, end in zip(samples, length, strict=True):
            expected = 9000 * np.sin(np.arange(end) * 0.1 * speed)
            assert np.abs(row[: end - 1] - expected[: end - 1]).max() < 15  # of straight lines
            assert not row[end:].any()


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_shortest_sounds_keep_a_sample(steps):
    for samples, length in speed_views(np.full((1, steps), 7, np.int16), np.array([steps])):
        assert length[0] >= 1
        assert (samples[0, : length[0]] == 7).all()


@given(seed=st.integers(0, 2**31), steps=st.integers(1, 60), more=st.integers(0, 30))
def test_padding_changes_no_view(seed, steps, more):
    alone = np.random.default_rng(seed).integers(-30_000, 30_000, (1, steps), dtype=np.int16)
    padded = np.pad(alone, ((0, 0), (0, more)))
    pairs = zip(
        speed_views(alone, np.array([steps])), speed_views(padded, np.array([steps])), strict=True
    )
    for (single, length), (among, same) in pairs:
        assert length == same
        assert np.array_equal(single[0, : length[0]], among[0, : length[0]])
