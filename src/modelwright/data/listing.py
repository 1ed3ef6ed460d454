"""What a source holds before any image is read: the one form that all sources come in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelwright.errors import DataError, nearest
from modelwright.transforms.image import read_image

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The names that stand for a split."""


Kind = Literal["image", "text", "audio"]


@dataclass(frozen=True, slots=True)
class Listing:
    """The samples of a source, in a fixed order; sample i is `read(i)`, labelled `labels[i]`."""

    title: str
    """The source in a few words, for people: `folder photos`."""
    key: str
    """The digest of what decides the store's content: names, sizes, times, labels."""
    labels: Sequence[str]
    splits: Sequence[str]
    """`train`, `validation`, `test`, or empty where the source doesn't say."""
    origins: Sequence[str]
    """Where each sample comes from, for messages: a path, or a row of a file."""
    extras: Sequence[str]
    """The group or the time of each sample; empty where the recipe asks for neither."""
    read: Callable[[int], bytes]
    """Returns the bytes of an image, a text in UTF-8, or the bytes of a recording; raises `OSError` or
    `DataError` where it can't be read."""
    notes: tuple[str, ...] = ()
    """What is worth saying once: files passed over."""
    kind: Kind = "image"
    """What the samples are."""
    faults: Mapping[int, str] = field(default_factory=dict)
    """Why samples can't be used, by their place; of those whose target is wrong."""
    sampling_rate: int | None = None
    """Of recordings that are plain 16-bit PCM, which doesn't say it."""

    def __len__(self) -> int:
        return len(self.labels)


def find_path(name: str, base: Path) -> Path:
    """Return a path that a recipe names: beside the recipe, else under `MODELWRIGHT_DATA`.

    Raises:
        DataError: it is in neither place.
    """
    path = Path(name).expanduser()
    places = [path] if path.is_absolute() else [base / path]
    if os.environ.get("MODELWRIGHT_DATA") and not path.is_absolute():
        places.append(Path(os.environ["MODELWRIGHT_DATA"]) / path)
    for place in places:
        try:
            if place.exists():
                return place
        except OSError:
            continue
    beside = places[0].parent
    known = [item.name for item in beside.iterdir()] if beside.is_dir() else []
    raise DataError(
        f"there is no `{name}`",
        where=str(places[0]),
        why=nearest(places[0].name, known) if known else f"The folder {beside} isn't there either",
        fix="Relative paths start from the recipe's folder, then from MODELWRIGHT_DATA",
    )


def read_file(path: Path) -> bytes:
    """Return the bytes of a sample's file.

    Raises:
        DataError: it is no plain file, which could last for ever, or far too long.
        OSError: it can't be read.
    """
    if not path.is_file() and path.exists():
        raise DataError("this isn't a plain file", where=str(path))
    with path.open("rb") as stream:
        return read_image(stream, str(path))
