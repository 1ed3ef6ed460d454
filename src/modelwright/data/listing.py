"""What a source holds before any sample is read: the one form that all sources come in."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelwright.data.sealed import Sealing, is_unsealing, plain_name, read_bytes, stored
from modelwright.errors import DataError, located
from modelwright.kinds import InputKind
from modelwright.transforms.image import read_image

if TYPE_CHECKING:
    from modelwright.data.findings import Finding

Rows = NDArray[np.int64]
"""The numbers of some rows of a store."""
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "privatetest": "test",
    "训练集": "train",
    "验证集": "validation",
    "测试集": "test",
}
"""The names that stand for a split; those of contests are `PublicTest` and `PrivateTest`."""
_FLAG = re.compile(r"is[_\- ]?(\w+)", re.IGNORECASE)


def split_names(column: str) -> Mapping[str, str]:
    """Return which cells of a column stand for which split: in small letters, an empty one too.

    Of a column that is called `is_test` or the like, these are `1` and `0`, `true` and `false`.
    Who isn't in the test split, is for training; who isn't for validation, may be drawn for a test.

    >>> split_names("is_test")["0"], split_names("is_valid")["true"], split_names("split")["dev"]
    ('train', 'validation', 'validation')
    """
    match = _FLAG.fullmatch(column)
    flagged = SPLITS.get(match[1].lower()) if match is not None else None
    if flagged is None:
        return {"": "", **SPLITS}
    other = {"train": "test", "validation": "", "test": "train"}[flagged]
    return {
        "": "",
        **dict.fromkeys(("1", "1.0", "true", "yes"), flagged),
        **dict.fromkeys(("0", "0.0", "false", "no"), other),
    }


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
    read: Callable[[int], bytes]
    """Returns the bytes of an image, a text in UTF-8, or the bytes of a recording; raises `OSError`
    or `DataError` where it can't be read."""
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What else is known of each sample, by the name of its column: a group, a time, a speaker."""
    notes: tuple[str, ...] = ()
    """What is worth saying once: files passed over."""
    kind: InputKind = InputKind.IMAGE
    """What the samples are."""
    findings: tuple[Finding, ...] = ()
    """What is likely wrong with the targets."""
    faults: Mapping[int, str] = field(default_factory=dict)
    """Why samples can't be used, by their place; of those whose target is wrong."""
    sampling_rate: int | None = None
    """Of recordings that are plain 16-bit PCM, which doesn't say it."""
    places: Sequence[str] = ()
    """Of the rows of tables where each stands, `data.csv:17`; nothing of files."""
    sealing: Sealing | None = None
    """Of sealed data, how what is kept of it is sealed."""

    def __len__(self) -> int:
        return len(self.labels)


def read_file(path: Path) -> bytes:
    """Return the bytes of a sample's file.

    Raises:
        DataError: it is no plain file, which could last for ever, or far too long.
        OSError: it can't be read.
    """
    try:
        if not path.is_file() and path.exists():
            raise DataError("this isn't a plain file", where=str(path))
        with located(path):
            if is_unsealing():
                return read_image(io.BytesIO(read_bytes(path)))
            with path.open("rb") as stream:
                return read_image(stream)
    except ValueError as error:  # A NUL in the path, or half a surrogate pair.
        raise OSError(str(error)) from error


def require_parent(column: str | None) -> None:
    """Refuse to split the files of a folder by another column than `parent`.

    Raises:
        DataError: the column is another one.
    """
    if column not in (None, "parent"):
        raise DataError(
            f"a folder has no column `{column}`",
            where="data.split.column",
            fix="Write `column: parent` to keep the files of one folder together",
        )


def parent_folder(paths: Sequence[str], column: str | None) -> dict[str, Sequence[str]]:
    """Return the metadata of files: their folder, where samples are grouped by `column: parent`."""
    return {column: [path.rpartition("/")[0] for path in paths]} if column is not None else {}


UNLABELLED_SPLIT = "unlabelled"
"""The split of the samples that `data.unlabelled` names."""
UNLABELLED = frozenset(("unsup", "unlabeled", "unlabelled", "_background_noise_"))
"""How folders among those of classes are called whose samples have no label: IMDb's, Speech
Commands'."""
LITTER = frozenset(("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini", "Icon\r"))
"""What other programs leave behind, and nobody means."""


def files_below(root: Path) -> Iterator[str]:
    """Yield the files below a folder, in order, as paths in it; hidden ones are passed over.

    While sealed data is read, they have the names that they have unsealed.
    """
    for place, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in LITTER
        )
        inside = Path(place).relative_to(root)
        for name in sorted({plain_name(name) for name in names}):
            if not name.startswith(".") and name not in LITTER:
                yield (inside / name).as_posix()


def stamp(file: Path) -> str:
    """Return the size and the time of a file, by which a change of it is noticed."""
    try:
        facts = stored(file).stat()
    except (OSError, ValueError):
        return "missing"
    return f"{facts.st_size} {facts.st_mtime_ns}"
