from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.recipe.train import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    StepSchedule,
    TrapezoidSchedule,
)
from modelwright.training.schedules import build_schedule

EVERY = (
    ConstantSchedule(name="constant", warmup=0.1),
    StepSchedule(name="step"),
    CosineSchedule(name="cosine"),
    OneCycleSchedule(name="one-cycle"),
    TrapezoidSchedule(name="trapezoid"),
)


@given(progress=st.floats(0, 1))
@pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.name)
def test_the_share_stays_between_nothing_and_the_peak(spec, progress):
    assert 0.0 <= build_schedule(spec)(progress) <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("spec", "progress", "share"),
    [
        (ConstantSchedule(name="constant"), 0.0, 1.0),
        (ConstantSchedule(name="constant", warmup=0.5), 0.25, 0.5),
        (StepSchedule(name="step", at=(0.5, 0.75), factor=0.1), 0.49, 1.0),
        (StepSchedule(name="step", at=(0.5, 0.75), factor=0.1), 0.5, 0.1),
        (StepSchedule(name="step", at=(0.5, 0.75), factor=0.1), 0.9, 0.01),
        (CosineSchedule(name="cosine", warmup=0.0), 0.0, 1.0),
        (CosineSchedule(name="cosine", warmup=0.0), 0.5, 0.5),
        (CosineSchedule(name="cosine", warmup=0.0, final=0.2), 1.0, 0.2),
        (CosineSchedule(name="cosine", warmup=0.2), 0.1, 0.5),
        (OneCycleSchedule(name="one-cycle", start=0.2, peak=0.25, final=0.05), 0.0, 0.2),
        (OneCycleSchedule(name="one-cycle", start=0.2, peak=0.25, final=0.05), 0.25, 1.0),
        (OneCycleSchedule(name="one-cycle", start=0.2, peak=0.25, final=0.05), 1.0, 0.05),
        (TrapezoidSchedule(name="trapezoid", warmup=0.1, cooldown=0.4), 0.05, 0.5),
        (TrapezoidSchedule(name="trapezoid", warmup=0.1, cooldown=0.4), 0.5, 1.0),
        (TrapezoidSchedule(name="trapezoid", warmup=0.1, cooldown=0.4), 0.8, 0.5),
        (TrapezoidSchedule(name="trapezoid", warmup=0.1, cooldown=0.4), 1.0, 0.0),
        (TrapezoidSchedule(name="trapezoid", warmup=0.1, cooldown=0.4, final=0.2), 0.8, 0.6),
        (TrapezoidSchedule(name="trapezoid", warmup=0.1, cooldown=0.4, final=0.2), 1.0, 0.2),
    ],
)
def test_known_points(spec, progress, share):
    assert math.isclose(build_schedule(spec)(progress), share, abs_tol=1e-12)
