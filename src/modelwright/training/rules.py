"""Gradient rules: how the losses of samples become the gradient of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from modelwright.data.batches import Batch
from modelwright.training.distributed import DistributedContext
from modelwright.training.objectives import Objective
from modelwright.training.precision import Precision


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a gradient rule knows of a step beside its samples."""

    step: int
    """Counts from 0."""
    batch_size: int
    """The expected number of samples in the global batch, whatever this step's batch holds."""
    num_parts: int
    """In how many parts this process's share comes; empty ones are left out."""
    parameters: list[nn.Parameter]
    """The parameters that need a gradient."""
    precision: Precision
    """In whose context the network is called."""
    distributed: DistributedContext


class GradientRule(Protocol):
    """Makes the gradient of a step from the losses of its samples."""

    def gradients(
        self, network: nn.Module, objective: Objective, parts: Iterable[Batch], context: StepContext
    ) -> Tensor:
        """Put the gradient of one step into `.grad` of each parameter.

        The network is in training mode. The parts are this process's share of the global batch;
        there may be none.

        Returns:
            `[2]`: the weighted sum of the losses, and the weight, of the global batch.
        """

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must keep, by name."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """The gradient of the weighted mean loss of the whole batch, over all parts and processes.

    With several parts or processes, the gradients of the weighted *sums* are added up and divided
    once by the weight of the whole batch: exact for uneven parts too. `clip_norm` bounds the
    length of the whole gradient (Pascanu et al. 2013).
    """

    clip_norm: float | None = None

    def gradients(
        self, network: nn.Module, objective: Objective, parts: Iterable[Batch], context: StepContext
    ) -> Tensor:
        """Put the gradient of one step into `.grad` of each parameter, as the protocol says."""
        parameters, distributed = context.parameters, context.distributed
        for parameter in parameters:
            parameter.grad = None
        whole = context.num_parts == 1 and distributed.world == 1
        totals: Tensor | None = None
        for part in parts:
            with context.precision.context():
                outputs = network(*part.inputs)
            losses, weights = objective(outputs, part)
            loss, weight = (losses * weights).sum(), weights.sum()
            (loss / weight.clamp_min(1e-12) if whole else loss).backward()  # type: ignore[no-untyped-call]
            sums = torch.stack([loss.detach(), weight])
            totals = sums if totals is None else totals + sums
        if totals is None:
            totals = torch.zeros(2, device=distributed.device)
        for parameter in parameters:  # None where a batch was empty or a parameter unused.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [_dense(parameter, in_full=not whole) for parameter in parameters]
        if not whole:
            distributed.sum_([totals])
            distributed.sum_(gradients)
            torch._foreach_div_(gradients, totals[1].clamp_min(1e-12).to(gradients[0].dtype))
        if self.clip_norm is not None:
            clip(gradients, self.clip_norm)
        return totals

    def state(self) -> dict[str, Tensor]:
        """Return nothing: each step stands alone."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing."""


def _dense(parameter: nn.Parameter, *, in_full: bool) -> Tensor:
    """Return a gradient to be changed in place; of a sparse one its rows, or all of them."""
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter.grad
    if in_full:
        parameter.grad = parameter.grad.to_dense()
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()


def clip(gradients: list[Tensor], most: float) -> None:
    """Shorten a gradient to the length `most`, to the bits that torch's `clip_grad_norm_` gives.

    On a processor, where asking for the length costs nothing, one that is short enough isn't
    multiplied by 1: that saves a pass over all of it.
    """
    factor = most / (nn.utils.get_total_norm(gradients) + 1e-6)
    if factor.device.type != "cpu" or not factor >= 1.0:
        torch._foreach_mul_(gradients, factor.clamp(max=1.0).to(gradients[0].device))
