"""Features of samples for simple methods: reduced pixels, their gradients, spectra of recordings.

Histograms of oriented gradients are written from Dalal and Triggs 2005, `Histograms of Oriented
Gradients for Human Detection`, section 6: square-root gamma, centred differences of the strongest
colour channel, 9 unsigned orientations with votes shared between neighbouring ones, blocks of 2 × 2
cells, L2-Hys normalisation. Cells are whole and square, and sized so that about eight stand along
the shorter side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modelwright.data.dataset import Split
from modelwright.metrics import Array, Doubles, Ints

Features = NDArray[np.float32]
WINDOW, BANDS = 512, 32
"""Samples of a window, and bands that its spectrum is pooled to."""
ORIENTATIONS = 9
CLIP = 0.2
"""Where L2-Hys clips a normalised block (section 6.4)."""
_EPSILON = 1e-3  # keeps the noise of a flat block small; gradients lie between 0 and about 1.4
_CHUNK = 256


def parts_of(count: int) -> list[slice]:
    """Return slices that cut so many samples into chunks."""
    return [slice(at, min(at + _CHUNK, count)) for at in range(0, count, _CHUNK)]


def features_of(split: Split, positions: Ints, extract: Callable[[Array], Features]) -> Features:
    """Return the features `[N, D]` of some samples, whose inputs are gathered chunk by chunk."""
    chunks = [split.gather(positions[part]) for part in parts_of(len(positions))]
    return np.concatenate([extract(chunk) for chunk in chunks])


def reduced(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return images `[N, H, W, C]` reduced by whole factors to sides of `side` pixels or fewer.

    A pixel becomes the mean of a block; what is left at the border is cut off. A narrow image
    becomes at most twice as long as wide, so that its shorter side keeps 4 pixels where it has
    them.
    """
    count, height, width, channels = pixels.shape
    max_length = min(side, 2 * max(4, min(height, width, side)))
    down, across = -(-height // max_length), -(-width // max_length)
    if down == across == 1:
        return pixels
    rows, columns = height // down, width // across
    whole = pixels[:, : rows * down, : columns * across]
    blocks = whole.reshape(count, rows, down, columns, across, channels)
    means: Features = blocks.mean(axis=(2, 4), dtype=np.float32)
    return np.rint(means).astype(np.uint8)


def average_spectrum(samples: NDArray[np.int16]) -> Doubles:
    """Return mean and deviation over time of the logarithm of each band's energy `[2 · BANDS]`."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % WINDOW))
    frames = padded.reshape(-1, WINDOW) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) ** 2
    energy = power.reshape(len(frames), BANDS, -1).mean(axis=2)
    logs = np.log(energy + 1.0)
    return np.concatenate([logs.mean(axis=0), logs.std(axis=0)])


def cell_pixels(height: int, width: int) -> int:
    """Return the side of a cell, or 0 where an image is too small for a block of 2 × 2 cells.

    >>> cell_pixels(8, 8), cell_pixels(28, 28), cell_pixels(32, 32), cell_pixels(224, 224)
    (2, 4, 4, 28)
    """
    shorter = min(height, width)
    return max(2, (shorter + 4) // 8) if shorter >= 4 else 0


def hog_features(pixels: NDArray[np.uint8]) -> Features:
    """Return the features `[N, D]` of images `[N, H, W, C]`, each side 4 pixels or more.

    >>> hog_features(np.zeros((1, 8, 8, 3), np.uint8)).shape
    (1, 324)
    """
    cells = _cells(pixels)
    blocks = np.concatenate(
        [cells[:, :-1, :-1], cells[:, :-1, 1:], cells[:, 1:, :-1], cells[:, 1:, 1:]], axis=3
    )
    blocks = _normalised(np.minimum(_normalised(blocks), CLIP))
    return blocks.reshape(len(cells), -1)


def _cells(pixels: NDArray[np.uint8]) -> Features:
    """Return the votes of each cell `[N, rows, columns, orientations]`."""
    count, height, width, _ = pixels.shape
    side = cell_pixels(height, width)
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2

    gamma = np.sqrt(np.arange(256, dtype=np.float32) / 255)[pixels]
    across, down = np.zeros_like(gamma), np.zeros_like(gamma)
    across[:, :, 1:-1] = gamma[:, :, 2:] - gamma[:, :, :-2]
    down[:, 1:-1] = gamma[:, 2:] - gamma[:, :-2]
    strength = across**2 + down**2
    strongest = strength.argmax(axis=3)[..., None]

    def chosen(values: Features) -> Features:
        channel = np.take_along_axis(values, strongest, axis=3)[..., 0]
        return channel[:, top : top + rows * side, left : left + columns * side]

    magnitude = np.sqrt(chosen(strength))
    angle = np.arctan2(chosen(down), chosen(across)) * (ORIENTATIONS / np.pi) - 0.5
    lower = np.floor(angle)
    share = angle - lower
    first = lower.astype(np.int64) % ORIENTATIONS  # opposite directions are one orientation
    row = np.arange(rows * side) // side
    column = np.arange(columns * side) // side
    cell = (np.arange(count)[:, None] * rows + row)[:, :, None] * columns + column
    bins = count * rows * columns * ORIENTATIONS
    votes = np.zeros(bins)
    for orientation, weight in (
        (first, magnitude * (1 - share)),
        ((first + 1) % ORIENTATIONS, magnitude * share),
    ):
        places = (cell * ORIENTATIONS + orientation).ravel()
        votes += np.bincount(places, weights=weight.ravel(), minlength=bins)
    return votes.reshape(count, rows, columns, ORIENTATIONS).astype(np.float32)


def _normalised(blocks: Features) -> Features:
    length: Features = np.sqrt((blocks**2).sum(axis=3, keepdims=True) + _EPSILON**2)
    return blocks / length
