from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.training.plan import StepPlan, steps_in


def test_progress_is_the_share_of_steps_done():
    plan = StepPlan.of(200)
    assert [plan.progress(step) for step in (0, 50, 200)] == [0.0, 0.25, 1.0]


def test_a_steps_rate_is_that_of_its_middle():
    plan = StepPlan.of(4).revised(2, 8)
    assert [plan.middle(step) for step in (1, 2, 7)] == pytest.approx([0.375, 13 / 24, 23 / 24])
    assert StepPlan.of(1).middle(0) == 0.5


def test_a_revision_keeps_the_progress_made_and_ends_at_one():
    plan = StepPlan.of(100).revised(40, 60)
    assert plan.total == 60
    assert plan.progress(40) == pytest.approx(0.4)
    assert plan.progress(50) == pytest.approx(0.7)
    assert plan.progress(60) == 1.0


def test_steps_before_a_revision_keep_their_progress():
    assert StepPlan.of(100).revised(40, 60).progress(20) == 0.2


@given(
    total=st.integers(1, 500),
    revisions=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 400)), max_size=5),
)
def test_progress_never_falls_and_ends_at_one(total, revisions):
    plan, step = StepPlan.of(total), 0
    for ahead, more in revisions:
        if step + ahead >= plan.total:
            break
        step += ahead
        plan = plan.revised(step, step + more)
    along = [plan.progress(at) for at in range(plan.total + 1)]
    assert along == sorted(along)
    assert along[-1] == pytest.approx(1.0)


@given(
    budget=st.floats(0.1, 1e5), step=st.floats(1e-6, 10), most=st.none() | st.integers(1, 10_000)
)
def test_the_steps_fit_the_budget(budget, step, most):
    steps = steps_in(budget, step_s=step, overhead_s=0.0, most=most)
    assert steps >= 1
    assert steps == 1 or steps * step <= budget * (1 + 1e-9)
    assert most is None or steps <= most


def test_a_budget_is_fitted_anew_by_the_steps_that_are_left():
    """Points by the first plan alone lay beyond the end once a revision had shortened it."""
    plan = StepPlan.of(875)
    assert plan.points() == [88, 263, 438, 613, 744, 832]
    shorter = plan.revised(88, 389)
    points = shorter.points()
    assert len(points) == 5
    assert all(88 < point < 389 for point in points)
    for share, point in zip((0.3, 0.5, 0.7, 0.85, 0.95), points, strict=True):
        assert shorter.progress(point) >= share - 1e-9 > shorter.progress(point - 1) - 1e-9
    at = points[0]
    assert at not in shorter.revised(at, 300).points()
    assert len(shorter.revised(at, 300).points()) == 4
