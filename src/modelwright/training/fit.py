"""Training a candidate: from its first step to its last, stopped and resumed at will."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from modelwright.data import Dataset, padding_share
from modelwright.errors import StoppedError, TrainingError
from modelwright.files import append_line
from modelwright.models.candidate import Candidate
from modelwright.recipe.preparation import AugmentSpec
from modelwright.recipe.spec import seconds
from modelwright.recipe.targets import METRICS
from modelwright.recipe.train import EmaAverage, TrainSpec
from modelwright.run import Progress, Run
from modelwright.tasks import Task
from modelwright.training.build import (
    ChangeParts,
    build_parts,
    check_passes,
    has_batch_norms,
    plan_input,
    trainable,
)
from modelwright.training.checkpoint import (
    Checkpoint,
    cut_history,
    load_checkpoint,
    named,
    restore,
    save_checkpoint,
)
from modelwright.training.constraints import applied, ema_share
from modelwright.training.distributed import init_distributed
from modelwright.training.loop import Parts, State, Until, diverged, train
from modelwright.training.plan import PlanInput, StepPlan, agreed, make_plan, revise_steps
from modelwright.training.precision import Precision
from modelwright.training.selection import Selection, on_cpu
from modelwright.training.stopping import stop_requests
from modelwright.training.timing import StepTimer
from modelwright.training.validation import Validation

DIVERGED = 10.0
"""How many times the first step's loss an epoch's mean loss may be before training is stopped."""


FEWEST_EPOCHS = 3
"""A training that a budget cuts shorter is said to be short before it begins."""


@dataclass(frozen=True, slots=True)
class FitReport:
    """What happened in training."""

    history: tuple[Mapping[str, float], ...]
    """One record an epoch: `epoch`, `step`, `train_loss`, `val_…`, `seconds`."""
    chosen: int | None
    """Which of them is shipped; `None` where it is the last."""
    steps: int
    seconds: float
    """Wall-clock seconds of training, over all its pieces, validation included."""
    samples_per_s: float
    precision: str
    world: int


def fit(
    candidate: Candidate,
    spec: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    augment: AugmentSpec,
    change: ChangeParts | None = None,
    loss_may_rise: bool = False,
) -> tuple[Candidate, FitReport]:
    """Train a candidate; go on where an earlier call in the same run folder stopped.

    Args:
        candidate: the network to train; it isn't changed.
        spec: the recipe's section `train`.
        data: the training and validation splits.
        run: the context of this training alone (`Run.stage`).
        task: gives the scores that choose the epoch.
        augment: the recipe's section `augment`.
        change: from the network in training and the loop's parts to the parts used instead.
        loss_may_rise: a loss that grows is no divergence: weights are taken away in training.

    Returns:
        The trained candidate, on the processor, in evaluation mode; and what happened.

    Raises:
        StoppedError: a stop was requested; the state is saved.
        TrainingError: training diverged, or changed nothing.
    """
    training = _begin(candidate, spec, data, run, task, augment, change)
    training.loss_may_rise = loss_may_rise
    training.plan()
    training.resume()
    first_step, started = training.state.step, time.monotonic()
    training.run_to_end()
    steps_per_s = (training.state.step - first_step) / max(time.monotonic() - started, 1e-9)
    report = FitReport(
        history=tuple(training.selection.history),
        chosen=training.selection.best_index if spec.select == "best" else None,
        steps=training.state.step,
        seconds=training.elapsed_s,
        samples_per_s=steps_per_s * training.parts.sampler.batch_size,
        precision=training.parts.precision.name,
        world=training.parts.distributed.world,
    )
    return _with_weights(candidate, training.weights()), report


def _begin(
    candidate: Candidate,
    spec: TrainSpec,
    data: Dataset,
    run: Run,
    task: Task,
    augment: AugmentSpec,
    change: ChangeParts | None,
) -> _Training:
    """Return a training before its first step."""
    begun = time.monotonic()
    distributed = init_distributed(run.device)
    network = trainable(candidate, distributed.device)
    parts = build_parts(
        network,
        spec,
        data,
        task=task,
        augment=augment,
        seed=run.seed,
        distributed=distributed,
        change=change,
    )
    check_passes(network, parts, data.train)
    higher_is_better = METRICS[task.select_by].higher_is_better
    return _Training(
        network=network,
        parts=parts,
        spec=spec,
        data=data,
        run=run,
        plan_input=plan_input(network, parts, spec, data.train),
        validation=Validation.of(data, task, candidate),
        selection=Selection(task.select_by, higher_is_better, spec.patience, task.ties_by),
        begun=begun,
        state=State(0, torch.zeros(2, device=distributed.device)),
        steps=StepPlan.of(1),
    )


def _with_weights(candidate: Candidate, weights: Mapping[str, Tensor]) -> Candidate:
    """Return a candidate with trained weights.

    Raises:
        TrainingError: they are those that it has.
    """
    network = copy.deepcopy(candidate.network)
    before = copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    if all(torch.equal(before[name], weights[name]) for name in weights):
        raise TrainingError(
            "training changed no weight",
            fix="Look at `train.optimizer.lr`, `train.groups`, `train.average` and `model.freeze`",
        )
    return replace(candidate, network=network.eval())


@dataclass(slots=True)
class _Training:
    """One training, in this order: plan, resume, run to the end (which validates and saves)."""

    network: nn.Module
    parts: Parts
    spec: TrainSpec
    data: Dataset
    run: Run
    plan_input: PlanInput
    validation: Validation | None
    selection: Selection
    begun: float
    state: State
    steps: StepPlan
    first_loss: float | None = None
    loss_may_rise: bool = False
    spent_s: float = 0.0
    """Seconds of earlier pieces, before a stop or a kill."""
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Wall-clock seconds of training so far, over all its pieces."""
        return self.spent_s + time.monotonic() - self.begun

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.parts.distributed.is_main

    # -- plan ----------------------------------------------------------------------------------

    def plan(self) -> None:
        """Choose number format, number of steps and compiling, or read what was chosen."""
        distributed = self.parts.distributed
        timer = StepTimer(self.network, self.parts, self.validation)
        decide = agreed(self.run, distributed)
        plan = make_plan(self.plan_input, timer, decide, elapsed_s=lambda: self.elapsed_s)
        self.parts = replace(self.parts, precision=Precision(plan.precision, distributed.device))
        self.steps = plan.steps
        if plan.is_compiled:
            self.network.compile(dynamic=False)
        self.run.say(
            f"Training {plan.steps.total:,} steps in {plan.precision} on {distributed.device}"
            + (f", {distributed.world} processes" if distributed.world > 1 else "")
        )
        epochs = plan.steps.total / self.parts.sampler.steps_per_epoch
        learns_anew = self.spec.unfreeze is None  # Published weights need fewer.
        if (
            self.spec.budget is not None
            and learns_anew
            and epochs < min(FEWEST_EPOCHS, self.spec.epochs or FEWEST_EPOCHS)
        ):
            self.run.say(
                f"The budget of {self.spec.budget} holds about {epochs:.2g} epochs of this network "
                "on this machine, and fewer than three teach it little: raise `train.budget`, or "
                "take a smaller network or smaller images"
            )
        self._say_short_average()
        has_parts = distributed.world > 1 or self.parts.gradient_accumulation > 1
        if has_parts and has_batch_norms(self.network):
            self.run.say(
                "BatchNorm takes its statistics per process and part of a batch, so the result "
                "differs a little from one process with whole batches"
            )
        lengths = self.parts.source.lengths()
        if lengths is not None:
            share = padding_share(self.parts.sampler, lengths)
            self.run.say(f"{share:.0%} of what a batch holds is padding, on average")

    def _say_short_average(self) -> None:
        """Say where the decay of an average, as it was written, is never reached."""
        average, total = self.spec.average, self.steps.total
        if not isinstance(average, EmaAverage) or "decay" not in average.model_fields_set:
            return
        share = ema_share(average, total)
        if share < average.decay:
            self.run.say(
                f"`train.average.decay: {average.decay:g}` has no effect in {total:,} steps: the "
                f"last one keeps {share:.3f} of the average, and those before it less"
            )

    # -- resume --------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on from the newest checkpoint, where there is one."""
        saved = load_checkpoint(self.run.folder / "checkpoints")
        if self.is_main:  # Without a checkpoint: a run that was killed before its first one.
            step = 0 if saved is None else saved.step
            cut_history(self.run.folder / "metrics.jsonl", after=step)
        if saved is None:
            return
        restore(self.network.state_dict(), saved.part("network"))
        self.parts.optimizer.load_state(saved.part("optimizer"))
        self.parts.rule.load_state(saved.part("rule"))
        for place, constraint in enumerate(self.parts.constraints):
            constraint.load_state(saved.part(f"constraints/{place}"))
        self.selection.load(saved.facts["selection"], saved.part("best"))
        totals = saved.tensors["totals"].to(self.parts.distributed.device)
        self.state = State(saved.step, totals)
        self.spent_s = float(saved.facts["seconds"])
        self.first_loss = saved.facts["first_loss"]
        for revision in saved.facts["revisions"]:
            self.steps = self.steps.revised(revision["step"], revision["total"])
        if self.is_main:
            self.run.say(f"Going on from step {saved.step:,}")

    # -- run -----------------------------------------------------------------------------------

    def run_to_end(self) -> None:
        """Train to the end, validating each epoch."""
        with stop_requests() as stop:
            while self.state.step < self.steps.total and not self.selection.has_stalled:
                step = self._next_point()
                until = Until(step, self.steps, stop=stop, on_progress=self.on_progress)
                self.state = train(self.network, self.parts, self.state, until)
                if self.state.step < step:
                    self.save()
                    raise _stopped(f"at step {self.state.step:,} of {self.steps.total:,}")
                if self.first_loss is None:
                    self.first_loss = self.state.loss
                self._revise_if_due()
                if step % self.parts.sampler.steps_per_epoch == 0 or step >= self.steps.total:
                    self.validate()
                self._save_if_due()
            self.save()
            if stop():
                raise _stopped("after training and before measuring")

    def _next_point(self) -> int:
        """Return the next step at which something is to be done between two steps."""
        step, size = self.state.step, self.parts.sampler.steps_per_epoch
        points = [self.steps.total, (step // size + 1) * size]
        if step == 0:
            points.append(1)  # Divergence is judged by the first loss.
        if self.spec.budget is not None:
            points += self.steps.points()
        return min(point for point in points if point > step)

    def _revise_if_due(self) -> None:
        """Fit the number of steps to what is left of the budget, at set points."""
        step = self.state.step
        if self.spec.budget is None or step >= self.steps.total:
            return
        if self.parts.optimizer.waits(self.steps.progress(step)):
            return  # Steps of the last layer alone say little of what all others take.
        if step in self.steps.points():
            decide = agreed(self.run, self.parts.distributed)
            self.steps = revise_steps(
                self.steps, self.plan_input, decide, step=step, elapsed_s=self.elapsed_s
            )

    def on_progress(self, state: State, steps_per_s: float) -> None:
        """Show progress, and save where that is due."""
        self.state = state
        if not self.is_main:
            return
        sampler = self.parts.sampler
        values = {
            "epoch": state.step / sampler.steps_per_epoch,
            "loss": state.loss,
            "samples_per_s": steps_per_s * sampler.batch_size,
            "left_s": (self.steps.total - state.step) / steps_per_s,
        }
        self.run.observe(Progress("train", state.step, self.steps.total, values=values))
        self._save_if_due()

    # -- validate ------------------------------------------------------------------------------

    def validate(self) -> None:
        """Score the weights on the validation split, and keep them if they are best."""
        step, loss = self.state.step, self.state.loss
        bound = math.inf if self.loss_may_rise else DIVERGED * (self.first_loss or math.inf)
        if loss > bound:
            raise diverged(
                f"the loss has grown from {self.first_loss:.3g} to {loss:.3g} (step {step:,})"
            )
        epoch = round(step / self.parts.sampler.steps_per_epoch, 4)
        record: dict[str, float] = {"epoch": epoch, "step": step, "train_loss": loss}
        with applied(self.parts.constraints):
            record |= {f"val_{name}": value for name, value in self._scores().items()}
            record["seconds"] = round(self.elapsed_s, 3)
            if self.validation is None:
                self.selection.history.append(record)
            else:
                self.selection.consider(record, self.network.state_dict())
        self.state = State(step, torch.zeros_like(self.state.totals))
        if self.is_main:
            append_line(self.run.folder / "metrics.jsonl", record)
            self.run.observe(Progress("train", step, self.steps.total, values=record))

    def _scores(self) -> dict[str, float]:
        """Return the main process's validation scores, in every process."""
        scores: dict[str, float] = {}
        if self.validation is not None and self.is_main:
            precision = self.parts.precision
            scores = self.validation.scores(self.network, precision, step=self.state.step)
        return self.parts.distributed.from_main(scores)

    # -- save ----------------------------------------------------------------------------------

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved_at >= seconds(self.spec.checkpoint_every):
            self.save()

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        self.saved_at = time.monotonic()
        if not self.is_main:
            return
        tensors = {
            **named("network", self.network.state_dict()),
            **named("optimizer", self.parts.optimizer.state()),
            **named("rule", self.parts.rule.state()),
            **named("best", self.selection.best),
            "totals": self.state.totals,
        }
        for place, constraint in enumerate(self.parts.constraints):
            tensors |= named(f"constraints/{place}", constraint.state())
        revisions = self.steps.revisions[1:]
        facts = {
            "seconds": self.elapsed_s,
            "first_loss": self.first_loss,
            "selection": self.selection.facts(),
            "revisions": [{"step": item.step, "total": item.total} for item in revisions],
        }
        checkpoint = Checkpoint(self.state.step, tensors, facts)
        save_checkpoint(self.run.folder / "checkpoints", checkpoint)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights to ship: the best epoch's, or the last."""
        if self.spec.select == "best" and self.selection.best:
            return self.selection.best
        with applied(self.parts.constraints):
            return on_cpu(self.network.state_dict())


def _stopped(where: str) -> StoppedError:
    return StoppedError(
        f"stopped {where}", fix="The state is saved: run the same command again to go on"
    )
