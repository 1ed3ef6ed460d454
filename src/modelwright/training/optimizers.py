"""Optimizers: how a gradient becomes a step, with rates, decay and regularisation per group.

The arithmetic of SGD and AdamW is torch's own; Muon is ours. The wrapper adds what they share:
rates that follow the schedule, decoupled weight decay, L1 and L2, groups that stop early, and a
state of named tensors that a checkpoint can hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from modelwright.errors import RecipeError, TrainingError, nearest
from modelwright.models.layers import layer_depths, new_parameters
from modelwright.models.network import matches
from modelwright.recipe.train import (
    AdamwOptimizer,
    GdOptimizer,
    GroupSpec,
    MuonOptimizer,
    OptimizerSpec,
    SgdOptimizer,
    TrainSpec,
    UnfreezeSpec,
)
from modelwright.training.muon import Muon
from modelwright.training.row_sparse import moved_rows, tables

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
    since: float = 0.0
    """The progress before which it does."""
    unfreeze: UnfreezeSpec | None = None
    """When the whole network begins to learn, and at which factor on the rate."""

    def factor(self, progress: float) -> float:
        """Return the factor on the learning rate at a point of training; 0 holds it still."""
        if not self.since <= progress < self.until:
            return 0.0
        is_later = self.unfreeze is not None and progress >= self.unfreeze.at
        return self.lr * self.unfreeze.lr if self.unfreeze and is_later else self.lr


class Optimizer:
    """One step of training: rates, regularisation, decay, update."""

    def __init__(self, network: nn.Module, spec: TrainSpec) -> None:
        self._groups = group_parameters(network, spec)
        _hold_still(network, self.parameters)
        if not self.parameters:
            raise TrainingError(
                "there is no parameter to train", fix="Look at `model.freeze` and the network"
            )
        if not self.learning(0.0):
            raise TrainingError(
                "`train.unfreeze` lets the last layer learn first, and it is held still",
                fix="Look at `train.groups` and `model.freeze`, or leave `unfreeze` out",
            )
        self._steppers: list[torch.optim.Optimizer] = []
        self._named: dict[str, tuple[nn.Parameter, torch.optim.Optimizer]] = {}
        inner = matrices_and_filters(network) - {output_layer(network)}
        if isinstance(spec.optimizer, MuonOptimizer):
            _check_decay(network, spec, inner)
        self._of_rows: list[torch.optim.Optimizer] = []
        sparse = tables(network)
        for (part, is_assigned), is_table in product(_assign(spec.optimizer, inner), (False, True)):
            named: Named = {}
            param_groups: list[dict[str, Any]] = []
            for group in self._groups:
                own = {
                    name: item
                    for name, item in group.parameters.items()
                    if is_assigned(name) and (name in sparse) == is_table
                }
                if own:
                    named |= own
                    items = list(own.values())
                    param_groups.append({"params": items, "group": group, "peak_lr": part.lr})
            if not param_groups and isinstance(part, MuonOptimizer) and not is_table:
                raise RecipeError(
                    "`train.optimizer: muon` has no effect: this network trains no matrix and no "
                    "filter but those that `rest` trains",
                    fix="Write what stands in its `rest` as `optimizer`",
                )
            if param_groups:
                stepper = _stepper(part, param_groups)
                (self._of_rows if is_table else self._steppers).append(stepper)
                self._named |= {name: (item, stepper) for name, item in named.items()}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters that are trained."""
        return [parameter for group in self._groups for parameter in group.parameters.values()]

    def learning(self, progress: float) -> list[nn.Parameter]:
        """Return the parameters of the groups that have begun to learn, if they ended or not."""
        return [
            parameter
            for group in self._groups
            if progress >= group.since
            for parameter in group.parameters.values()
        ]

    def waits(self, progress: float) -> bool:
        """Say whether a part of the network hasn't begun to learn."""
        return any(progress < group.since for group in self._groups)

    def freeze(self, progress: float) -> None:
        """Take no gradient for groups whose time is over, or hasn't come: nothing moves them."""
        for group in self._groups:
            if group.since > 0.0 or progress >= group.until:
                for parameter in group.parameters.values():
                    parameter.requires_grad_(group.since <= progress < group.until)

    @torch.no_grad()
    def step(self, share: float, progress: float) -> None:
        """Take one step with the gradients in `.grad`, at this share of the peak learning rate."""
        for stepper in self._steppers:
            _step(stepper, share, progress)
        for stepper in self._of_rows:
            with moved_rows(stepper):
                _step(stepper, share, progress)

    def state(self) -> dict[str, Tensor]:
        """Return the optimizer's own tensors by `parameter/name`."""
        return {
            f"{name}/{key}": value
            for name, (parameter, stepper) in self._named.items()
            for key, value in stepper.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for full_name, value in state.items():
            name, _, key = full_name.rpartition("/")
            parameter, stepper = self._named[name]
            stepper.state[parameter][key] = _like(value, parameter)


def _check_decay(network: nn.Module, spec: TrainSpec, of_muon: frozenset[str]) -> None:
    """Refuse a group's weight decay that has no effect: Muon keeps weights at their length."""
    for group in spec.groups:
        names = [name for name, _ in network.named_parameters() if matches(name, group.match)]
        if group.weight_decay is not None and of_muon.issuperset(names):
            raise RecipeError(
                f"`train.groups`: the `weight_decay` of `{group.match}` has no effect, for Muon "
                "keeps the length of matrices and filters",
                fix="Leave it out",
            )


def _hold_still(network: nn.Module, trained: list[nn.Parameter]) -> None:
    """Take no gradient for parameters that are in no group, whose rate is 0."""
    kept = {id(parameter) for parameter in trained}
    for parameter in network.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def _step(stepper: torch.optim.Optimizer, share: float, progress: float) -> None:
    for settings in stepper.param_groups:
        group: Group = settings["group"]
        parameters: list[Tensor] = settings["params"]
        rate = settings["peak_lr"] * group.factor(progress) * share
        settings["lr"] = rate
        _regularise(parameters, l1=group.l1, l2=group.l2)
        if group.weight_decay and rate and parameters:
            # A rate above 1 / decay would turn the weights' signs, not shrink them.
            torch._foreach_mul_(parameters, max(1.0 - rate * group.weight_decay, 0.0))
    stepper.step()


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
    for group_spec in (*spec.groups, None):
        matched = left
        if group_spec is not None:
            pattern = group_spec.match
            if not any(matches(name, pattern) for name in every):
                raise RecipeError(
                    f"`train.groups`: the pattern `{pattern}` matches no trained parameter",
                    fix=nearest(pattern, every),
                )
            matched = {name: left[name] for name in left if matches(name, pattern)}
            left = {name: item for name, item in left.items() if name not in matched}
        for is_matrix in (True, False):
            kind = {name: item for name, item in matched.items() if (item.ndim >= 2) == is_matrix}
            for (depth, is_new), named in _by_layer(kind, network, spec).items():
                group = _group(named, spec, group_spec, decays=is_matrix)
                since = 0.0 if is_new or spec.unfreeze is None else spec.unfreeze.at
                rate = group.lr * spec.layer_decay**depth
                groups.append(replace(group, lr=rate, since=since, unfreeze=spec.unfreeze))
    return [group for group in groups if group.lr > 0.0]


def _by_layer(
    named: Named, network: nn.Module, spec: TrainSpec
) -> dict[tuple[int, bool], dict[str, nn.Parameter]]:
    """Part parameters by their depth and by whether they are new, as far as the recipe does."""
    depths = layer_depths(network) if spec.layer_decay < 1.0 else {}
    new = new_parameters(network) if spec.unfreeze is not None else frozenset(named)
    parts: dict[tuple[int, bool], Named] = {}
    for name, item in named.items():
        parts.setdefault((depths.get(name, 0), name in new), {})[name] = item
    return parts


def _group(named: Named, spec: TrainSpec, own: GroupSpec | None, *, decays: bool) -> Group:
    def setting(name: str) -> float:
        value: float | None = None if own is None else getattr(own, name)
        if value is None:
            value = getattr(spec, name) if decays else 0.0
        return value

    return Group(
        parameters=named,
        lr=1.0 if own is None else own.lr,
        weight_decay=setting("weight_decay"),
        l1=setting("l1"),
        l2=setting("l2"),
        until=math.inf if own is None or own.until is None else own.until,
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


def _assign(
    spec: OptimizerSpec, inner: frozenset[str]
) -> list[tuple[OptimizerSpec, Callable[[str], bool]]]:
    """Return the optimizers of a section, each with which parameters are its own, by name."""
    if not isinstance(spec, MuonOptimizer):
        return [(spec, lambda name: True)]
    return [(spec, lambda name: name in inner), (spec.rest, lambda name: name not in inner)]


def _stepper(spec: OptimizerSpec, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    match spec:
        case GdOptimizer():
            return torch.optim.SGD(groups, lr=spec.lr, fused=True)
        case SgdOptimizer():
            return torch.optim.SGD(
                groups,
                lr=spec.lr,
                momentum=spec.momentum,
                nesterov=spec.nesterov and spec.momentum > 0.0,
                fused=True,
            )
        case AdamwOptimizer():
            return torch.optim.AdamW(
                groups, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=0.0, fused=True
            )
        case MuonOptimizer():
            return Muon(groups, lr=spec.lr, momentum=spec.momentum, steps=spec.steps)
