"""What simple methods see of samples: rows in chunks, and reduced pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Ints
from modelwright.data.dataset import Split

Features = NDArray[np.float32]
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
