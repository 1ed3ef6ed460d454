"""Infers labels from where files are, and how they are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelwright.data.listing import SPLITS, UNLABELLED

_MOST_CLASSES = 0.5
"""Names that differ in more than this share of the files tell no classes apart."""
_FEWEST = 2
"""Each class has at least so many files."""
_SHOWN = 3
_PART = r"[^\W\d_]+|\d+"
"""Letters, or digits: the parts of a file's name."""
_BEFORE_NUMBER = r"([^/]*[^\W\d_])[\W_]*\d+\)?$"
"""What stands before the number at the end of a name."""
_FIRST_PART = rf"(?:^|/)({_PART})[^/]*$"


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Folders that tell classes apart."""

    below: str
    """The folder that they are in, below the data's; empty where it is that."""
    classes: tuple[str, ...]
    deeper: str
    """A folder below a class's, which tells nothing apart; empty without one."""
    inner: tuple[str, ...]
    """The folders below those, where they are the same below most: they could be the classes."""
    has_splits: bool
    loose: tuple[str, ...]
    """Samples that stand in no class's folder."""


def class_folders(files: Sequence[str]) -> ClassFolders | None:
    """Return the first level of folders that tells classes apart; `None` without one.

    Args:
        files: the paths of the samples.
    """
    parts = [PurePosixPath(file).parts for file in files]
    below: tuple[str, ...] = ()
    while True:
        inside = [part[len(below) :] for part in parts if part[: len(below)] == below]
        tops = {part[0] for part in inside if len(part) > 1}
        # A single folder around all others tells nothing apart.
        if len(tops) != 1 or not any(len(part) > 2 for part in inside):
            break
        below = (*below, next(iter(tops)))
    splits = {top for top in tops if top.lower() in SPLITS}
    has_splits = len({SPLITS[top.lower()] for top in splits}) > 1 or (splits == tops and bool(tops))
    labelled = [part[1:] for part in inside if part[0] in splits] if has_splits else inside
    labelled = [part for part in labelled if part[0].lower() not in UNLABELLED]
    classes = sorted({part[0] for part in labelled if len(part) > 1})
    if len(classes) < 2:
        return None
    inner: dict[str, set[str]] = {name: set() for name in classes}
    for part in labelled:
        if len(part) > 2:
            inner[part[0]].add(part[1])
    loose = [
        file
        for file, part in zip(files, parts, strict=True)
        if len(part) <= len(below) + 1 + has_splits
    ]
    deeper = next(("/".join(part[:2]) for part in labelled if len(part) > 2), "")
    return ClassFolders(
        "/".join(below),
        tuple(classes),
        deeper,
        _common([*inner.values()]),
        has_splits,
        tuple(loose),
    )


_PARTS = re.compile(
    r"(?i)(.*[^a-z])?(part|fold|batch|chunk|shard|section|images?|imgs?|photos|data|dataset|folder|"
    r"dir|set|archive|session|station|site|centre|center|hospital|camera|cam|scanner|device|"
    r"patient|subject|person|user|speaker|run|day|week|month|year|lot|group)[^a-z]*\d+"
)


def are_parts(names: Sequence[str]) -> bool:
    """Say whether folders are called like the parts of a whole: `fold1`, `images_part_2`."""
    return all(_PARTS.fullmatch(name) for name in names)


def _common(inner: Sequence[set[str]]) -> tuple[str, ...]:
    """Return the names that are in most of some sets, where each set has most of them."""
    counts = Counter(name for names in inner for name in names)
    usual = {name for name, count in counts.items() if 2 * count > len(inner)}
    are_alike = all(2 * len(names & usual) > len(usual) for names in inner)
    return tuple(sorted(usual)) if len(usual) >= 2 and are_alike else ()


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A pattern in the names of files that tells classes apart."""

    pattern: str
    """A regular expression; its group is the label."""
    classes: tuple[str, ...]
    example: tuple[str, str]
    """A file and its label."""
    others: tuple[str, ...] = ()
    """What else could be the label, as in an example."""


def name_pattern(files: Sequence[str]) -> NamePattern | None:
    """Return how the names of files tell classes apart: `cat_001.jpg`, `3_george_0.wav`.

    The label is what stands before the number at the end, where that holds no digits; else the
    first part of the name.
    """
    stems = [PurePosixPath(file).stem for file in files]
    for pattern in (_BEFORE_NUMBER, _FIRST_PART):
        labels = [match[1] if (match := re.search(pattern, stem)) else "" for stem in stems]
        has_digits = any(char.isdigit() for label in labels for char in label)
        if tells_apart(labels) and not (pattern == _BEFORE_NUMBER and has_digits):
            others = []
            if pattern == _FIRST_PART:
                others = _other_parts(stems)
            return NamePattern(
                pattern, tuple(sorted(set(labels))), (files[0], labels[0]), tuple(others)
            )
    return None


def tells_apart(labels: Sequence[str]) -> bool:
    """Say whether some labels are likely classes: several, and each of several files."""
    counts = Counter(labels)
    return (
        len(counts) >= 2
        and "" not in counts
        and len(counts) <= max(2, _MOST_CLASSES * len(labels))
        and min(counts.values()) >= _FEWEST
    )


def _other_parts(stems: Sequence[str]) -> list[str]:
    """Return the other parts of names that could be labels, each by its first values."""
    parts = [re.findall(_PART, stem) for stem in stems]
    shortest = min(map(len, parts))
    others = []
    for at in range(1, shortest):
        column = [part[at] for part in parts]
        if tells_apart(column) and not all(value.isdigit() for value in column):
            others.append(", ".join(sorted(set(column))[:_SHOWN]))
    return others


_MASKS = re.compile(
    r"(.*[_ -])?(masks?|segmentations?|annotations?|labels?|gt|ground.?truth)", re.I
)
"""How a folder is called that holds masks of images."""


def mask_folder(files: Sequence[str], classes: Sequence[str]) -> str:
    """Return the one of two folders that holds a mask of each file of the other; else empty.

    A mask is called as its image is, but for the ending: `images/7.jpg`, `masks/7.png`.
    """
    masks = [name for name in classes if _MASKS.fullmatch(name)]
    if len(classes) != 2 or len(masks) != 1:
        return ""
    stems: dict[bool, set[str]] = {True: set(), False: set()}
    for file in files:
        path = PurePosixPath(file)
        stems[masks[0] in path.parts].add(path.stem)
    shared = len(stems[True] & stems[False])
    return masks[0] if 2 * shared > len(stems[True]) else ""
