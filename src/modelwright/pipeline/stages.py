"""What a run does to its network between building and packing it: each stage a function.

A stage takes a candidate, the recipe, the training and validation splits, and a context of its own
(`Run.stage`), and returns a new candidate with its record (`Candidate.after`). `running.STAGES`
lists them in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelwright.data import Dataset
from modelwright.recipe import Recipe
from modelwright.recipe.compression import CompressionStep
from modelwright.recipe.model import LinearModel
from modelwright.run import Run, StageReport
from modelwright.tasks import task_of
from modelwright.transforms import ImageInput

if TYPE_CHECKING:
    from modelwright.modelfile.features import ImageFeatures
    from modelwright.models.candidate import Candidate

Stage = Callable[["Candidate", Recipe, Dataset, Run], "Candidate"]


def train(candidate: Candidate, recipe: Recipe, data: Dataset, run: Run) -> Candidate:
    """Train the candidate as the recipe's section `train` says; a linear model is fitted."""
    from modelwright.training import fit

    if isinstance(recipe.model, LinearModel):
        return fit_features(candidate, recipe, recipe.model, data, run)
    trained, fitted = fit(
        candidate, recipe.train, data, run, task=task_of(recipe), augment=recipe.augment
    )
    facts = {
        "steps": fitted.steps,
        "precision": fitted.precision,
        "processes": fitted.world,
        "recipe": recipe.result_digest(),
    }
    report = StageReport(run.stage_name, fitted.seconds, fitted.history, fitted.chosen)
    return trained.after(report, facts)


def compressing(step: CompressionStep) -> Stage:
    """Return the stage that a step of the recipe's section `compress` asks for."""

    def stage(candidate: Candidate, recipe: Recipe, data: Dataset, run: Run) -> Candidate:
        from modelwright.compression import step_of

        begun = time.monotonic()
        _, carry_out = step_of(step)
        compressed, facts = carry_out(candidate, step, recipe, data, run, task_of(recipe))
        return compressed.after(StageReport(run.stage_name, time.monotonic() - begun), facts)

    return stage


def compress_stages(recipe: Recipe) -> list[tuple[str, Stage]]:
    """Return the stages of the section `compress` by name: `quantize`, `quantize-2`."""
    stages: list[tuple[str, Stage]] = []
    steps = recipe.steps
    for at, step in enumerate(steps):
        before = sum(other.name == step.name for other in steps[:at])
        name = f"{step.name}-{before + 1}" if before else step.name
        stages.append((name, compressing(step)))
    return stages


def features_of_images(candidate: Candidate, model: LinearModel, run: Run) -> ImageFeatures | None:
    """Return what computes a published network's features quickly, on a processor."""
    if model.network is None or not isinstance(candidate.input, ImageInput) or run.device != "cpu":
        return None
    from modelwright.modelfile.features import image_features

    shape = (candidate.input.height, candidate.input.width, candidate.input.channels)
    return image_features(candidate.network, shape, threads=run.threads)


def fit_features(
    candidate: Candidate,
    recipe: Recipe,
    model: LinearModel,
    data: Dataset,
    run: Run,
    *,
    image_features: ImageFeatures | None = None,
) -> Candidate:
    """Fit a linear model; `image_features` is what `features_of_images` has returned before."""
    from modelwright.training import fit_linear

    fitted, report = fit_linear(
        candidate,
        model,
        recipe.train,
        data,
        run,
        task=task_of(recipe),
        image_features=image_features or features_of_images(candidate, model, run),
    )
    facts = {
        "C": report.C,
        "features": model.of(recipe.input_kind).features,
        "num_features": report.num_features,
        "samples": report.samples,
        "recipe": recipe.result_digest(),
    }
    return fitted.after(StageReport(run.stage_name, report.seconds), facts)
