"""Weights that are stored encoded: bounded, checked, and never more than is declared."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import ModelFileError, RequestError
from modelwright.modelfile import encoding
from modelwright.modelfile.encoding import CODECS, HALVED, Encoded, decode_arrays, encode_arrays
from modelwright.modelfile.tensors import BF16, DTYPES, to_float32

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "int8": (RANDOM.normal(size=(64, 32)) * 9).astype(np.int8),
    "float32": RANDOM.normal(size=(5, 7)).astype(np.float32),
    "float16": RANDOM.normal(size=8).astype(np.float16),
    "bfloat16": RANDOM.integers(0, 9, 12).astype("<u2").view(BF16),
    "bool": RANDOM.integers(0, 2, (4, 4)).astype(bool),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(2.5, np.float64),
}

HALVED_CODECS = [name for name in CODECS if name.partition("+")[0] in HALVED]


@pytest.mark.parametrize("codec", [name for name in CODECS if name not in HALVED_CODECS])
def test_every_lossless_codec_gives_back_what_it_got(codec: str) -> None:
    stored, encoded = encode_arrays(ARRAYS, dict.fromkeys(ARRAYS, codec))
    assert all(array.dtype == np.uint8 and array.ndim == 1 for array in stored.values())
    assert stored["int8"].nbytes < ARRAYS["int8"].nbytes
    found = decode_arrays(stored, encoded)
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert encoded[name].size_bytes == array.nbytes
        assert Encoded.from_json(encoded[name].to_json(), name="x") == encoded[name]


@given(st.binary(min_size=2, max_size=60).filter(lambda data: len(data) % 2 == 0))
def test_whatever_fits_into_16_bits_comes_back(data: bytes) -> None:
    for name, kind in (("float16", DTYPES["F16"]), ("bfloat16", BF16)):
        values = to_float32(np.frombuffer(data, kind))
        values = np.where(np.isnan(values), np.float32(1), values)  # A NaN may be another one.
        for codec in (name, f"{name}+zstd"):
            stored, encoded = encode_arrays({"w": values}, {"w": codec})
            assert decode_arrays(stored, encoded)["w"].tobytes() == values.tobytes()
            assert codec != name or stored["w"].nbytes == len(data)


@pytest.mark.parametrize("codec", HALVED_CODECS)
def test_what_16_bits_would_change_is_refused(codec: str) -> None:
    with pytest.raises(RequestError, match="would change it"):
        encode_arrays({"w": np.array([1.0, 1.0001], np.float32)}, {"w": codec})
    with pytest.raises(ModelFileError, match="an array of int8"):
        encode_arrays(ARRAYS, {"int8": codec})


def test_only_what_is_named_is_encoded() -> None:
    stored, encoded = encode_arrays(ARRAYS, {"int8": "zstd"})
    assert list(encoded) == ["int8"]
    assert all(stored[name] is ARRAYS[name] for name in ARRAYS if name != "int8")
    assert decode_arrays(ARRAYS, {}) == ARRAYS


def test_a_column_major_array_comes_back() -> None:
    array = np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4))
    stored, encoded = encode_arrays({"w": array}, {"w": "zstd"})
    assert np.array_equal(decode_arrays(stored, encoded)["w"], array)


@pytest.mark.parametrize(("name", "codec"), [("int9", "zstd"), ("int8", "zst")])
def test_what_cannot_be_encoded(name: str, codec: str) -> None:
    with pytest.raises(RequestError, match="Did you mean"):
        encode_arrays(ARRAYS, {name: codec})


def zstd(data: bytes) -> np.ndarray:
    return np.frombuffer(pyarrow.Codec("zstd").compress(data, asbytes=True), np.uint8)


HOW = Encoded("zstd", "U8", (1000,))


@pytest.mark.parametrize(
    ("stored", "how", "why"),
    [
        (zstd(bytes(1001)), HOW, "more than the 1,000 bytes"),
        (zstd(bytes(999)), HOW, "less than the 1,000 bytes"),
        (np.concatenate([zstd(bytes(1000)), zstd(b"x")]), HOW, "more than"),
        (zstd(bytes(1000))[:-3], HOW, "can't be decoded"),
        (np.concatenate([zstd(bytes(1000)), zstd(b"")[:2]]), HOW, "can't be decoded|more than"),
        (np.frombuffer(b"no zstd at all", np.uint8), HOW, "can't be decoded"),
        (zstd(bytes(1000)), replace(HOW, codec="codebook"), "isn't known to this version"),
        (zstd(bytes([2]) * 1000), replace(HOW, dtype="BOOL"), "true and false"),
        (np.zeros(0, np.uint8), replace(HOW, shape=(0,)), "isn't bytes"),
        (zstd(bytes(1000)).reshape(1, -1), HOW, "isn't bytes"),
        (np.zeros(9, np.uint8), Encoded("float16", "F32", (4,)), "more than the 16 bytes"),
        (np.zeros(7, np.uint8), Encoded("bfloat16", "F32", (4,)), "less than the 16 bytes"),
        (zstd(bytes(9)), Encoded("float16+zstd", "F32", (4,)), "more than the 16 bytes"),
        (np.zeros(8, np.uint8), Encoded("float16", "I32", (4,)), "is for numbers in fp32"),
        (zstd(bytes(1000)).astype(np.int16), HOW, "isn't bytes"),
    ],
)
def test_what_is_not_as_declared_is_refused(stored: np.ndarray, how: Encoded, why: str) -> None:
    with pytest.raises(ModelFileError, match=why):
        decode_arrays({"w": stored}, {"w": how})
    with pytest.raises(ModelFileError, match="isn't bytes"):
        decode_arrays({"other": stored}, {"w": how})


def test_a_bomb_is_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bombs, each within the bound alone, ask for more than it together."""
    size = encoding.MOST_FREE
    bomb = zstd(bytes(size))
    many = {f"w{at}": bomb for at in range(4)}
    assert len(bomb) < 10_000

    decoded: list[int] = []

    def decode(data: bytes, size: int) -> bytes:
        decoded.append(size)
        return b""

    monkeypatch.setitem(CODECS, "fake", replace(CODECS["zstd"], decode=decode))
    with pytest.raises(ModelFileError, match="claim to be"):
        decode_arrays(many, dict.fromkeys(many, Encoded("fake", "U8", (size,))))
    with pytest.raises(ModelFileError, match="claim to be"):
        decode_arrays({"w": bomb}, {"w": Encoded("fake", "F64", (1 << 40,))})
    assert not decoded
    with pytest.raises(ModelFileError, match="less than"):
        decode_arrays({"w": bomb}, {"w": Encoded("fake", "U8", (size,))})
    assert decoded == [size]


def test_a_bomb_that_declares_little_takes_little() -> None:
    bomb = zstd(bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="more than the 1,000 bytes"):
        decode_arrays({"w": bomb}, {"w": HOW})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


def test_what_a_reader_would_refuse_is_not_written() -> None:
    zeros = np.zeros(encoding.MOST_FREE + (8 << 20), np.uint8)
    with pytest.raises(ModelFileError, match="without a codec"):
        encode_arrays({"w": zeros}, {"w": "zstd"})


def test_the_bound_counts_every_kind_of_number() -> None:
    assert all(
        Encoded("zstd", name, (2, 3)).size_bytes == 6 * DTYPES[name].itemsize for name in DTYPES
    )
