"""What `model: auto` tries: linear models first, then a network; the best on validation ships.

The second linear model is of the features of a published network, where its package is installed
and the data is of the kind that it was trained on.
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
from modelwright.initialization import initialize_model, settled_input
from modelwright.initialization.published import is_installed
from modelwright.initialization.suitable import missing_note, suitable_features
from modelwright.kinds import VECTOR_OUTPUTS, InputKind
from modelwright.pipeline.stages import features_of_images, train
from modelwright.recipe import Recipe
from modelwright.recipe.model import LinearModel
from modelwright.recipe.spec import seconds
from modelwright.recipe.targets import METRICS
from modelwright.run import Progress, Run, RunRequest
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

LINEAR, PUBLISHED, NETWORK = "linear", "published", "network"
_LINEAR_SHARE = 0.5
"""The most of a budget that choosing a linear model may take."""
_TIMED = 100
"""How many samples tell how long a published network's features will take."""
_MOST_S = 600.0
"""The most that a linear model may take where there is no budget."""
_MANY_LABELS = 1000
"""With more labels than this a linear model is timed before it is fitted."""
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
    return _data_of(request, prepared, context)


def _data_of(request: RunRequest, prepared: Prepared, context: Run) -> Prepared:
    """Return the data as the recipe's own model takes it."""

    def without_notes(progress: Progress) -> None:
        if not progress.note:  # What is to be said of the data was said.
            context.observe(progress)

    like = settled_input(request)
    return data.prepare_again(prepared, request.recipe, like=like, observe=without_notes)


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
        linear = _with_published(linear, asked, prepared, context, begun)
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
    if len(prepared.labels) > _MANY_LABELS:  # A fit takes longer by each, and can't be cut short.
        model, budget = request.recipe.model, request.recipe.train.budget
        assert isinstance(model, LinearModel)
        recipe = request.recipe.model_copy(
            update={"train": request.recipe.train.model_copy(update={"budget": None})}
        )
        needed = context.decisions.decide(
            "linear_needed_s", lambda: _needed_s(start, model, recipe, prepared, stage)
        )
        if needed > (_MOST_S if budget is None else seconds(budget)):
            raise RequestError(
                f"with {len(prepared.labels):,} classes it would take about {needed:,.0f} s, "
                "longer than linear models may take here"
            )
    return Trained(train(start, request.recipe, prepared.dataset(), stage), prepared, False)


def _with_published(
    linear: Trained, asked: RunRequest, prepared: Prepared, context: Run, begun: float
) -> Trained:
    """Return the better linear model: that of plain features, or of a published network's.

    `begun` is when the first one was begun, by `time.monotonic`: both share one budget.
    """
    features = suitable_features(prepared)
    if features is None or not is_installed(features):
        if note := missing_note(prepared):
            context.say(note)
        return linear
    model = LinearModel(name="linear", features=features)
    request = replace(asked, recipe=asked.recipe.model_copy(update={"model": model}))
    stage = context.stage(PUBLISHED)
    try:
        taken = _data_of(request, prepared, context)
        start = initialize_model(request, taken, stage)
    except RequestError as error:
        context.say(f"Features of `{features}` are left out: {error.what}")
        return linear
    budget = request.recipe.train.budget

    def decide() -> dict[str, float]:
        needed = _needed_s(start, model, request.recipe, taken, stage)
        left = _MOST_S if budget is None else seconds(budget) - (time.monotonic() - begun)
        return {"needed": needed, "left": round(left, 3)}

    decided = context.decisions.decide("published_s", decide)
    if decided["needed"] >= decided["left"]:
        context.say(
            f"Features of `{features}` are left out: they would take about "
            f"{decided['needed']:.0f} s, longer than linear models may take here"
        )
        return linear
    published = Trained(train(start, request.recipe, taken.dataset(), stage), taken, False)
    metric = task_of(asked.recipe).select_by

    def score() -> dict[str, float]:
        scores = _scored({LINEAR: linear, PUBLISHED: published}, asked.recipe, context)
        return {name: float(found[metric]) for name, found in scores.items()}

    values = context.decisions.decide("linear_scores", score)
    is_better = _sign(metric) * values[PUBLISHED] > _sign(metric) * values[LINEAR]
    plain = str(LinearModel(name="linear").of(prepared.input_kind).features)
    context.say(
        f"Of linear models that of {features if is_better else plain} is taken: the better "
        f"{metric} on validation ({plain} {values[LINEAR]:.4g}, {features} "
        f"{values[PUBLISHED]:.4g})"
    )
    return published if is_better else linear


def _needed_s(
    start: Candidate, model: LinearModel, recipe: Recipe, prepared: Prepared, run: Run
) -> float:
    """Return how long a linear model will take, by a few samples; at most the budget."""
    from modelwright.training import time_fit

    timing = time_fit(
        start,
        model,
        recipe.train,
        prepared.dataset(),
        run,
        task=task_of(recipe),
        image_features=features_of_images(start, model, run),
        samples=_TIMED,
    )
    return round(timing.seconds, 3)


def _scored(
    trained: dict[str, Trained], recipe: Recipe, context: Run
) -> dict[str, dict[str, float]]:
    """Return the scores on validation by the names of models."""
    from modelwright.training import validation_scores

    task = task_of(recipe)
    return {
        name: dict(validation_scores(each.candidate, each.prepared.dataset(), context, task=task))
        for name, each in trained.items()
    }


def _sign(metric: str) -> float:
    return 1.0 if METRICS[metric].higher_is_better else -1.0


def _better(linear: Trained, network: Trained, recipe: Recipe, context: Run) -> Trained:
    metric = task_of(recipe).select_by

    def decide() -> dict[str, object]:
        scores = _scored({LINEAR: linear, NETWORK: network}, recipe, context)
        values = {name: float(found[metric]) for name, found in scores.items()}
        gain = _sign(metric) * (values[NETWORK] - values[LINEAR])
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
