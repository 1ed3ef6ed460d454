"""What is decided before training and acts on all of it: number format, steps, compiling.

Clock and measurement never act directly: each choice is a *decision*, which is written down before
it acts and which a resumed run reads. Under a wall-clock budget the number of steps is measured,
and revised at a few set points; each revision keeps the progress made, so that the schedule always
ends where the steps end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from modelwright.files import JsonObject
from modelwright.models.decoder import Decoder
from modelwright.recipe.spec import seconds
from modelwright.recipe.train import TrainSpec
from modelwright.run import Run
from modelwright.training.distributed import DistributedContext
from modelwright.training.precision import PrecisionName, has_fast_bf16

if TYPE_CHECKING:
    from modelwright.training.timing import StepTimer

Decide = Callable[[str, Callable[[], JsonObject]], JsonObject]
"""Returns the decision of a name: the one written down, else the one that the function takes."""

LEAST_AT_ONCE = 8
WORTH_MEASURING_S = 20.0
"""Shorter trainings aren't measured in bf16: that takes a few seconds, and could save as many."""
COMPILE_COST_S = 60.0
"""About what `torch.compile` takes for a network of some ten layers, forward and backward."""
COMPILE_GAIN, COMPILE_GAIN_DECODER = 0.2, 0.15
"""The share of a step's time that compiling saves on a GPU, and of a decoder's on a processor: it
has many small operations to fuse (measured by `benchmarks/tokens.py`). Other networks gain nothing
there."""
REVISE_AT: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)
"""The points of progress at which a budget's number of steps is fitted anew."""


@dataclass(frozen=True, slots=True)
class Revision:
    """From `step` on, where `progress` had been made, training is to end after `total` steps."""

    step: int
    total: int
    progress: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The number of steps of a training and the progress at each, as a list of revisions."""

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
        now = next(item for item in reversed(self.revisions) if item.step <= step)
        left = now.total - now.step
        return min(now.progress + (1.0 - now.progress) * (step - now.step) / left, 1.0)

    def middle(self, step: int) -> float:
        """Return the progress in the middle of this step, which its learning rate is taken at.

        At its start a first step would have no rate under a warm-up, and a training of one step
        would learn nothing.
        """
        return (self.progress(step) + self.progress(step + 1)) / 2

    def points(self) -> list[int]:
        """Return the steps ahead at which a budget's number of steps is fitted anew."""
        now = self.revisions[-1]
        ahead = [share for share in REVISE_AT if share > now.progress + 1e-9]
        parts = [(share - now.progress) / (1.0 - now.progress) for share in ahead]
        steps = [math.ceil(part * (now.total - now.step) - 1e-9) for part in parts]
        return [now.step + max(step, 1) for step in steps]

    def revised(self, step: int, total: int) -> StepPlan:
        """Return the plan with a new total from this step on, never before the next step."""
        newest = Revision(step=step, total=max(total, step + 1), progress=self.progress(step))
        return StepPlan((*self.revisions, newest))


@dataclass(frozen=True, slots=True)
class PlanInput:
    """What a plan is made from, beside the measured times."""

    spec: TrainSpec
    device: str
    """`cpu`, `cuda` or `cuda:1`."""
    steps_per_epoch: int
    at_once: int
    """The fewest samples that pass through the network together."""
    compile_gain: float
    """The share of a step's time that compiling saves."""

    @property
    def most_steps(self) -> int | None:
        """The number of steps that `epochs` allows."""
        if self.spec.epochs is None:
            return None
        return max(round(self.spec.epochs * self.steps_per_epoch), 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training will run."""

    precision: PrecisionName
    steps: StepPlan
    is_compiled: bool


def make_plan(
    plan_input: PlanInput, timer: StepTimer, decide: Decide, *, elapsed_s: Callable[[], float]
) -> Plan:
    """Decide on number format, number of steps and compiling, in this order.

    `elapsed_s` returns the seconds of the budget that are spent.
    """
    precision = decide("precision", lambda: choose_precision(plan_input, timer))["precision"]
    steps = decide("steps", lambda: choose_steps(plan_input, timer, precision, elapsed_s))
    training_s = steps["total"] * (steps["step_s"] or 0.0)
    compiled = decide("compile", lambda: choose_compile(plan_input, training_s=training_s))
    return Plan(precision, StepPlan.of(steps["total"]), compiled["compile"])


def agreed(run: Run, distributed: DistributedContext) -> Decide:
    """Return how a run decides: in its main process, whose decision every process gets."""

    def decide(name: str, take: Callable[[], JsonObject]) -> JsonObject:
        decided = run.decisions.decide(name, take) if distributed.is_main else {}
        return distributed.from_main(decided)

    return decide


def choose_precision(plan_input: PlanInput, timer: StepTimer) -> JsonObject:
    """Return the number format, and the times it was chosen by; bf16 must win by a tenth."""
    spec = plan_input.spec
    if spec.precision != "auto":
        return {"precision": spec.precision, "why": "the recipe says so"}
    if not has_fast_bf16(plan_input.device):
        return {"precision": "fp32", "why": "this processor has no bf16"}
    if plan_input.device == "cpu" and plan_input.at_once < LEAST_AT_ONCE:
        # Some convolutions of torch 2.13 in bf16 crash the process on a single sample.
        return {"precision": "fp32", "why": "too few samples at once for bf16 to pay"}
    fp32 = timer.step_s("fp32")
    budget_s = seconds(spec.budget) if spec.budget else math.inf
    steps = math.inf if spec.epochs is None else spec.epochs * plan_input.steps_per_epoch
    if min(steps * fp32, budget_s) < WORTH_MEASURING_S:
        return {"precision": "fp32", "why": "training is too short for bf16 to pay"}
    bf16 = timer.step_s("bf16")
    return {
        "precision": "bf16" if bf16 < 0.9 * fp32 else "fp32",
        "why": "measured",
        "step_s": {"fp32": round(fp32, 6), "bf16": round(bf16, 6)},
    }


def choose_steps(
    plan_input: PlanInput,
    timer: StepTimer,
    precision: PrecisionName,
    elapsed_s: Callable[[], float],
) -> JsonObject:
    """Return the number of steps, and the times that it was fitted to the budget by."""
    spec, most = plan_input.spec, plan_input.most_steps
    may_compile = spec.compile == "auto" and plan_input.compile_gain > 0.0
    measure = spec.budget is not None or may_compile
    step_s = timer.mean_step_s(precision) if measure else None
    if spec.budget is None:
        assert most is not None  # The recipe's rules ask for one of the two.
        return {"total": most, "step_s": step_s, "why": "epochs"}
    assert step_s is not None
    validation_s = timer.validation_s(precision)
    total = steps_in(
        seconds(spec.budget) - elapsed_s(),
        step_s=step_s + validation_s / plan_input.steps_per_epoch,
        overhead_s=validation_s,
        most=most,
    )
    return {"total": total, "step_s": step_s, "validation_s": validation_s, "why": "budget"}


def revise_steps(
    plan: StepPlan, plan_input: PlanInput, decide: Decide, *, step: int, elapsed_s: float
) -> StepPlan:
    """Fit the number of steps to what is left of the budget after `step` steps."""
    budget = plan_input.spec.budget

    def measure() -> JsonObject:
        assert budget is not None
        most = None if plan_input.most_steps is None else plan_input.most_steps - step
        step_s = elapsed_s / max(step, 1)
        left_s = seconds(budget) - elapsed_s
        more = steps_in(left_s, step_s=step_s, overhead_s=0.0, most=most)
        return {"total": step + more, "step_s": step_s}

    return plan.revised(step, decide(f"steps_from_{step}", measure)["total"])


def steps_in(budget_s: float, *, step_s: float, overhead_s: float, most: int | None) -> int:
    """Return how many steps fit into the seconds left: at least one, `most` at most.

    `overhead_s` is what isn't a step: validation, the last checkpoint.
    """
    fit = max(int((budget_s - overhead_s) / max(step_s, 1e-9)), 1)
    return fit if most is None else min(fit, most)


def compile_gain(network: nn.Module, device: str) -> float:
    """Return the share of a step's time that compiling a network saves on a device."""
    if device.startswith("cuda"):
        return COMPILE_GAIN
    return COMPILE_GAIN_DECODER if isinstance(network, Decoder) else 0.0


def choose_compile(plan_input: PlanInput, *, training_s: float) -> JsonObject:
    """Return whether to compile: when the time it saves is more than the time it takes."""
    if plan_input.spec.compile != "auto":
        return {"compile": plan_input.spec.compile == "on", "why": "the recipe says so"}
    saved = training_s * plan_input.compile_gain
    why = f"it would save about {saved:.0f} s and cost about {COMPILE_COST_S:.0f} s"
    if saved <= COMPILE_COST_S:
        return {"compile": False, "why": why}
    if plan_input.device == "cpu" and not can_compile():
        return {"compile": False, "why": "there is no C++ compiler that torch can use"}
    return {"compile": True, "why": why}


def can_compile() -> bool:
    """Say whether torch can compile for this processor, by compiling next to nothing."""
    try:
        torch.compile(lambda x: x.sin() + x, dynamic=False)(torch.ones(16))
    except (RuntimeError, OSError):  # No compiler, no headers, no room for what it writes.
        return False
    return True
