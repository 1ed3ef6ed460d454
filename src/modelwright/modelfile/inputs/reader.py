"""What every kind of input offers: from what a user hands over to the arrays that a graph takes.

Each item is read by itself, so that one that can't be read doesn't fail those beside it; samples
are then put together into a batch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent

T = TypeVar("T")
Declared = Mapping[str, Any]
"""The input as `model/spec.json` declares it."""
Assets = Mapping[str, bytes]
"""What else stands in the file for it, by name: the tokenizer."""


@dataclass(frozen=True, slots=True)
class Items:
    """What a user handed over, taken apart."""

    items: Sequence[Any]
    is_one: bool
    """One input, whose answer is one; else several, whose answer is a list."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One item after the host steps."""

    arrays: Arrays
    """What the graph takes, by the names of its inputs, without N and without padding."""
    size: tuple[int, int] | None = None
    """Of an image the width and height that it was handed over with."""


class Reader(Protocol):
    """One kind of input, as a file declares it."""

    @property
    def view_choices(self) -> tuple[str, ...]:
        """The test-time views that it has."""

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """What the network takes."""

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one input from several."""

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Take each item through the host steps, and return its sample or why there is none.

        Args:
            items: what was handed over.
            first: how many were handed over before these, for messages.
            observe: called with a note for each input that is cut off.
        """

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put samples together into a batch, those that are shorter padded."""

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Make the test-time views of a batch, with their weights."""

    def synthetic(self, count: int) -> Arrays:
        """Make samples that are nobody's data."""


def one_or_several(inputs: Any) -> Items:
    """Return the inputs of a list or tuple; of anything else, that it is one."""
    if isinstance(inputs, list | tuple):
        return Items(inputs, is_one=False)
    return Items([inputs], is_one=True)


def each(read: Callable[[Any, int], T], items: Sequence[Any], first: int) -> list[T | DataError]:
    """Return what `read` gives for each item and its number, or the error that it raises."""
    found: list[T | DataError] = []
    for number, item in enumerate(items, first):
        try:
            found.append(read(item, number))
        except DataError as error:
            found.append(error)
    return found


def all_read(found: Sequence[Sample | DataError]) -> list[Sample]:
    """Return the samples, where each item could be read.

    Raises:
        DataError: the first item that couldn't be read.
    """
    samples: list[Sample] = []
    for item in found:
        if isinstance(item, DataError):
            raise item
        samples.append(item)
    return samples


def read_batch(
    reader: Reader, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
) -> Arrays:
    """Return a batch of items that all must be readable.

    Raises:
        DataError: the first item that couldn't be read.
    """
    return reader.collate(all_read(reader.read_each(items, first=first, observe=observe)))


def by_name(
    given: NDArray[Any] | Mapping[str, NDArray[Any]], tensors: Sequence[TensorSpec]
) -> Arrays:
    """Return arrays by the names of a graph's inputs: given so, as records, or as the only one."""
    if isinstance(given, Mapping):
        return {name: np.asarray(array) for name, array in given.items()}
    array = np.asarray(given)
    if array.dtype.names is None:
        return {tensors[0].name: array}
    return {name: np.ascontiguousarray(array[name]) for name in array.dtype.names}


def check_batch(arrays: Mapping[str, NDArray[Any]], tensors: Sequence[TensorSpec]) -> int:
    """Return N of a batch that a graph is about to take.

    Raises:
        DataError: a name, a kind of number or a shape isn't what the graph takes.
    """
    wanted = ", ".join(str(tensor) for tensor in tensors)
    if set(arrays) != {tensor.name for tensor in tensors}:
        raise DataError(f"the model takes {wanted}; got {', '.join(sorted(map(str, arrays)))}")
    free: dict[str, int] = {}
    for tensor in tensors:
        array = arrays[tensor.name]
        fits = array.dtype.name == tensor.dtype and array.ndim == len(tensor.shape)
        for size, expected in zip(array.shape, tensor.shape, strict=False):
            known = free.setdefault(expected, size) if isinstance(expected, str) else expected
            fits = fits and size == known
        if not fits:
            got = f"{array.dtype.name} [{', '.join(map(str, array.shape))}]"
            raise DataError(f"the model takes {wanted}; got {got}")
    return len(arrays[tensors[0].name])


def no_views(batch: Arrays, views: str, *, kind: str) -> tuple[list[Arrays], NDArray[np.float32]]:
    """Return a batch as its only view.

    Raises:
        ModelFileError: another one is asked for.
    """
    if views != "none":
        raise ModelFileError(f"inputs of the kind `{kind}` have no views {views!r}")
    return [batch], np.ones(1, np.float32)


def padded(name: str, rows: Sequence[NDArray[Any]], dtype: str) -> Arrays:
    """Return rows of different lengths as one array, padded with 0, and their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    found = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=dtype)
    for at, row in enumerate(rows):
        found[at, : len(row)] = row
    return {name: found, "length": lengths}


def named(item: Any, number: int) -> str:
    """Return what an item is called in messages."""
    if isinstance(item, os.PathLike):
        return str(os.fspath(item))
    return "standard input" if isinstance(item, io.BufferedIOBase) else f"input {number + 1}"


def read_plain(path: Path, most: int) -> bytes:
    """Return the bytes of a plain file.

    Raises:
        DataError: it can't be read, or is longer than `most`.
    """
    try:
        if not path.is_file():
            raise DataError("there is no such file", where=str(path))
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read ({error})", where=str(path)) from error
    if len(data) > most:
        raise DataError(f"the file is longer than {most:,} bytes", where=str(path))
    return data
