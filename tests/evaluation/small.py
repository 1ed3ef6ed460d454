"""Small stand-ins for a model file and for splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.dataset import Split


@dataclass
class Remembered:
    """Answers as a model file would, with the logits kept for a sample's number."""

    logits: NDArray[np.float32]
    labels: tuple[str, ...]
    digest: str = "sha256:model"
    parameters: int = 10
    multiply_adds: int = 20
    size_bytes: int = 30
    file_bytes: int = 40
    batches: list[int] = field(default_factory=list)
    """How many samples were answered at once, each time."""

    def outputs(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        self.batches.append(len(inputs))
        return self.logits[inputs.reshape(len(inputs), -1)[:, 0]]


def numbered(targets: NDArray[Any], *, name: str = "test") -> Split:
    """Return a split whose sample `i` is the number `i`, stored in reverse."""
    count = len(targets)
    store = np.arange(count)[::-1].reshape(-1, 1).copy()
    return Split(name, store, np.arange(count)[::-1].copy(), targets)


def striped(count: int, *, seed: int, name: str = "train", side: int = 8) -> Split:
    """Return noisy grey images whose class is the direction of their stripes, at a random phase.

    The mean image of both classes is flat, so pixels tell nothing and orientations all.
    """
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, count)
    along = np.arange(side) * (2 * np.pi / 8)
    wave = np.sin(along[None, :] + random.uniform(0, 2 * np.pi, (count, 1)))
    images = np.where(targets[:, None, None], wave[:, :, None], wave[:, None, :]) * 60 + 128
    images = images + random.normal(0, 10, (count, side, side))
    pixels = images.clip(0, 255).astype(np.uint8)[..., None]
    return Split(name, pixels, np.arange(count), targets)
