"""Perceptual hashes: 64 bits that stay nearly the same when an image is recompressed or scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THUMBNAIL = 16
"""The side of the grey thumbnail that hashes are made from and near-duplicates are checked by."""


def _cosines(size: int) -> NDArray[np.float32]:
    """Return the matrix of the discrete cosine transform (DCT-II), `[frequency, place]`."""
    places, frequencies = np.arange(size) + 0.5, np.arange(size)[:, None]
    return np.cos(np.pi * frequencies * places / size).astype(np.float32)


_COSINES = _cosines(THUMBNAIL)[:9]


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the hash `[N]` of each grey thumbnail `[N, 16, 16]`.

    Its bits say which of 64 low frequencies are above their median.

    After Zauner 2010, section 3.2.1; the row and column of constant frequency are left out, since
    brightness and slow gradients say little about content.
    """
    waves = _COSINES @ thumbnails.astype(np.float32) @ _COSINES.T
    low = waves[:, 1:, 1:].reshape(len(thumbnails), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64).reshape(-1)
