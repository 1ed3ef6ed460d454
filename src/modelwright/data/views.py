"""Derived views: a store's images decoded at training size, memory-mapped from the cache."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from modelwright.data.store import Store
from modelwright.errors import DataError
from modelwright.files import cache_folder, json_digest, locked, write_aside
from modelwright.run import Observe, Progress
from modelwright.transforms import ImageInput, decode_image

VERSION = 1
_CHUNK = 256


def derived_view(store: Store, input: ImageInput, *, observe: Observe) -> NDArray[np.uint8]:
    """Return the pixels of every row of a store, `[N, H, W, C]`, decoding them where that is new.

    A broken image's pixels are 0; the audit names such rows, and no split holds them.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    key = json_digest([VERSION, store.digest, input.digest()]).partition(":")[2][:32]
    path = cache_folder() / "views" / f"{key}.npy"
    if not path.exists():
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                _build(path, store, input, observe)
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            "this cached view of the data is damaged",
            where=str(path),
            fix="Remove the file and run again: it is built anew",
        ) from error
    held: NDArray[np.uint8] = pixels
    return held


def _build(path: os.PathLike[str], store: Store, input: ImageInput, observe: Observe) -> None:
    from pathlib import Path

    count, shape = len(store), (input.height, input.width, input.channels)
    column = store.table["bytes"]
    broken = store.errors()

    def decode(start: int) -> NDArray[np.uint8]:
        held = column.slice(start, _CHUNK).to_pylist()
        block = np.zeros((len(held), *shape), dtype=np.uint8)
        for offset, data in enumerate(held):
            if start + offset not in broken:
                block[offset] = decode_image(data, input)
        return block

    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    with ThreadPoolExecutor(workers) as pool, write_aside(Path(path)) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        done = 0
        # A window keeps the memory bounded: map() would decode all that the disk can't follow.
        for first in range(0, count, _CHUNK * 64):
            starts = range(first, min(first + _CHUNK * 64, count), _CHUNK)
            for block in pool.map(decode, starts):
                stream.write(block.data)
                done += len(block)
                observe(Progress("decode", done, count))
