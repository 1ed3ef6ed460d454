"""What `model: auto` tries: linear models first, then a network; the best on validation ships.

The second linear model is of the features of a published network, where its package is installed
and the data is of the kind that it was trained on; the network is that one then, trained further,
where there is time for it (`network_choice`), and the default family takes what it leaves of the
budget, and a part that is kept for it. Each is trained as a recipe that names it would train it, in
a stage with a folder of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modelwright.data import Prepared
from modelwright.errors import RequestError, TrainingError
from modelwright.files import Json
from modelwright.initialization import initialize_model
from modelwright.initialization.suitable import missing_note
from modelwright.kinds import VECTOR_OUTPUTS, InputKind
from modelwright.pipeline.network_choice import (
    LEAST_S,
    LEAVES_OUT,
    MOST_S,
    NetworkChoice,
    choose_network,
    default_beside,
    installed_features,
    prepare_for,
)
from modelwright.pipeline.stages import features_of_images, fit_features, train
from modelwright.recipe import Recipe
from modelwright.recipe.model import LinearModel
from modelwright.recipe.spec import seconds
from modelwright.recipe.targets import METRICS
from modelwright.recipe.train import TrainSpec
from modelwright.run import Run, RunRequest
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.modelfile.export import TracedGraph
    from modelwright.modelfile.features import ImageFeatures
    from modelwright.models.candidate import Candidate
    from modelwright.training.linear import FitTiming

LINEAR, PUBLISHED, NETWORK, DEFAULT = "linear", "published", "network", "default"
_LINEAR_SHARE = 0.5
"""The most of a budget that choosing a linear model may take."""
_TIMED, _TIMED_PUBLISHED = 1000, 100
"""How many samples tell how long a linear model takes; one of a published network's features."""
_MANY_LABELS = 1000
"""With more labels than this a linear model is timed before it is fitted, …"""
_MANY_SAMPLES = 10_000
"""… and under a budget with more samples than this."""
_PLAIN_SHARE = 0.2
"""The most of the time of linear models that the one of plain features may take: of more samples
than that holds it is fitted to a part, as a network learns more in that time."""
_MOST_LEAD = 0.005
"""The most by which a network must be better than a linear model to ship."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained candidate, and the data as it takes it."""

    candidate: Candidate
    prepared: Prepared
    traced: Mapping[str, TracedGraph] = field(default_factory=dict)
    """The graphs of its network that were traced before, in the rehearsal."""
    others: Mapping[str, Trained] = field(default_factory=dict)
    """Those that were trained beside it by `model: auto`, by their names."""
    train: TrainSpec | None = None
    """The section `train` that it learnt by, where that isn't the recipe's own."""
    is_given: bool = False
    """Whether it comes from a finished file, and not from this run."""

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe by which the network goes on learning, in the time that it allows."""
        if self.train is None:
            return recipe
        train = self.train.model_copy(update={"budget": recipe.train.budget})
        return recipe.model_copy(update={"train": train})


TrainNetwork = Callable[[NetworkChoice], Trained]


def selects_model(recipe: Recipe, prepared: Prepared) -> bool:
    """Say whether a recipe leaves it open which model ships."""
    return recipe.model == "auto" and recipe.output_kind in VECTOR_OUTPUTS


def linear_request(request: RunRequest) -> RunRequest:
    """Return the request for a linear model of the same data."""
    budget, model = request.recipe.train.budget, LinearModel(name="linear")
    request = replace(request, recipe=request.recipe.model_copy(update={"model": model}))
    return request if budget is None else _with_budget(request, seconds(budget) * _LINEAR_SHARE)


def published_request(request: RunRequest, prepared: Prepared) -> RunRequest:
    """Return the request for a linear model of a published network's features."""
    model = LinearModel.model_validate({"name": "linear", "features": installed_features(prepared)})
    return replace(request, recipe=request.recipe.model_copy(update={"model": model}))


def _with_budget(request: RunRequest, budget_s: float) -> RunRequest:
    train = request.recipe.train.model_copy(update={"budget": f"{budget_s:.3f}s"})
    return replace(request, recipe=request.recipe.model_copy(update={"train": train}))


def linear_data(request: RunRequest, prepared: Prepared, context: Run) -> Prepared:
    """Return the data as a linear model takes it: texts as n-grams, others as they are."""
    if prepared.input_kind != InputKind.TEXT:
        return prepared
    return prepare_for(request, prepared, context)


def select_model(
    request: RunRequest, prepared: Prepared, context: Run, train_network: TrainNetwork
) -> Trained:
    """Fit a linear model, train networks in the time that is left, and return the best one.

    Without a validation split there is nothing to compare them by, and a network is trained alone.

    Args:
        request: a request for `model: auto`.
        prepared: the data as the network takes it.
        context: the context of the run.
        train_network: trains the network as a request says.
    """
    begun, linear = time.monotonic(), None
    asked, budget = linear_request(request), request.recipe.train.budget
    if prepared.dataset().validation is None:
        context.say(
            "No linear model is fitted: there is no validation split to compare it with a network"
        )
    else:
        try:
            linear = _linear(asked, linear_data(asked, prepared, context), context)
        except RequestError as error:
            context.say(f"A linear model is left out: {error.what}")
        linear = _with_published(linear, asked, prepared, context, begun)
    left = None
    if budget is not None:
        spent = context.decisions.decide("linear_s", lambda: round(time.monotonic() - begun, 3))
        left = max(seconds(budget) - spent, 0.001)
        if linear is not None and left < LEAST_S:
            why = f"the linear model has taken the budget of {budget}"
            context.decisions.decide("model_selection", lambda: {"chosen": LINEAR, "why": why})
            context.say(f"No network is trained: {why}")
            return _noted(linear, {"step": "choose", "chosen": LINEAR})
    choice = choose_network(request, prepared, context, left_s=left)
    if choice.note:
        context.say(choice.note)
    network = _networks(choice, request, prepared, context, train_network)
    return network if linear is None else _better(linear, network, request.recipe, context)


def _networks(
    choice: NetworkChoice,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
    train_network: TrainNetwork,
) -> Trained:
    """Train the network of a choice, and where a published one leaves time, the default family.

    Returns:
        The better network on validation, with the other one beside it.
    """
    begun, published = time.monotonic(), train_network(choice)
    if not choice.is_published:
        return published
    # By these settings it learnt, in the time that limits of size and latency left to it.
    own = (published.train or choice.request.recipe.train).budget
    if own is None:
        return published
    taken_s = max(published.candidate.reports[-1].seconds, time.monotonic() - begun)
    taken_s = context.decisions.decide("network_s", lambda: round(taken_s, 3))
    beside = default_beside(choice, request, prepared, left_s=seconds(own) - taken_s)
    if beside is None:
        return published
    context.say(beside.note)
    try:
        default = train_network(beside)
    except TrainingError as error:
        context.say(f"The default family is left out: {error.what}")
        return published
    metric = task_of(request.recipe).select_by
    both = {PUBLISHED: published, DEFAULT: default}
    values = context.decisions.decide(
        "network_scores", lambda: _scored(both, request.recipe, context)
    )
    is_better = _sign(metric) * values[DEFAULT] > _sign(metric) * values[PUBLISHED]
    kept = "default family" if is_better else "published one"
    context.say(
        f"Of the networks the {kept} is taken: the better {metric} on validation (published "
        f"{values[PUBLISHED]:.4g}, default family {values[DEFAULT]:.4g})"
    )
    step = {"step": "choose-network", "metric": metric, **values}
    if is_better:
        chosen = replace(default, others={PUBLISHED: published})
        return _noted(chosen, {**step, "chosen": DEFAULT})
    return _noted(replace(published, others={DEFAULT: default}), {**step, "chosen": PUBLISHED})


def _linear(request: RunRequest, prepared: Prepared, context: Run) -> Trained:
    stage = context.stage(LINEAR)
    start = initialize_model(request, prepared, stage)
    budget, labels, part = request.recipe.train.budget, len(prepared.labels), prepared
    if labels > _MANY_LABELS or (budget is not None and _is_large(prepared)):
        # A fit takes longer by each, and can't be cut short.
        recipe = request.recipe.model_copy(
            update={"train": request.recipe.train.model_copy(update={"budget": None})}
        )
        needed = context.decisions.decide(
            "linear_needed_s",
            lambda: round(time_linear(start, recipe, prepared, stage).seconds, 3),
        )
        limit = MOST_S if budget is None else seconds(budget)
        if labels > _MANY_LABELS and needed > limit:
            raise RequestError(
                f"with {labels:,} classes it would take about {needed:,.0f} s, "
                "longer than linear models may take here"
            )
        if budget is not None and _is_large(prepared):
            request = _with_budget(request, _PLAIN_SHARE * limit)
            if needed > _PLAIN_SHARE * limit:
                part = _drawn(prepared, _PLAIN_SHARE * limit / needed, context)
    return Trained(train(start, request.recipe, part.dataset(), stage), prepared)


def _is_large(prepared: Prepared, share: float = 1.0) -> bool:
    """Say whether there are many training samples, of which `prepared` holds a share."""
    return len(prepared.rows["train"]) > share * _MANY_SAMPLES


def _drawn(prepared: Prepared, share: float, context: Run) -> Prepared:
    """Return data with a share of the training samples, drawn at random."""
    rows = prepared.rows["train"]
    count = max(int(share * len(rows)), 1)
    context.say(
        f"The linear model is fitted to {count:,} of {len(rows):,} training samples, drawn at "
        "random, so that most of the time is the network's"
    )
    drawn = np.random.default_rng(context.seed).choice(len(rows), size=count, replace=False)
    return replace(prepared, rows={**prepared.rows, "train": rows[np.sort(drawn)]})


def _with_published(
    linear: Trained | None, asked: RunRequest, prepared: Prepared, context: Run, begun: float
) -> Trained | None:
    """Return the better linear model: that of plain features, or of a published network's.

    There may be neither. `begun` is when the first one was begun, by `time.monotonic`: both share
    one budget.
    """
    if not installed_features(prepared):
        if note := missing_note(prepared):
            context.say(note)
        return linear
    stage, budget = context.stage(PUBLISHED), asked.recipe.train.budget
    request = published_request(asked, prepared)
    model = request.recipe.model
    assert isinstance(model, LinearModel)
    features = model.features
    try:
        taken = prepare_for(request, prepared, context)
        start = initialize_model(request, taken, stage)
    except LEAVES_OUT as error:
        context.say(f"Features of `{features}` are left out: {error.what}")
        return linear

    quick = features_of_images(start, model, stage)

    def decide() -> dict[str, float]:
        timing = time_linear(start, request.recipe, taken, stage, image_features=quick)
        needed = round(timing.seconds, 3)
        left = MOST_S if budget is None else seconds(budget) - (time.monotonic() - begun)
        return {"needed": needed, "left": round(left, 3)}

    decided = context.decisions.decide("published_s", decide)
    if decided["needed"] >= decided["left"]:
        context.say(
            f"Features of `{features}` are left out: they would take about "
            f"{decided['needed']:.0f} s, longer than linear models may take here"
        )
        return linear
    if budget is not None:  # Both share one budget.
        request = _with_budget(request, decided["left"])
    try:
        fitted = fit_features(
            start, request.recipe, model, taken.dataset(), stage, image_features=quick
        )
    except RequestError as error:
        context.say(f"Features of `{features}` are left out: {error.what}")
        return linear
    published = Trained(fitted, taken)
    if linear is None:
        return published
    metric = task_of(asked.recipe).select_by
    both = {LINEAR: linear, PUBLISHED: published}
    values = context.decisions.decide("linear_scores", lambda: _scored(both, asked.recipe, context))
    is_better = _sign(metric) * values[PUBLISHED] > _sign(metric) * values[LINEAR]
    plain = str(LinearModel(name="linear").of(prepared.input_kind).features)
    context.say(
        f"Of linear models that of {features if is_better else plain} is taken: the better "
        f"{metric} on validation ({plain} {values[LINEAR]:.4g}, {features} "
        f"{values[PUBLISHED]:.4g})"
    )
    return published if is_better else linear


@dataclass(frozen=True, slots=True)
class TimedFit:
    """A linear model that `model: auto` will fit, and what that takes."""

    request: RunRequest
    prepared: Prepared
    start: Candidate
    timing: FitTiming


def timed_fits(
    request: RunRequest, prepared: Prepared, context: Run, *, share: float = 1.0
) -> list[TimedFit]:
    """Return the linear models that `model: auto` will fit, each timed by a few samples.

    The arguments are those of `choose_network`. What can't be fitted is left out, and said.
    """
    asked, fits = linear_request(request), list[TimedFit]()
    if prepared.dataset().validation is None:
        return fits
    requests = [asked]
    if installed_features(prepared):
        requests.append(published_request(asked, prepared))
    for each in requests:
        try:
            taken = (
                prepare_for(each, prepared, context)
                if fits
                else linear_data(each, prepared, context)
            )
            start = initialize_model(each, taken, context)
            timing = time_linear(start, each.recipe, taken, context)
            taken_s, budget = timing.seconds / share, each.recipe.train.budget
            if not fits and budget is not None and _is_large(taken, share):
                taken_s = min(taken_s, _PLAIN_SHARE * seconds(budget))
            timing = replace(timing, seconds=taken_s)
            fits.append(TimedFit(each, taken, start, timing))
        except LEAVES_OUT as error:
            context.say(f"A linear model is left out: {error.what}")
            break
    budget = asked.recipe.train.budget
    limit = MOST_S if budget is None else seconds(budget) - sum(x.timing.seconds for x in fits[:1])
    return [fit for at, fit in enumerate(fits) if at == 0 or fit.timing.seconds < limit]


def time_linear(
    start: Candidate,
    recipe: Recipe,
    prepared: Prepared,
    run: Run,
    *,
    image_features: ImageFeatures | None = None,
) -> FitTiming:
    """Return what a linear model will take, by a few samples; at most the budget."""
    from modelwright.training import time_fit

    model = recipe.model
    assert isinstance(model, LinearModel)
    return time_fit(
        start,
        model,
        recipe.train,
        prepared.dataset(),
        run,
        task=task_of(recipe),
        image_features=image_features or features_of_images(start, model, run),
        samples=_TIMED if model.network is None else _TIMED_PUBLISHED,
    )


def _scored(trained: dict[str, Trained], recipe: Recipe, context: Run) -> dict[str, float]:
    """Return the metric that models are chosen by, on validation, by their names."""
    from modelwright.training import validation_scores

    task = task_of(recipe)
    found = {
        name: validation_scores(each.candidate, each.prepared.dataset(), context, task=task)
        for name, each in trained.items()
    }
    return {name: float(scores[task.select_by]) for name, scores in found.items()}


def _sign(metric: str) -> float:
    return 1.0 if METRICS[metric].higher_is_better else -1.0


def _better(linear: Trained, network: Trained, recipe: Recipe, context: Run) -> Trained:
    metric = task_of(recipe).select_by

    def decide() -> dict[str, object]:
        values = _scored({LINEAR: linear, NETWORK: network}, recipe, context)
        gain = _sign(metric) * (values[NETWORK] - values[LINEAR])
        validation = network.prepared.dataset().validation
        assert validation is not None  # `selects_model` has seen to it.
        # Of equals the smaller and quicker one.
        is_network = gain > least_lead(metric, values[NETWORK], len(validation))
        is_close = gain > 0 and not is_network
        return {
            "chosen": NETWORK if is_network else LINEAR,
            "why": f"the network's {metric} on validation is hardly better"
            if is_close
            else f"the better {metric} on validation",
            "metric": metric,
            **values,
        }

    decision = context.decisions.decide("model_selection", decide)
    if decision["chosen"] == NETWORK:
        chosen = replace(network, others={LINEAR: linear, **network.others})
    else:
        # A linear model of the same network's features has the graph that was traced for that.
        traced = network.others.get(PUBLISHED, network).traced
        others = {NETWORK: replace(network, others={}), **network.others}
        chosen = replace(linear, traced=traced, others=others)
    values = {name: decision[name] for name in (LINEAR, NETWORK)}
    shown = f"linear {values[LINEAR]:.4g}, network {values[NETWORK]:.4g}"
    context.say(f"The {decision['chosen']} model ships: {decision['why']} ({shown})")
    step = {"step": "choose", "chosen": decision["chosen"], "metric": metric, **values}
    return _noted(chosen, step)


def least_lead(metric: str, value: float, samples: int) -> float:
    """Return by how much a network must be better: by the standard error of an accuracy.

    Its epoch was chosen on the same samples, the best of many, so that a lead within a standard
    error says little: then the simpler model is taken (the one-standard-error rule, Breiman et al.
    1984; Hastie, Tibshirani and Friedman 2009, section 7.10). Of few samples it is half a point, so
    that no more is lost by it; of other metrics 0.
    """
    if metric != "accuracy":
        return 0.0
    return min(math.sqrt(value * (1.0 - value) / samples), _MOST_LEAD)


def _noted(trained: Trained, step: dict[str, Json]) -> Trained:
    """Return it with the choice in its lineage."""
    candidate = trained.candidate
    return replace(trained, candidate=replace(candidate, lineage=(*candidate.lineage, step)))
