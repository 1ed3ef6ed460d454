"""The learning rate over time: each schedule a function from progress to a share of the peak.

Progress runs from 0 before the first step to 1 after the last, and a step's rate is that of its
middle, so a run with a budget in minutes and one with a number of epochs share the same shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from modelwright.recipe.train import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    ScheduleSpec,
    StepSchedule,
    TrapezoidSchedule,
)

Schedule = Callable[[float], float]


def build_schedule(spec: ScheduleSpec) -> Schedule:
    """Return the function from progress (0…1) to the share of the peak learning rate."""

    def share(progress: float) -> float:
        match spec:
            case OneCycleSchedule():
                if progress < spec.peak:
                    return _between(spec.start, 1.0, progress / spec.peak)
                return _between(1.0, spec.final, (progress - spec.peak) / (1.0 - spec.peak))
            case ConstantSchedule():
                value = 1.0
            case StepSchedule():
                value = spec.factor ** sum(progress >= point for point in spec.at)
            case CosineSchedule():
                along = max(progress - spec.warmup, 0.0) / (1.0 - spec.warmup)
                wave = 0.5 * (1.0 + math.cos(math.pi * along))
                value = spec.final + (1.0 - spec.final) * wave
            case TrapezoidSchedule():
                falling = max(progress - (1.0 - spec.cooldown), 0.0)
                value = _between(1.0, spec.final, falling / spec.cooldown) if falling else 1.0
        return value * min(progress / spec.warmup, 1.0) if spec.warmup > 0.0 else value

    return share


def _between(first: float, last: float, along: float) -> float:
    along = min(along, 1.0)  # Rounding may lead past the end.
    return first + (last - first) * along
