"""Samples of different lengths, behind the same indexing as an array of equal ones.

A row of a `Ragged` is a record: its values, padded to the longest of the rows that are indexed,
and its length. So whatever gathers rows (batches, measuring) needs to know nothing of lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelwright.arrays import Array, Ints


@dataclass(frozen=True, slots=True)
class Ragged:
    """Values of different lengths, one after the other.

    Args:
        name: the field that holds the values; the field of the lengths is `length_name`.
        values: of all rows, `[total, …]`; may be memory-mapped.
        starts: where in them each row begins `[rows]`.
        lengths: how many values each row has `[rows]`.
        pad: what stands behind a row's own values.
        multiple: padded lengths are rounded up to a multiple of this, so that few shapes occur.
        least: the shortest padded length.
    """

    name: str
    values: Array
    starts: Ints
    lengths: Ints
    pad: int | float = 0
    multiple: int = 8
    least: int = 1
    length_name: str = "length"
    """Empty where the length is no field of its own."""
    as_dtype: str = ""
    """The dtype of the gathered values; that of `values` where it is empty."""

    @staticmethod
    def of(name: str, rows: Sequence[Array], dtype: str, **more: Any) -> Ragged:
        """Return rows of values as one."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        shape = rows[0].shape[1:] if len(rows) else ()
        values = np.concatenate([*rows, np.empty((0, *shape), dtype)]).astype(dtype)
        return Ragged(name, values, starts, lengths, **more)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def item_bytes(self) -> int:
        """Bytes of one value as it is kept."""
        return int(self.values[:1].nbytes)

    def take(self, rows: Ints) -> Ragged:
        """Return some of the rows, without copying a value."""
        return replace(self, starts=self.starts[rows], lengths=self.lengths[rows])

    def __getitem__(self, rows: Any) -> Array:
        """Return rows as records `[N]` of values `[T, …]` and a length."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        max_length = max(int(lengths.max(initial=0)), self.least)
        max_length += -max_length % self.multiple
        shape = (max_length, *self.values.shape[1:])
        fields = [
            (self.name, np.dtype(self.as_dtype or self.values.dtype), shape),
            (self.length_name, np.int64),
        ]
        records = np.zeros(len(starts), dtype=fields if self.length_name else fields[:1])
        if self.pad:
            records[self.name] = self.pad
        for at, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            records[self.name][at, :length] = self.values[start : start + length]
        if self.length_name:
            records[self.length_name] = lengths
        return records


@dataclass(frozen=True, slots=True)
class Joined:
    """Several inputs of each row, such as a source text and its translation, as one record."""

    parts: tuple[Ragged, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def lengths(self) -> Ints:
        """The length of each row over all its parts `[rows]`."""
        total: Ints = np.sum([part.lengths for part in self.parts], axis=0)
        return total

    @property
    def item_bytes(self) -> int:
        """Bytes of one value as it is kept."""
        return self.parts[0].item_bytes

    def take(self, rows: Ints) -> Joined:
        """Return some of the rows, without copying a value."""
        return Joined(tuple(part.take(rows) for part in self.parts))

    def __getitem__(self, rows: Any) -> Array:
        """Return rows as records with the fields of all parts."""
        records = [part[rows] for part in self.parts]
        fields = [
            (name, item.dtype[name].base, item.dtype[name].shape)
            for item in records
            for name in item.dtype.names or ()
        ]
        joined = np.zeros(len(records[0]), dtype=fields)
        for item in records:
            for name in item.dtype.names or ():
                joined[name] = item[name]
        return joined
