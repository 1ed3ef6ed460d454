"""The source `arrays`: a NumPy archive of images and labels, as MedMNIST comes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array
from modelwright.data.listing import SPLITS, Listing
from modelwright.data.pixels import as_npy
from modelwright.data.sealed import read_bytes
from modelwright.errors import DataError
from modelwright.files import digest, find_path
from modelwright.recipe.data import ArraysData

MOST_BYTES = 1 << 33
"""An archive whose arrays are larger in memory is refused."""


def list_arrays(spec: ArraysData, *, base: Path) -> Listing:
    """Return the images of an archive.

    Raises:
        DataError: it isn't an archive, its arrays don't fit together, or there are none.
    """
    path = find_path(spec.path, base)
    data = _read(path)
    arrays = _load(data, path)
    pairs = [
        (split, arrays[f"{prefix}images"], arrays[f"{prefix}labels"])
        for prefix, split in [("", ""), *((f"{name}_", split) for name, split in SPLITS.items())]
        if f"{prefix}images" in arrays and f"{prefix}labels" in arrays
    ]
    if not pairs:
        raise DataError(
            "the archive holds no `images` with `labels`",
            where=str(path),
            why=f"Its arrays are {', '.join(sorted(arrays)) or 'none'}",
            fix="Name them `images` and `labels`, or `train_images`, `train_labels` and so on",
        )
    images: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    splits: list[str] = []
    origins: list[str] = []
    for split, pixels, numbers in pairs:
        _check(pixels, numbers, path)
        images += list(pixels)
        labels += [str(number) for number in numbers.reshape(-1).tolist()]
        splits += [split] * len(pixels)
        origins += [f"{path.name} {split or 'images'} {row}" for row in range(len(pixels))]
    return Listing(
        title=f"arrays {path.name}",
        key=digest(b"arrays 1 " + data),
        labels=labels,
        splits=splits,
        origins=origins,
        read=lambda row: as_npy(images[row]),
    )


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", where=str(path)) from error


def _load(data: bytes, path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MOST_BYTES:
                raise DataError(f"its arrays take more than {MOST_BYTES:,} bytes", where=str(path))
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            "this isn't a NumPy archive of plain numbers, or it is damaged",
            where=str(path),
            why=str(error)[:200],
        ) from error


def _check(pixels: Array, numbers: Array, path: Path) -> None:
    is_image = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] in (1, 3))
    if not is_image or pixels.dtype != np.uint8:
        raise DataError(
            f"images are uint8 [N, H, W] or [N, H, W, 3], and these {pixels.dtype} "
            f"{list(pixels.shape)}",
            where=str(path),
        )
    if numbers.size != len(pixels):
        raise DataError(
            f"there are {len(pixels):,} images and {numbers.size:,} labels", where=str(path)
        )
