"""A recording as a WAV file, for people to listen to."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray


def as_wav(samples: NDArray[np.int16], sampling_rate: int) -> bytes:
    """Return mono samples `[T]` as the bytes of a 16-bit WAV file."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sampling_rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()
