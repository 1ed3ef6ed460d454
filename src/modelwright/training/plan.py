"""How many steps training has: fixed by epochs, or fitted to a wall-clock budget.

Under a budget the number of steps is measured, written down, and revised at a few set points; each
revision keeps the progress made, so that the schedule always ends where the steps end.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

REVISE_AT: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)
"""The points of progress at which a budget's number of steps is fitted anew."""


@dataclass(frozen=True, slots=True)
class Revision:
    """From `step` on, training is to end after `total` steps; `progress` had been made."""

    step: int
    total: int
    progress: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The steps of a training and the progress at each, as a list of revisions."""

    revisions: tuple[Revision, ...]

    @staticmethod
    def of(total: int) -> StepPlan:
        """Return the plan of a training with a fixed number of steps."""
        return StepPlan((Revision(step=0, total=total, progress=0.0),))

    @property
    def total(self) -> int:
        """How many steps training has, by the newest revision."""
        return self.revisions[-1].total

    def progress(self, step: int) -> float:
        """Return the share of training done before this step, 0…1."""
        found = bisect.bisect_right([revision.step for revision in self.revisions], step) - 1
        now = self.revisions[max(found, 0)]
        left = now.total - now.step
        if left <= 0:
            return 1.0
        return min(now.progress + (1.0 - now.progress) * (step - now.step) / left, 1.0)

    def middle(self, step: int) -> float:
        """Return the progress in the middle of this step, which its learning rate is taken at.

        At its start a first step would have no rate under a warm-up, and a training of one step
        would learn nothing.
        """
        return (self.progress(step) + self.progress(step + 1)) / 2

    def step_at(self, share: float) -> int:
        """Return the first step at which this share of training is done, by the newest revision."""
        now = self.revisions[-1]
        if share <= now.progress:
            return now.step
        part = (share - now.progress) / (1.0 - now.progress)
        return now.step + max(math.ceil(part * (now.total - now.step) - 1e-9), 1)

    def points(self) -> list[int]:
        """Return the steps ahead at which a budget's number of steps is fitted anew."""
        now = self.revisions[-1]
        return [self.step_at(share) for share in REVISE_AT if share > now.progress + 1e-9]

    def revised(self, step: int, total: int) -> StepPlan:
        """Return the plan with a new total from this step on, never before the next step."""
        newest = Revision(step=step, total=max(total, step + 1), progress=self.progress(step))
        return StepPlan((*self.revisions, newest))


def steps_in(budget_s: float, *, step_s: float, overhead_s: float, most: int | None) -> int:
    """Return how many steps fit into the seconds left, at least one.

    Args:
        budget_s: seconds left.
        step_s: measured seconds a step.
        overhead_s: seconds for what isn't a step: validation, the last checkpoint.
        most: the number of steps that `epochs` allows.
    """
    fit = max(int((budget_s - overhead_s) / max(step_s, 1e-9)), 1)
    return fit if most is None else min(fit, most)
