"""Weights of 8 or 4 bits, by groups with a scale, for fully connected layers and embeddings.

A layer's weights are rounded input by input, and what an input's rounding adds to the error of the
outputs is made up for by the inputs that aren't rounded yet, as far as they go along with it in
training samples (Frantar et al. 2023, `GPTQ`, algorithm 1; columns in their own order). Embeddings
are rounded to the nearest level.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modelwright.compression.quantize import TOLERANCE
from modelwright.compression.sensitivity import choose_kept, say_untouched, watch_inputs
from modelwright.data import Dataset, Split
from modelwright.errors import RequestError
from modelwright.models.candidate import Candidate
from modelwright.models.grouped import GroupedEmbedding, GroupedLinear, pack
from modelwright.models.modifications import Group, group_weights, modified
from modelwright.recipe import Recipe
from modelwright.recipe.compression import QuantizeStep
from modelwright.run import Progress, Run
from modelwright.tasks import Task

_DAMPING = 0.01
"""What is added to the diagonal of the second moments, as a share of its mean (GPTQ, 3.3)."""
_LEAST_WEIGHTS = 4096
"""Smaller layers stay in fp32: there is nothing to gain."""


def group(
    candidate: Candidate, step: QuantizeStep, recipe: Recipe, data: Dataset, run: Run, task: Task
) -> tuple[Candidate, dict[str, Any]]:
    """Return a candidate whose fully connected layers and embeddings have few bits a weight.

    Layers stay in fp32 where `choose_kept` says so.

    Raises:
        RequestError: the network has no such layers.
        CompressionError: half of the layers would have to stay.
    """
    bits: Literal[4, 8] = 4 if step.weights == "int4" else 8
    layers = grouped_layers(candidate.network, step.group_size)
    say_untouched(candidate.network, layers, run)
    rounded = _rounded(candidate.network, layers, bits, step, data.train, run)

    def attempt(kept: Collection[str]) -> Candidate:
        network = copy.deepcopy(candidate.network)
        changes = []
        for name in layers:
            if name not in kept:
                change = Group(layer=name, bits=bits, group=step.group_size)
                group_weights(network, change)
                bias = getattr(candidate.network.get_submodule(name), "bias", None)
                _fill(network.get_submodule(name), rounded[name], bias=bias)
                changes.append(change)
        return replace(
            candidate,
            network=network.eval(),
            architecture=modified(candidate.architecture, *changes),
            tolerance=TOLERANCE,
        )

    kept, drop = choose_kept(attempt, candidate, layers, step.max_drop, data, run, task)
    facts = {
        "weights": step.weights,
        "group_size": step.group_size,
        "samples": min(step.samples, len(data.train)),
        "layers": len(layers),
        "kept": list(kept),
        "validation_drop": drop,
    }
    return attempt(kept), facts


def check_group(candidate: Candidate, step: QuantizeStep) -> None:
    """Refuse a network that has no layer for weights of few bits."""
    grouped_layers(candidate.network, step.group_size)


def grouped_layers(network: nn.Module, group_size: int) -> list[str]:
    """Return the names of the layers whose weights may have few bits.

    Raises:
        RequestError: there is none.
    """
    names = []
    for name, module in network.named_modules():
        is_linear = type(module) is nn.Linear
        is_embedding = isinstance(module, nn.Embedding) and module.embedding_dim % group_size == 0
        weight = getattr(module, "weight", None)
        if not (is_linear or is_embedding) or not isinstance(weight, Tensor):
            continue
        if weight.dtype == torch.float32 and weight.numel() >= _LEAST_WEIGHTS:
            names.append(name)
    if not names:
        raise RequestError(
            "this network has no fully connected layer or embedding that is large enough for "
            f"weights in groups of {group_size}",
            where="compress",
            why=f"Layers of fewer than {_LEAST_WEIGHTS:,} weights stay as they are, as do "
            "convolutions and recurrent layers",
            fix="For convolutions write `dtype: int8` in place of `weights`",
        )
    return names


Levels = tuple[Tensor, Tensor]
"""Levels from 0 on, uint8 `[O, groups, group]`, and the scale of each group `[O, groups]`."""


def _rounded(
    network: nn.Module,
    layers: Collection[str],
    bits: int,
    step: QuantizeStep,
    train: Split,
    run: Run,
) -> Mapping[str, Levels]:
    """Return the rounded weights of each layer."""
    moments = _second_moments(network, layers, train, step.samples)
    rounded = {}
    for at, name in enumerate(layers):
        run.observe(Progress(run.stage_name, at, len(layers)))
        weight = network.get_submodule(name).get_parameter("weight").detach()
        if name in moments:
            rounded[name] = round_compensated(weight, moments[name], bits, step.group_size)
        else:
            rounded[name] = round_nearest(weight, bits, step.group_size)
    run.observe(Progress(run.stage_name, len(layers), len(layers)))
    return rounded


def _second_moments(
    network: nn.Module, layers: Collection[str], train: Split, samples: int
) -> dict[str, Tensor]:
    """Return the second moments `[I, I]` of what each fully connected layer is given."""
    moments: dict[str, Tensor] = {}

    def add(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Linear):
            rows = inputs[0].flatten(0, -2).float()
            moments[name] = moments.get(name, 0) + rows.T @ rows

    watch_inputs(network, layers, train, samples, add)
    return moments


def round_nearest(weight: Tensor, bits: int, group_size: int) -> Levels:
    """Return weights `[O, I]` rounded to the nearest levels."""
    most = 2 ** (bits - 1)
    inputs = weight.shape[1]
    groups = -(-inputs // group_size)
    whole = nn.functional.pad(weight, (0, groups * group_size - inputs))
    parts = whole.reshape(-1, groups, group_size)
    scale = _scales(parts, most)
    levels = (parts / scale[..., None]).round().clamp(1 - most, most - 1)
    return (levels + most).to(torch.uint8), scale


def round_compensated(weight: Tensor, moments: Tensor, bits: int, group_size: int) -> Levels:
    """Return weights `[O, I]` rounded so that the outputs change least.

    Args:
        weight: the weights.
        moments: the second moments of the inputs `[I, I]`.
        bits: 8 or 4.
        group_size: so many inputs share a scale.
    """
    most = 2 ** (bits - 1)
    outputs, inputs = weight.shape
    groups = -(-inputs // group_size)
    rest, hessian = weight.double().clone(), moments.double().clone()
    hessian.diagonal()[hessian.diagonal() == 0] = 1.0  # What was always 0 may not be elsewhere.
    zero = rest == 0  # Pruned weights stay so (Frantar and Alistarh 2023, `SparseGPT`).
    hessian.diagonal().add_(_DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    levels = torch.full((outputs, groups * group_size), most, dtype=torch.uint8)
    scales = torch.ones(outputs, groups)
    for number in range(groups):
        start, end = number * group_size, min((number + 1) * group_size, inputs)
        scale = _scales(rest[:, start:end], most)
        scales[:, number] = scale.float()
        errors = torch.zeros(outputs, end - start, dtype=torch.float64)
        for at in range(start, end):
            column = rest[:, at]
            level = (column / scale).round().clamp(1 - most, most - 1)
            level[zero[:, at]] = 0.0
            levels[:, at] = (level + most).to(torch.uint8)
            error = (column - level * scale) / factor[at, at]
            rest[:, at + 1 : end] -= error[:, None] * factor[at, at + 1 : end]
            errors[:, at - start] = error
        rest[:, end:] -= errors @ factor[start:end, end:]
    return levels.reshape(-1, groups, group_size), scales


def _scales(parts: Tensor, most: int) -> Tensor:
    """Return the scale of each group of weights `[…, group]`: its largest has the last level."""
    largest = parts.abs().amax(-1) / (most - 1)
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _fill(module: nn.Module, rounded: Levels, *, bias: Tensor | None) -> None:
    """Give an empty layer its weights, and its bias."""
    assert isinstance(module, GroupedLinear | GroupedEmbedding)
    levels, scale = rounded
    module.weight = pack(levels, module.bits)
    module.weight_scale = scale.float()
    if bias is not None:
        module.bias = bias.detach().clone()
