"""Data to a recipe: `scaffold.new`, with what is measured on this machine before it proposes.

Simple methods are fitted to a part of the training split and measured on a part of the validation
split, so that no test sample is looked at. Networks are timed by a few real steps. Whatever can't
be measured is said, and stops nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelwright import evaluation, scaffold
from modelwright.data import Prepared
from modelwright.data.listing import Rows
from modelwright.errors import ModelwrightError
from modelwright.initialization import initialize_model
from modelwright.ledger import Evidence
from modelwright.pipeline.measuring import simple_problem
from modelwright.pipeline.request import run_in
from modelwright.progress import shown
from modelwright.recipe import Recipe
from modelwright.recipe.targets import METRICS, headline_metric
from modelwright.report.words import BLANK, figure, name_of, subject_name
from modelwright.run import Observe, Progress, RunRequest, silent
from modelwright.scaffold import NewResult, Probes
from modelwright.tasks import task_of
from modelwright.transforms import ImageInput

MOST_SAMPLES = 10_000
"""The most samples of each split that simple methods are fitted to and measured on here."""
_SIMPLE_S, _PROBED = 20.0, 64
"""About how long features of images and recordings may take, by so many samples of them."""
_TIMED_ROWS = {"train": 2048, "validation": 256, "test": 1}
"""How many samples of each split a few steps and a validation are timed on."""


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
    with shown(observe) as watch:
        return scaffold.new(
            source,
            out=out,
            input=input,
            target=target,
            task=task,
            probes=_trials(watch),
            observe=watch,
        )


def _trials(observe: Observe) -> Probes:
    """Return what is measured here; whatever can't be is said."""

    def epoch_s(recipe: Recipe, prepared: Prepared) -> float | None:
        try:
            return _epoch_s(recipe, prepared)
        except ModelwrightError as error:
            observe(Progress("note", 0, 0, note=f"No step could be timed: {error.what}"))
            return None

    def simple(recipe: Recipe, prepared: Prepared) -> tuple[str, ...]:
        try:
            return _simple(recipe, prepared, observe)
        except ModelwrightError as error:
            return (f"Simple methods could not be measured: {error.what}",)

    return Probes(epoch_s, simple)


# -- a network, timed --------------------------------------------------------------------------


def _epoch_s(recipe: Recipe, prepared: Prepared) -> float:
    """Return the seconds of one epoch with its validation, by a few steps of a drawn part."""
    from modelwright.training import time_steps

    part = _with_size(_drawn(prepared, recipe), recipe)
    with tempfile.TemporaryDirectory(prefix="modelwright-new-") as aside:
        request = RunRequest(recipe)
        context = run_in(request, Path(aside), observe=silent)
        start = initialize_model(request, part, context)
        dataset = part.dataset()
        cost = time_steps(
            start, recipe.train, dataset, context, task=task_of(recipe), augment=recipe.augment
        )
    whole = prepared.dataset()
    batch = min(recipe.train.batch_size, len(dataset.train))
    validation_s = cost.validation_s
    if dataset.validation is not None and whole.validation is not None:
        validation_s *= len(whole.validation) / len(dataset.validation)
    return cost.step_s * max(len(whole.train) // batch, 1) + validation_s


def _drawn(prepared: Prepared, recipe: Recipe) -> Prepared:
    """Return the data with a part of the samples, evenly drawn."""
    generates = task_of(recipe).text_metrics is not None  # Then a fixed number is validated on.

    def some(name: str, rows: Rows) -> Rows:
        most = len(rows) if generates and name == "validation" else _TIMED_ROWS.get(name, 1)
        drawn = np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64))
        return rows[drawn] if len(rows) > most else rows

    return replace(prepared, rows={name: some(name, rows) for name, rows in prepared.rows.items()})


def _with_size(prepared: Prepared, recipe: Recipe) -> Prepared:
    """Return images as a recipe takes them: random pixels where it takes another size.

    So no image is decoded at a size that may not be chosen; the time of a step is the same.
    """
    if not isinstance(prepared.input, ImageInput):
        return prepared
    own, size = prepared.input, recipe.transforms.size
    height, width = size if isinstance(size, tuple) else (size, size)
    if height == "auto" or width == "auto":
        height, width = own.height, own.width
    is_published = recipe.model != "auto" and bool(recipe.model.published)
    channels = 3 if is_published else own.channels
    if (height, width, channels) == (own.height, own.width, own.channels):
        return prepared
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    inputs = np.broadcast_to(drawn, (len(prepared.inputs), *drawn.shape))
    return replace(
        prepared,
        input=replace(own, height=height, width=width, channels=channels),
        targets=replace(prepared.targets, inputs=inputs),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


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
