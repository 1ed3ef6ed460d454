"""One module a task: its sample, its metrics, its decoding, in NumPy.

What a task's loss is stands in `training/objectives/`; what its input is, in `transforms`.
"""

from __future__ import annotations

from modelwright.recipe import Recipe
from modelwright.tasks import (
    audio_classification,
    image_classification,
    language_modeling,
    multi_label,
    object_detection,
    regression,
    speech_recognition,
    summarization,
    text_classification,
    translation,
)
from modelwright.tasks.task import Prediction, SampleStats, Target, Task, join, take

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        image_classification.TASK,
        text_classification.TASK,
        audio_classification.TASK,
        regression.TASK,
        language_modeling.TASK,
        translation.TASK,
        summarization.TASK,
        speech_recognition.TASK,
        object_detection.TASK,
    )
}
LABEL_SETS: dict[str, Task] = {multi_label.TASK.name: multi_label.TASK}
"""Tasks whose samples have several labels or none, by the name of the task of one label."""


def task_of(recipe: Recipe) -> Task:
    """Return the task that a recipe asks for."""
    return LABEL_SETS[recipe.task] if recipe.has_label_sets else TASKS[recipe.task]


def task_giving(name: str, output_kind: str) -> Task | None:
    """Return the task of a name whose networks give such outputs; `None` where there is none.

    Args:
        name: as a model file has it.
        output_kind: the kind of its outputs.
    """
    several = LABEL_SETS.get(name)
    if several is not None and several.output_kind == output_kind:
        return several
    return TASKS.get(name)


__all__ = [
    "LABEL_SETS",
    "TASKS",
    "Prediction",
    "SampleStats",
    "Target",
    "Task",
    "join",
    "take",
    "task_giving",
    "task_of",
]
