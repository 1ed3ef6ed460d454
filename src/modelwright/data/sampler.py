"""The order of the training samples: a pure function of the seed, the epoch and the position.

Each epoch is a permutation drawn by a counter-based generator (Philox: Salmon et al. 2011), so any
step of any epoch is found without the ones before it, alike in every process and after a resume.
"""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np

from modelwright.arrays import Ints
from modelwright.errors import RequestError


class BatchSampler(Protocol):
    """Which samples make up each step's global batch: a pure function of the step."""

    batch_size: int
    """The expected number of samples in a global batch."""
    steps_per_epoch: int

    def batch(self, step: int) -> tuple[int, Ints]:
        """Return the epoch of a step, and the positions in the split that make up its batch."""


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
        self._order: Ints = np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> tuple[int, Ints]:
        """Return the epoch of a step, and the positions in the split that make up its batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = self.order(epoch)
            self._epoch = epoch
        start = place * self.batch_size
        return epoch, self._order[start : start + self.batch_size]

    def order(self, epoch: int) -> Ints:
        """Return the permutation of an epoch."""
        key = np.random.SeedSequence((self._seed, epoch, 0x5A)).generate_state(2, np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).permutation(self._size)


class BucketedSampler:
    """Batches of samples of like lengths, each within a budget of padded values.

    The samples, sorted by length, are cut once into batches; each epoch fills these batches anew
    with samples of about those lengths (lengths are blurred by a tenth before sorting), in an order
    of its own. So every epoch has the same number of steps, and no sample is left out.

    Args:
        lengths: of each sample `[size]`.
        budget: the most values a batch holds, padding included; a longer sample stands alone.
        most: the most samples a batch holds.
        seed: decides blur and order.

    Raises:
        RequestError: there are no samples.
    """

    def __init__(self, lengths: Ints, budget: int, *, most: int, seed: int) -> None:
        if not len(lengths) or budget < 1 or most < 1:
            raise RequestError(
                f"a sampler needs samples and a budget, not {len(lengths)} and {budget}"
            )
        self._lengths = np.maximum(lengths, 1)
        self._seed = seed
        self._bounds = cut_by_length(np.sort(self._lengths), budget, most)
        self.steps_per_epoch = len(self._bounds) - 1
        self.batch_size = max(round(len(lengths) / self.steps_per_epoch), 1)
        """Samples a step, on average."""
        self._epoch = -1
        self._batches: list[Ints] = []

    def batch(self, step: int) -> tuple[int, Ints]:
        """Return the epoch of a step, and the positions in the split that make up its batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = self._of_epoch(epoch)
            self._epoch = epoch
        return epoch, self._batches[place]

    def _of_epoch(self, epoch: int) -> list[Ints]:
        key = np.random.SeedSequence((self._seed, epoch, 0x5B)).generate_state(2, np.uint64)
        random = np.random.Generator(np.random.Philox(key=key))
        blurred = self._lengths * (1.0 + 0.1 * random.random(len(self._lengths)))
        order = np.lexsort((random.random(len(blurred)), blurred))
        cuts = [order[a:b] for a, b in itertools.pairwise(self._bounds)]
        return [cuts[at] for at in random.permutation(len(cuts))]


def cut_by_length(lengths: Ints, budget: int, most: int) -> list[int]:
    """Return where sorted lengths are cut, so that no batch of them is over the budget."""
    bounds = [0]
    for at, length in enumerate(lengths.tolist()):
        count = at - bounds[-1]
        if count and (count >= most or (count + 1) * length > budget):
            bounds.append(at)
    return [*bounds, len(lengths)]


PADDING_LOOKED_AT = 200
"""From how many batches the share of padding is taken."""


def padding_share(sampler: BatchSampler, lengths: Ints) -> float:
    """Return the share of all values in an epoch's first batches that is padding."""
    used = padded = 0
    for step in range(min(sampler.steps_per_epoch, PADDING_LOOKED_AT)):
        own = lengths[sampler.batch(step)[1]]
        used += int(own.sum())
        padded += int(own.max()) * len(own)
    return 1.0 - used / max(padded, 1)
