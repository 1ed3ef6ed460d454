"""Near-duplicates in linear time: perceptual hashes propose pairs, thumbnails confirm them.

Hashes that share ten neighbouring bits, at one of sixteen places, are proposed (bands, as in Manku
et al. 2007): among hashes that differ in eight bits nearly all pairs. In a wide bucket each is
compared with its next neighbours alone, so that the time grows with the number of images. A pair
holds where hashes and thumbnails agree; looked at with benchmarks/audit.py, nearly all such pairs
of CIFAR-10 are one picture, shifted, scaled or recoloured a little.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Ints

MOST_BITS = 16
"""Hashes that differ in more bits belong to different images."""
LEAST_LIKENESS = 0.92
"""The least correlation of two thumbnails of one image."""
LEAST_LIKENESS_TINY = 0.995
"""The same for images with a side below the thumbnail's: those of eight pixels all look alike."""
LEAST_CONTRAST = 4.0
"""The least standard deviation of a thumbnail, 0…255: blank images all look alike."""
_WIDEST_BUCKET = 64
"""In larger buckets each hash is compared with its next neighbours in order only."""
_MOST_HELD = 1 << 24
"""Pairs that are gathered before those found several times are dropped."""
_SHIFTS = tuple(range(0, 64, 4))
_BAND_BITS = 10


def near_duplicate_pairs(
    hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    *,
    least: NDArray[np.float32] | None = None,
) -> Ints:
    """Return the pairs of images that look alike, `[P, 2]`, the smaller row first.

    Thumbnails are grey, `[N, pixels]`; `least` is the least correlation of each, if not the usual.
    """
    if len(hashes) < 2:
        return np.empty((0, 2), dtype=np.int64)
    spread = thumbnails.astype(np.float32)
    centred = spread - spread.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    flat = norms < LEAST_CONTRAST * np.sqrt(thumbnails.shape[1])
    # A pair is kept as one number; as a tuple in a set it would take twenty times the memory.
    pieces: list[Ints] = [np.empty(0, dtype=np.int64)]
    count = 0
    for first, second in _proposed(hashes):
        bits = np.bitwise_count(hashes[first] ^ hashes[second])
        kept = (bits <= MOST_BITS) & ~flat[first] & ~flat[second]
        first, second = first[kept], second[kept]
        likeness = np.einsum("ij,ij->i", centred[first], centred[second])
        likeness /= norms[first] * norms[second]
        required = LEAST_LIKENESS if least is None else np.maximum(least[first], least[second])
        alike = likeness >= required
        low = np.minimum(first[alike], second[alike])
        high = np.maximum(first[alike], second[alike])
        pieces.append(low * len(hashes) + high)
        count += len(low)
        if count > _MOST_HELD:
            pieces, count = [np.unique(np.concatenate(pieces))], 0
    pairs = np.unique(np.concatenate(pieces))
    return np.stack(np.divmod(pairs, len(hashes)), axis=1)


def _proposed(hashes: NDArray[np.uint64]) -> Iterator[tuple[Ints, Ints]]:
    """Yield candidate pairs, a batch a distance in the order of each rotation."""
    for shift in _SHIFTS:
        turned = (hashes << np.uint64(shift)) | (hashes >> np.uint64(64 - shift))
        order = np.argsort(turned, kind="stable").astype(np.int64)
        band = (turned >> np.uint64(64 - _BAND_BITS))[order]
        for step in range(1, min(_WIDEST_BUCKET, len(order) - 1) + 1):
            same = band[:-step] == band[step:]
            if not same.any():
                break
            yield order[:-step][same], order[step:][same]
