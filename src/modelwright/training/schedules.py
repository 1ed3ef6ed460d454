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
            case ConstantSchedule():
                return _warmed(1.0, progress, spec.warmup)
            case StepSchedule():
                passed = sum(progress >= point for point in spec.at)
                return _warmed(spec.factor**passed, progress, spec.warmup)
            case CosineSchedule():
                along = max(progress - spec.warmup, 0.0) / (1.0 - spec.warmup)
                wave = 0.5 * (1.0 + math.cos(math.pi * along))
                return _warmed(spec.final + (1.0 - spec.final) * wave, progress, spec.warmup)
            case OneCycleSchedule():
                if progress < spec.peak:
                    return _between(spec.start, 1.0, progress / spec.peak)
                return _between(1.0, spec.final, (progress - spec.peak) / (1.0 - spec.peak))
            case TrapezoidSchedule():
                falls_from = 1.0 - spec.cooldown
                if spec.cooldown > 0.0 and progress > falls_from:
                    down = _between(1.0, spec.final, (progress - falls_from) / spec.cooldown)
                    return _warmed(down, progress, spec.warmup)
                return _warmed(1.0, progress, spec.warmup)

    return share


def _between(first: float, last: float, along: float) -> float:
    along = min(along, 1.0)  # Rounding may lead past the end.
    return first + (last - first) * along


def _warmed(value: float, progress: float, warmup: float) -> float:
    return value * min(progress / warmup, 1.0) if warmup > 0.0 else value
