"""Optimizers: how a gradient becomes a step, with rates, decay and regularisation per group.

The arithmetic of SGD and AdamW is torch's own; Muon is ours. The wrapper adds what they share:
rates that follow the schedule, decoupled weight decay, L1 and L2, groups that stop early, and a
state of named tensors that a checkpoint can hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from modelwright.errors import RecipeError, TrainingError, nearest
from modelwright.models.network import matches
from modelwright.recipe.train import (
    AdamwOptimizer,
    GdOptimizer,
    GroupSpec,
    MuonOptimizer,
    OptimizerSpec,
    SgdOptimizer,
    TrainSpec,
)
from modelwright.training.muon import Muon

Named = dict[str, nn.Parameter]


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share their rates."""

    parameters: Named
    lr: float
    """The factor on the learning rate."""
    weight_decay: float
    l1: float
    l2: float
    until: float
    """The progress after which the group stands still."""


class _Stepper(Protocol):
    param_groups: list[dict[str, object]]
    state: dict[Tensor, dict[str, Tensor]]

    def step(self) -> object: ...


class Optimizer:
    """One step of training: rates, regularisation, decay, update."""

    def __init__(self, network: nn.Module, spec: TrainSpec) -> None:
        self._groups = group_parameters(network, spec)
        if not self.parameters:
            raise TrainingError(
                "there is no parameter to train", fix="Look at `model.freeze` and the network"
            )
        # Each stepper's param_groups stand in the order of `owners`: (group, peak rate).
        self._steppers: list[tuple[_Stepper, list[tuple[Group, float]]]] = []
        inner = matrices_and_filters(network) - {output_layer(network)}
        for chosen, names in _assign(spec.optimizer, self._groups, inner):
            owners = [(group, chosen.lr) for group, subset in names if subset]
            sets = [list(subset.values()) for _, subset in names if subset]
            if sets:
                self._steppers.append((_stepper(chosen, sets), owners))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters that are trained."""
        return [parameter for group in self._groups for parameter in group.parameters.values()]

    def freeze(self, progress: float) -> None:
        """Take no gradient from here on for groups whose time is over: nothing moves them."""
        for group in self._groups:
            if progress >= group.until:
                for parameter in group.parameters.values():
                    parameter.requires_grad_(False)

    @torch.no_grad()
    def step(self, share: float, progress: float) -> None:
        """Take one step with the gradients in `.grad`.

        Args:
            share: the schedule's share of the peak learning rate.
            progress: the share of training done, 0…1.
        """
        for stepper, owners in self._steppers:
            for settings, (group, peak) in zip(stepper.param_groups, owners, strict=True):
                rate = peak * group.lr * share if progress < group.until else 0.0
                settings["lr"] = rate
                parameters: list[Tensor] = list(settings["params"])  # type: ignore[call-overload]
                _regularise(parameters, l1=group.l1, l2=group.l2)
                if group.weight_decay and rate:
                    # A rate above 1 / decay would turn the weights' signs, not shrink them.
                    torch._foreach_mul_(parameters, max(1.0 - rate * group.weight_decay, 0.0))
            stepper.step()

    def state(self) -> dict[str, Tensor]:
        """Return the optimizer's own tensors by `parameter/name`."""
        return {
            f"{name}/{key}": value
            for name, values in self._named_states()
            for key, value in values.items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for group in self._groups:
            for name, parameter in group.parameters.items():
                found = {
                    key.removeprefix(f"{name}/"): value
                    for key, value in state.items()
                    if key.rpartition("/")[0] == name
                }
                if found:
                    self._owner(parameter).state[parameter] = {
                        key: _like(value, parameter) for key, value in found.items()
                    }

    def _named_states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for group in self._groups:
            for name, parameter in group.parameters.items():
                yield name, self._owner(parameter).state.get(parameter, {})

    def _owner(self, parameter: Tensor) -> _Stepper:
        for stepper, _ in self._steppers:
            for settings in stepper.param_groups:
                if any(parameter is held for held in settings["params"]):  # type: ignore[attr-defined]
                    return stepper
        raise AssertionError("a parameter without an optimizer")


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    if value.ndim == 0:
        return value.to(parameter.device, copy=True)  # Fused, Adam's step count lies there too.
    empty = torch.empty_like(parameter, dtype=value.dtype)  # keeps the memory format
    return empty.copy_(value)


def _regularise(parameters: list[Tensor], *, l1: float, l2: float) -> None:
    if not l1 and not l2:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            if l2:
                parameter.grad.add_(parameter, alpha=l2)
            if l1:
                parameter.grad.add_(parameter.sign(), alpha=l1)


def group_parameters(network: nn.Module, spec: TrainSpec) -> list[Group]:
    """Sort a network's trainable parameters into groups; the first pattern that matches holds.

    Biases and norms (everything with fewer than two dimensions) are left out of decay, unless a
    group names it.

    Raises:
        RecipeError: a pattern matches no parameter.
    """
    left = {name: item for name, item in network.named_parameters() if item.requires_grad}
    every = list(left)
    groups = []
    for wanted in spec.groups:
        matched = {name: left[name] for name in left if matches(name, wanted.match)}
        if not any(matches(name, wanted.match) for name in every):
            raise RecipeError(
                f"`train.groups`: the pattern `{wanted.match}` matches no trained parameter",
                fix=nearest(wanted.match, every),
            )
        left = {name: item for name, item in left.items() if name not in matched}
        groups += [_group(part, spec, wanted) for part in _by_dimension(matched) if part]
    groups += [_group(part, spec, None) for part in _by_dimension(left) if part]
    return [group for group in groups if group.lr > 0.0]


def _by_dimension(named: Named) -> tuple[Named, Named]:
    return (
        {name: item for name, item in named.items() if item.ndim >= 2},
        {name: item for name, item in named.items() if item.ndim < 2},
    )


def _group(named: Named, spec: TrainSpec, wanted: GroupSpec | None) -> Group:
    decays = next(iter(named.values())).ndim >= 2

    def chosen(own: float | None, general: float) -> float:
        return own if own is not None else general if decays else 0.0

    return Group(
        parameters=named,
        lr=wanted.lr if wanted else 1.0,
        weight_decay=chosen(wanted.weight_decay if wanted else None, spec.weight_decay),
        l1=chosen(wanted.l1 if wanted else None, spec.l1),
        l2=chosen(wanted.l2 if wanted else None, spec.l2),
        until=wanted.until if wanted and wanted.until is not None else float("inf"),
    )


def output_layer(network: nn.Module) -> str:
    """Return the name of the last weight with two or more dimensions: the output layer's."""
    names = [name for name, item in network.named_parameters() if item.ndim >= 2]
    return names[-1] if names else ""


def matrices_and_filters(network: nn.Module) -> frozenset[str]:
    """Return the names of the weights of fully connected layers and convolutions.

    Embeddings are tables, whose rows are learnt apart, and the weights of recurrent layers are
    several matrices in one: Muon is made for neither.
    """
    return frozenset(
        f"{name}.weight".lstrip(".")
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    )


_Assigned = list[tuple[Group, Named]]


def _assign(
    spec: OptimizerSpec, groups: list[Group], inner: frozenset[str]
) -> list[tuple[OptimizerSpec, _Assigned]]:
    if not isinstance(spec, MuonOptimizer):
        return [(spec, [(group, group.parameters) for group in groups])]

    matrices = [
        (g, {name: item for name, item in g.parameters.items() if name in inner}) for g in groups
    ]
    rest = [
        (g, {name: item for name, item in g.parameters.items() if name not in inner})
        for g in groups
    ]
    return [(spec, matrices), (spec.rest, rest)]


def _stepper(spec: OptimizerSpec, sets: list[list[nn.Parameter]]) -> _Stepper:
    groups = [{"params": parameters} for parameters in sets]
    stepper: object
    match spec:
        case GdOptimizer():
            stepper = torch.optim.SGD(groups, lr=spec.lr, fused=True)
        case SgdOptimizer():
            stepper = torch.optim.SGD(
                groups,
                lr=spec.lr,
                momentum=spec.momentum,
                nesterov=spec.nesterov and spec.momentum > 0.0,
                fused=True,
            )
        case AdamwOptimizer():
            stepper = torch.optim.AdamW(
                groups, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=0.0, fused=True
            )
        case MuonOptimizer():
            stepper = Muon(groups, lr=spec.lr, momentum=spec.momentum, steps=spec.steps)
    return stepper  # type: ignore[return-value]
