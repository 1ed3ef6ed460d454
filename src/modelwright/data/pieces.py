"""Pieces of the cache: written whole with a checksum, and mapped; those of sealed data are sealed.

A sealed piece is opened into memory once, when it is asked for, and costs nothing from there on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from modelwright.data.checksums import verify_checksum, write_checksum
from modelwright.data.sealed import Sealing
from modelwright.files import atomic_write, write_bytes


@contextmanager
def write_piece(path: Path, sealing: Sealing | None) -> Iterator[BinaryIO]:
    """Open a piece for writing; it is there, with its checksum, when the block has ended.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    if sealing is None:
        with atomic_write(path) as stream:
            yield stream
    else:
        memory = io.BytesIO()
        yield memory
        write_bytes(path, sealing.seal(memory.getvalue()))
    write_checksum(path)


def map_piece(path: Path, sealing: Sealing | None) -> pa.Buffer:
    """Return the content of a piece: the mapped file, or what was sealed, in memory.

    Raises:
        DataError: it isn't what was written.
        SealError: it can't be opened.
        OSError: it can't be read.
    """
    verify_checksum(path)
    if sealing is not None:
        return pa.py_buffer(sealing.open(path))
    if not path.stat().st_size:  # Which can't be mapped.
        return pa.py_buffer(b"")
    with pa.memory_map(str(path)) as mapped:
        return mapped.read_buffer()
