"""Looking without training: audit and forecast, and a network's layers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright import data
from modelwright.data import Finding, Prepared
from modelwright.errors import require
from modelwright.initialization import (
    initialize_model,
    pending_network,
    pin_network,
    settled_input,
)
from modelwright.initialization.published import read_once
from modelwright.pipeline.measuring import require_held_out
from modelwright.pipeline.model_selection import (
    TimedFit,
    selects_model,
    time_linear,
    timed_fits,
)
from modelwright.pipeline.network_choice import (
    LEAST_S,
    NetworkChoice,
    choose_network,
    default_beside,
)
from modelwright.pipeline.request import Notes, RecipeLike, read_request, run_in
from modelwright.planning import Forecast, Workload, forecast
from modelwright.progress import shown
from modelwright.recipe import check_composition
from modelwright.recipe.model import LinearModel
from modelwright.recipe.spec import seconds
from modelwright.run import Observe, Run, RunRequest, memory_bytes, silent
from modelwright.security.sealing import using_identities
from modelwright.tasks import task_of
from modelwright.transforms import ImageInput

if TYPE_CHECKING:
    from modelwright.initialization.hub_cache import Snapshot
    from modelwright.models import Summary
    from modelwright.models.candidate import Candidate


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings of the audit and the forecast, before anything is trained."""

    findings: tuple[Finding, ...]
    forecast: Forecast
    notes: tuple[str, ...]
    download: Snapshot | None = None
    """The network of a hub whose weights a run downloads first, if any."""

    def to_json(self) -> dict[str, Any]:
        """Return what `check --json` prints."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "forecast": self.forecast.to_json(),
            "download": None
            if self.download is None
            else {
                "repo": self.download.repo,
                "commit": self.download.commit,
                "size_bytes": self.download.missing_bytes,
            },
        }


def check(
    recipe: RecipeLike,
    *,
    data: object = None,
    overrides: Sequence[str] = (),
    site: Path | None = None,
    observe: Observe | None = None,
) -> CheckResult:
    """Audit the data, apply the rules and forecast memory, disk and time; train nothing.

    The arguments are those of `run`.

    Raises:
        ModelwrightError: the recipe or the data can't be used.
    """
    request = read_request(recipe, frame=data, overrides=overrides, site=site)
    identities = using_identities(request.recipe.resources.identity)
    with shown(observe) as watch, read_once(), identities:
        return _check(request, watch)


def _check(request: RunRequest, observe: Observe) -> CheckResult:
    notes = Notes(observe)
    for note in (*request.notes, *check_composition(request.recipe)):
        notes.say(note)
    # A leak is a finding here, and an error only for a run.
    lenient = request.recipe.data.model_copy(update={"leaks": "allow"})
    recipe = request.recipe.model_copy(update={"data": lenient})
    with tempfile.TemporaryDirectory(prefix="modelwright-check-") as aside:
        context = run_in(request, Path(aside), observe=notes)
        # Steps are timed with drawn weights, where those of a hub aren't here yet.
        request = pin_network(request, context, with_weights=False)
        prepared = data.prepare(
            recipe, base=request.data_base, like=settled_input(request), observe=notes
        )
        require_held_out(prepared, request.recipe.inference.threshold)
        if selects_model(request.recipe, prepared):
            expected = _of_selection(request, prepared, context)
        else:
            expected = forecast(request.recipe, _workload(request, prepared, context))
    findings = tuple(prepared.report.findings)
    if request.recipe.data.leaks == "refuse":
        findings = data.as_errors(findings)
    return CheckResult(findings, expected, tuple(notes.sentences), pending_network(request.recipe))


def _of_selection(request: RunRequest, prepared: Prepared, context: Run) -> Forecast:
    """Forecast `model: auto`: linear models, then the network that the time left is taken for."""
    fits = timed_fits(request, prepared, context)
    parts = [
        forecast(fit.request.recipe, _workload(fit.request, fit.prepared, context, fit=fit))
        for fit in fits
    ]
    budget, fits_s = request.recipe.train.budget, sum(fit.timing.seconds for fit in fits)
    left_s = None if budget is None else seconds(budget) - fits_s
    if left_s is None or left_s >= LEAST_S:
        choice = choose_network(request, prepared, context, left_s=left_s)
        if choice.note:
            context.say(choice.note)
        work = _workload(choice.request, choice.prepared, context)
        parts.append(forecast(choice.request.recipe, work))
        beside = _beside(choice, request, prepared, parts[-1])
        if beside is not None:
            context.say(beside.note)
            work = _workload(beside.request, beside.prepared, context)
            parts.append(forecast(beside.request.recipe, work))
    last = parts[-1]
    whole_s = None if last.training_s is None else sum(part.training_s or 0.0 for part in parts)
    if budget is not None and whole_s is not None:
        whole_s = min(whole_s, seconds(budget))
    steps = [part.steps for part in parts if part.steps is not None]
    return replace(
        last,
        steps=sum(steps) if steps else None,
        training_s=whole_s,
        memory_bytes=max(part.memory_bytes for part in parts),
        disk_bytes=max(part.disk_bytes for part in parts),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
    )


def _beside(
    choice: NetworkChoice, request: RunRequest, prepared: Prepared, published: Forecast
) -> NetworkChoice | None:
    """Return the default family, if a published network is expected to leave time for it."""
    budget = choice.request.recipe.train.budget
    if budget is None or published.training_s is None:
        return None
    left_s = seconds(budget) - published.training_s
    return default_beside(choice, request, prepared, left_s=left_s)


def _workload(
    request: RunRequest, prepared: Prepared, context: Run, *, fit: TimedFit | None = None
) -> Workload:
    """Measure what training takes; `fit` is a linear model that was timed before."""
    from modelwright.training import steps_per_epoch, time_steps

    start = initialize_model(request, prepared, context) if fit is None else fit.start
    dataset, recipe, task = prepared.dataset(), request.recipe, task_of(request.recipe)
    cost, fit_s, feature_bytes, held_bytes = None, None, 0, None
    if isinstance(recipe.model, LinearModel):
        timing = time_linear(start, recipe, prepared, context) if fit is None else fit.timing
        fit_s, feature_bytes = timing.seconds, timing.feature_bytes
        held_bytes = timing.held_bytes
    else:
        cost = time_steps(start, recipe.train, dataset, context, task=task, augment=recipe.augment)
    summary, inputs, test = summarized(start, prepared), prepared.inputs, prepared.test()
    validation = len(dataset.validation) if dataset.validation else 0
    return Workload(
        train_samples=len(dataset.train),
        validation_samples=validation,
        all_samples=len(dataset.train) + validation + (len(test) if test else 0),
        # One sample as it is kept for training, on average.
        sample_bytes=int(inputs[:1].nbytes)
        if isinstance(inputs, np.ndarray)
        else int(inputs.lengths.mean() * inputs.item_bytes) + 1,
        store_bytes=prepared.store.size_bytes,
        parameters=summary.parameters,
        activations=summary.activations,
        multiply_adds=summary.multiply_adds,
        step_s=None if cost is None else cost.step_s,
        validation_s=None if cost is None else cost.validation_s,
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
        memory_bytes=memory_bytes() or 8 << 30,
        fit_s=fit_s,
        feature_bytes=feature_bytes,
        planning_s=0.0 if cost is None else cost.planning_s,
        before_bytes=None if cost is None else cost.before_bytes,
        peak_bytes=held_bytes if cost is None else cost.peak_bytes,
        steps_per_epoch=None if cost is None else steps_per_epoch(recipe.train, dataset.train),
    )


def layers(
    recipe: RecipeLike, *, overrides: Sequence[str] = (), observe: Observe = silent
) -> Summary:
    """Return the layers of the network that a recipe builds for its data.

    Raises:
        ModelwrightError: the recipe or the data can't be used.
    """
    require("torch", extra="train", purpose="to build a network")
    request = read_request(recipe, overrides=overrides)
    with tempfile.TemporaryDirectory(prefix="modelwright-layers-") as aside:
        context = run_in(request, Path(aside), observe=observe)
        request = pin_network(request, context, with_weights=False)
        prepared = data.prepare(
            request.recipe, base=request.data_base, like=settled_input(request), observe=observe
        )
        return summarized(initialize_model(request, prepared, context), prepared)


def summarized(candidate: Candidate, prepared: Prepared) -> Summary:
    """Describe a network for one sample: a text or recording of median length, or an image."""
    from modelwright.models import summarise_sample, summary

    if isinstance(prepared.input, ImageInput):
        shape = prepared.input
        return summary(candidate.network, (shape.height, shape.width, shape.channels))
    assert not isinstance(prepared.inputs, np.ndarray)
    lengths = prepared.inputs.lengths
    middle = np.array([int(np.argsort(lengths)[len(lengths) // 2])])
    return summarise_sample(candidate.network, prepared.inputs[middle])
