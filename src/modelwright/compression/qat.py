"""Quantization-aware training: the weights learn while all is rounded as it will be in int8.

Norms are folded before, so there are no statistics of batches to be kept apart (Nagel et al. 2021,
`A White Paper on Neural Network Quantization`, section 4.1). The ranges of activations stand still;
what lies outside of them takes no gradient. Weights and biases learn through their rounding
(`FakeQuantizedLayer`), all other parameters as ever, in the one loop at a low rate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.fx import GraphModule

from modelwright.compression.prune import ALL_ALIKE, fit_further, further, keeping_zeros
from modelwright.compression.sensitivity import both_scores
from modelwright.data import Dataset
from modelwright.errors import RequestError
from modelwright.models.candidate import Candidate
from modelwright.recipe import Recipe
from modelwright.recipe.compression import QuantizeStep
from modelwright.recipe.targets import METRICS
from modelwright.recipe.train import MuonOptimizer, TrainSpec
from modelwright.run import Run
from modelwright.tasks import Task

SHARE = 0.25
"""The share of `train.epochs`, or of its budget, that this training takes by itself."""
RATE = 0.1
"""The factor on the learning rate of `train.optimizer`: the network has been trained before."""


def train_rounded(
    candidate: Candidate,
    graph: GraphModule,
    build: Callable[..., GraphModule],
    step: QuantizeStep,
    recipe: Recipe,
    data: Dataset,
    run: Run,
    task: Task,
) -> tuple[GraphModule, dict[str, Any]]:
    """Return a graph with weights that have learnt in int8, and the facts.

    Where that is worse on validation than rounding alone, the graph is returned as it was.

    `build` makes of a graph the one with int8 layers, or with `learns=True` one that can learn.

    Raises:
        StoppedError: a stop was requested; the state is saved.
        TrainingError: training diverged.
    """
    network = build(graph, learns=True)
    known = dict(candidate.network.named_parameters())
    for name, parameter in network.named_parameters():
        # A bias that a folded norm has given a layer learns where its weights do.
        own = known.get(name, known.get(f"{name.rpartition('.')[0]}.weight"))
        parameter.requires_grad_(own is None or own.requires_grad)
    for node in network.graph.nodes:  # Constants were traced on the processor.
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device(run.device)}
    network.recompile()
    begun, train = replace(candidate, network=network), training_of(step, recipe.train)
    fitted, report = fit_further(begun, train, recipe, data, run, task, keeping_zeros(candidate))
    weights = fitted.network.state_dict()
    trained = copy.deepcopy(graph)
    trained.load_state_dict({name: weights[name] for name in trained.state_dict()})
    facts = {"qat": True, "steps": report.steps}
    before, after = (replace(candidate, network=build(each)) for each in (graph, trained))
    scores = both_scores(before, after, data, run, task)
    if scores is None:
        return trained, facts
    is_worse = METRICS[task.select_by].worsening(*scores) > 0
    run.say(
        f"Training in int8 takes `{task.select_by}` from {scores[0]:.4g} to {scores[1]:.4g} on "
        "the validation split" + (", so it is left out" if is_worse else "")
    )
    return (graph, {"qat": False}) if is_worse else (trained, facts)


def training_of(step: QuantizeStep, train: TrainSpec) -> TrainSpec:
    """Return how a network learns in int8: short, at a low rate, in fp32, all layers at once."""
    optimizer = train.optimizer
    if isinstance(optimizer, MuonOptimizer):
        optimizer = optimizer.rest  # Muon's steps are long by design, at any loss.
    changes = {
        "optimizer": optimizer.model_copy(update={"lr": optimizer.lr * RATE}),
        "precision": "fp32",
        "compile": "off",
        **ALL_ALIKE,  # The recipe names layers as they were before norms were folded.
    }
    return further(train, step.epochs, usual=SHARE, changes=changes)


def check_trainable(candidate: Candidate) -> None:
    """Refuse a network that stands still as a whole."""
    if not any(item.requires_grad for item in candidate.network.parameters()):
        raise RequestError(
            "no layer of this network learns, so `qat: true` can't train it",
            where="compress",
            why="Its weights are fitted without the loop, or `model.freeze` holds all of them",
            fix="Leave `qat` out: int8 without it rounds the weights as they are",
        )
