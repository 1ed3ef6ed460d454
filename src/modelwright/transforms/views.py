"""Views for test-time augmentation: variants of a sample, computed before the network.

Images are mirrored and shifted, recordings are played faster and slower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Pixels
from modelwright.errors import RequestError

Samples = NDArray[np.int16]
Lengths = NDArray[np.int64]
SPEEDS = (1.0, 0.9, 1.1)
"""The range of the speed augmentation in training."""


def view_batches(pixels: Pixels, views: str) -> tuple[Pixels, NDArray[np.float32]]:
    """Return the views of a batch and the weight of each; outputs are averaged with the weights.

    `flip` is the image and its mirror image. `flip_shift` is both of them unshifted, shifted up and
    left by a pixel, and down and right, with a reflected border; the unshifted pair has half the
    weight (Jordan 2024, section 3.5).

    Args:
        pixels: `[N, H, W, C]`.
        views: `none`, `flip` or `flip_shift`.

    Returns:
        `[V, N, H, W, C]` and `[V]`, which sums to 1.

    Raises:
        RequestError: there are no such views.
    """
    if views == "none":
        return pixels[None], np.ones(1, dtype=np.float32)
    mirrored = pixels[:, :, ::-1]
    if views == "flip":
        return np.stack([pixels, mirrored]), np.full(2, 0.5, dtype=np.float32)
    if views != "flip_shift":
        raise RequestError(f"there are no views {views!r}; write none, flip or flip_shift")
    views_of_batch = []
    for image in (pixels, mirrored):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        views_of_batch += [image, padded[:, :-2, :-2], padded[:, 2:, 2:]]
    weights = np.array([0.25, 0.125, 0.125] * 2, dtype=np.float32)
    return np.stack(views_of_batch), weights


def speed_views(samples: Samples, length: Lengths) -> list[tuple[Samples, Lengths]]:
    """Return a batch of recordings as it is, a tenth slower, and a tenth faster.

    Samples are interpolated linearly, as in the speed augmentation of training. The pitch changes
    with the speed, so that a voice resembles that of a larger or a smaller speaker.

    Args:
        samples: int16 `[N, T]`, 0 at padding; T is at least 1.
        length: int64 `[N]`, samples before the padding.

    Returns:
        For each of `SPEEDS` samples `[N, T']` and lengths `[N]`; `T'` is the same for all.
    """
    count, steps = samples.shape
    sizes = [max(int(steps / speed), 1) for speed in SPEEDS]
    variants = []
    for speed, size in zip(SPEEDS, sizes, strict=True):
        at = np.arange(size) * speed
        left = at.astype(np.int64)
        part = (at - left).astype(np.float32)
        # Never interpolate with padding: the answer must not depend on the batch.
        right = np.minimum(left + 1, np.clip(length, 1, steps)[:, None] - 1)
        following = np.take_along_axis(samples, right, axis=1)
        values = samples[:, left] * (1 - part) + following * part
        lasts = np.maximum((length / speed).astype(np.int64), 1)
        values[np.arange(size) >= lasts[:, None]] = 0
        moved = np.zeros((count, max(sizes)), np.int16)
        moved[:, :size] = np.rint(values)
        variants.append((moved, lasts))
    return variants
