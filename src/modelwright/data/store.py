"""The store: what a source holds, memory-mapped, with all that is learned by looking at it once.

Original bytes are kept, never decoded full-size pixels. A store is built once in parallel, in parts
that a later call goes on from, and stands in the cache under the digest of the source's listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelwright.data.hashing import THUMBNAIL, perceptual_hashes
from modelwright.data.listing import Kind, Listing
from modelwright.data.parallel import in_order
from modelwright.errors import DataError
from modelwright.files import (
    atomic_write,
    cache_folder,
    canonical_json,
    locked,
    read_json,
    sweep,
    write_json,
)
from modelwright.run import Observe, Progress
from modelwright.transforms.audio import MAX_SECONDS, AudioInput, audio_facts, read_audio
from modelwright.transforms.image import facts_of, open_image
from modelwright.transforms.tokenizing import fold

VERSION = 2
PART = 4096
"""Samples a part; a build that was broken off loses at most this many."""
_CHUNK = 16
"""Samples that a thread looks at before the next turn."""
_SMALL_BYTES = 16 << 10
_BATCH_BYTES = 64 << 20
"""Originals that are held in memory before they are written."""

_COMMON = [
    ("bytes", pa.large_binary()),
    ("label", pa.string()),
    ("split", pa.string()),
    ("extra", pa.string()),
    ("origin", pa.string()),
    ("bytes_digest", pa.binary(16)),
    ("content_digest", pa.binary(16)),
]
_FACTS = {
    "image": [
        ("phash", pa.uint64()),
        ("thumbnail", pa.binary(THUMBNAIL * THUMBNAIL)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("is_grey", pa.bool_()),
    ],
    "text": [("characters", pa.int64())],
    "audio": [("sampling_rate", pa.int32()), ("channels", pa.int32()), ("frames", pa.int64())],
}
SCHEMAS = {
    kind: pa.schema([*_COMMON, *facts, ("error", pa.string())]) for kind, facts in _FACTS.items()
}
"""The columns of each kind's store. Equal `content_digest`s are one sample: the same pixels, the
same text but for case and blanks, the same sound."""
MOST_CHARACTERS = 4_000_000
"""A longer text is likelier a whole file than a sample."""


@dataclass(frozen=True, slots=True)
class Store:
    """A source, opened: one row a sample, in the source's order."""

    folder: Path
    table: pa.Table
    digest: str
    """The digest of all samples with their labels and splits."""
    title: str
    notes: tuple[str, ...]
    kind: Kind = "image"
    sampling_rate: int | None = None
    """Of recordings that are plain 16-bit PCM."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def strings(self, name: str) -> list[str]:
        """Return a column of text: `label`, `split`, `extra`, `origin`, `mode`."""
        return cast("list[str]", self.table[name].to_pylist())

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
        column = self.table["error"].to_pylist()
        return {row: error for row, error in enumerate(column) if error is not None}

    def original(self, row: int) -> bytes:
        """Return the original bytes of a sample."""
        return cast("bytes", self.table["bytes"][row].as_py())

    @property
    def size_bytes(self) -> int:
        """The bytes of the store on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("part-*.arrow"))


def _fixed_part(chunk: pa.Array, width: int) -> NDArray[np.uint8]:
    held = np.frombuffer(chunk.buffers()[1], dtype=np.uint8)
    start = chunk.offset * width
    return held[start : start + len(chunk) * width].reshape(len(chunk), width)


def open_store(listing: Listing, *, observe: Observe) -> Store:
    """Return the store of a listing, building it where it isn't there yet.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    folder = cache_folder() / "stores" / f"v{VERSION}-{listing.key.partition(':')[2][:32]}"
    record = folder / "store.json"
    if not record.exists():
        # A second process waits here, and finds the store built.
        with locked(folder.with_suffix(".lock")):
            if not record.exists():
                sweep(folder)
                _build(folder, listing, observe)
    held = read_json(record)
    parts = [_mapped(folder / name) for name in held["parts"]]
    return Store(
        folder,
        pa.concat_tables(parts),
        held["digest"],
        listing.title,
        listing.notes,
        listing.kind,
        listing.sampling_rate,
    )


def _mapped(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            "this part of the cached data is damaged",
            where=str(path),
            fix=f"Remove the folder {path.parent} and run again: it is built anew",
        ) from error


def _build(folder: Path, listing: Listing, observe: Observe) -> None:
    names = []
    sums = hashlib.sha256()
    total = len(listing)
    for number, start in enumerate(range(0, total, PART)):
        name = f"part-{number:05d}.arrow"
        path = folder / name
        if not path.exists():
            _write(path, listing, range(start, min(start + PART, total)), observe)
        _add(sums, _mapped(path))
        names.append(name)
    write_json(
        folder / "store.json",
        {"version": VERSION, "digest": "sha256:" + sums.hexdigest(), "parts": names},
    )


def _add(sums: Any, part: pa.Table) -> None:
    columns = (part[name].to_pylist() for name in ("bytes_digest", "label", "split", "extra"))
    for content, label, split, extra in zip(*columns, strict=True):
        sums.update(canonical_json([content.hex(), label, split, extra]))


def _write(path: Path, listing: Listing, rows: range, observe: Observe) -> None:
    looked: list[dict[str, Any]] = []
    held, done = 0, rows.start
    with atomic_write(path) as stream, pa.ipc.new_file(stream, SCHEMAS[listing.kind]) as writer:
        for found in _look(listing, rows):
            looked += found
            held += sum(len(item["bytes"]) for item in found)
            observe(Progress("store", done + len(looked), len(listing)))
            if held >= _BATCH_BYTES or done + len(looked) == rows.stop:
                writer.write_batch(_batch(listing, looked, done))
                done += len(looked)
                looked, held = [], 0


def _look(listing: Listing, rows: range) -> Iterator[list[dict[str, Any]]]:
    """Yield what is seen of all rows, a chunk at a time.

    Images of a few kilobytes are looked at faster by one thread: two would spend more on taking
    turns at the interpreter's lock than decoding outside of it gains.
    """

    def look(chunk: range) -> list[dict[str, Any]]:
        return [_look_at(listing, row) for row in chunk]

    chunks = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]
    first = look(chunks[0])
    yield first
    is_small = sum(len(item["bytes"]) for item in first) < _SMALL_BYTES * len(first)
    yield from map(look, chunks[1:]) if is_small else in_order(look, chunks[1:])


def _batch(listing: Listing, looked: list[dict[str, Any]], start: int) -> pa.RecordBatch:
    columns: dict[str, Any] = {name: [item[name] for item in looked] for name in looked[0]}
    if listing.kind == "image":
        thumbnails = np.frombuffer(b"".join(columns["thumbnail"]), dtype=np.uint8)
        columns["phash"] = perceptual_hashes(thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL))
    for name, held in (
        ("label", listing.labels),
        ("split", listing.splits),
        ("extra", listing.extras),
        ("origin", listing.origins),
    ):
        columns[name] = [_valid(text) for text in held[start : start + len(looked)]]
    schema = SCHEMAS[listing.kind]
    return pa.record_batch({name: columns[name] for name in schema.names}, schema=schema)


def _valid(text: str) -> str:
    """Return text that UTF-8 can hold; names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _look_at(listing: Listing, row: int) -> dict[str, Any]:
    data = b""
    try:
        if row in listing.faults:
            raise DataError(listing.faults[row])
        if not listing.labels[row].strip():
            raise DataError("it has no label")
        data = listing.read(row)
        facts = _LOOKS[listing.kind](data, listing)
        return {**facts, "bytes": data, "bytes_digest": _digest(data), "error": None}
    except DataError as error:
        why = ". ".join(part for part in (error.what, error.why) if part)
    except FileNotFoundError:
        why = "there is no such file"
    except OSError as error:
        why = f"can't be read ({error.strerror or error})"
    return {
        **_NOTHING[listing.kind],
        "bytes": data,
        "bytes_digest": _digest(data),
        "content_digest": bytes(16),
        "error": why,
    }


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _look_at_image(data: bytes, listing: Listing) -> dict[str, Any]:
    image = open_image(data)
    facts = facts_of(image)
    small = image.convert("RGB") if image.mode not in ("L", "RGB") else image
    return {
        "content_digest": _digest(f"{image.mode} {image.size} ".encode() + image.tobytes()),
        "thumbnail": small.convert("L").resize((THUMBNAIL, THUMBNAIL), 5).tobytes(),
        "width": facts.width,
        "height": facts.height,
        "mode": facts.mode,
        "is_grey": facts.is_grey,
    }


def _look_at_text(data: bytes, listing: Listing) -> dict[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise DataError(f"it isn't UTF-8: byte {error.start} is 0x{byte:02x}") from error
    if not text.strip():
        raise DataError("it is empty")
    if "\0" in text:
        raise DataError("it holds a NUL byte, so it is no text")
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"it has {len(text):,} characters, more than {MOST_CHARACTERS:,}")
    return {"content_digest": _digest(fold(text).encode()), "characters": len(text)}


_FEWEST_A_SECOND = 1000
"""A recording shorter than a thousandth of a second may be nothing at a lower rate."""


def _look_at_audio(data: bytes, listing: Listing) -> dict[str, Any]:
    source = pcm_of(data, listing.sampling_rate)
    facts = audio_facts(source, rate=listing.sampling_rate)
    if facts.frames * _FEWEST_A_SECOND < facts.sampling_rate:
        raise DataError(f"the recording is too short: it has {facts.frames} samples")
    whole = AudioInput(facts.sampling_rate, MAX_SECONDS)
    samples = read_audio(source, whole, rate=listing.sampling_rate)
    return {
        "content_digest": _digest(f"{facts.sampling_rate} ".encode() + samples.tobytes()),
        "sampling_rate": facts.sampling_rate,
        "channels": facts.channels,
        "frames": facts.frames,
    }


def pcm_of(data: bytes, sampling_rate: int | None) -> bytes | NDArray[np.int16]:
    """Return plain PCM as an array, where the source says that its recordings are that.

    Raises:
        DataError: it isn't 16-bit PCM.
    """
    if sampling_rate is None:
        return data
    if data[:4] in (b"RIFF", b"fLaC", b"OggS"):
        raise DataError(
            "this recording says its own sampling rate; leave `data.sampling_rate` out",
        )
    if len(data) % 2 or not data:
        raise DataError(f"{len(data)} bytes aren't 16-bit PCM")
    return np.frombuffer(data, dtype="<i2")


_LOOKS: dict[Kind, Callable[[bytes, Listing], dict[str, Any]]] = {
    "image": _look_at_image,
    "text": _look_at_text,
    "audio": _look_at_audio,
}
_NOTHING: dict[Kind, dict[str, Any]] = {
    "image": {
        "thumbnail": bytes(THUMBNAIL * THUMBNAIL),
        "width": 0,
        "height": 0,
        "mode": "",
        "is_grey": False,
    },
    "text": {"characters": 0},
    "audio": {"sampling_rate": 0, "channels": 0, "frames": 0},
}
"""The facts of a sample that can't be used."""
