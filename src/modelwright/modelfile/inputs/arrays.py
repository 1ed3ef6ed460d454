"""Arrays that the caller has prepared: the kind of input without host steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile.inputs.reader import (
    Declared,
    Items,
    Reader,
    Sample,
    check_batch,
    is_tensor,
    tensor_array,
)
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent


class ArraysReader(Reader):
    """Arrays by the names of the graph's inputs, or the only one."""

    def __init__(self, declared: Declared) -> None:
        super().__init__(None)
        listed = declared.get("tensors")
        if not isinstance(listed, list) or not listed:
            raise ModelFileError("an input of the kind `arrays` declares its `tensors`")
        self.tensors = tuple(TensorSpec.from_json(item) for item in listed)

    def split_inputs(self, inputs: Any) -> Items:
        """Split one batch into samples, or take one sample without N."""
        tensors = self.tensors
        if not isinstance(inputs, Mapping):
            if len(tensors) != 1:
                names = ", ".join(tensor.name for tensor in tensors)
                raise DataError(f"the model takes several inputs; give them by name: {names}")
            inputs = {tensors[0].name: inputs}
        arrays = {
            str(name): tensor_array(array) if is_tensor(array) else np.asarray(array)
            for name, array in inputs.items()
        }
        first = arrays.get(tensors[0].name)
        is_one = first is not None and first.ndim == len(tensors[0].shape) - 1
        if is_one:
            arrays = {name: array[None] for name, array in arrays.items()}
        count = check_batch(arrays, tensors)
        rows = [{name: array[row] for name, array in arrays.items()} for row in range(count)]
        return Items(rows, is_one=is_one)

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Return the rows, which `split_inputs` has checked together."""
        return [Sample(item) for item in items]

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put samples together."""
        return {
            tensor.name: np.stack([sample.arrays[tensor.name] for sample in samples])
            for tensor in self.tensors
        }

    def synthetic(self, count: int) -> Arrays:
        """Return small whole numbers, 0 and 1 in turn: legal as numbers and as places in tables."""
        arrays = {}
        for tensor in self.tensors:
            sizes = [size if isinstance(size, int) else 4 for size in tensor.shape[1:]]
            places = np.arange(count * math.prod(sizes)).reshape(count, *sizes)
            arrays[tensor.name] = (places * 7 // 3 % 2).astype(tensor.dtype)
        return arrays
