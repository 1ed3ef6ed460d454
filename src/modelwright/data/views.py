"""Derived views: a store's images decoded at training size, memory-mapped from the cache."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Ints
from modelwright.data.checksums import damaged, has_checksum, verify_checksum
from modelwright.data.parallel import in_order
from modelwright.data.pieces import map_piece, write_piece
from modelwright.data.store import Store
from modelwright.files import cache_folder, json_digest, locked
from modelwright.run import Observe, Progress
from modelwright.transforms import ImageInput, decode_image

VERSION = 1
_CHUNK, _CHUNK_BYTES = 256, 16 << 20
"""Samples, and bytes of pixels, that a thread decodes before the next turn."""


def derived_view(store: Store, input: ImageInput, *, observe: Observe) -> NDArray[np.uint8]:
    """Return the pixels of every row of a store, `[N, H, W, C]`, decoding them where that is new.

    A broken image's pixels are 0; the audit names such rows, and no split holds them.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    path = _place(store, [input.digest()], "npy")
    if not has_checksum(path):
        with locked(path.with_suffix(".lock")):
            if not has_checksum(path):
                _build(path, store, input, observe)
    try:
        if store.sealing is None:
            verify_checksum(path)
            return cast("NDArray[np.uint8]", np.load(path, mmap_mode="r", allow_pickle=False))
        piece = map_piece(path, store.sealing)
        shape = (len(store), input.height, input.width, input.channels)
        start = piece.size - math.prod(shape)  # Behind the header.
        return np.frombuffer(piece, np.uint8, offset=start).reshape(shape)
    except (OSError, ValueError) as error:
        raise damaged(path) from error


def _place(store: Store, key: list[str], suffix: str) -> Path:
    """Return where a view of a store stands; that of sealed data for those who can open it."""
    marks = [VERSION, store.digest, *key]
    if store.sealing is not None:
        marks.append(store.sealing.mark)
    name = json_digest(marks).partition(":")[2][:32]
    return cache_folder() / "views" / f"{name}.{suffix}"


def ragged_view(
    store: Store,
    key: str,
    encode: Callable[[range], list[Array]],
    *,
    dtype: str,
    observe: Observe,
) -> tuple[Array, Ints]:
    """Return values of different lengths for every row of a store, encoding them where that is new.

    `key` is the digest of how rows are encoded. `encode` returns the values of some rows, and none
    for a broken one.

    Returns:
        All values, one row after the other, memory-mapped; and the length of each row.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    values, lengths = (_place(store, [key, dtype], part) for part in ("bin", "npy"))
    if not (has_checksum(values) and has_checksum(lengths)):
        with locked(values.with_suffix(".lock")):
            if not (has_checksum(values) and has_checksum(lengths)):
                counts: list[int] = []
                with write_piece(values, store.sealing) as stream:
                    for start in range(0, len(store), _CHUNK):
                        rows = encode(range(start, min(start + _CHUNK, len(store))))
                        counts += [len(row) for row in rows]
                        stream.write(np.concatenate(rows).astype(dtype).tobytes())
                        observe(Progress("decode", len(counts), len(store)))
                with write_piece(lengths, store.sealing) as stream:
                    np.save(stream, np.array(counts, dtype=np.int64), allow_pickle=False)
    try:
        sizes: Ints = np.load(io.BytesIO(map_piece(lengths, store.sealing)), allow_pickle=False)
        piece = map_piece(values, store.sealing)
        total = int(sizes.sum())
        if len(sizes) != len(store) or piece.size != total * np.dtype(dtype).itemsize:
            raise ValueError
        mapped = np.frombuffer(piece, dtype) if total else np.empty(0, dtype)
    except (OSError, ValueError) as error:
        raise damaged(lengths) from error
    return mapped, sizes


def _build(path: Path, store: Store, input: ImageInput, observe: Observe) -> None:
    count, shape = len(store), (input.height, input.width, input.channels)
    column = store.table["bytes"]
    broken = store.errors()

    sample_bytes = input.height * input.width * input.channels
    step = max(min(_CHUNK, _CHUNK_BYTES // sample_bytes), 1)

    def decode(start: int) -> NDArray[np.uint8]:
        rows = range(start, min(start + step, count))
        block = np.zeros((len(rows), *shape), dtype=np.uint8)
        for offset, row in enumerate(rows):
            if row not in broken:
                block[offset] = decode_image(column[row].as_py(), input)
        return block

    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    with write_piece(path, store.sealing) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        done = 0
        for block in in_order(decode, range(0, count, step)):
            stream.write(block.data)
            done += len(block)
            observe(Progress("decode", done, count))
