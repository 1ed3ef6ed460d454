"""One module a task, or several tasks of one kind of output: metrics and decoding, in NumPy.

What a task's loss is stands in `training/objectives/`; what its input is, in `transforms`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright.kinds import OutputKind
from modelwright.tasks import (
    classification,
    language_modeling,
    multi_label,
    object_detection,
    regression,
    seq2seq,
    speech_recognition,
)
from modelwright.tasks.task import (
    Compute,
    Prediction,
    Ranking,
    SampleStats,
    Scoring,
    Task,
    TextMetrics,
    concatenate,
    take,
)

if TYPE_CHECKING:
    from modelwright.recipe import Recipe  # Predicting doesn't wait for pydantic.

TASKS: dict[tuple[str, OutputKind], Task] = {
    (task.name, task.output_kind): task
    for task in (
        *classification.TASKS,
        *multi_label.TASKS,
        regression.TASK,
        language_modeling.TASK,
        seq2seq.TRANSLATION,
        seq2seq.SUMMARIZATION,
        speech_recognition.TASK,
        object_detection.TASK,
    )
}
"""The tasks by name and kind of output, as a recipe and a model file have them."""


def task_of(recipe: Recipe) -> Task:
    """Return the task that a recipe asks for."""
    return TASKS[recipe.task, recipe.output_kind]


__all__ = [
    "TASKS",
    "Compute",
    "Prediction",
    "Ranking",
    "SampleStats",
    "Scoring",
    "Task",
    "TextMetrics",
    "concatenate",
    "take",
    "task_of",
]
