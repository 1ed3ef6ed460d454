"""What makes a trained network smaller and faster: each step from a candidate to a candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelwright.compression.quantize import check_quantize, quantize
from modelwright.data import Dataset
from modelwright.models.candidate import Candidate
from modelwright.recipe.compression import CompressionStep, QuantizeStep
from modelwright.run import Run
from modelwright.tasks import Task

Step = Callable[[Candidate, Any, Dataset, Run, Task], tuple[Candidate, dict[str, Any]]]
"""From a candidate, the step's section of the recipe, and what a stage of a run has, to another
candidate and what the model file's lineage says of the step."""

Check = Callable[[Candidate, Any], None]
"""Raises `RequestError` for a network that a step can't change, before anything is trained."""

STEPS: dict[type[CompressionStep], Step] = {QuantizeStep: quantize}
CHECKS: dict[type[CompressionStep], Check] = {QuantizeStep: check_quantize}

__all__ = ["CHECKS", "STEPS", "Check", "Step"]
