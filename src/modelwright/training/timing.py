"""What a step and a validation cost, measured on a copy, so that nothing is learned by timing."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from modelwright.data import Dataset
from modelwright.models.candidate import Candidate
from modelwright.recipe.data import AugmentSpec
from modelwright.recipe.train import TrainSpec
from modelwright.run import Run
from modelwright.tasks import Task
from modelwright.training.build import build_parts, check_passes, plan_input, trainable
from modelwright.training.distributed import DistributedContext, init_distributed
from modelwright.training.loop import Parts, set_training, shares, step_context
from modelwright.training.plan import choose_precision
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
            batches = shares(self.parts, epoch, whole, progress)
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


def time_steps(
    candidate: Candidate,
    spec: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    augment: AugmentSpec,
) -> tuple[float, float]:
    """Return the measured seconds of a training step and of a validation; nothing is trained."""
    distributed = init_distributed(run.device)
    network = trainable(candidate, distributed.device)
    parts = build_parts(
        network, spec, data, task=task, augment=augment, seed=run.seed, distributed=distributed
    )
    check_passes(network, parts, data.train)
    timer = StepTimer(network, parts, Validation.of(data, task, candidate))
    choice = choose_precision(plan_input(network, parts, spec, data.train), timer)
    precision: PrecisionName = choice["precision"]
    return timer.mean_step_s(precision), timer.validation_s(precision)
