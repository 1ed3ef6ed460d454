"""Arrays in the safetensors format, read and written in one canonical way, in NumPy alone.

The format is that of https://github.com/huggingface/safetensors: a length, a JSON header, the
data. Here the header's keys are sorted, it holds no metadata, the data start at a multiple of 64
bytes and stand in the order of falling item size, then name, so that every array is aligned.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array
from modelwright.errors import ModelFileError
from modelwright.files import Json, canonical_json
from modelwright.modelfile.layout import ALIGNMENT
from modelwright.modelfile.strict import field, only_keys, parse_json

Arrays = dict[str, Array]
BF16: np.dtype[Any] = np.dtype([("bfloat16", "<u2")])
"""NumPy has no bfloat16: its bits stand in a record of one field, and so never pass for uint16."""
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BF16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
FLOATS = ("F64", "F32", "F16", "BF16")
_METADATA = "__metadata__"
"""What other writers keep texts under; never the name of an array."""
_MOST_NUMBERS = 1 << 48


def write_arrays(arrays: Mapping[str, Array], *, name: str) -> bytes:
    """Return the member that holds these arrays."""
    shapes = {}
    for key, value in arrays.items():
        dtype = dtype_name(value)
        if dtype is None or key == _METADATA:
            raise ModelFileError(f"`{name}` can't hold `{key}`, an array of {value.dtype}")
        shapes[key] = (dtype, value.shape)
    order = _order({key: value.dtype.itemsize for key, value in arrays.items()})
    return b"".join([_header(shapes), *(array_to_bytes(arrays[key]) for key in order)])


def read_arrays(data: bytes, *, name: str) -> Arrays:
    """Return the arrays of a member, as read-only views of its bytes."""
    size = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else len(data)
    if size > len(data) - 8:
        raise ModelFileError(f"`{name}` has an impossible header")
    header = parse_json(data[8 : 8 + size].rstrip(b" "), name=name)
    if not isinstance(header, dict) or _METADATA in header:
        raise ModelFileError(f"`{name}` has an impossible header")
    for value in header.values():
        only_keys(value, ("dtype", "shape", "data_offsets"), name=name)
    shapes = {key: check_shape(value, name) for key, value in header.items()}
    if _header(shapes) != data[: 8 + size]:
        raise ModelFileError(f"`{name}` has a header that isn't written in the canonical form")
    arrays, at = {}, 8 + size
    for key in _order({key: DTYPES[dtype].itemsize for key, (dtype, _) in shapes.items()}):
        dtype, shape = shapes[key]
        count = math.prod(shape)
        stop = at + count * DTYPES[dtype].itemsize
        if stop > len(data):
            raise ModelFileError(f"`{name}` ends within `{key[:80]}`")
        arrays[key] = array_from_bytes(data, DTYPES[dtype], count, at).reshape(shape)
        at = stop
    if at != len(data):
        raise ModelFileError(f"`{name}` holds bytes that belong to no array")
    return {key: arrays[key] for key in sorted(arrays)}


def array_to_bytes(array: Array) -> bytes:
    """Return an array's numbers, row by row, the lowest byte of each first."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def array_from_bytes(data: bytes, dtype: np.dtype[Any], count: int, start: int = 0) -> Array:
    """Return `count` numbers from `start` on, as a read-only view of the bytes."""
    if dtype == np.bool_ and np.frombuffer(data, np.uint8, count, start).max(initial=0) > 1:
        raise ModelFileError("an array of true and false holds something else")
    return np.frombuffer(data, dtype, count, start)


def _header(shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Return length and JSON, padded with blanks so that the data begin aligned."""
    entries, at = {}, 0
    for key in _order({key: DTYPES[dtype].itemsize for key, (dtype, _) in shapes.items()}):
        dtype, shape = shapes[key]
        stop = at + math.prod(shape) * DTYPES[dtype].itemsize
        entries[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, stop]}
        at = stop
    text = canonical_json(entries)
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _order(item_sizes: Mapping[str, int]) -> list[str]:
    return sorted(item_sizes, key=lambda key: (-item_sizes[key], key))


def dtype_name(array: Array) -> str | None:
    """Return what safetensors calls an array's kind of number; of a kind that it lacks nothing."""
    return _NAMES.get(array.dtype.newbyteorder("<"))


def to_float32(array: Array) -> NDArray[np.float32]:
    """Return an array of floats, bfloat16 among them, in single precision."""
    if array.dtype == BF16:
        return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array, np.float32)


def check_shape(value: Json, name: str) -> tuple[str, tuple[int, ...]]:
    """Return the `dtype` and `shape` that a JSON object of the member `name` declares."""
    dtype = field(value, "dtype", str, name=name)
    shape = field(value, "shape", list, name=name)
    if dtype not in DTYPES:
        raise ModelFileError(f"`{name}` holds numbers of the unknown kind {dtype[:20]!r}")
    is_shape = len(shape) <= 32 and all(type(size) is int and size >= 0 for size in shape)
    # NumPy counts so, also where one of the sizes is 0.
    if not is_shape or math.prod(max(size, 1) for size in shape) >= _MOST_NUMBERS:
        raise ModelFileError(f"`{name}` holds an array of an impossible shape")
    return dtype, tuple(shape)


def size_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return how many bytes the numbers of an array take."""
    return math.prod(shape) * DTYPES[dtype].itemsize
