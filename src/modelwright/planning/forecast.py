"""What a run will take: time and memory by a few measured steps, disk by formula.

Where the system doesn't tell how much memory a process holds, a formula counts what dominates
(samples, weights with their companions, activations). `benchmarks/forecast.py` holds forecasts
against runs of different kinds.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from modelwright.files import JsonObject
from modelwright.recipe import Recipe
from modelwright.recipe.spec import seconds
from modelwright.recipe.train import (
    AdamwOptimizer,
    GdOptimizer,
    MuonOptimizer,
    OptimizerSpec,
    SgdOptimizer,
)

_PROCESS_BYTES = 450 << 20
"""What Python, torch and the runtime hold before any data comes."""
_PACKING_BYTES = 250 << 20
"""What exporting, serving and measuring a model file hold beside what training does."""
FEWEST_EPOCHS = 3
"""With fewer, a network has hardly seen the data, and the forecast says so."""
_ACTIVATION_COPIES = 2.5
"""Each layer's output is kept for the backward pass, with its gradient and working space beside."""
_FP32 = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """What the forecast is made from."""

    train_samples: int
    validation_samples: int
    all_samples: int
    sample_bytes: int
    """Bytes of one sample as the network takes it."""
    store_bytes: int
    """Bytes of the originals in the store."""
    parameters: int
    activations: int
    """Numbers that the layers put out for one sample."""
    multiply_adds: int
    step_s: float | None
    """Measured seconds of one step; `None` where nothing was measured."""
    validation_s: float | None
    free_disk_bytes: int
    memory_bytes: int
    """The memory of this machine."""
    fit_s: float | None = None
    """Of a linear model the seconds that fitting it will take; it has no steps."""
    feature_bytes: int = 0
    """Of a linear model the bytes of the features of all samples."""
    planning_s: float = 0.0
    """What a run takes to choose its number format and its number of steps."""
    before_bytes: int | None = None
    """The memory that this process held before a few steps were measured; `None` where the system
    doesn't say."""
    peak_bytes: int | None = None
    """The most that it held meanwhile; after a part of a linear model was fitted."""
    steps_per_epoch: int | None = None
    """Where batches are of like lengths, how many steps a pass over the training split takes."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take."""

    steps: int | None
    """Steps of training; `None` where a budget decides."""
    training_s: float | None
    memory_bytes: int
    disk_bytes: int
    warnings: tuple[str, ...]
    """What stands in the way: too little memory or disk, a budget too short for one epoch."""

    def to_json(self) -> JsonObject:
        """Return the forecast as plain JSON values."""
        return {**asdict(self), "warnings": list(self.warnings)}


def forecast(recipe: Recipe, work: Workload) -> Forecast:
    """Forecast memory, disk and time of training a recipe."""
    if work.fit_s is not None:
        return _of_linear(recipe, work, work.fit_s)
    train = recipe.train
    batch = min(train.batch_size, max(work.train_samples, 1))
    is_full_batch = isinstance(train.optimizer, GdOptimizer)
    per_epoch = 1 if is_full_batch else max(work.train_samples // batch, 1)
    per_epoch = work.steps_per_epoch or per_epoch
    steps = None if train.epochs is None else max(round(train.epochs * per_epoch), 1)
    training_s = _training_s(recipe, work, steps, per_epoch)
    weights = work.parameters * _FP32
    # Weights, gradient, the best epoch's copy, the optimizer's and the average's own.
    copies = 3 + optimizer_copies(train.optimizer) + (train.average is not None)
    held = (work.train_samples + work.validation_samples) * work.sample_bytes
    if work.before_bytes is not None and work.peak_bytes is not None:
        # Weights, gradient, what the optimizer keeps, and activations are in the measured peak; the
        # best epoch's copy isn't, nor a checkpoint, which is put together in memory. All samples
        # are touched in the end.
        checkpoint = weights * (copies - 1)
        memory = work.peak_bytes + _PACKING_BYTES + held + weights + checkpoint
    else:
        part = max(batch // train.gradient_accumulation, 1)
        activations = round(part * work.activations * _FP32 * _ACTIVATION_COPIES)
        memory = _PROCESS_BYTES + held + weights * copies + activations
    # The store, its view, two checkpoints, and the model file with its temporary copy.
    disk = (
        work.store_bytes + work.all_samples * work.sample_bytes + 2 * weights * copies + 2 * weights
    )
    warnings = _warnings(recipe, work, memory, disk, per_epoch)
    return Forecast(steps, training_s, memory, disk, warnings)


def _of_linear(recipe: Recipe, work: Workload, fit_s: float) -> Forecast:
    """Forecast the fit of a linear model: its features are held, and there are no steps."""
    weights = work.parameters * _FP32
    # The weights that are being fitted stand in double precision, beside the network's.
    base = _PROCESS_BYTES if work.peak_bytes is None else work.peak_bytes + _PACKING_BYTES
    memory = base + work.feature_bytes + 5 * weights
    disk = work.store_bytes + work.all_samples * work.sample_bytes + 2 * weights
    return Forecast(None, fit_s, memory, disk, _warnings(recipe, work, memory, disk, 1))


def optimizer_copies(spec: OptimizerSpec) -> int:
    """Return how many numbers an optimizer keeps for each weight."""
    match spec:
        case GdOptimizer():
            return 0
        case SgdOptimizer():
            return 1 if spec.momentum else 0
        case AdamwOptimizer():
            return 2
        case MuonOptimizer():
            return 1


def _training_s(recipe: Recipe, work: Workload, steps: int | None, per_epoch: int) -> float | None:
    budget = seconds(recipe.train.budget) if recipe.train.budget else None
    if work.step_s is None or steps is None:
        return budget
    validations = math.ceil(steps / per_epoch)
    whole = steps * work.step_s + validations * (work.validation_s or 0.0) + work.planning_s
    return whole if budget is None else min(whole, budget)


def _warnings(
    recipe: Recipe, work: Workload, memory: int, disk: int, per_epoch: int
) -> tuple[str, ...]:
    warnings = []
    if memory > work.memory_bytes:
        warnings.append(
            f"Training needs about {memory / 2**30:.1f} GiB of memory and this machine has "
            f"{work.memory_bytes / 2**30:.1f}; "
            "raise `train.gradient_accumulation` or lower `train.batch_size`"
        )
    if disk > work.free_disk_bytes:
        warnings.append(
            f"The run needs about {disk / 2**30:.1f} GiB of disk and "
            f"{work.free_disk_bytes / 2**30:.1f} GiB are free"
        )
    if recipe.train.budget and work.step_s is not None:
        epoch_s = work.step_s * per_epoch + (work.validation_s or 0.0)
        held = seconds(recipe.train.budget) / max(epoch_s, 1e-9)
        asked = recipe.train.epochs or math.inf
        if held < min(FEWEST_EPOCHS, asked):
            warnings.append(
                f"One pass over the data takes about {epoch_s:.2g} s, so "
                f"`train.budget: {recipe.train.budget}` holds about {held:.2g} epochs: raise it, "
                "take smaller images or a smaller network, or use `model: linear`"
            )
    return tuple(warnings)
