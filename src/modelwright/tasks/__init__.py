"""One module a task: its sample, its metrics, its decoding, in NumPy.

What a task's loss is stands in `training/objectives/`; what its input is, in `transforms`.
"""

from __future__ import annotations

from modelwright.tasks import (
    audio_classification,
    image_classification,
    language_modeling,
    object_detection,
    regression,
    speech_recognition,
    summarization,
    text_classification,
    translation,
)
from modelwright.tasks.task import Prediction, Tally, Target, Task, join, take

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

__all__ = ["TASKS", "Prediction", "Tally", "Target", "Task", "join", "take"]
