"""The source `cifar10`: the binary archive, its folder, or a pair of Parquet files.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images* (2009).
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from modelwright.data.listing import Listing, stamp
from modelwright.data.pixels import as_npy
from modelwright.data.sealed import read_bytes, stored
from modelwright.errors import DataError
from modelwright.files import atomic_write, cache_folder, digest, find_path, locked
from modelwright.run import Observe, Progress

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_BATCHES = (
    *((f"data_batch_{number}.bin", "train") for number in range(1, 6)),
    ("test_batch.bin", "test"),
)
_RECORD = 1 + 3 * 32 * 32
_RECORDS = 10_000
_FOLDER = "cifar-10-batches-bin"
_ARCHIVE = "cifar-10-binary.tar.gz"


def list_cifar10(path: str | None, *, base: Path, observe: Observe) -> Listing:
    """Return CIFAR-10: the 50,000 training images, then the 10,000 test images.

    `path` is the archive, its folder, or a folder with train.parquet and test.parquet. Without it,
    CIFAR-10 is looked for under `MODELWRIGHT_DATA` and in the cache, else downloaded.

    Raises:
        DataError: it isn't CIFAR-10, it is damaged, or it can't be downloaded.
    """
    place = find_path(path, base) if path is not None else _local_copy()
    if place is None:
        place = _download(observe)
    form = _form(place)
    if form is None:
        raise DataError(
            "this isn't CIFAR-10",
            where=str(place),
            why=f"Neither {_ARCHIVE}, nor data_batch_1.bin …, nor train.parquet and test.parquet",
            fix="Point `data.path` at one of them, or leave it out",
        )
    is_parquet = stored(form / "train.parquet").is_file()
    return _from_parquet(form) if is_parquet else _from_binary(form)


def _local_copy() -> Path | None:
    """Return a copy that is here already."""
    places = [cache_folder() / "downloads" / _ARCHIVE]
    folder = os.environ.get("MODELWRIGHT_DATA")
    if folder:
        root = Path(folder)
        places = [root / "cifar10", root / _FOLDER, root / _ARCHIVE, *places]
    return next((place for place in places if place.exists() and _form(place)), None)


def _form(place: Path) -> Path | None:
    """Return the archive, or the folder in which the files stand."""
    if place.is_file():
        return place
    for folder in (place, place / _FOLDER, place / "cifar10"):
        if all(stored(folder / f"{split}.parquet").is_file() for split in ("train", "test")):
            return folder
        if stored(folder / "data_batch_1.bin").is_file():
            return folder
    archive = stored(place / _ARCHIVE)
    return archive if archive.is_file() else None


def _from_parquet(folder: Path) -> Listing:
    images, labels, splits, origins = [], [], [], []
    marks = []
    for split in ("train", "test"):
        path = stored(folder / f"{split}.parquet")
        try:
            table = pq.read_table(io.BytesIO(read_bytes(path)), columns=["image", "label"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"it can't be read: {error}", where=str(path)) from error
        images += [_bytes_of(cell, path) for cell in table["image"].to_pylist()]
        labels += table["label"].to_pylist()
        splits += [split] * len(table)
        origins += [f"cifar10/{split} {row}" for row in range(len(table))]
        marks.append(f"{path.name} {stamp(path)}")
    if not all(type(number) is int and 0 <= number < len(LABELS) for number in labels):
        raise DataError("a label isn't one of 0 to 9", where=str(folder))
    return Listing(
        title="cifar10",
        key=digest("\n".join(["cifar10 parquet 1", *marks]).encode()),
        labels=[LABELS[number] for number in labels],
        splits=splits,
        origins=origins,
        read=images.__getitem__,
    )


def _bytes_of(cell: object, path: Path) -> bytes:
    """Return the bytes of an image's file, also as Hugging Face's datasets keep them."""
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(found, bytes):
        raise DataError("a cell of `image` doesn't hold the bytes of an image", where=str(path))
    return found


def _from_binary(form: Path) -> Listing:
    blocks = dict(_batches(form))
    missing = [name for name, _ in _BATCHES if name not in blocks]
    if missing:
        raise DataError(f"it lacks {', '.join(missing)}", where=str(form))
    records = []
    for name, _ in _BATCHES:
        block = blocks[name]
        if len(block) != _RECORDS * _RECORD:
            raise DataError(
                f"{name} holds {len(block):,} bytes and should hold {_RECORDS * _RECORD:,}",
                where=str(form),
                fix="It was cut short: fetch it again",
            )
        records.append(np.frombuffer(block, dtype=np.uint8).reshape(_RECORDS, _RECORD))
    labels = np.concatenate([block[:, 0] for block in records])
    if labels.max() >= len(LABELS):
        raise DataError("a label isn't one of 0 to 9", where=str(form))

    def read(row: int) -> bytes:
        pixels = records[row // _RECORDS][row % _RECORDS, 1:].reshape(3, 32, 32)
        return as_npy(pixels.transpose(1, 2, 0))

    splits = [split for _, split in _BATCHES for _ in range(_RECORDS)]
    marks = [digest(blocks[name]) for name, _ in _BATCHES]
    return Listing(
        title="cifar10",
        key=digest("\n".join(["cifar10 binary 1", *marks]).encode()),
        labels=[LABELS[number] for number in labels],
        splits=splits,
        origins=[
            f"cifar10/{split} {row if split == 'train' else row - 5 * _RECORDS}"
            for row, split in enumerate(splits)
        ],
        read=read,
    )


def _batches(form: Path) -> Iterator[tuple[str, bytes]]:
    members = {name for name, _ in _BATCHES}
    if form.is_dir():
        for name in sorted(members):
            if stored(form / name).is_file():
                yield name, read_bytes(stored(form / name))
        return
    raw = read_bytes(form)
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != MD5:
        raise DataError(
            "this isn't the archive of CIFAR-10, or it is damaged",
            where=str(form),
            why=f"Its MD5 isn't {MD5}",
            fix=f"Fetch it again from {ADDRESS}",
        )
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            stream = archive.extractfile(member) if member.isfile() else None
            if name in members and stream is not None:
                yield name, stream.read()


def _download(observe: Observe) -> Path:
    """Fetch the archive into the cache, checked before it gets its name."""
    target = cache_folder() / "downloads" / _ARCHIVE
    with locked(target.with_suffix(".lock")):
        if target.exists():
            return target
        observe(Progress("note", 0, 0, note=f"Downloading CIFAR-10 from {ADDRESS}"))
        try:
            _fetch(target, observe)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise DataError(
                "CIFAR-10 can't be downloaded",
                where=ADDRESS,
                why=f"{getattr(error, 'reason', error)}",
                fix="Fetch it on another machine and point `data.path` or MODELWRIGHT_DATA at it",
            ) from error
    return target


def _fetch(target: Path, observe: Observe) -> None:
    sums = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(ADDRESS, timeout=30) as answer, atomic_write(target) as stream:
        total, done = int(answer.headers.get("Content-Length") or 0), 0
        while block := answer.read(1 << 20):
            stream.write(block)
            sums.update(block)
            done += len(block)
            observe(Progress("download", done, max(total, done)))
        if sums.hexdigest() != MD5:
            raise DataError(
                "what was downloaded isn't CIFAR-10",
                where=ADDRESS,
                why=f"Its MD5 is {sums.hexdigest()} and should be {MD5}",
                fix="Try again later",
            )
