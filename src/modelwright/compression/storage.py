"""Weights that are stored in 16 bits, and decoded to fp32 when a file is loaded.

They are rounded in the network, and a codec of the file represents them exactly; the graph is that
of fp32, so that any network takes this step, and answers take as long as before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from modelwright.compression.sensitivity import choose_kept, listed
from modelwright.data import Dataset
from modelwright.errors import RequestError
from modelwright.models.candidate import Candidate
from modelwright.recipe import Recipe
from modelwright.recipe.compression import QuantizeStep
from modelwright.run import Run
from modelwright.tasks import Task

_LEAST_WEIGHTS = 1024
"""Smaller tensors stay in fp32: to declare them costs about what is saved."""
_LARGEST_ERROR = 2.0**-8
"""A tensor stays in fp32 where rounding changes it by more, as a share of its length; what bfloat16
does to a single number is half of it."""
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def store(
    candidate: Candidate, step: QuantizeStep, recipe: Recipe, data: Dataset, run: Run, task: Task
) -> tuple[Candidate, dict[str, Any]]:
    """Return a candidate whose weights are stored in 16 bits, and the facts.

    Raises:
        RequestError: there is nothing to store so.
        CompressionError: the main metric gets worse by more than `step.max_drop` on validation.
    """
    check_store(candidate, step)
    assert step.dtype is not None
    network, codecs = copy.deepcopy(candidate.network).cpu(), dict(candidate.codecs)
    kept, stored = list[str](), 0
    with torch.no_grad():
        for name, weight in weights_of(network):
            rounded = weight.to(_DTYPES[step.dtype]).float()
            if not bool((rounded - weight).norm() <= _LARGEST_ERROR * weight.norm()):
                kept.append(name)
                continue
            weight.copy_(rounded)
            codecs[name] = "+".join([step.dtype, *filter(None, [codecs.get(name)])])
            stored += 1
    if not stored:
        raise RequestError(
            f"no tensor of this network fits into {step.dtype}: its numbers are too large or small",
            where="compress",
            fix="Write `dtype: bfloat16`, which has the range of fp32, or leave the step out",
        )
    after = replace(candidate, network=network.eval(), codecs=codecs)
    _, drop = choose_kept(lambda _: after, candidate, (), step.max_drop, data, run, task)
    if kept:
        run.say(
            f"{len(kept)} tensors stay in fp32, whose numbers are too large or too small for "
            f"{step.dtype}: {listed(kept)}"
        )
    run.say(f"{stored} tensors are in {step.dtype}: a smaller file, and answers come no faster")
    return after, {"dtype": step.dtype, "tensors": stored, "kept": kept, "validation_drop": drop}


def check_store(candidate: Candidate, step: QuantizeStep) -> None:
    """Refuse a network without weights that 16 bits would change."""
    assert step.dtype is not None
    weights = [weight.detach() for _, weight in weights_of(candidate.network)]
    if all(torch.equal(weight, weight.to(_DTYPES[step.dtype]).float()) for weight in weights):
        raise RequestError(
            f"`dtype: {step.dtype}` would change no weight of this network",
            where="compress",
            why=f"Its weights have 16 bits or fewer already, or are fewer than {_LEAST_WEIGHTS:,} "
            "in each tensor",
            fix="Leave the step out",
        )


def weights_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that are stored in 16 bits, by name; those of two names once.

    They are all large tensors in fp32: parameters, and buffers such as the filters of a spectrum.
    """
    stored = network.state_dict()
    for name, item in (*network.named_parameters(), *network.named_buffers()):
        if name in stored and item.dtype == torch.float32 and item.numel() >= _LEAST_WEIGHTS:
            yield name, item
