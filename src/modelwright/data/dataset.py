"""The nouns of prepared data: a split, and the splits that a training stage may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Ints
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import DataError

if TYPE_CHECKING:
    from modelwright.data.prepare import Prepared

Inputs = NDArray[Any] | Ragged | Joined
Strings = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Split:
    """The samples of one split, in a fixed order.

    `inputs` is memory-mapped, with one row a sample of the whole store; `rows` says which of its
    rows belong to the split, in order; `targets[i]` belongs to `rows[i]`. Where a network takes
    several inputs, a row is a record (a structured array) with a field for each, in their order;
    where rows differ in length, they are padded as they are gathered (`Ragged`). So are targets.
    """

    name: str
    inputs: Inputs
    rows: Ints
    targets: Any
    pairs: Callable[[], tuple[list[str], list[str]]] | None = None
    """Of texts that are generated from others: returns the sources and the references, in order."""
    unknown: tuple[str, ...] = ()
    """The labels of these samples that training has none of. No output of a network stands for
    them; in targets their numbers go on behind those of the labels that are learnt."""
    texts: Ints | None = None
    """Of stretches of texts: a number for each, the same for those of one text."""
    metadata: Mapping[str, Strings] = field(default_factory=dict)
    """What else is known of each sample `[N]`, by the name of its column: a group, a time, a
    speaker. Texts as they stand in the data, empty where a cell is."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Ints) -> Split:
        """Return some of the samples as a split of their own, with all that is known of them.

        Args:
            positions: the places of these samples in the split `[M]`, in the new order; a sample
                may be taken several times.
        """
        pairs = self.pairs
        return replace(
            self,
            rows=self.rows[positions],
            targets=taken(self.targets, positions),
            pairs=None if pairs is None else lambda: _some_pairs(pairs, positions),
            texts=None if self.texts is None else self.texts[positions],
            metadata={name: values[positions] for name, values in self.metadata.items()},
        )

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The pixels `[N, H, W, C]` of all rows, where the samples are images.

        Raises:
            DataError: they are something else.
        """
        if not isinstance(self.inputs, np.ndarray) or self.inputs.ndim != 4:
            raise DataError("its inputs aren't images")
        return self.inputs

    def lengths(self) -> Ints | None:
        """Return each sample's length, where they differ: inputs and targets together."""
        if not isinstance(self.inputs, Ragged | Joined):
            return None
        return self.inputs.lengths[self.rows]

    def gather(self, positions: Ints | slice = slice(None)) -> Array:
        """Return the inputs at these positions of the split, copied into memory."""
        return np.ascontiguousarray(self.inputs[self.rows[positions]])


def taken(values: Inputs, rows: Ints) -> Inputs:
    """Return some rows of what one row a sample holds."""
    return values[rows] if isinstance(values, np.ndarray) else values.take(rows)


def _some_pairs(
    pairs: Callable[[], tuple[list[str], list[str]]], positions: Ints
) -> tuple[list[str], list[str]]:
    sources, references = pairs()
    return [sources[at] for at in positions], [references[at] for at in positions]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a training stage may see: never the test split."""

    train: Split
    validation: Split | None
    labels: tuple[str, ...]
    unlabelled: Split | None = None
    """Further samples to train on; their targets mean nothing."""
    origin: Prepared | None = None
    """What these samples are taken from, without the test split: for a network that takes them in
    another way, or is to be built anew."""

    def with_unlabelled(self) -> Split:
        """Return the training split with the unlabelled samples behind it, if there are any."""
        train, more = self.train, self.unlabelled
        if more is None:
            return train
        return Split(
            train.name,
            train.inputs,
            np.concatenate([train.rows, more.rows]),
            np.concatenate([train.targets, more.targets]),
        )
