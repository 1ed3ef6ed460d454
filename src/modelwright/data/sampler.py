"""The order of the training samples: a pure function of the seed, the epoch and the position.

Each epoch is a permutation drawn by a counter-based generator (Philox: Salmon et al. 2011), so any
step of any epoch is found without the ones before it, alike in every process and after a resume.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import RequestError


class Sampler:
    """Cuts each epoch's permutation into batches of one size.

    What is left over at the end of an epoch is passed over, as the shapes stay the same so; the
    permutation differs by epoch, so other samples are left out each time.

    Args:
        size: samples in the split.
        batch_size: samples a step; never more than `size`.
        seed: decides the order.

    Raises:
        RequestError: there are no samples.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if size < 1 or batch_size < 1:
            raise RequestError(
                f"a sampler needs samples and a batch size, not {size} and {batch_size}"
            )
        self.batch_size = min(batch_size, size)
        self.steps_per_epoch = size // self.batch_size
        self._size = size
        self._seed = seed
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """Return the epoch of a step, and the positions in the split that make up its batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = self.order(epoch)
            self._epoch = epoch
        start = place * self.batch_size
        return epoch, self._order[start : start + self.batch_size]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the permutation of an epoch."""
        key = np.random.SeedSequence((self._seed, epoch, 0x5A)).generate_state(2, np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).permutation(self._size)
