"""Whether samples were seen when a model was made: what is measured on those is no test.

The run's folder has the digest of each of its samples. Where only the model file is there, its
record of the data has one salted digest of each split (`splits.root`), by which a split can be
recognised as a whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modelwright.data.findings import counted
from modelwright.data.listing import UNLABELLED_SPLIT, Rows
from modelwright.data.splits import DIGEST, SPLITS_FILE, root
from modelwright.errors import SealError
from modelwright.files import Json
from modelwright.kinds import InputKind
from modelwright.security.sealing import opened_file

SEEN = ("train", "validation")
"""The splits that a model was made with: trained on, and chosen by."""
Digests = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RunSplits:
    """The splits of the run that made a model."""

    roots: Mapping[str, str]
    """The digest of each split, from the model file."""
    digests: Mapping[str, Digests] | None = None
    """The digests `[N, 16]` of the samples of each split, where the run's folder is there."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of some samples the run has seen."""

    total: int
    counts: Mapping[str, int]
    """By split: `train`, `validation`."""
    is_known: bool = True
    """Whether it could be told; without the run's folder only whole splits are recognised."""

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def note(self, kind: InputKind) -> str:
        """Say it in a sentence; of samples that none was seen of, nothing."""
        if not self.is_known:
            return (
                f"Whether the model was trained on these {kind.plural} can't be told: that stands "
                f"in the folder of its run ({SPLITS_FILE}), and the file alone recognises only "
                "whole splits"
            )
        if not self:
            return ""
        train, validation = (self.counts.get(name, 0) for name in SEEN)
        parts = []
        if train:
            parts.append(f"the model was trained on {train:,}")
        if validation:
            parts.append(f"it was chosen by {validation:,}")
        return (
            f"This is no test: of the {counted(self.total, kind.noun)} measured, "
            f"{' and '.join(parts)}, so the figures are too good. `modelwright evaluate MODEL` "
            "without data shows what was measured on samples that it hadn't seen"
        )

    def to_json(self) -> dict[str, int] | None:
        """Return the counts as `evaluate --json` prints them; `None` where it can't be told."""
        if not self.is_known:
            return None
        return {name: self.counts.get(name, 0) for name in SEEN} | {"of": self.total}


def run_splits(model: Path, data_card: Mapping[str, Json]) -> RunSplits:
    """Return what is known of the splits of the run that made a model file.

    Args:
        model: the file, which stands in the folder of its run, or elsewhere.
        data_card: the file's record of its data.
    """
    splits = data_card.get("splits")
    roots = {
        str(name): str(item.get("root"))
        for name, item in (splits if isinstance(splits, dict) else {}).items()
        if isinstance(item, dict)
    }
    return RunSplits(roots, _digests(model.parent / SPLITS_FILE, roots))


def _digests(path: Path, roots: Mapping[str, str]) -> dict[str, Digests] | None:
    """Return the digests of a run's samples by split; `None` where the file is another run's."""
    try:
        data = io.BytesIO(opened_file(path))
        table = pq.read_table(data, columns=[DIGEST, "label", "split"])
    except (OSError, ValueError, KeyError, pa.ArrowException, SealError):
        return None  # It isn't there, is sealed for others, or an earlier version wrote it.
    splits = np.array(table["split"].to_pylist(), dtype=np.str_)
    labels = np.array(table["label"].to_pylist(), dtype=np.object_)
    cells = table[DIGEST].to_pylist()
    if not cells or "train" not in roots:
        return None
    digests = np.frombuffer(b"".join(cells), np.uint8).reshape(len(cells), -1)
    found = {str(name): digests[splits == name] for name in np.unique(splits)}
    is_own = (
        root(found.get("train", digests[:0]), labels[splits == "train"].tolist()) == roots["train"]
    )
    if UNLABELLED_SPLIT in found:  # It has learnt from these too.
        found["train"] = np.concatenate([found["train"], found.pop(UNLABELLED_SPLIT)])
    return found if is_own else None


def overlap_with(
    known: RunSplits,
    rows: Rows,
    *,
    digests: Digests,
    labels: NDArray[np.object_],
    candidates: Iterable[Mapping[str, Rows]],
) -> Overlap:
    """Return how many of some rows of a store the run has seen.

    Args:
        known: the run's splits.
        rows: the rows that are measured.
        digests: of the content of each row of the store `[N, 16]`.
        labels: of each row, `[N]`.
        candidates: how the rows of the store may have been split, each tried where only the roots
            are known.
    """
    seen, is_known = known.digests, True
    if seen is None:
        seen = {}
        for splits in chain(({name: rows} for name in SEEN), candidates):
            if "train" not in seen:
                seen |= _recognised(known, splits, digests, labels)
        is_known = bool(seen) or root(digests[rows], labels[rows].tolist()) == known.roots.get(
            "test"
        )
    measured = _marks(digests[rows])
    counts = {
        name: int(np.isin(measured, _marks(seen[name])).sum()) for name in SEEN if name in seen
    }
    return Overlap(len(rows), counts, is_known)


def _recognised(
    known: RunSplits, splits: Mapping[str, Rows], digests: Digests, labels: NDArray[np.object_]
) -> dict[str, Digests]:
    """Return those splits that are the run's, as their roots say."""
    return {
        name: digests[rows]
        for name, rows in splits.items()
        if name in known.roots and root(digests[rows], labels[rows].tolist()) == known.roots[name]
    }


def _marks(digests: Digests) -> NDArray[np.void]:
    """Return rows of bytes as one value each, which can be compared."""
    whole = np.ascontiguousarray(digests)
    return whole.view(np.dtype((np.void, whole.shape[1]))).reshape(-1)
