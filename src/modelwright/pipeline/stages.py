"""What a run does to its network between building and packing it: each stage a function.

A stage takes a candidate, the recipe, the training and validation splits, and a context of its own
(`Run.stage`), and returns a new candidate with its record (`Candidate.after`). `running.STAGES`
lists them in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelwright.data import Dataset
from modelwright.recipe import Recipe
from modelwright.run import Run, StageReport
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

Stage = Callable[["Candidate", Recipe, Dataset, Run], "Candidate"]


def train(candidate: Candidate, recipe: Recipe, data: Dataset, run: Run) -> Candidate:
    """Train the candidate as the recipe's section `train` says."""
    from modelwright.training import fit

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
