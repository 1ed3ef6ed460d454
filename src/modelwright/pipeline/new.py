"""Data to a recipe: `scaffold.new`, with what is measured on this machine before it proposes.

Simple methods are fitted to a part of the training split and measured on a part of the validation
split, so that no test sample is looked at. Networks are timed by a few real steps. Whatever can't
be measured is said, and stops nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modelwright import data, evaluation, scaffold
from modelwright.data import Prepared
from modelwright.errors import ModelwrightError
from modelwright.initialization.published import read_once
from modelwright.ledger import Evidence
from modelwright.pipeline.measuring import simple_problem
from modelwright.pipeline.model_selection import selects_model, timed_fits
from modelwright.pipeline.network_choice import LEAST_S, choose_network, installed_features
from modelwright.pipeline.request import run_in
from modelwright.pipeline.timing import epoch_s
from modelwright.progress import shown
from modelwright.recipe import Recipe
from modelwright.recipe.spec import seconds
from modelwright.recipe.targets import METRICS, headline_metric
from modelwright.report.words import BLANK, figure, name_of, subject_name
from modelwright.run import Observe, Progress, RunRequest, silent
from modelwright.scaffold import NewResult, Probes
from modelwright.tasks import task_of

MOST_SAMPLES = 10_000
"""The most samples of each split that simple methods are fitted to and measured on here."""
_SIMPLE_S, _PROBED = 20.0, 64
"""About how long features of images and recordings may take, by so many samples of them."""


def new(
    source: object,
    *,
    out: Path | str = Path("recipe.yaml"),
    input: str | None = None,
    target: Sequence[str] | str = (),
    task: str | None = None,
    observe: Observe | None = None,
) -> NewResult:
    """Look at data, measure the simple methods, and write a recipe that fits this machine.

    Args:
        source: a folder of class folders, a table, or the name of data that is known: `digits`,
            `cifar10`; or a DataFrame, which is written to a Parquet file beside the recipe, under
            the recipe's name.
        out: where the recipe goes.
        input: the column of a table that is the input, where content and names don't tell.
        target: the column or columns of a table that are to be predicted, likewise.
        task: the task, likewise.
        observe: called with progress; by default it is shown in a notebook, and else nowhere.

    Raises:
        RequestError: there is a file at `out` already, or no such task or column.
        DataError: the data can't be used.
    """
    base = Path(out).resolve()
    with shown(observe) as watch, read_once():
        return scaffold.new(
            source,
            out=out,
            input=input,
            target=target,
            task=task,
            probes=_probes(watch, base if base.is_dir() else base.parent),
            observe=watch,
        )


def _probes(observe: Observe, base: Path) -> Probes:
    """Return what is measured here; whatever can't be is said. `base` is the recipe's folder."""

    def timed(recipe: Recipe, prepared: Prepared) -> float | None:
        try:
            return epoch_s(RunRequest(recipe), prepared)
        except ModelwrightError as error:
            observe(Progress("note", 0, 0, note=f"No step could be timed: {error.what}"))
            return None

    def simple(recipe: Recipe, prepared: Prepared) -> tuple[str, ...]:
        try:
            return _simple(recipe, prepared, observe)
        except ModelwrightError as error:
            return (f"Simple methods could not be measured: {error.what}",)

    def network(recipe: Recipe, prepared: Prepared) -> str:
        try:
            return _network(recipe, prepared, base)
        except ModelwrightError as error:
            return f"The network of `model: auto` could not be chosen: {error.what}"

    return Probes(timed, simple, network)


def _network(recipe: Recipe, prepared: Prepared, base: Path) -> str:
    """Say which network `model: auto` will train, where a published one could be."""
    if not (selects_model(recipe, prepared) and installed_features(prepared)):
        return ""
    update: dict[str, object] = {"leaks": "allow"}
    share = MOST_SAMPLES / len(prepared.rows["train"])
    if share < 1.0:
        update["limit"] = MOST_SAMPLES
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=update)})
    request, budget = RunRequest(recipe, base), recipe.train.budget
    with tempfile.TemporaryDirectory(prefix="modelwright-new-") as aside:
        context = run_in(request, Path(aside), observe=silent)
        if share < 1.0:
            whole = len(prepared.rows["train"])
            prepared = data.prepare(recipe, base=base, observe=silent)
            share = len(prepared.rows["train"]) / whole
        share = min(share, 1.0)
        fits = timed_fits(request, prepared, context, share=share)
        spent = sum(fit.timing.seconds for fit in fits)
        left = None if budget is None else max(seconds(budget) - spent, LEAST_S)
        return choose_network(request, prepared, context, left_s=left, share=share).note


# -- simple methods ----------------------------------------------------------------------------


def _simple(recipe: Recipe, prepared: Prepared, observe: Observe) -> tuple[str, ...]:
    """Return what the best simple method reaches on validation samples, in a sentence."""
    validation = prepared.dataset().validation
    if validation is None:
        return ()
    problem = simple_problem(prepared, validation, task=task_of(recipe), audio=recipe.audio)
    limit = MOST_SAMPLES
    if isinstance(prepared.inputs, np.ndarray) or prepared.input_kind == "audio":
        begun = time.monotonic()
        probed = problem.train.gather(slice(_PROBED))
        problem.features(probed)
        each_s = (time.monotonic() - begun) / len(probed)
        limit = min(limit, max(int(_SIMPLE_S / 2 / each_s), 500))
    evidence = evaluation.measure_baselines(
        problem, None, fingerprint=prepared.fingerprint("validation"), limit=limit, observe=observe
    )
    best = _best(evidence)
    if best is None:
        return ()
    shown = figure(best.metric, best.value).replace(BLANK, " ")
    noun = prepared.input_kind.plural
    method = subject_name(best.subject)
    method = method[0].upper() + method[1:]
    reached = f"is right in {shown}" if best.metric == "accuracy" else f"reaches {shown}"
    what = "" if best.metric == "accuracy" else f" ({name_of(best.metric)})"
    drawn = ""
    if max(len(problem.train), len(validation)) > limit:
        drawn = f"; at most {limit:,} drawn {noun} of each split were used here, and a run uses all"
    return (
        f"{method} {reached} of {best.n:,} validation {noun}{what}: the best simple method, which "
        f"the model is to beat{drawn}",
    )


def _best(evidence: Sequence[Evidence]) -> Evidence | None:
    """Return the best simple method's main figure."""
    metric = headline_metric(record.metric for record in evidence)
    found = [record for record in evidence if record.metric == metric and not record.slice]
    sign = 1.0 if metric and METRICS[metric].higher_is_better else -1.0
    return max(found, key=lambda record: sign * record.value, default=None)
