"""Looking without training: audit and forecast, and a network's layers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright import data
from modelwright.data import Finding, Prepared
from modelwright.errors import require
from modelwright.initialization import initialize_model, settled_input
from modelwright.pipeline.measuring import require_held_out
from modelwright.pipeline.request import Notes, RecipeLike, read_request, run_in
from modelwright.planning import Forecast, Workload, forecast
from modelwright.recipe import check_composition
from modelwright.run import Observe, Run, RunRequest, memory_bytes, silent
from modelwright.tasks import task_of
from modelwright.transforms import ImageInput

if TYPE_CHECKING:
    from modelwright.models import Summary
    from modelwright.models.candidate import Candidate


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings of the audit and the forecast, before anything is trained."""

    findings: tuple[Finding, ...]
    forecast: Forecast
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `check --json` prints."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "forecast": self.forecast.to_json(),
        }


def check(
    recipe: RecipeLike,
    *,
    overrides: Sequence[str] = (),
    site: Path | None = None,
    observe: Observe = silent,
) -> CheckResult:
    """Audit the data, apply the rules and forecast memory, disk and time; train nothing.

    Raises:
        ModelwrightError: the recipe or the data can't be used.
    """
    request = read_request(recipe, overrides=overrides, site=site)
    notes = Notes(observe)
    for note in check_composition(request.recipe):
        notes.say(note)
    # A leak is a finding here, and an error only for a run.
    lenient = request.recipe.data.model_copy(update={"allow_leaks": True})
    recipe = request.recipe.model_copy(update={"data": lenient})
    with tempfile.TemporaryDirectory(prefix="modelwright-check-") as aside:
        context = run_in(request, Path(aside), observe=notes)
        prepared = data.prepare(
            recipe, base=request.base, like=settled_input(request), observe=notes
        )
        require_held_out(prepared, request.recipe.inference.threshold)
        expected = forecast(request.recipe, _workload(request, prepared, context))
    findings = tuple(prepared.report.findings)
    if not request.recipe.data.allow_leaks:
        findings = data.as_errors(findings)
    return CheckResult(findings, expected, tuple(notes.sentences))


def _workload(request: RunRequest, prepared: Prepared, context: Run) -> Workload:
    from modelwright.training import time_steps

    start = initialize_model(request, prepared, context)
    dataset = prepared.dataset()
    step_s, validation_s = time_steps(
        start,
        request.recipe.train,
        dataset,
        context,
        task=task_of(request.recipe),
        augment=request.recipe.augment,
    )
    summary, inputs, test = _summary(start, prepared), prepared.inputs, prepared.test()
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
        step_s=step_s,
        validation_s=validation_s,
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
        memory_bytes=memory_bytes() or 8 << 30,
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
        prepared = data.prepare(
            request.recipe, base=request.base, like=settled_input(request), observe=observe
        )
        return _summary(initialize_model(request, prepared, context), prepared)


def _summary(candidate: Candidate, prepared: Prepared) -> Summary:
    """Describe a network for one sample: a text or recording of median length, or an image."""
    from modelwright.models import summarise_sample, summary

    if isinstance(prepared.input, ImageInput):
        shape = prepared.input
        return summary(candidate.network, (shape.height, shape.width, shape.channels))
    assert not isinstance(prepared.inputs, np.ndarray)
    lengths = prepared.inputs.lengths
    middle = np.array([int(np.argsort(lengths)[len(lengths) // 2])])
    return summarise_sample(candidate.network, prepared.inputs[middle])
