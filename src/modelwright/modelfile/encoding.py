"""Weights that are stored encoded: the table of codecs, and decoding that can't blow up.

`model/spec.json` declares how such a weight was encoded, and the kind of number and the shape that
it decodes to. What all of them together ask for is bounded and checked before the first is decoded,
and none may decode to more or less than it declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelwright.errors import ModelFileError, RequestError, nearest
from modelwright.files import Json, JsonObject
from modelwright.modelfile.strict import field, only_keys
from modelwright.modelfile.tensors import (
    BF16,
    DTYPES,
    Arrays,
    array_from_bytes,
    array_to_bytes,
    check_shape,
    dtype_name,
    size_bytes,
    to_float32,
)

MOST_FREE = 64 << 20
"""Bytes that may be decoded whatever the stored size, …"""
MOST_RATIO = 256
"""… plus this many times the stored size; a layer of zeros still compresses well."""
_ZSTD_LEVEL = 9


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to store an array's bytes."""

    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes, int], bytes]
    """From stored bytes and the declared size; returns one byte more where there is more."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What is declared of a weight that is stored encoded."""

    codec: str
    dtype: str
    """As safetensors calls it: `I8`, `F32`."""
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of the decoded weight."""
        return size_bytes(self.dtype, self.shape)

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return {"codec": self.codec, "dtype": self.dtype, "shape": list(self.shape)}

    @staticmethod
    def from_json(value: Json, *, name: str) -> Encoded:
        """Read what `to_json` returned, from the member `name`."""
        codec = field(value, "codec", str, name=name)
        only_keys(value, ("codec", "dtype", "shape"), name=name)
        return Encoded(codec, *check_shape(value, name))


def encode_arrays(arrays: Arrays, codecs: Mapping[str, str]) -> tuple[Arrays, dict[str, Encoded]]:
    """Return arrays with those that `codecs` names encoded, and what to declare of these.

    Raises:
        RequestError: there is no such array or codec.
        ModelFileError: an array shrinks by more than a reader accepts.
    """
    stored, encoded = dict(arrays), {}
    for name, codec in codecs.items():
        if name not in arrays or codec not in CODECS:
            raise RequestError(
                f"the weight `{name}` can't be encoded as `{codec}`",
                fix=nearest(name, arrays) if name not in arrays else nearest(codec, CODECS),
            )
        array = arrays[name]
        kind = dtype_name(array)
        is_halved = codec.partition("+")[0] in HALVED
        if kind is None or (is_halved and kind != "F32"):
            raise ModelFileError(f"`{name}` is an array of {array.dtype}, which isn't held")
        data = CODECS[codec].encode(array_to_bytes(array))
        stored[name] = np.frombuffer(data, np.uint8)
        encoded[name] = Encoded(codec, kind, array.shape)
    check_encoded(stored, encoded)
    return stored, encoded


def decode_arrays(arrays: Arrays, encoded: Mapping[str, Encoded]) -> Arrays:
    """Return stored arrays with those that are encoded decoded."""
    check_encoded(arrays, encoded)
    decoded = {name: _decode(name, arrays[name].tobytes(), how) for name, how in encoded.items()}
    return arrays | decoded


def check_encoded(arrays: Arrays, encoded: Mapping[str, Encoded]) -> None:
    """Refuse, without decoding, arrays that can't be what is declared or decode to too much."""
    stored = 0
    for name in encoded:
        array = arrays.get(name)
        if array is None or array.dtype != np.uint8 or array.ndim != 1 or not array.size:
            raise ModelFileError(f"`{name[:80]}` is declared as encoded, and isn't bytes")
        stored += array.size
    total, most = sum(how.size_bytes for how in encoded.values()), MOST_FREE + MOST_RATIO * stored
    if total > most:
        raise ModelFileError(
            f"encoded weights of {stored:,} bytes claim to be {total:,} bytes, and at most "
            f"{most:,} are accepted",
            fix="Store weights as small as these without a codec",
        )


def _decode(name: str, data: bytes, how: Encoded) -> Any:
    codec = CODECS.get(how.codec)
    if codec is None:
        raise ModelFileError(
            f"the codec {how.codec[:40]!r} of `{name[:80]}` isn't known to this version",
            fix="Update modelwright",
        )
    if how.codec.partition("+")[0] in HALVED and how.dtype != "F32":
        raise ModelFileError(f"the codec {how.codec!r} of `{name[:80]}` is for numbers in fp32")
    decoded = codec.decode(data, how.size_bytes)
    if len(decoded) != how.size_bytes:
        more = "more" if len(decoded) > how.size_bytes else "less"
        raise ModelFileError(
            f"`{name[:80]}` decodes to {more} than the {how.size_bytes:,} bytes that are declared"
        )
    return array_from_bytes(decoded, DTYPES[how.dtype], math.prod(how.shape)).reshape(how.shape)


def _encode_zstd(data: bytes) -> bytes:
    import pyarrow

    codec = pyarrow.Codec("zstd", compression_level=_ZSTD_LEVEL)
    encoded: bytes = codec.compress(data, asbytes=True)
    return encoded


def _decode_zstd(data: bytes, size: int) -> bytes:
    import pyarrow

    try:
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
            decoded: bytes = stream.read(size + 1)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ModelFileError("an encoded weight can't be decoded", why=str(error)[:200]) from error
    return decoded


def _halved(kind: np.dtype[Any]) -> Codec:
    """Return the codec that stores fp32 in a kind of 16 bits which represents it exactly."""

    def encode(data: bytes) -> bytes:
        values = np.frombuffer(data, "<f4")
        stored = (values.view("<u4") >> 16).astype("<u2") if kind == BF16 else values.astype(kind)
        encoded = array_to_bytes(stored)
        if decode(encoded, len(data)) != data:
            raise RequestError("a weight can't be stored in 16 bits, as that would change it")
        return encoded

    def decode(data: bytes, size: int) -> bytes:
        if 2 * len(data) != size:
            return bytes(size + (1 if 2 * len(data) > size else -1))  # Which is refused.
        return array_to_bytes(to_float32(np.frombuffer(data, kind)))

    return Codec(encode, decode)


def _halved_zstd(halved: Codec) -> Codec:
    """Return the codec that stores fp32 in 16 bits, and these by zstd."""
    return Codec(
        lambda data: _encode_zstd(halved.encode(data)),
        lambda data, size: halved.decode(_decode_zstd(data, size // 2), size),
    )


HALVED = {"float16": _halved(DTYPES["F16"]), "bfloat16": _halved(BF16)}
"""What stores numbers in fp32 in 16 bits."""
CODECS = {
    "zstd": Codec(_encode_zstd, _decode_zstd),
    **HALVED,
    **{f"{name}+zstd": _halved_zstd(codec) for name, codec in HALVED.items()},
}
"""By the name that a model file declares."""
