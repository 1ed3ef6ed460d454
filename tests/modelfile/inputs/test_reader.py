"""What every kind of input is built of."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from modelwright.errors import DataError, MissingExtraError
from modelwright.modelfile.inputs.reader import (
    Sample,
    all_read,
    by_name,
    check_batch,
    each,
    named,
    padded,
    read_plain,
)
from modelwright.modelfile.spec import TensorSpec

TENSORS = (TensorSpec("a", "int64", ("N", "T")), TensorSpec("b", "float32", ("N", 2)))


def test_each_item_has_its_own_error() -> None:
    def read(item: int, number: int) -> int:
        if item < 0:
            raise DataError(f"{number} is below 0")
        return item * 2

    found = each(read, [1, -1, 3], 5)
    assert found[::2] == [2, 6]
    assert str(found[1]) == "6 is below 0."


def test_what_is_nobodys_fault_fails_all() -> None:
    def read(item: int, number: int) -> int:
        raise MissingExtraError("no soundfile")

    with pytest.raises(MissingExtraError):
        each(read, [1], 0)


def test_the_first_error_is_raised() -> None:
    samples = [Sample({}), Sample({})]
    assert all_read(samples) == samples
    with pytest.raises(DataError, match="first"):
        all_read([samples[0], DataError("first"), DataError("second")])


def test_arrays_go_by_name() -> None:
    records = np.zeros(3, [("a", np.int64, (4,)), ("b", np.float32, (2,))])
    found = by_name(records, TENSORS)
    assert check_batch(found, TENSORS) == 3
    assert all(array.flags["C_CONTIGUOUS"] for array in found.values())
    assert by_name(np.zeros(3), TENSORS[:1]).keys() == {"a"}


@pytest.mark.parametrize(
    "change",
    [
        {"a": np.zeros((3, 4), np.int32)},
        {"a": np.zeros((2, 4), np.int64)},
        {"b": np.zeros((3, 3), np.float32)},
        {"c": np.zeros(3)},
    ],
)
def test_a_batch_is_what_the_graph_takes(change: dict[str, np.ndarray]) -> None:
    good = {"a": np.zeros((3, 4), np.int64), "b": np.zeros((3, 2), np.float32)}
    assert check_batch(good, TENSORS) == 3
    with pytest.raises(DataError, match=r"the model takes a: int64 \[N, T\], b: float32 \[N, 2\]"):
        check_batch(good | change, TENSORS)


def test_rows_are_padded_with_zeros() -> None:
    found = padded("x", [np.array([1, 2, 3]), np.array([4])], "int64")
    assert found["x"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert found["length"].tolist() == [3, 1]
    assert padded("x", [], "int64")["x"].shape == (0, 1)


def test_items_have_names_and_plain_files_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"12345")
    assert (named(path, 3), named("text", 3)) == (str(path), "input 4")
    assert named(io.BytesIO(), 3) == "standard input"
    assert read_plain(path, 5) == b"12345"
    for item, most in ((path, 4), (tmp_path, 5), (tmp_path / "none", 5)):
        with pytest.raises(DataError) as caught:
            read_plain(item, most)
        assert caught.value.where == str(item)
