"""What tests of compression share: a step done to a candidate, with samples drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modelwright.compression import step_of
from modelwright.data import Dataset
from modelwright.data.dataset import Split
from modelwright.kinds import OutputKind
from modelwright.ledger import Ledger
from modelwright.modelfile.inputs import open_input
from modelwright.models.candidate import Candidate
from modelwright.recipe import parse_recipe
from modelwright.recipe.compression import CompressionStep
from modelwright.run import Decisions, Progress, Run, silent
from modelwright.tasks import TASKS

RECIPE = """
version: 1
data: {source: digits}
train: {epochs: 4, batch_size: 4, precision: fp32, compile: "off"}
"""


def compress(
    candidate: Candidate,
    step: CompressionStep,
    folder: Path,
    *,
    samples: np.ndarray | None = None,
    observe: Any = silent,
    has_validation: bool = False,
) -> tuple[Candidate, dict[str, Any]]:
    """Return what a step makes of a candidate, and its facts; mostly without a validation split."""
    _, carry_out = step_of(step)
    task = TASKS[candidate.task, candidate.output_kind]
    split = split_of(candidate, samples)
    data = Dataset(split, split if has_validation else None, candidate.labels)
    recipe = parse_recipe(RECIPE, where="recipe")
    return carry_out(candidate, step, recipe, data, run_in(folder, observe=observe), task)


def split_of(candidate: Candidate, samples: np.ndarray | None = None) -> Split:
    """Return a split of samples as a candidate takes them; by default a few synthetic ones."""
    if samples is None:
        reader = open_input(candidate.input.to_json(), candidate.assets)
        arrays = reader.synthetic(8)
        samples = arrays["pixels"] if "pixels" in arrays else _records(arrays)
    return Split("train", samples, np.arange(len(samples)), _targets(candidate, samples))


def _targets(candidate: Candidate, samples: np.ndarray) -> np.ndarray:
    """Return targets that a candidate may be trained on: the same for each sample."""
    number, kind = len(samples), candidate.output_kind
    if kind.is_generative:
        steps = samples["target" if "target" in (samples.dtype.names or ()) else "tokens"].shape[1]
        targets = np.zeros(number, np.dtype([("next", np.int64, (steps,))]))
        targets["next"] = 5
    elif kind == OutputKind.CTC:
        targets = np.ones(number, np.dtype([("labels", np.int64, (2,)), ("length", np.int64)]))
    elif kind == OutputKind.BOXES:
        targets = np.zeros(
            number, np.dtype([("boxes", np.float32, (2, 4)), ("labels", np.int64, (2,))])
        )
        targets["boxes"], targets["labels"] = (4.0, 4.0, 20.0, 20.0), (1, -1)
    else:
        targets = np.zeros(number, np.int64)
    return targets


def _records(arrays: dict[str, np.ndarray]) -> np.ndarray:
    kinds = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
    made = np.zeros(len(next(iter(arrays.values()))), np.dtype(kinds))
    for name, array in arrays.items():
        made[name] = array
    return made


def run_in(folder: Path, *, observe: Any = silent) -> Run:
    """Return the context of a stage."""
    return Run(
        folder=folder,
        seed=0,
        device="cpu",
        threads=1,
        decisions=Decisions(None),
        ledger=Ledger(),
        observe=observe,
        stage_name="quantize",
    )


class Said:
    """Keeps the notes that are said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            self.notes.append(progress.note)
