"""The store: what a source holds, memory-mapped, with all that is learned by looking at it once.

Original bytes are kept, never decoded full-size pixels. A store is built once in parallel, in parts
that a later call goes on from, and stands in the cache under the digest of the source's listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelwright.data.checksums import damaged, has_checksum
from modelwright.data.listing import UNLABELLED_SPLIT, Listing, Rows
from modelwright.data.parallel import in_order
from modelwright.data.pieces import map_piece, write_piece
from modelwright.data.sealed import Sealing
from modelwright.errors import DataError
from modelwright.files import (
    JsonObject,
    cache_folder,
    canonical_json,
    locked,
    read_json,
    sweep,
    write_json,
)
from modelwright.kinds import InputKind
from modelwright.run import Observe, Progress

VERSION = 3
PART = 4096
"""Samples a part; a build that was broken off loses at most this many."""
_CHUNK = 16
"""Samples that a thread looks at before the next turn."""
_REPEATED = ("label", "split", "mode")
"""The columns of text in which few values repeat."""
_SMALL_BYTES = 16 << 10
_BATCH_BYTES = 64 << 20
"""Originals that are held in memory before they are written."""

_COMMON = (
    ("bytes", pa.large_binary()),
    ("label", pa.string()),
    ("split", pa.string()),
    ("origin", pa.string()),
    ("bytes_digest", pa.binary(16)),
    ("content_digest", pa.binary(16)),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store keeps of each sample of one kind of input, beside its bytes and its label."""

    columns: tuple[tuple[str, pa.DataType], ...]
    look: Callable[[bytes, Listing], dict[str, Any]]
    """Returns the facts of a sample and its `content_digest`, which is equal for equal samples;
    raises `DataError` where it can't be used."""
    missing: dict[str, Any]
    """The facts of a sample that can't be used."""
    add: Callable[[dict[str, Any]], None] = lambda columns: None
    """Adds the columns that are computed for many samples at once."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the store."""
        return pa.schema([*_COMMON, *self.columns, ("error", pa.string())])


@dataclass(frozen=True, slots=True)
class Store:
    """A source, opened: one row a sample, in the source's order."""

    folder: Path
    table: pa.Table
    digest: str
    """The digest of all samples with their labels and splits."""
    title: str
    notes: tuple[str, ...]
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What else is known of each row, by the name of its column: a group, a time, a speaker."""
    kind: InputKind = InputKind.IMAGE
    sampling_rate: int | None = None
    """Of recordings that are plain 16-bit PCM."""
    sealing: Sealing | None = None
    """Of sealed data, how what is kept of it is sealed."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def strings(self, name: str) -> list[str]:
        """Return a column of text: `label`, `split`, `origin`, `mode`."""
        column = self.table[name]
        if name not in _REPEATED:
            return cast("list[str]", column.to_pylist())
        texts: list[str] = []  # Of equal texts one is held.
        for part in column.chunks:
            coded = part.dictionary_encode()
            kinds = coded.dictionary.to_pylist()
            texts += [kinds[at] for at in coded.indices.to_numpy(zero_copy_only=False).tolist()]
        return texts

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers `[N]`: `width`, `height`, `phash`, `is_grey`."""
        return cast("NDArray[Any]", self.table[name].to_numpy())

    def fixed(self, name: str) -> NDArray[np.uint8]:
        """Return a column of fixed-size bytes `[N, bytes]`: a digest, or `thumbnail`."""
        kind = self.table.schema.field(name).type
        parts = [_fixed_part(chunk, kind.byte_width) for chunk in self.table[name].chunks]
        return np.concatenate(parts) if parts else np.empty((0, kind.byte_width), np.uint8)

    def errors(self) -> dict[int, str]:
        """Return why rows are broken, by row."""
        column = self.table["error"]
        rows = np.flatnonzero(column.is_valid().to_numpy()).tolist()
        return {row: column[row].as_py() for row in rows}

    def original(self, row: int) -> bytes:
        """Return the original bytes of a sample."""
        return cast("bytes", self.table["bytes"][row].as_py())

    @property
    def size_bytes(self) -> int:
        """The bytes of the store on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("part-*.arrow"))


@dataclass(frozen=True, slots=True)
class StoredSplit:
    """The samples of one split as they are stored: what a tokenizer, say, is fitted to."""

    store: Store
    rows: Rows

    def originals(self) -> Iterator[bytes]:
        """Yield the original bytes of each sample."""
        return (self.store.original(row) for row in self.rows.tolist())

    def strings(self, name: str) -> list[str]:
        """Return a column of text for these samples."""
        column = self.store.strings(name)
        return [column[row] for row in self.rows.tolist()]

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers for these samples, `[N]`."""
        return self.store.numbers(name)[self.rows]


def _fixed_part(chunk: pa.Array, width: int) -> NDArray[np.uint8]:
    buffer = np.frombuffer(chunk.buffers()[1], dtype=np.uint8)
    start = chunk.offset * width
    return buffer[start : start + len(chunk) * width].reshape(len(chunk), width)


def open_store(listing: Listing, facts: Facts, *, observe: Observe) -> Store:
    """Return the store of a listing, building it where it isn't there yet.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    folder = cache_folder() / "stores" / f"v{VERSION}-{listing.key.partition(':')[2][:32]}"
    record = folder / "store.json"
    content = _record(record)
    if content is None:
        # A second process waits here, and finds the store built.
        with locked(folder.with_suffix(".lock")):
            content = _record(record)
            if content is None:
                sweep(folder)
                content = _build(folder, listing, facts, observe)
    parts = [_mapped(folder / name, listing.sealing) for name in content["parts"]]
    return Store(
        folder,
        pa.concat_tables(parts),
        content["digest"],
        listing.title,
        listing.notes,
        {name: [_valid(text) for text in cells] for name, cells in listing.metadata.items()},
        listing.kind,
        listing.sampling_rate,
        listing.sealing,
    )


def _record(path: Path) -> JsonObject | None:
    """Return what was written of a store that is whole; of one that is not, or torn, nothing."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not {"digest", "parts"} <= content.keys():
        return None
    return content if all(has_checksum(path.parent / name) for name in content["parts"]) else None


def _mapped(path: Path, sealing: Sealing | None) -> pa.Table:
    try:
        return pa.ipc.open_file(map_piece(path, sealing)).read_all()
    except (OSError, pa.ArrowException) as error:
        raise damaged(path) from error


def _build(folder: Path, listing: Listing, facts: Facts, observe: Observe) -> JsonObject:
    names = []
    sums = hashlib.sha256()
    total = len(listing)
    for number, start in enumerate(range(0, total, PART)):
        name = f"part-{number:05d}.arrow"
        path = folder / name
        if not has_checksum(path):
            _write(path, listing, facts, range(start, min(start + PART, total)), observe)
        _add(sums, _mapped(path, listing.sealing))
        names.append(name)
    content: JsonObject = {
        "version": VERSION,
        "digest": "sha256:" + sums.hexdigest(),
        "parts": names,
    }
    write_json(folder / "store.json", content)
    return content


def _add(sums: Any, part: pa.Table) -> None:
    columns = (part[name].to_pylist() for name in ("bytes_digest", "label", "split"))
    for content, label, split in zip(*columns, strict=True):
        sums.update(canonical_json([content.hex(), label, split]))


def _write(path: Path, listing: Listing, facts: Facts, rows: range, observe: Observe) -> None:
    looked: list[dict[str, Any]] = []
    num_bytes, done = 0, rows.start
    piece = write_piece(path, listing.sealing)
    with piece as stream, pa.ipc.new_file(stream, facts.schema) as writer:
        for chunk in _look(listing, facts, rows):
            looked += chunk
            num_bytes += sum(len(item["bytes"]) for item in chunk)
            observe(Progress("store", done + len(looked), len(listing)))
            if num_bytes >= _BATCH_BYTES or done + len(looked) == rows.stop:
                writer.write_batch(_batch(listing, facts, looked, done))
                done += len(looked)
                looked, num_bytes = [], 0


def _look(listing: Listing, facts: Facts, rows: range) -> Iterator[list[dict[str, Any]]]:
    """Yield what is seen of all rows, a chunk at a time.

    Images of a few kilobytes are looked at faster by one thread: two would spend more on taking
    turns at the interpreter's lock than decoding outside of it gains.
    """

    def look(chunk: range) -> list[dict[str, Any]]:
        return [_look_at(listing, facts, row) for row in chunk]

    chunks = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]
    first = look(chunks[0])
    yield first
    is_small = sum(len(item["bytes"]) for item in first) < _SMALL_BYTES * len(first)
    yield from map(look, chunks[1:]) if is_small else in_order(look, chunks[1:])


def _batch(
    listing: Listing, facts: Facts, looked: list[dict[str, Any]], start: int
) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: [item[name] for item in looked] for name in looked[0]}
    facts.add(columns)
    for name, values in (
        ("label", listing.labels),
        ("split", listing.splits),
        ("origin", listing.origins),
    ):
        columns[name] = [_valid(text) for text in values[start : start + len(looked)]]
    columns["error"] = [text and _valid(text) for text in columns["error"]]
    schema = facts.schema
    return pa.record_batch({name: columns[name] for name in schema.names}, schema=schema)


def _valid(text: str) -> str:
    """Return text that UTF-8 can hold; names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _look_at(listing: Listing, facts: Facts, row: int) -> dict[str, Any]:
    data = b""
    try:
        if row in listing.faults:
            raise DataError(listing.faults[row])
        if not listing.labels[row].strip() and listing.splits[row] != UNLABELLED_SPLIT:
            raise DataError("it has no label")
        data = listing.read(row)
        seen = facts.look(data, listing)
        return {**seen, "bytes": data, "bytes_digest": short_digest(data), "error": None}
    except DataError as error:
        why = ". ".join(part for part in (error.what, error.why) if part)
    except FileNotFoundError:
        why = "there is no such file"
    except OSError as error:
        why = f"can't be read ({error.strerror or error})"
    return {
        **facts.missing,
        "bytes": data,
        "bytes_digest": short_digest(data),
        "content_digest": bytes(16),
        "error": why,
    }


def short_digest(data: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-256 of some bytes."""
    return hashlib.sha256(data).digest()[:16]
