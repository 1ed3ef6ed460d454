"""The one training loop.

Everything that learns in this project learns here. `train` runs steps up to a point and can be
called again from where it stopped; what differs between kinds of training is a part, never a
branch in the loop. Order of samples, augmentation and dropout are pure functions of the seed and
the position, so that a resumed training is the undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from modelwright.data import BatchSampler
from modelwright.data.batches import Batch, Batches, Positions
from modelwright.errors import TrainingError
from modelwright.training.constraints import Constraint
from modelwright.training.distributed import DistributedContext
from modelwright.training.objectives import Objective
from modelwright.training.optimizers import Optimizer
from modelwright.training.plan import StepPlan
from modelwright.training.precision import Precision
from modelwright.training.resolution import Resolution
from modelwright.training.rules import GradientRule, StepContext
from modelwright.training.schedules import Schedule

_PROGRESS_S = 0.5


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop is made of."""

    sampler: BatchSampler
    source: Batches
    objective: Objective
    rule: GradientRule
    optimizer: Optimizer
    schedule: Schedule
    precision: Precision
    distributed: DistributedContext
    gradient_accumulation: int
    seed: int
    constraints: tuple[Constraint, ...] = ()
    """What acts on the weights after each step, in order."""
    resolution: Resolution = field(default_factory=Resolution)
    frozen: frozenset[str] = frozenset()
    """The norms whose statistics stay as they are."""


@dataclass(frozen=True, slots=True)
class State:
    """Where training stands. The tensors of network, optimizer and averages live in their parts."""

    step: int
    totals: Tensor
    """`[2]`: weighted loss and weight, summed since the last validation."""

    @property
    def loss(self) -> float:
        """The mean loss since the last validation."""
        total, weight = self.totals.tolist()
        return total / weight if weight else math.nan


@dataclass(frozen=True, slots=True)
class Until:
    """When `train` returns: at a step, or earlier when a stop is requested."""

    step: int
    step_plan: StepPlan
    stop: Callable[[], bool]
    on_progress: Callable[[State, float], None]
    """Called about twice a second with the state and the steps per second."""


def train(network: nn.Module, parts: Parts, state: State, until: Until) -> State:
    """Run training steps from `state` until `until`, and return where training stands then.

    The network is trained in place; `network(*inputs)` gives raw outputs. All other tensors live in
    the parts.

    Raises:
        TrainingError: the loss is not a number any more. Nothing is saved after that.
    """
    parameters, waits = parts.optimizer.parameters, None
    step, totals = state.step, state.totals
    shown_step, shown_at = step, time.monotonic()
    while step < until.step:
        if step % parts.distributed.agree_every == 0 and parts.distributed.any(until.stop()):
            break
        epoch, whole = parts.sampler.batch(step)
        progress = until.step_plan.progress(step)
        parts.optimizer.freeze(progress)
        if parts.optimizer.waits(progress) != waits:
            waits = parts.optimizer.waits(progress)
            set_training(network, parts.frozen | frozen_norms(network) if waits else parts.frozen)
            parameters = parts.optimizer.learning(progress)
        parts.distributed.seed(_dropout_seed(parts.seed, step, parts.distributed.rank))
        context = step_context(parts, step, parameters)
        batches = shares(parts, epoch, whole, progress)
        totals = totals + parts.rule.gradients(network, parts.objective, batches, context)
        parts.optimizer.step(parts.schedule(until.step_plan.middle(step)), progress)
        step += 1
        for constraint in parts.constraints:
            constraint.after_step(step, progress)
        now = time.monotonic()
        # Not at the end point: what the caller does there must come before a checkpoint of it.
        if now - shown_at >= _PROGRESS_S and step < until.step:
            state = _checked(State(step, totals))
            until.on_progress(state, (step - shown_step) / (now - shown_at))
            shown_step, shown_at = step, time.monotonic()
    return _checked(State(step, totals))


def step_context(parts: Parts, step: int, parameters: list[nn.Parameter]) -> StepContext:
    """Return what the gradient rule knows of a step."""
    return StepContext(
        step=step,
        batch_size=parts.sampler.batch_size,
        num_parts=parts.gradient_accumulation,
        parameters=parameters,
        precision=parts.precision,
        distributed=parts.distributed,
    )


def shares(parts: Parts, epoch: int, whole: Positions, progress: float) -> Iterator[Batch]:
    """Yield this process's share of a global batch, part by part."""
    share = parts.distributed.share(whole)
    for part in np.array_split(share, parts.gradient_accumulation):
        if len(part):
            batch = parts.source.at(epoch, part, whole=whole)
            yield parts.resolution.apply(batch, progress)


def _checked(state: State) -> State:
    if not math.isfinite(state.totals[0].item()):
        raise diverged(f"the loss is not a number any more (near step {state.step})")
    return state


def diverged(what: str) -> TrainingError:
    """Return the error of a training that diverged, with what to try."""
    return TrainingError(
        what,
        why="Training diverged; the last good state is kept",
        fix="Lower `train.optimizer.lr` (a third of it is a good try), lengthen the schedule's "
        "`warmup`, or set `train.clip_norm: 1.0`, and run under another --name",
    )


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank) & 0x7FFF_FFFF_FFFF_FFFF


def frozen_norms(network: nn.Module) -> frozenset[str]:
    """Return the names of the norms of which no parameter is trained."""
    return frozenset(
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.affine
        and not (module.weight.requires_grad or module.bias.requires_grad)
    )


def set_training(network: nn.Module, frozen: frozenset[str]) -> None:
    """Put a network into training mode, but keep the statistics of frozen norms as they are."""
    network.train()
    for name, module in network.named_modules():
        if name in frozen:
            module.eval()
