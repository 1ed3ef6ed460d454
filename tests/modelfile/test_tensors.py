"""Arrays in the safetensors format, in one canonical way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelwright.errors import ModelFileError
from modelwright.modelfile import tensors

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


ARRAYS = st.dictionaries(
    NAMES.filter(lambda name: name != "__metadata__"),
    st.sampled_from(sorted(tensors.DTYPES)).flatmap(
        lambda kind: arrays.arrays(
            tensors.DTYPES[kind], arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
        )
    ),
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(ARRAYS)
def test_arrays_round_trip(held: tensors.Arrays) -> None:
    data = tensors.write_arrays(held, name="x")
    found = tensors.read_arrays(data, name="x")
    assert sorted(found) == sorted(held)
    for name, array in held.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert tensors.write_arrays(found, name="x") == data


def test_arrays_are_safetensors() -> None:
    from safetensors.numpy import load, save

    held = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array(True),
        "c": np.array([], dtype=np.int64),
        "d": np.ones((1,) * 32),
    }
    assert tensors.read_arrays(tensors.write_arrays(held, name="x"), name="x").keys() == held.keys()
    theirs = load(tensors.write_arrays(held, name="x"))
    assert {name: (a.dtype, a.tolist()) for name, a in theirs.items()} == {
        name: (a.dtype, a.tolist()) for name, a in held.items()
    }
    with pytest.raises(ModelFileError, match="canonical"):
        tensors.read_arrays(save({"b": held["b"], "a": held["b"]}, {"who": "x"}), name="x")


@pytest.mark.parametrize(
    "value", [np.array(["text"]), np.array([object()]), np.array([1j]), np.zeros(1, "M8[s]")]
)
def test_arrays_of_other_kinds_are_refused(value: np.ndarray) -> None:
    with pytest.raises(ModelFileError):
        tensors.write_arrays({"x": value}, name="x")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_arrays_are_read_or_refused(data: bytes) -> None:
    try:
        found = tensors.read_arrays(data, name="x")
    except ModelFileError:
        return
    assert tensors.write_arrays(found, name="x") == data


def test_bfloat16_is_a_kind_of_its_own() -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load

    bits = np.array([0x3FC0, 0xC010, 0x7F80, 0x0001], "<u2")
    data = tensors.write_arrays({"x": bits.view(tensors.BF16), "y": bits}, name="x")
    theirs = load(data)
    assert (theirs["x"].dtype, theirs["y"].dtype) == (torch.bfloat16, torch.uint16)
    assert theirs["x"].tolist()[:3] == [1.5, -2.25, float("inf")]
    found = tensors.read_arrays(data, name="x")
    assert [tensors.dtype_name(array) for array in found.values()] == ["BF16", "U16"]
    assert np.array_equal(tensors.to_float32(found["x"]), theirs["x"].float().numpy())
    assert tensors.to_float32(np.array([1.5], np.float16)).dtype == np.float32


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"dtype": "F8", "shape": [1]}, "unknown kind"),
        ({"dtype": "F32", "shape": [-1]}, "impossible shape"),
        ({"dtype": "F32", "shape": [True]}, "impossible shape"),
        ({"dtype": "F32", "shape": [1 << 24, 1 << 24]}, "impossible shape"),
        ({"dtype": "F32", "shape": [1] * 33}, "impossible shape"),
        ({"dtype": "F32"}, "no `shape`"),
        ([], "no `dtype`"),
    ],
)
def test_shapes_that_no_array_has(value: object, why: str) -> None:
    with pytest.raises(ModelFileError, match=why):
        tensors.check_shape(value, "x")


def test_sizes_are_those_of_numpy() -> None:
    for name, dtype in tensors.DTYPES.items():
        made = np.zeros((3, 0, 2), dtype), np.zeros((3, 2), dtype), np.zeros((), dtype)
        assert [tensors.size_bytes(name, array.shape) for array in made] == [
            array.nbytes for array in made
        ]
