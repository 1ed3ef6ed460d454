"""A network's answers to a split, computed once and kept in files, which a resumed run reads.

Those to augmented samples are kept as they are needed, for a number of versions of each sample that
come again (Shen and Xing 2022, `A Fast Knowledge Distillation Framework for Visual Recognition`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modelwright.arrays import Array, Ints
from modelwright.data import Split
from modelwright.data.batches import Batch
from modelwright.data.checksums import has_checksum, verify_checksum, write_checksum
from modelwright.files import atomic_write, resource_errors
from modelwright.run import Progress, Run

_CHUNK, _BATCH = 2048, 64
"""So many answers are kept in a file, and so many samples are answered together."""

_MOST_BYTES = 1 << 27
"""The largest file of answers to one view; longer ones are computed each time."""

Outputs = Callable[[Split, Ints], Array]
"""From a split and places in it to raw outputs `[N, K]`."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to all samples of a split, memory-mapped."""

    parts: tuple[Array, ...]

    def __call__(self, batch: Batch) -> Tensor:
        """Return the answers to a batch `[N, K]`."""
        assert batch.positions is not None
        rows = [self.parts[at // _CHUNK][at % _CHUNK] for at in batch.positions.tolist()]
        return torch.from_numpy(np.stack(rows)).to(batch.inputs[0].device)


@dataclass(slots=True)
class ViewAnswers:
    """The answers `[N, …]` to the samples of batches, of which each is computed once a view."""

    answer: Callable[[Batch], Tensor]
    folder: Path
    samples: int
    """So many are in the split."""
    _views: dict[int, Array] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the answers to a batch."""
        if batch.view is None:
            return self.answer(batch).float()
        assert batch.positions is not None
        kept, device = self._view(batch.view), batch.inputs[0].device
        if kept is None:
            found = self.answer(batch).float()
            if 4 * self.samples * found[0].numel() <= _MOST_BYTES:
                self._begin(batch.view, found.shape[1:])[batch.positions] = found.cpu().numpy()
            return found
        rows = kept[batch.positions]
        new = np.flatnonzero(np.isnan(rows).reshape(len(rows), -1).any(1))
        if len(new):  # An epoch leaves some samples out.
            at = torch.from_numpy(new).to(device)
            inputs = tuple(part[at] for part in batch.inputs)
            places = batch.positions[new]
            rows[new] = self.answer(Batch(inputs, batch.targets, places, batch.view)).float().cpu()
            kept[places] = rows[new]
        return torch.from_numpy(rows).to(device)

    def _path(self, view: int) -> Path:
        return self.folder / f"view-{view:05d}.npy"

    def _view(self, view: int) -> Array | None:
        """Return the answers to a view, where there are any; those that are missing are NaN."""
        if view not in self._views and self._path(view).exists():
            path = self._path(view)
            try:  # To write in it would lengthen a file that was cut off.
                np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError:
                return None
            self._views[view] = np.load(path, mmap_mode="r+", allow_pickle=False)
        return self._views.get(view)

    def _begin(self, view: int, shape: Sequence[int]) -> Array:
        empty = np.full((self.samples, *shape), np.nan, np.float32)
        with atomic_write(self._path(view)) as stream:
            np.save(stream, empty, allow_pickle=False)
        kept = self._view(view)
        assert kept is not None
        return kept


def keep_answers(split: Split, outputs: Outputs, folder: Path, run: Run) -> Answers:
    """Return the answers to a split, computing those that aren't in the folder yet."""
    with resource_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, start in enumerate(range(0, len(split), _CHUNK)):
        run.observe(Progress("teacher", start, len(split)))
        path = folder / f"{number:05d}.npy"
        if not has_checksum(path):
            rows = np.arange(start, min(start + _CHUNK, len(split)))
            with atomic_write(path) as stream:
                np.save(stream, answers_to(split, rows, outputs), allow_pickle=False)
            write_checksum(path)
        verify_checksum(path)
        parts.append(np.load(path, mmap_mode="r", allow_pickle=False))
    run.observe(Progress("teacher", len(split), len(split)))
    return Answers(tuple(parts))


def answers_to(split: Split, rows: Ints, outputs: Outputs) -> Array:
    """Return the answers to some samples `[N, K]`, a few of like lengths at a time."""
    lengths = split.lengths()
    order = np.arange(len(rows))
    if lengths is not None:
        order = np.argsort(lengths[rows], kind="stable")
    pieces = np.array_split(rows[order], math.ceil(len(rows) / _BATCH))
    answered: Array = np.concatenate([outputs(split, piece) for piece in pieces])
    return answered[np.argsort(order)]
