"""Test-time views: the same image seen a little differently, made on the host from uint8 pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import RequestError

Views = Literal["none", "flip", 6] | str | int
Pixels = NDArray[np.uint8]


def view_batches(pixels: Pixels, views: Views) -> tuple[Pixels, NDArray[np.float32]]:
    """Return the views of a batch and the weight of each; outputs are averaged with the weights.

    `flip` is the image and its mirror image. 6 are both of them unshifted, shifted up and left by
    a pixel, and down and right, with a reflected border; the unshifted pair has half the weight
    (Jordan 2024, section 3.5).

    Args:
        pixels: `[N, H, W, C]`.
        views: `none`, `flip` or 6.

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
    if views != 6:
        raise RequestError(f"there are no views {views!r}; write none, flip or 6")
    found = []
    for image in (pixels, mirrored):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        found += [image, padded[:, :-2, :-2], padded[:, 2:, 2:]]
    weights = np.array([0.25, 0.125, 0.125] * 2, dtype=np.float32)
    return np.stack(found), weights
