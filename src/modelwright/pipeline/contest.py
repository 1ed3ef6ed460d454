"""What `model: auto` tries: a linear model first, then a network; the better on validation ships.

Each is trained as a recipe that names it would train it, in a stage with a folder of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelwright import data
from modelwright.data import Prepared
from modelwright.errors import RequestError
from modelwright.initialization import initialize_model
from modelwright.kinds import VECTOR_OUTPUTS, InputKind
from modelwright.pipeline.stages import train
from modelwright.recipe import Recipe
from modelwright.recipe.model import LinearModel
from modelwright.recipe.spec import seconds
from modelwright.recipe.targets import METRICS
from modelwright.run import Progress, Run, RunRequest
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

LINEAR, NETWORK = "linear", "network"
_LINEAR_SHARE = 0.5
"""The most of a budget that choosing a linear model may take."""
_LEAST_S = 1.0
"""With less of a budget left no network is trained."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained candidate, and the data as it takes it."""

    candidate: Candidate
    prepared: Prepared
    is_network: bool = True


TrainNetwork = Callable[[RunRequest], "Candidate"]


def has_contest(recipe: Recipe, prepared: Prepared) -> bool:
    """Say whether a recipe leaves it to validation which model ships."""
    return (
        recipe.model == "auto"
        and recipe.output_kind in VECTOR_OUTPUTS
        and prepared.dataset().validation is not None
    )


def linear_request(request: RunRequest) -> RunRequest:
    """Return the request for a linear model of the same data."""
    spec, budget = request.recipe.train, request.recipe.train.budget
    if budget is not None:
        spec = spec.model_copy(update={"budget": f"{seconds(budget) * _LINEAR_SHARE:.3f}s"})
    update = {"model": LinearModel(name="linear"), "train": spec}
    return replace(request, recipe=request.recipe.model_copy(update=update))


def linear_data(request: RunRequest, prepared: Prepared, context: Run) -> Prepared:
    """Return the data as a linear model takes it: texts as n-grams, others as they are."""
    if prepared.input_kind != InputKind.TEXT:
        return prepared

    def without_notes(progress: Progress) -> None:
        if not progress.note:  # What is to be said of the data was said.
            context.observe(progress)

    return data.prepare(request.recipe, base=request.data_base, observe=without_notes)


def contend(
    request: RunRequest, prepared: Prepared, context: Run, train_network: TrainNetwork
) -> Trained:
    """Fit a linear model, train the network in the time that is left, and return the better one.

    Args:
        request: a request for `model: auto`.
        prepared: the data as the network takes it.
        context: the context of the run.
        train_network: trains the network as a request says.
    """
    begun = time.monotonic()
    asked = linear_request(request)
    try:
        linear = _linear(asked, linear_data(asked, prepared, context), context)
    except RequestError as error:
        context.say(f"A linear model is left out: {error.what}")
        return Trained(train_network(request), prepared)
    budget = request.recipe.train.budget
    if budget is not None:
        spent = context.decisions.decide("linear_s", lambda: round(time.monotonic() - begun, 3))
        left = seconds(budget) - spent
        if left < _LEAST_S:
            why = f"the linear model has taken the budget of {budget}"
            context.decisions.decide("contest", lambda: {"chosen": LINEAR, "why": why})
            context.say(f"No network is trained: {why}")
            return _noted(linear, LINEAR, {})
        spec = request.recipe.train.model_copy(update={"budget": f"{left:.3f}s"})
        recipe = request.recipe.model_copy(update={"train": spec})
        request = replace(request, recipe=recipe)
    network = Trained(train_network(request), prepared)
    return _better(linear, network, request.recipe, context)


def _linear(request: RunRequest, prepared: Prepared, context: Run) -> Trained:
    stage = context.stage(LINEAR)
    start = initialize_model(request, prepared, stage)
    return Trained(train(start, request.recipe, prepared.dataset(), stage), prepared, False)


def _better(linear: Trained, network: Trained, recipe: Recipe, context: Run) -> Trained:
    from modelwright.training import validation_scores

    task = task_of(recipe)
    metric = task.select_by

    def decide() -> dict[str, object]:
        scores = {
            name: validation_scores(each.candidate, each.prepared.dataset(), context, task=task)
            for name, each in ((LINEAR, linear), (NETWORK, network))
        }
        values = {name: float(found[metric]) for name, found in scores.items()}
        sign = 1.0 if METRICS[metric].higher_is_better else -1.0
        gain = sign * (values[NETWORK] - values[LINEAR])
        validation = network.prepared.dataset().validation
        assert validation is not None  # `has_contest` has seen to it.
        # Of equals the smaller and quicker one.
        is_network = gain > standard_error(metric, values[NETWORK], len(validation))
        is_close = gain > 0 and not is_network
        return {
            "chosen": NETWORK if is_network else LINEAR,
            "why": f"the network's {metric} on validation is better by less than a standard error"
            if is_close
            else f"the better {metric} on validation",
            "metric": metric,
            **values,
        }

    decision = context.decisions.decide("contest", decide)
    chosen = network if decision["chosen"] == NETWORK else linear
    values = {name: decision[name] for name in (LINEAR, NETWORK)}
    shown = f"linear {values[LINEAR]:.4g}, network {values[NETWORK]:.4g}"
    context.say(f"The {decision['chosen']} model ships: {decision['why']} ({shown})")
    return _noted(chosen, decision["chosen"], {"metric": metric, **values})


def standard_error(metric: str, value: float, samples: int) -> float:
    """Return the standard error of an accuracy; of other metrics 0.

    A network's epoch was chosen on the same samples, the best of many, so that a lead within a
    standard error says nothing: then the simpler model is taken (the one-standard-error rule,
    Breiman et al. 1984; Hastie, Tibshirani and Friedman 2009, section 7.10).
    """
    if metric != "accuracy":
        return 0.0
    return math.sqrt(value * (1.0 - value) / samples)


def _noted(trained: Trained, chosen: str, scores: dict[str, object]) -> Trained:
    """Return it with the choice in its lineage."""
    candidate = trained.candidate
    step = {"step": "choose", "chosen": chosen, **scores}
    return replace(trained, candidate=replace(candidate, lineage=(*candidate.lineage, step)))
