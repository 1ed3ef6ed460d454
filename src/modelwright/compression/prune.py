"""Unstructured pruning: the weights of least magnitude become zero while the network trains on.

The share of zeros rises from 0 to what is asked, quickly first (Zhu and Gupta 2017, `To prune, or
not to prune`, equation 1), over the first part of a training with the rates of the recipe (learning
rates are rewound: Renda et al. 2020). Weights are ranked over all layers together. The file stores
them compressed; the network computes as much as before.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modelwright.compression.sensitivity import allowed_drop, both_scores
from modelwright.data import Dataset
from modelwright.errors import RequestError
from modelwright.models.candidate import Candidate
from modelwright.recipe import Recipe
from modelwright.recipe.compression import PruneStep
from modelwright.recipe.spec import seconds
from modelwright.recipe.train import MuonOptimizer, OptimizerSpec, TrainSpec
from modelwright.run import Run
from modelwright.tasks import Task
from modelwright.training import Parts, fit
from modelwright.training.build import ChangeParts
from modelwright.training.fit import FitReport

_LEAST_RATE = 0.05
"""The least share of the recipe's rates."""
RISING = 0.7
"""The share of training over which the share of zeros rises."""
_STEPS = 50
"""So many times new weights become zero."""
_LEAST = 0.2
"""Each layer keeps this part at least of the share that is kept of all weights: none is cut off."""
ALL_ALIKE = {"groups": (), "unfreeze": None, "layer_decay": 1.0, "average": None}
"""Settings of `train` for a network whose layers aren't those that the recipe names."""
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)


def prune(
    candidate: Candidate, step: PruneStep, recipe: Recipe, data: Dataset, run: Run, task: Task
) -> tuple[Candidate, dict[str, Any]]:
    """Return a candidate of whose weights a share is zero, and the facts.

    Raises:
        RequestError: the network has no such layers.
        CompressionError: the main metric gets worse by more than `step.max_drop` on validation.
        StoppedError: a stop was requested; the state is saved.
    """
    check_prune(candidate, step)
    # The last weights alone have all their zeros.
    train = further(recipe.train, step.epochs, changes={"select": "last"})

    def masked(network: nn.Module, parts: Parts) -> Parts:
        return replace(
            parts, constraints=(Mask(weights_of(network), step.sparsity), *parts.constraints)
        )

    pruned, _ = fit_further(candidate, train, recipe, data, run, task, masked)
    weights = weights_of(pruned.network)
    zeros, count = _zeros(weights), sum(item.numel() for item in weights.values())
    scores = both_scores(candidate, pruned, data, run, task)
    made = f" with {zeros:.0%} of the weights zero"
    fix = "Lower `sparsity`, raise `epochs` or `max_drop`, or leave the step out"
    drop = allowed_drop(scores, step.max_drop, run, task, made=made, fix=fix)
    run.say(
        f"{zeros:.1%} of {count:,} weights are zero: the file is smaller to send and to "
        "store, and answers come no faster"
    )
    facts = {
        "kind": step.kind,
        "sparsity": step.sparsity,
        "zeros": round(zeros * count),
        "weights": count,
        "validation_drop": drop,
    }
    return replace(pruned, codecs={**pruned.codecs, **dict.fromkeys(weights, "zstd")}), facts


def further(
    train: TrainSpec,
    epochs: float | Literal["auto"],
    *,
    usual: float = 0.5,
    share: float = 1.0,
    changes: Mapping[str, Any],
) -> TrainSpec:
    """Return the section `train` of training a network on, with further changes to it.

    `auto` is the `usual` share of the recipe's epochs and budget. Of all of it a `share` is
    returned, where a network is trained on in parts.
    """
    budget = None
    if epochs == "auto":
        epochs = max((train.epochs or 10.0) * usual, 1.0)
        budget = train.budget and f"{seconds(train.budget) * usual * share:.3f}s"
    update = {
        "epochs": float(epochs) * share,
        "budget": budget,
        "optimizer": slower(train, float(epochs) * share),
        "patience": None,
        "resolution": (),
    }
    return train.model_copy(update={**update, **changes})


def fit_further(
    candidate: Candidate,
    train: TrainSpec,
    recipe: Recipe,
    data: Dataset,
    run: Run,
    task: Task,
    change: ChangeParts,
) -> tuple[Candidate, FitReport]:
    """Train a network on whose loss may rise, with parts of the loop changed."""
    augment = recipe.augment
    return fit(
        candidate, train, data, run, task=task, augment=augment, change=change, loss_may_rise=True
    )


def slower(train: TrainSpec, epochs: float) -> OptimizerSpec:
    """Return the optimizer for training a network on: the shorter, the lower its rates.

    From half of `train.epochs` on the rates are those of the recipe. In less time a network would
    lose more at such rates than it learns again.
    """
    factor = min(max(epochs / ((train.epochs or 10.0) / 2), _LEAST_RATE), 1.0)
    optimizer = train.optimizer
    changes: dict[str, Any] = {"lr": optimizer.lr * factor}
    if isinstance(optimizer, MuonOptimizer):
        rest = optimizer.rest
        changes["rest"] = rest.model_copy(update={"lr": rest.lr * factor})
    return optimizer.model_copy(update=changes)


def keeping_zeros(candidate: Candidate) -> ChangeParts:
    """Return the change of the loop by which weights that `prune` has made zero stay so."""
    pruned = {name for name, codec in candidate.codecs.items() if "zstd" in codec}

    def masked(network: nn.Module, parts: Parts) -> Parts:
        weights = {name: item for name, item in network.named_parameters() if name in pruned}
        mask = (Mask(weights, 0.0),) if weights else ()
        return replace(parts, constraints=(*mask, *parts.constraints))

    return masked


def check_prune(candidate: Candidate, step: PruneStep) -> None:
    """Refuse a network without weights that can become zero."""
    weights = weights_of(candidate.network)
    if not weights:
        raise RequestError(
            "this network has no convolution, fully connected layer or embedding to prune",
            where="compress",
            why="Weights of few bits aren't pruned, nor are recurrent layers",
            fix="Prune before `quantize`, or leave the step out",
        )
    is_pruned = any("zstd" in candidate.codecs.get(name, "") for name in weights)
    if is_pruned and (zeros := _zeros(weights)) >= step.sparsity:
        what = f"{zeros:.0%} of this network's weights are zero already"
        raise RequestError(what, where="compress", fix="Raise `sparsity`, or leave the step out")


def _zeros(weights: Mapping[str, Tensor]) -> float:
    zeros = sum(int((item == 0).sum()) for item in weights.values())
    return zeros / sum(item.numel() for item in weights.values())


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that may become zero, by name; those of two names once."""
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, _LAYERS) and isinstance(weight, nn.Parameter):
            if id(weight) not in seen and weight.requires_grad:
                found[f"{name}.weight"] = weight
            seen.add(id(weight))
    return found


class Mask:
    """Holds weights at zero: a constraint of the loop. Those that are zero stay so.

    Args:
        weights: the weights by name.
        sparsity: the share of them that is zero in the end; 0 where no further ones become zero.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], sparsity: float) -> None:
        self._weights = weights
        self._masks = {name: weight.detach() != 0 for name, weight in weights.items()}
        self._sparsity, self._level = sparsity, 0

    @torch.no_grad()
    def after_step(self, step: int, progress: float) -> None:
        """Set weights to zero: those that are already, and from time to time new ones."""
        level = min(math.ceil(progress / RISING * _STEPS), _STEPS)
        if level > self._level:
            self._level = level
            self._rank(self._sparsity * (1 - (1 - level / _STEPS) ** 3))
        self._apply()

    def _rank(self, share: float) -> None:
        """Mask so large a share of all weights, those of the least magnitude."""
        sizes = torch.cat([weight.abs().flatten() for weight in self._weights.values()])
        count = min(round(share * sizes.numel()), sizes.numel() - 1)
        if count:
            bound = sizes.kthvalue(count).values
            for name, weight in self._weights.items():
                least = max(round(_LEAST * (1 - share) * weight.numel()), 1)
                own = weight.abs().flatten().kthvalue(weight.numel() - least + 1).values
                self._masks[name] = (weight.abs() > bound) | (weight.abs() >= own)

    def _apply(self) -> None:
        for name, weight in self._weights.items():
            weight.mul_(self._masks[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Hold the masked weights in the network while the block runs."""
        with torch.no_grad():
            kept = {name: weight.detach().clone() for name, weight in self._weights.items()}
            self._apply()
            try:
                yield
            finally:
                for name, weight in self._weights.items():
                    weight.copy_(kept[name])

    def state(self) -> dict[str, Tensor]:
        """Return the masks, and how many times new weights became zero."""
        return {**self._masks, "level": torch.tensor(self._level)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self._level = int(state["level"])
        self._masks = {name: state[name].to(mask.device) for name, mask in self._masks.items()}
