"""Random figures without a state: each is a function of (seed, stream, epoch, position).

Drawn on the host and small (a few figures a sample), so that every device augments alike. The
generator is SplitMix64 (Steele, Lea and Flood 2014) read at the index `position` of a sequence that
the other three choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

Figures = NDArray[np.float64]
Whole = NDArray[np.int64]


class Stream(IntEnum):
    """What a figure is drawn for; the numbers are part of every result, so none is ever reused."""

    FLIP = 1
    SHIFT_Y = 2
    SHIFT_X = 3
    CROP_AREA = 4
    CROP_RATIO = 5
    CROP_Y = 6
    CROP_X = 7
    BRIGHTNESS = 8
    CONTRAST = 9
    SATURATION = 10
    CUT_Y = 11
    CUT_X = 12
    MIX = 13


def _mixed(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def key(*numbers: int) -> int:
    """Return 64 bits that stand for a list of numbers.

    >>> key(0, 1) == key(1, 0)
    False
    """
    value = 0
    for number in numbers:
        value = _mixed((value + number) & _MASK)
    return value


def bits(start: int, positions: Whole) -> NDArray[np.uint64]:
    """Return 64 random bits for each position `[N]` of the sequence that begins at `start`."""
    state = positions.astype(np.uint64) + np.uint64(1)
    state *= np.uint64(_GOLDEN)
    state += np.uint64(start)
    state ^= state >> np.uint64(30)
    state *= np.uint64(_FIRST)
    state ^= state >> np.uint64(27)
    state *= np.uint64(_SECOND)
    state ^= state >> np.uint64(31)
    return state


@dataclass(frozen=True, slots=True)
class CounterRNG:
    """The random figures of some samples in an epoch."""

    seed: int
    epoch: int
    positions: Whole

    def uniform(self, stream: Stream, *, attempt: int = 0) -> Figures:
        """Return a figure in [0, 1) for each position `[N]`."""
        start = key(self.seed, stream, self.epoch, attempt)
        return (bits(start, self.positions) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def between(self, stream: Stream, low: float, high: float, *, attempt: int = 0) -> Figures:
        """Return a figure from `low` up to `high` for each position `[N]`."""
        return low + (high - low) * self.uniform(stream, attempt=attempt)

    def integers(self, stream: Stream, low: int, high: int) -> Whole:
        """Return a whole number from `low` to `high`, both included, for each position `[N]`."""
        return low + (self.uniform(stream) * (high - low + 1)).astype(np.int64)

    def always(self, stream: Stream) -> Whole:
        """Return 0 or 1 for each position `[N]`, the same in every epoch."""
        start = key(self.seed, stream)
        return (bits(start, self.positions) >> np.uint64(63)).astype(np.int64)
