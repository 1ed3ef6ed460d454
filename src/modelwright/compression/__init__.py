"""What makes a trained network smaller and faster: each step from a candidate to a candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelwright.compression.distill import check_distill, distill
from modelwright.compression.prune import check_prune, prune
from modelwright.compression.quantize import check_quantize, quantize
from modelwright.compression.storage import check_store, store
from modelwright.compression.structured import check_structured, prune_structured
from modelwright.compression.vector_quantize import check_vector_quantize, vector_quantize
from modelwright.compression.weights import check_group, group
from modelwright.data import Dataset
from modelwright.models.candidate import Candidate
from modelwright.models.coded import refuse_codebooks
from modelwright.models.modifications import check_unrounded
from modelwright.recipe import Recipe
from modelwright.recipe.compression import CompressionStep, DistillStep, PruneStep, QuantizeStep
from modelwright.run import Run
from modelwright.tasks import Task

Step = Callable[[Candidate, Any, Recipe, Dataset, Run, Task], tuple[Candidate, dict[str, Any]]]
"""From a candidate, the step's section of the recipe, and what a stage of a run has, to another
candidate and what the model file's lineage says of the step."""

Check = Callable[[Candidate, Any], None]
"""Raises `RequestError` for a network that a step can't change, before anything is trained."""

STEPS: dict[str, tuple[Check, Step]] = {
    "quantize int8": (check_quantize, quantize),
    "quantize 16 bits": (check_store, store),
    "quantize weights": (check_group, group),
    "distill": (check_distill, distill),
    "prune unstructured": (check_prune, prune),
    "prune structured": (check_structured, prune_structured),
    "vector-quantize": (check_vector_quantize, vector_quantize),
}


def check_step(candidate: Candidate, step: CompressionStep) -> None:
    """Refuse a step that a network can't take."""
    if not (isinstance(step, DistillStep) and step.student):  # Else it is left behind as it is.
        if not (isinstance(step, QuantizeStep) and step.is_16_bits):
            check_unrounded(candidate.architecture)
        refuse_codebooks(candidate.network)
    step_of(step)[0](candidate, step)


def step_of(step: CompressionStep) -> tuple[Check, Step]:
    """Return how a step of the recipe is checked, and how it is done."""
    if isinstance(step, QuantizeStep):
        kind = "weights" if step.weights else "16 bits" if step.is_16_bits else "int8"
        return STEPS[f"quantize {kind}"]
    if isinstance(step, PruneStep):
        return STEPS[f"prune {step.kind}"]
    return STEPS[step.name]


__all__ = ["STEPS", "Check", "Step", "check_step", "step_of"]
