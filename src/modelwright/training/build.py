"""From the recipe's section `train` to the parts of the loop: nothing is measured or trained here.

A stage that trains in another way changes parts: `build_parts` hands its parts and the network to
`change`, and takes what that returns.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from modelwright.data import BatchSampler, BucketedSampler, Dataset, Sampler, Split
from modelwright.data.batches import Batches
from modelwright.errors import RecipeError, TrainingError
from modelwright.models.candidate import Candidate
from modelwright.recipe.preparation import AugmentSpec
from modelwright.recipe.train import GdOptimizer, TrainSpec
from modelwright.tasks import Task
from modelwright.training.constraints import build_averaging
from modelwright.training.distributed import DistributedContext
from modelwright.training.loop import Parts, frozen_norms, set_training
from modelwright.training.objectives import build_objective, resolve_loss
from modelwright.training.optimizers import Optimizer
from modelwright.training.plan import PlanInput, compile_gain
from modelwright.training.precision import Precision
from modelwright.training.resolution import Resolution
from modelwright.training.rules import WeightedMean
from modelwright.training.schedules import build_schedule

ChangeParts = Callable[[nn.Module, Parts], Parts]
"""From the network that is trained and its parts to the parts that a stage wants instead."""


def trainable(candidate: Candidate, device: str) -> nn.Module:
    """Return a copy of a candidate's network on a device, its filters laid out channels last."""
    network = copy.deepcopy(candidate.network).to(device)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def build_parts(
    network: nn.Module,
    spec: TrainSpec,
    data: Dataset,
    *,
    task: Task,
    augment: AugmentSpec,
    seed: int,
    distributed: DistributedContext,
    change: ChangeParts | None = None,
) -> Parts:
    """Return the parts of the loop that a recipe asks for, in fp32 until a plan says otherwise.

    The seed decides order, augmentation and dropout; `change` puts a stage's own parts in their
    place, whose constraints act before the recipe's averaging does.

    Raises:
        RecipeError: the section doesn't fit the data or the network.
        TrainingError: nothing in the network can be trained.
    """
    full_batch = isinstance(spec.optimizer, GdOptimizer)
    loss = resolve_loss(spec.loss, task.output_kind)
    parts = Parts(
        sampler=build_sampler(spec, data.train, seed),
        source=Batches(
            data.train,
            augment=augment,
            seed=seed,
            device=distributed.device,
            num_outputs=len(data.labels) or None,
        ),
        objective=build_objective(
            loss,
            data.train.targets,
            output_kind=task.output_kind,
            num_outputs=len(data.labels),
            device=distributed.device,
            network=network,
        ),
        rule=WeightedMean(spec.clip_norm),
        optimizer=Optimizer(network, spec),
        schedule=build_schedule(spec.schedule),
        precision=Precision("fp32", distributed.device),
        distributed=distributed,
        gradient_accumulation=math.ceil(len(data.train) / spec.batch_size)
        if full_batch
        else spec.gradient_accumulation,
        seed=seed,
        resolution=Resolution(spec.resolution),
        frozen=frozen_norms(network),
    )
    if change is not None:
        parts = change(network, parts)
    averaging = build_averaging(spec.average, network)
    return replace(parts, constraints=(*parts.constraints, *averaging))


def build_sampler(spec: TrainSpec, train: Split, seed: int) -> BatchSampler:
    """Return the order of the training samples: batches of one size, or of like lengths.

    Raises:
        RecipeError: there is a budget of tokens, and all samples are of one length.
    """
    if spec.max_tokens_per_batch is None:
        full_batch = isinstance(spec.optimizer, GdOptimizer)
        return Sampler(len(train), len(train) if full_batch else spec.batch_size, seed)
    lengths = train.lengths()
    if lengths is None:
        raise RecipeError(
            "`train.max_tokens_per_batch` is for texts and recordings, and these samples are "
            "all of one length",
            fix="Leave it out: `batch_size` says how many samples a step takes",
        )
    return BucketedSampler(lengths, spec.max_tokens_per_batch, most=spec.batch_size, seed=seed)


def steps_per_epoch(spec: TrainSpec, train: Split) -> int:
    """Return how many steps a pass over the training split takes."""
    return build_sampler(spec, train, 0).steps_per_epoch


def samples_at_once(parts: Parts, train: Split) -> int:
    """Return the fewest samples that pass through the network together."""
    shares = parts.gradient_accumulation * parts.distributed.world
    return min(max(parts.sampler.batch_size // shares, 1), len(train))


def plan_input(network: nn.Module, parts: Parts, spec: TrainSpec, train: Split) -> PlanInput:
    """Return what a plan is made from, beside the measured times."""
    device = parts.distributed.device
    return PlanInput(
        spec=spec,
        device=device,
        steps_per_epoch=parts.sampler.steps_per_epoch,
        at_once=samples_at_once(parts, train),
        compile_gain=compile_gain(network, device),
    )


def has_batch_norms(network: nn.Module) -> bool:
    """Say whether a network has norms whose statistics are those of a batch."""
    return any(isinstance(item, nn.modules.batchnorm._BatchNorm) for item in network.modules())


def check_passes(network: nn.Module, parts: Parts, train: Split) -> None:
    """Pass a sample or two through a copy of the network, at each size that training has.

    Raises:
        TrainingError: a size of image, or a part of a batch with one sample, is too small.
    """
    network = copy.deepcopy(network)
    set_training(network, parts.frozen)
    few = min(samples_at_once(parts, train), 2)
    batch = Batches(train, device=parts.distributed.device).at(0, np.arange(few))
    for _, progress in parts.resolution.shares():
        side = parts.resolution.side(progress)
        try:
            with torch.no_grad():
                network(*parts.resolution.apply(batch, progress).inputs)
        except (RuntimeError, ValueError) as error:
            if few == 1 and has_batch_norms(network):
                raise TrainingError(
                    "BatchNorm needs more than one sample in each part of a batch here",
                    where="train.batch_size",
                    fix="Raise it, or lower `train.gradient_accumulation` or the number of "
                    "processes",
                ) from error
            if side is None:
                raise
            raise TrainingError(
                f"this network can't take images of {side} pixels",
                where="train.resolution",
                why=str(error).partition("\n")[0],
                fix="Leave `resolution` out, or use `resnet` or `speednet`",
            ) from error
