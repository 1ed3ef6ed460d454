"""Which layers a step leaves as they are, so that the main metric keeps within what is allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.data import Dataset, Split
from modelwright.data.batches import Batches
from modelwright.errors import CompressionError
from modelwright.models.candidate import Candidate
from modelwright.recipe.targets import METRICS
from modelwright.run import Progress, Run
from modelwright.tasks import Task
from modelwright.training import validation_scores

BATCH = 32
"""So many samples pass through a network together."""
_PROBED = 64
"""So many samples tell how much each layer hurts."""
_COMPARED = 1000
"""So many validation samples compare choices of layers, before all samples measure the chosen."""
_MOST_KEPT = 0.5
"""The largest share of the layers that may stay as they are."""

Attempt = Callable[[Collection[str]], Candidate]
"""From the layers that stay as they are to the candidate that the step makes."""


def sample_inputs(split: Split, count: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield the inputs of samples that are spread evenly over a split, batch by batch."""
    batches = Batches(split)
    rows = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64))
    lengths = split.lengths()
    if lengths is not None:  # Those of like lengths together, for little padding.
        rows = rows[np.argsort(lengths[rows], kind="stable")]
    for start in range(0, len(rows), BATCH):
        yield batches.at(0, rows[start : start + BATCH]).inputs


def watch_inputs(
    network: nn.Module,
    names: Iterable[str],
    split: Split,
    samples: int,
    look: Callable[[str, nn.Module, tuple[Tensor, ...]], None],
) -> None:
    """Call `look` with what each of some layers is given, over samples of a split."""
    network = copy.deepcopy(network).cpu().eval()
    for name in names:
        network.get_submodule(name).register_forward_pre_hook(partial(look, name))
    with torch.inference_mode():
        for inputs in sample_inputs(split, samples):
            network(*inputs)


def both_scores(
    before: Candidate, after: Candidate, data: Dataset, run: Run, task: Task
) -> tuple[float, float] | None:
    """Return the main metric of two candidates on the validation split, if there is one."""
    if data.validation is None:
        return None
    one, other = (validation_scores(item, data, run, task=task) for item in (before, after))
    return one[task.select_by], other[task.select_by]


def allowed_drop(
    scores: tuple[float, float] | None,
    allowed: float,
    run: Run,
    task: Task,
    *,
    made: str = "",
    fix: str,
) -> float | None:
    """Return by how much the main metric got worse from one score to the other, if there are any.

    Raises:
        CompressionError: it is more than is allowed; it says what was `made`.
    """
    if scores is None:
        return None
    drop = METRICS[task.select_by].worsening(*scores)
    if drop > allowed:
        raise CompressionError(
            f"`{run.stage_name}` makes `{task.select_by}` worse by {drop:.3g} on the validation "
            f"split, and {allowed:.3g} is allowed",
            where="compress",
            why=f"It was {scores[0]:.4g} and is {scores[1]:.4g}{made}",
            fix=fix,
        )
    return drop


def choose_kept(
    attempt: Attempt,
    candidate: Candidate,
    names: Sequence[str],
    allowed: float,
    data: Dataset,
    run: Run,
    task: Task,
) -> tuple[tuple[str, ...], float | None]:
    """Return the layers that stay as they are, and by how much the main metric got worse.

    First no layer stays. Where that costs more than is allowed, the layer that hurts most does,
    then the two that do, the four, and so on. Of a large validation split a part tells when it is
    enough; the whole then decides, and where it doesn't agree the search goes on with it.

    Raises:
        CompressionError: half of the layers isn't enough.
    """
    if data.validation is None:
        run.say(
            f"There is no validation split to tell what `{run.stage_name}` costs, so it is done to "
            "all layers"
        )
        return (), None
    metric = task.select_by
    most, order, count = int(_MOST_KEPT * len(names)), list[str](), 0
    compared = data
    if names and len(data.validation) > 2 * _COMPARED:
        rows = np.linspace(0, len(data.validation) - 1, _COMPARED).astype(np.int64)
        compared = replace(data, validation=data.validation.take(rows))
    before = validation_scores(candidate, compared, run, task=task)[metric]
    while True:
        kept = tuple(order[:count])
        after = validation_scores(attempt(kept), compared, run, task=task)[metric]
        drop = METRICS[metric].worsening(before, after)
        run.observe(Progress(run.stage_name, count, max(most, 1), values={metric: after}))
        if drop <= allowed or count >= most:
            if compared is data:
                break
            compared, before = data, validation_scores(candidate, data, run, task=task)[metric]
            continue
        order = order or _by_harm(attempt, candidate, names, data.validation, run)
        count = min(max(2 * count, 1), most)
    made = f", with {count} of {len(names)} layers left as they are" if names else ""
    fix = "Raise the step's `max_drop`, or leave the step out"
    allowed_drop((before, after), allowed, run, task, made=made, fix=fix)
    if kept:
        run.say(
            f"{count} of {len(names)} layers stay in fp32, those that hurt most: {listed(kept)}"
        )
    return kept, drop


def say_untouched(network: nn.Module, names: Collection[str], run: Run) -> None:
    """Say which layers with weights a step leaves as they are, by their kind or their size."""
    owners = (name.rpartition(".")[0] for name, item in network.named_parameters() if item.ndim > 1)
    others = [name for name in dict.fromkeys(owners) if name not in names]
    if others:
        run.say(
            f"`{run.stage_name}` is not for {len(others)} layers, which stay as they are, by their "
            f"kind or size: {listed(others)}"
        )


def listed(names: Sequence[str]) -> str:
    """Return the first of some names, for a sentence."""
    return ", ".join(f"`{name}`" for name in names[:4]) + (", …" if len(names) > 4 else "")


def _by_harm(
    attempt: Attempt, candidate: Candidate, names: Sequence[str], split: Split, run: Run
) -> list[str]:
    """Return the layers, first those of which the step alone changes the outputs most."""
    batches = list(sample_inputs(split, _PROBED))
    expected = [_outputs(candidate.network, inputs) for inputs in batches]
    harm = {}
    for at, name in enumerate(names):
        run.observe(Progress("sensitivity", at, len(names)))
        network = attempt([other for other in names if other != name]).network
        harm[name] = sum(
            float((found - right).square().sum())
            for inputs, wanted in zip(batches, expected, strict=True)
            for found, right in zip(_outputs(network, inputs), wanted, strict=True)
        )
    run.observe(Progress("sensitivity", len(names), len(names)))
    return sorted(names, key=lambda name: -harm[name])


@torch.inference_mode()
def _outputs(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    answer = network.eval()(*inputs)
    return [item.float() for item in (answer if isinstance(answer, tuple) else (answer,))]
