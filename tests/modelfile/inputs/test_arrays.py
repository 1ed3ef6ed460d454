"""Arrays that the caller has prepared."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile import inputs
from tests.modelfile.inputs.declared import DECLARED


def test_arrays_must_agree_on_free_sizes() -> None:
    value = {
        "kind": "arrays",
        "tensors": [
            {"name": "ids", "dtype": "int64", "shape": ["N", "T"]},
            {"name": "mask", "dtype": "bool", "shape": ["N", "T"]},
        ],
    }
    reader = inputs.open_input(value, {})
    good = {"ids": np.zeros((2, 5), np.int64), "mask": np.ones((2, 5), bool)}
    assert len(reader.split_inputs(good).items) == 2
    one = {name: array[0] for name, array in good.items()}
    assert reader.split_inputs(one).is_one
    for wrong in (
        good | {"mask": np.ones((2, 4), bool)},
        good | {"mask": np.ones((3, 5), bool)},
        {"ids": good["ids"]},
        good["ids"],
    ):
        with pytest.raises(DataError):
            reader.split_inputs(wrong)
    with pytest.raises(DataError, match="give them by name: ids, mask"):
        reader.split_inputs(good["ids"])
    with pytest.raises(ModelFileError):
        reader.views(good, 6)


def test_a_batch_is_taken_apart_and_put_together() -> None:
    reader = inputs.open_input(DECLARED["arrays"], {})
    made = reader.synthetic(3)
    taken = reader.split_inputs(made)
    again = inputs.read_batch(reader, taken.items)
    assert all(np.array_equal(again[name], made[name]) for name in made)


def test_a_single_array_needs_no_name() -> None:
    tensors = [{"name": "x", "dtype": "float32", "shape": ["N", 3]}]
    reader = inputs.open_input({"kind": "arrays", "tensors": tensors}, {})
    batch = np.arange(6, dtype=np.float32).reshape(2, 3)
    for given in (batch, {"x": batch}):
        found = reader.split_inputs(given)
        assert not found.is_one
        np.testing.assert_array_equal(inputs.read_batch(reader, found.items)["x"], batch)
    assert reader.split_inputs(batch[0]).is_one


def test_a_declaration_has_tensors() -> None:
    for tensors in ([], None, 5, "abc"):
        with pytest.raises(ModelFileError, match="declares its `tensors`"):
            inputs.open_input({"kind": "arrays", "tensors": tensors}, {})
