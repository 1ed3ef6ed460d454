"""What every kind of input offers: from what a user passes to the arrays that a graph takes.

Each item is read by itself, so that one that can't be read doesn't fail those beside it; samples
are then put together into a batch.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array
from modelwright.errors import DataError, ModelFileError
from modelwright.files import Json
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent

T = TypeVar("T")
Declared = Mapping[str, Json]
"""The input as `model/spec.json` declares it."""
Assets = Mapping[str, bytes]
"""What else stands in the file for it, by name: the tokenizer."""


@dataclass(frozen=True, slots=True)
class Items:
    """The inputs that a user passed, one by one."""

    items: Sequence[Any]
    is_one: bool
    """Whether it was one input, not a list: then there is one answer, not a list of them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One item after the host steps."""

    arrays: Arrays
    """What the graph takes, by the names of its inputs, without N and without padding."""
    size: tuple[int, int] | None = None
    """Of an image its width and height before the host steps."""


class Reader(ABC):
    """One kind of input, as a file declares it."""

    spec: Any
    """How a sample becomes what the network takes: `ImageInput` for images, `None` for arrays."""
    tensors: tuple[TensorSpec, ...]
    """What the network takes."""
    view_choices: tuple[str, ...] = ("none",)
    """The test-time views that it has."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one input from several: a list, a tuple or a column holds several."""
        inputs = self.unpacked(inputs)
        if isinstance(inputs, list | tuple):
            tensors = any(map(is_tensor, inputs))
            items = [self.unpacked(item) for item in inputs] if tensors else inputs
            return Items(items, is_one=False)
        return Items([inputs], is_one=True)

    def unpacked(self, inputs: Any) -> Any:
        """Return a column or an array of texts as a list, and a tensor as an array."""
        if is_tensor(inputs):
            return self.from_tensor(tensor_array(inputs))
        if isinstance(inputs, np.ndarray):
            return inputs.tolist() if inputs.dtype.kind in "OSTU" else inputs
        return column_cells(inputs)

    def from_tensor(self, array: Array) -> Array:
        """Return the values of a tensor of torch's in the order of axes that arrays have here."""
        return array

    def describe(self) -> str:
        """Return in words what the network takes."""
        return ", ".join(map(str, self.tensors))

    @abstractmethod
    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Take each item through the host steps, and return its sample or why there is none.

        Args:
            items: the inputs.
            first: the number of the first item, for messages.
            observe: called with a note for each input that is truncated.
        """

    @abstractmethod
    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put samples together into a batch; shorter ones are padded with 0."""

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the test-time views of a batch, with their weights.

        Raises:
            ModelFileError: there are no such views.
        """
        if views != "none":
            raise ModelFileError(f"inputs of this kind have no views {views!r}")
        return [batch], np.ones(1, np.float32)

    @abstractmethod
    def synthetic(self, count: int) -> Arrays:
        """Return samples that are nobody's data; the same count always gives the same samples."""


def is_tensor(value: object) -> bool:
    """Say whether something is a tensor of torch's, which isn't imported."""
    return hasattr(value, "detach") and hasattr(value, "numpy")


def tensor_array(tensor: Any) -> Array:
    """Return the values of a tensor, wherever it is.

    Raises:
        DataError: NumPy has no such numbers.
    """
    try:
        array: Array = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:
        raise DataError(
            f"a tensor of {tensor.dtype} can't be read", fix="Convert it: tensor.float()"
        ) from error
    return array


def column_cells(inputs: Any) -> Any:
    """Return the cells of a column of pandas', polars' or Arrow's as a list; else what was given.

    Raises:
        DataError: it is a whole table.
    """
    if hasattr(inputs, "columns") and hasattr(inputs, "shape"):
        raise DataError(
            "a DataFrame has several columns, and the model takes one",
            fix='Give that: frame["text"]',
        )
    if hasattr(inputs, "to_pylist"):
        return inputs.to_pylist()
    if hasattr(inputs, "dtype") and not isinstance(inputs, np.generic):
        to_list = getattr(inputs, "tolist", None) or getattr(inputs, "to_list", None)
        return to_list() if to_list is not None else inputs
    return inputs


def kind_of(item: object) -> str:
    """Return what an item is that can't be read, for messages."""
    is_nan = isinstance(item, float) and item != item
    if item is None or is_nan or type(item).__name__ in ("NAType", "NaTType"):
        return "a missing value"
    return f"a {type(item).__name__}"


def each(read: Callable[[Any, int], T], items: Sequence[Any], first: int) -> list[T | DataError]:
    """Return what `read` gives for each item and its number, or the error that it raises."""
    results: list[T | DataError] = []
    for number, item in enumerate(items, first):
        try:
            results.append(read(item, number))
        except DataError as error:
            results.append(error)
    return results


def all_read(results: Sequence[Sample | DataError]) -> list[Sample]:
    """Return the samples, where each item could be read; else raise the first `DataError`."""
    samples: list[Sample] = []
    for result in results:
        if isinstance(result, DataError):
            raise result
        samples.append(result)
    return samples


def read_batch(
    reader: Reader, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
) -> Arrays:
    """Return a batch of items; raise the first `DataError` where one can't be read."""
    return reader.collate(all_read(reader.read_each(items, first=first, observe=observe)))


def by_name(arrays: Array | Mapping[str, Array], tensors: Sequence[TensorSpec]) -> Arrays:
    """Return arrays by the names of a graph's inputs, from a mapping, records, or one array."""
    if isinstance(arrays, Mapping):
        return {name: np.asarray(array) for name, array in arrays.items()}
    array = np.asarray(arrays)
    if array.dtype.names is None:
        return {tensors[0].name: array}
    return {name: np.ascontiguousarray(array[name]) for name in array.dtype.names}


def check_batch(arrays: Mapping[str, Array], tensors: Sequence[TensorSpec]) -> int:
    """Return N of a batch that a graph is about to take.

    Raises:
        DataError: a name, a kind of number or a shape isn't what the graph takes.
    """
    expected = ", ".join(str(tensor) for tensor in tensors)
    if set(arrays) != {tensor.name for tensor in tensors}:
        raise DataError(f"the model takes {expected}; got {', '.join(sorted(map(str, arrays)))}")
    free: dict[str, int] = {}
    for tensor in tensors:
        array = arrays[tensor.name]
        fits = array.dtype.name == tensor.dtype and array.ndim == len(tensor.shape)
        fits = fits and 0 not in array.shape[1:]
        for size, declared in zip(array.shape, tensor.shape, strict=False):
            known = free.setdefault(declared, size) if isinstance(declared, str) else declared
            fits = fits and size == known
        if not fits:
            got = f"{array.dtype.name} [{', '.join(map(str, array.shape))}]"
            raise DataError(f"the model takes {expected}; got {got}")
    return len(arrays[tensors[0].name])


def padded(name: str, rows: Sequence[Array], dtype: str) -> Arrays:
    """Return rows of different lengths as one array, padded with 0, and their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    batch = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=dtype)
    for at, row in enumerate(rows):
        batch[at, : len(row)] = row
    return {name: batch, "length": lengths}


def named(item: Any, number: int) -> str:
    """Return what an item is called in messages."""
    if isinstance(item, os.PathLike):
        return str(os.fspath(item))
    return "standard input" if isinstance(item, io.BufferedIOBase) else f"input {number + 1}"


def read_plain(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a plain file.

    Raises:
        DataError: it can't be read, or is longer than `max_bytes`.
    """
    try:
        if not path.is_file():
            raise DataError("there is no such file", where=str(path))
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read ({error})", where=str(path)) from error
    if len(data) > max_bytes:
        raise DataError(f"the file is longer than {max_bytes:,} bytes", where=str(path))
    return data
