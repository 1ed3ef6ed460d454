"""Weights looked up in codebooks, for convolutions, fully connected layers and embeddings.

Codes and codebooks are fitted layer by layer (`models.codebooks`). Then the codebooks learn, with
what else the network has, from the network before: all codes stand still (Stock et al. 2020,
section 3.3; Martinez et al. 2021, section 3.4).
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.compression.prune import ALL_ALIKE, fit_further, further
from modelwright.compression.sensitivity import allowed_drop, both_scores, watch_inputs
from modelwright.data import Dataset, Split
from modelwright.data.batches import Batch
from modelwright.errors import RequestError
from modelwright.kinds import OutputKind
from modelwright.models.candidate import Candidate
from modelwright.models.codebooks import Coded, encode
from modelwright.models.coded import CODED_LAYERS, Codebook, codebooks_of
from modelwright.models.modifications import Code, modified, modify
from modelwright.recipe import Recipe
from modelwright.recipe.compression import VectorQuantizeStep
from modelwright.recipe.train import AdamwOptimizer, CosineSchedule, TrainSpec
from modelwright.run import Progress, Run
from modelwright.tasks import Task
from modelwright.training import Parts
from modelwright.training.build import ChangeParts
from modelwright.training.objectives.distillation import distance

LEAST_WEIGHTS = 2048
"""Smaller layers stay as they are: there is nothing to gain."""
_FEWEST_BITS = 4
"""A code has at least so many."""
_FALL = 1.75
"""How fast the error falls with the bits a weight: each leaves 30 % of it, as was measured on
convolutions in training."""
_PRICES, _HALVINGS = (1e-15, 1.0), 60
"""What a byte may cost in error, and how often the bounds are drawn together."""
LONGEST = 64
"""The longest block."""
_DAMPING = 0.01
"""What each input's second moment is at least, as a share of their mean."""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to code a layer."""

    code: Code
    size: int
    """Bytes."""
    error: float
    """What is expected of the squared error, as a share of the weights' square."""


def vector_quantize(
    candidate: Candidate,
    step: VectorQuantizeStep,
    recipe: Recipe,
    data: Dataset,
    run: Run,
    task: Task,
) -> tuple[Candidate, dict[str, Any]]:
    """Return a candidate whose weights are looked up in codebooks, and the facts.

    Raises:
        RequestError: the network has no such layers, or the ratio can't be reached.
        CompressionError: the main metric gets worse by more than `step.max_drop` on validation.
        StoppedError: a stop was requested; the state is saved.
    """
    check_vector_quantize(candidate, step)
    planned, kept = plan(candidate.network, step)
    moments = second_moments(candidate.network, planned, data.train, step.samples)
    network, codes, errors = _coded(candidate.network, planned, moments, step, run)
    begun = replace(
        candidate, network=network, architecture=modified(candidate.architecture, *codes)
    )
    taught = _taught_by(candidate.network, task.output_kind)
    train = _training(step, recipe.train)
    tuned, _ = fit_further(begun, train, recipe, data, run, task, taught)
    for codebook in codebooks_of(tuned.network):
        codebook.settle()
    before, after = _size(candidate.network), _size(tuned.network)
    scores = both_scores(candidate, tuned, data, run, task)
    made = f", with weights {before / after:.1f} times smaller"
    fix = "Lower `ratio` or `block_size`, raise `epochs` or `max_drop`"
    drop = allowed_drop(scores, step.max_drop, run, task, made=made, fix=fix)
    names = {f"{code.layer}.coded.codes": "zstd" for code in codes}
    run.say(
        f"{len(codes)} layers are looked up in codebooks: the weights are about "
        f"{before / after:.1f} times smaller than in fp32 ({before:,} bytes, now {after:,})"
    )
    if kept:
        run.say(
            f"{len(kept)} layers stay as they are: "
            + ", ".join(f"`{name}` ({why})" for name, why in list(kept.items())[:4])
            + (", …" if len(kept) > 4 else "")
        )
    facts = {
        "layers": len(codes),
        "kept": kept,
        "permuted": sum(code.ordered for code in codes),
        "block_sizes": {code.layer: code.block_size for code in codes},
        "error": sum(errors) / len(errors),
        "weights_ratio": before / after,
        "samples": min(step.samples, len(data.train)),
        "validation_drop": drop,
    }
    return replace(tuned, codecs={**tuned.codecs, **names}), facts


def check_vector_quantize(candidate: Candidate, step: VectorQuantizeStep) -> None:
    """Refuse a network that was pruned, or whose weights codebooks can't make so much smaller."""
    if any(codec == "zstd" for codec in candidate.codecs.values()):
        raise RequestError(
            "codebooks would fill the zeros of a pruned network",
            where="compress",
            fix="Write one of `prune` and `vector-quantize`",
        )
    plan(candidate.network, step)


# -- which layers, and how -----------------------------------------------------------------------


def plan(network: nn.Module, step: VectorQuantizeStep) -> tuple[list[Code], dict[str, str]]:
    """Return how layers are coded, and why each other one with weights stays as it is.

    With `block_size: auto` the codes meet `ratio`. Bytes go where they save most error, that of
    each layer being a share of its own weights: large layers have long blocks, small ones short.

    Raises:
        RequestError: there is no layer to code, or the ratio is out of reach.
    """
    weights, kept = _layers(network)
    options = {name: _options(name, weight, step) for name, weight in weights.items()}
    kept |= {name: "its codebook would be as large" for name, found in options.items() if not found}
    options = {name: found for name, found in options.items() if found}
    if not options:
        raise RequestError(
            "this network has no weights that codebooks make smaller",
            where="compress",
            why=f"Layers of fewer than {LEAST_WEIGHTS:,} weights stay as they are, as do recurrent "
            "ones and those whose codebook would be as large",
            fix="Lower `codebook_size`, or leave the step out",
        )
    sizes = {name: np.array([option.size for option in found]) for name, found in options.items()}
    errors = {name: np.array([option.error for option in found]) for name, found in options.items()}
    before = _size(network)
    left = before - sum(4 * weights[name].numel() for name in options)

    def chosen(price: float) -> dict[str, int]:
        return {name: int((errors[name] + price * sizes[name]).argmin()) for name in options}

    def total(price: float) -> int:
        return left + sum(int(sizes[name][at]) for name, at in chosen(price).items())

    low, high = _PRICES
    if step.block_size != "auto":
        high = low
    elif before / total(high) < step.ratio:
        raise RequestError(
            f"codebooks make the weights of this network at most {before / total(high):.1f} times "
            f"smaller, and `ratio` asks for {step.ratio:g}",
            where="compress",
            why="Small layers and those of other kinds stay as they are",
            fix="Lower `ratio`, or take a network of fewer small layers",
        )
    else:
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if before / total(middle) >= step.ratio else (middle, high)
    return [options[name][at].code for name, at in chosen(high).items()], kept


def _layers(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the weights that may be coded, and why those of other layers stay."""
    weights: dict[str, Tensor] = {}
    kept: dict[str, str] = {}
    uses = Counter(id(item) for _, item in network.named_parameters(remove_duplicate=False))
    for name, module in network.named_modules():
        if not any(item.ndim > 1 for item in module.parameters(recurse=False)):
            continue
        weight = module._parameters.get("weight")
        if not isinstance(module, CODED_LAYERS) or weight is None:
            kept[name] = "a layer that codebooks don't know"
        elif uses[id(weight)] > 1:
            kept[name] = "another layer has the same weights"
        elif weight.dtype != torch.float32:
            kept[name] = "not in fp32"
        elif weight.numel() < LEAST_WEIGHTS:
            kept[name] = "small"
        elif isinstance(module, nn.Conv1d | nn.Conv2d) and module.in_channels <= 4:
            kept[name] = "it takes the input"
        else:
            weights[name] = weight
    return weights, kept


def _options(name: str, weight: Tensor, step: VectorQuantizeStep) -> list[Option]:
    """Return the ways to code a layer that take no more than half of its bytes."""
    inputs, found = weight[0].numel(), []
    most_bits = step.codebook_size.bit_length() - 1
    lengths = range(1, LONGEST + 1) if step.block_size == "auto" else (step.block_size,)
    for length in lengths:
        blocks = -(-inputs // length)
        for bits in range(_FEWEST_BITS, most_bits + 1):
            codes = int(step.codebooks * len(weight) * blocks * (bits + 1 / bits) / 8)
            entries = 2 * step.codebooks * length << bits
            # An order is counted in, which not every layer has, and what zstd takes more.
            size = codes + entries + 2 * inputs
            if 2 * size > 4 * weight.numel():
                continue
            code = Code(
                layer=name,
                block_size=length,
                blocks=blocks,
                codebook_size=1 << bits,
                codebooks=step.codebooks,
                ordered=False,
            )
            # At one rate, codes of more bits for longer blocks are the better ones.
            error = 2 ** (-_FALL * step.codebooks * bits / length) * (1 + 1 / bits)
            found.append(Option(code, size, error))
    return found


def _size(network: nn.Module) -> int:
    """Return the bytes of a network's weights; codes count about what zstd leaves of them."""
    items = {id(item): item for item in network.state_dict(keep_vars=True).values()}.values()
    total: int = sum(item.numel() * item.element_size() for item in items)
    for codebook in codebooks_of(network):
        bits = (codebook.codebook.shape[1] - 1).bit_length()
        total -= int(codebook.codes.numel() * (8 - bits - 1 / bits) / 8)
    return total


# -- codes ---------------------------------------------------------------------------------------


def second_moments(
    network: nn.Module, codes: Collection[Code], train: Split, samples: int
) -> dict[str, Tensor]:
    """Return the mean square of each input of layers, over training samples.

    Of convolutions `[C]`, of fully connected layers `[I]`, of an embedding `[V]`: how often each
    row is looked up. Layers that aren't called themselves are missing.
    """
    sums: dict[str, Tensor] = {}

    def look(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if isinstance(layer, nn.Embedding):
            found = torch.bincount(x.flatten(), minlength=layer.num_embeddings).double()
        else:
            wide = x.double().movedim(-1 if isinstance(layer, nn.Linear) else 1, -1)
            found = wide.flatten(0, -2).square().sum(0)
        sums[name] = sums.get(name, 0) + found

    watch_inputs(network, [code.layer for code in codes], train, samples, look)
    return sums


def importance_of(layer: nn.Module, moments: Tensor | None) -> Tensor:
    """Return how much the squared error of each weight of a layer counts, of the weights' shape."""
    weight = layer.get_parameter("weight")
    if moments is None or not float(moments.sum()) > 0:
        return torch.ones_like(weight)
    moments = (moments / moments.mean()).float()
    if isinstance(layer, nn.Embedding):
        # Rows that no sample has may come all the same.
        return (moments + 1)[:, None].expand_as(weight)
    moments = moments.clamp_min(_DAMPING)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        groups = moments.reshape(layer.groups, -1)
        moments = groups.repeat_interleave(weight.shape[0] // layer.groups, 0)
        return moments.reshape(*moments.shape, *(1 for _ in weight.shape[2:])).expand_as(weight)
    return moments.expand_as(weight)


def _coded(
    network: nn.Module,
    codes: Collection[Code],
    moments: Mapping[str, Tensor],
    step: VectorQuantizeStep,
    run: Run,
) -> tuple[nn.Module, list[Code], list[float]]:
    """Return the network with codebooks that can learn, its layers' codes, and the errors."""
    coded = copy.deepcopy(network)
    done, errors = [], []
    for at, code in enumerate(codes):
        run.observe(Progress("codebooks", at, len(codes)))
        layer = coded.get_submodule(code.layer)
        with torch.no_grad():
            found = encode(
                layer.get_parameter("weight"),
                importance_of(layer, moments.get(code.layer)),
                block_size=code.block_size,
                codebook_size=code.codebook_size,
                codebooks=code.codebooks,
                permute=step.permute,
                zero=getattr(layer, "padding_idx", None),
                seed=run.seed + at,
            )
        sizes = {"blocks": found.codes.shape[2], "ordered": found.order is not None}
        code = code.model_copy(update=sizes)
        modify(coded, [code])
        _fill(layer, found)
        done.append(code)
        errors.append(found.error)
    run.observe(Progress("codebooks", len(codes), len(codes)))
    return coded, done, errors


def _fill(layer: nn.Module, found: Coded) -> None:
    """Give a layer's empty codebooks their codes and entries, and let them learn."""
    codebook = layer.get_submodule("coded")
    assert isinstance(codebook, Codebook)
    codebook.codes.copy_(found.codes)
    codebook.learn(has_zero=getattr(layer, "padding_idx", None) is not None)
    codebook.codebook.data.copy_(found.codebook)
    if found.order is not None:
        assert codebook.order is not None
        codebook.order.copy_(found.order)


# -- learning ------------------------------------------------------------------------------------


def _training(step: VectorQuantizeStep, train: TrainSpec) -> TrainSpec:
    """Return how codebooks learn: in the recipe's batches, and by AdamW without decay."""
    changes = {
        **ALL_ALIKE,
        "l1": 0.0,
        "l2": 0.0,
        "optimizer": AdamwOptimizer(name="adamw", lr=step.lr),
        "schedule": CosineSchedule(name="cosine"),
        "weight_decay": 0.0,
    }
    return further(train, step.epochs, changes=changes)


def _taught_by(network: nn.Module, output_kind: OutputKind) -> ChangeParts:
    """Return what adds to the loss how far the outputs are from those of the network before."""

    def change(_: nn.Module, parts: Parts) -> Parts:
        teacher = copy.deepcopy(network).to(parts.distributed.device).eval().requires_grad_(False)

        def objective(outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
            losses, weights = parts.objective(outputs, batch)
            with torch.no_grad(), parts.precision.context():
                expected = teacher(*batch.inputs)
            return losses + distance(outputs, expected, output_kind), weights

        return replace(parts, objective=objective)

    return change
