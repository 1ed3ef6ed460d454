"""The nouns of prepared data: a split, and the splits that a training stage may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Split:
    """The samples of one split, in a fixed order.

    `inputs` is memory-mapped, with one row a sample of the whole store; `rows` says which of its
    rows belong to the split, in order; `targets[i]` belongs to `rows[i]`. Where a network takes
    several inputs, a row is a record (a structured array) with a field for each, in their order.
    """

    name: str
    inputs: NDArray[Any]
    rows: NDArray[np.int64]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, positions: NDArray[np.int64] | slice = slice(None)) -> NDArray[Any]:
        """Return the inputs at these positions of the split, copied into memory."""
        return np.ascontiguousarray(self.inputs[self.rows[positions]])


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a training stage may see: never the test split."""

    train: Split
    validation: Split | None
    labels: tuple[str, ...]
