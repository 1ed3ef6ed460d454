"""A recording to one label out of several."""

from __future__ import annotations

from dataclasses import replace

from modelwright.tasks import image_classification

TASK = replace(image_classification.TASK, name="audio-classification", input="audio")
