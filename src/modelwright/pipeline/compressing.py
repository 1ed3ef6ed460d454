"""Making a trained network smaller and faster, and measuring what that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright import evaluation, modelfile
from modelwright.data import Prepared
from modelwright.errors import RequestError
from modelwright.evaluation import Comparison
from modelwright.pipeline.measuring import Measured, calibrate, questions
from modelwright.pipeline.stages import compress_stages
from modelwright.run import Run, RunRequest
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

UNCOMPRESSED = "uncompressed.mw"
"""The file of the trained network before `compress`, in the run's folder."""


def check_steps(candidate: Candidate, request: RunRequest) -> None:
    """Refuse, before anything is trained, steps of `compress` that the network can't take.

    Raises:
        RequestError: there is such a step.
    """
    from modelwright.compression import CHECKS

    for step in request.recipe.compress:
        CHECKS[type(step)](candidate, step)


def compress(start: Candidate, request: RunRequest, prepared: Prepared, context: Run) -> Candidate:
    """Return what the steps of `compress` make of a trained network.

    With `model: auto` a step that the chosen network can't take is left out, and said.

    Raises:
        RequestError: a step can't be done to the network, or costs more than it may.
    """
    from modelwright.compression import CHECKS

    candidate = start
    for step, (name, stage) in zip(
        request.recipe.compress, compress_stages(request.recipe), strict=True
    ):
        try:
            CHECKS[type(step)](candidate, step)
        except RequestError as error:
            if request.recipe.model != "auto":
                raise
            context.say(f"The step `{name}` is left out: {error.what}")
            continue
        candidate = stage(candidate, request.recipe, prepared.dataset(), context.stage(name))
    return candidate


def compare_files(
    path: Path,
    parent: Path,
    measured: Measured,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
) -> Comparison:
    """Measure a file beside the one that it was made of, and put the difference in the ledger."""
    calibrate(parent, request, prepared, context)
    own, other = (modelfile.load(each, threads=context.threads) for each in (path, parent))
    samples, place, task = measured.samples, measured.place, task_of(request.recipe)
    fingerprint = prepared.fingerprint(samples.name)
    before = evaluation.measure(
        other, samples, other.scoring, fingerprint=fingerprint, place=place, observe=context.observe
    )
    compared = evaluation.compare(
        measured.measurement, before, samples, task, fingerprint=fingerprint, place=place
    )
    context.ledger.extend(compared.evidence)
    context.ledger.append(evaluation.compare_sizes(own, other))
    if request.recipe.evaluate.latency:
        asked = questions(range(min(evaluation.BATCH, len(samples))), samples, prepared)
        context.ledger.extend(
            evaluation.compare_latency(own, other, asked, place=place, observe=context.observe)
        )
    return compared
