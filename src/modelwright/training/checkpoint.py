"""The state of a training on disk: safetensors for tensors, JSON for the rest, never a pickle.

A checkpoint is a folder that appears by one rename, so that a kill at any moment leaves the last
one whole. Two are kept, the newest and the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from modelwright.errors import TrainingError
from modelwright.files import (
    Json,
    canonical_json,
    file_digest,
    folder_aside,
    read_json,
    read_lines,
    write_bytes,
    write_json,
)

_KEPT = 2
_DIGESTS = "digests.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What must be kept so that training goes on to the same result.

    `tensors` are named by part (`network/…`, `optimizer/…`, `constraints/0/…`, `best/…`); `facts`
    are plain JSON values: history, selection, revisions of the number of steps.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Json]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one part, by their names within it."""
        return {
            key.removeprefix(f"{name}/"): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(f"{name}/")
        }


def named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prefix tensor names with their part's name."""
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into `folder`, then drop all but the newest two.

    Raises:
        ResourceError: the disk is full or can't be written; earlier checkpoints are as they were.
    """
    path = folder / f"step-{checkpoint.step:09d}"
    tensors: dict[str, Tensor] = {}
    pointers: set[int] = set()
    for name, tensor in checkpoint.tensors.items():
        tensors[name] = tensor.detach().cpu().contiguous()
        if tensors[name].data_ptr() in pointers:  # The format takes no tensors that share memory.
            tensors[name] = tensors[name].clone()
        pointers.add(tensors[name].data_ptr())
    with folder_aside(path) as aside:
        write_bytes(aside / "state.safetensors", save(tensors))
        write_json(aside / "state.json", {"step": checkpoint.step, **checkpoint.facts})
        write_json(aside / _DIGESTS, _digests(aside))
    for old in _checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest whole checkpoint, or `None` where there is none.

    Raises:
        TrainingError: there are checkpoints, and none can be read.
    """
    paths = _checkpoints(folder)
    for path in reversed(paths):
        try:
            if read_json(path / _DIGESTS) != _digests(path):
                continue
            facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
            with safe_open(path / "state.safetensors", framework="pt") as stream:
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
            return Checkpoint(step=int(facts.pop("step")), tensors=tensors, facts=facts)
        except (OSError, ValueError, KeyError, SafetensorError):
            continue
    if paths:
        raise TrainingError(
            "no checkpoint here can be read",
            where=str(folder),
            fix="Remove this folder to train from the start, or run under another --name",
        )
    return None


def cut_history(path: Path, *, after: int) -> None:
    """Drop from a file of records by `step` those after the step that a training goes on from."""
    if path.exists():
        records = [record for record in read_lines(path) if isinstance(record, dict)]
        steps = [record.get("step") for record in records]
        whole = zip(records, steps, strict=True)
        kept = [record for record, step in whole if isinstance(step, int) and step <= after]
        write_bytes(path, b"".join(canonical_json(record) + b"\n" for record in kept))


def _digests(path: Path) -> dict[str, Json]:
    """Return the digests of a checkpoint's files: a bit that turned would train another model."""
    return {name: file_digest(path / name) for name in ("state.json", "state.safetensors")}


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def restore(targets: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into those of the same name, keeping device and memory format.

    Raises:
        TrainingError: names or shapes differ: the checkpoint is of another network.
    """
    if set(targets) != set(saved) or any(targets[k].shape != saved[k].shape for k in targets):
        raise TrainingError(
            "the checkpoint is of another network",
            fix="Run under another --name, or remove the run's folder",
        )
    with torch.no_grad():
        for name, tensor in targets.items():
            tensor.copy_(saved[name])


def rehearse_checkpoint(network: nn.Module, folder: Path) -> None:
    """Write a network's weights as a checkpoint and read them back, to find out early if it fails.

    Raises:
        TrainingError: what is read isn't what was written.
        ResourceError: it can't be written.
    """
    weights = named("network", {k: v.detach() for k, v in network.state_dict().items()})
    save_checkpoint(folder, Checkpoint(step=0, tensors=weights, facts={}))
    saved = load_checkpoint(folder)
    if saved is None or any(not torch.equal(saved.tensors[k], v) for k, v in weights.items()):
        raise TrainingError("a checkpoint of this network can't be read back", where=str(folder))
