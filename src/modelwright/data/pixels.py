"""Raw pixels as bytes: sources that hold arrays and no image files keep them as `.npy`."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray


def as_npy(pixels: NDArray[np.uint8]) -> bytes:
    """Return an array as the bytes of a `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(pixels), allow_pickle=False)
    return stream.getvalue()
