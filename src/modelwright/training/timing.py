"""What a step and a validation cost, measured on a copy, so that nothing is learned by timing.

`StepTimer` is for decisions of a run: the best of a few steps, without the optimizer. `time_steps`
is for forecasts: it runs the first steps of the very loop, with all that belongs to them.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from modelwright.data import Dataset
from modelwright.models.candidate import Candidate
from modelwright.recipe.preparation import AugmentSpec
from modelwright.recipe.train import TrainSpec
from modelwright.run import Run, resident_bytes
from modelwright.tasks import Task
from modelwright.training.build import build_parts, check_passes, plan_input, trainable
from modelwright.training.distributed import DistributedContext, init_distributed
from modelwright.training.loop import Parts, State, Until, set_training, shares, step_context, train
from modelwright.training.plan import PlanInput, StepPlan, choose_precision
from modelwright.training.precision import Precision, PrecisionName
from modelwright.training.validation import Validation

_STEPS, _MOST_S = 3, 20.0
"""How many steps are timed, and the seconds after which no further one is."""


@dataclass(frozen=True, slots=True)
class StepTimer:
    """Times training steps and validations of a network in different number formats."""

    network: nn.Module
    parts: Parts
    validation: Validation | None

    def mean_step_s(self, precision: PrecisionName) -> float:
        """Return the mean seconds of a step over the sizes of image that training goes through."""
        return sum(
            share * self.step_s(precision, progress=progress)
            for share, progress in self.parts.resolution.shares()
        )

    def step_s(self, precision: PrecisionName, *, progress: float = 1.0) -> float:
        """Return the seconds of one step: the fastest of a few, after one to warm up."""
        network, rule = copy.deepcopy(self.network), copy.deepcopy(self.parts.rule)
        set_training(network, self.parts.frozen)
        device = self.parts.distributed.device
        alone = replace(
            self.parts,
            precision=Precision(precision, device),
            distributed=DistributedContext(device),
        )
        parameters = [item for item in network.parameters() if item.requires_grad]
        times: list[float] = []
        started = time.monotonic()
        for step in range(_STEPS + 1):
            epoch, whole = self.parts.sampler.batch(step)
            begun = time.monotonic()
            # What was kept of a batch would make the next format look faster.
            batches = (
                replace(batch, view=None) for batch in shares(self.parts, epoch, whole, progress)
            )
            context = step_context(alone, step, parameters)
            rule.gradients(network, alone.objective, batches, context)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.monotonic() - begun)
            if step and time.monotonic() - started > _MOST_S:
                break
        return min(times[1:])

    def validation_s(self, precision: PrecisionName) -> float:
        """Return the seconds of one validation, which only the main process takes."""
        distributed = self.parts.distributed
        if self.validation is None or not distributed.is_main:
            return 0.0
        begun = time.monotonic()
        self.validation.scores(self.network, Precision(precision, distributed.device), step=0)
        return time.monotonic() - begun


@dataclass(frozen=True, slots=True)
class StepCost:
    """What training takes, by a few of its steps and one validation."""

    step_s: float
    validation_s: float
    planning_s: float
    """What a run takes to choose its number format and its number of steps."""
    before_bytes: int | None
    """The memory that the process held before; `None` where the system doesn't say."""
    peak_bytes: int | None
    """The most that it held meanwhile."""


def time_steps(
    candidate: Candidate,
    spec: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    augment: AugmentSpec,
) -> StepCost:
    """Train a copy of a candidate for a few steps and validate it once; return what that takes."""
    distributed = init_distributed(run.device)
    before = resident_bytes()
    with peak_memory() as peak:
        network = trainable(candidate, distributed.device)
        parts = build_parts(
            network, spec, data, task=task, augment=augment, seed=run.seed, distributed=distributed
        )
        check_passes(network, parts, data.train)
        timer = StepTimer(network, parts, Validation.of(data, task, candidate))
        asked = plan_input(network, parts, spec, data.train)
        begun = time.monotonic()
        precision: PrecisionName = choose_precision(asked, timer)["precision"]
        planning_s = time.monotonic() - begun
        parts = replace(parts, precision=Precision(precision, distributed.device))
        step_s = _loop_step_s(network, parts, asked, timer)
        validation_s = timer.validation_s(precision)
    if spec.budget is not None:  # Then a run times steps and a validation to plan their number.
        sizes = len(parts.resolution.shares())
        planning_s += sizes * (_STEPS + 1) * step_s + validation_s
    return StepCost(step_s, validation_s, planning_s, before, max(peak) if peak else None)


_LOOP_S, _LOOP_STEPS = 3.0, 40
"""For how long steps of the loop are timed, and how many at most."""


def _loop_step_s(
    network: nn.Module, parts: Parts, plan_input: PlanInput, timer: StepTimer
) -> float:
    """Return the mean seconds of a step over the sizes of image that training goes through.

    The network learns from it, as in the first steps of a training.
    """
    precision = parts.precision.name
    if parts.optimizer.waits(0.0):  # The first steps train the last layer alone.
        return timer.mean_step_s(precision)
    shares_of = parts.resolution.shares()
    factor = 1.0
    if len(shares_of) > 1:
        factor = timer.mean_step_s(precision) / timer.step_s(precision, progress=0.0)
    total = plan_input.most_steps or 1_000_000
    plan = StepPlan.of(total)
    state = State(0, torch.zeros(2, device=parts.distributed.device))

    def to(step: int) -> float:
        nonlocal state
        begun, done = time.monotonic(), state.step
        until = Until(step, plan, stop=lambda: False, on_progress=lambda state, rate: None)
        state = train(network, parts, state, until)
        return (time.monotonic() - begun) / (state.step - done)

    first_s = to(1)
    more = min(math.ceil(_LOOP_S / max(first_s, 1e-6)), _LOOP_STEPS, total - 1)
    return factor * (to(1 + max(more, 2)) if total > 2 else first_s)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Collect in a list the memory that the process holds, read a few hundred times a second.

    It stays empty where the system doesn't say.
    """
    held: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            now = resident_bytes()
            if now is None:
                return
            held[:] = [max([now, *held])]
            is_over.wait(0.003)

    watcher = threading.Thread(target=watch, name="peak-memory", daemon=True)
    watcher.start()
    try:
        yield held
    finally:
        is_over.set()
        watcher.join()
