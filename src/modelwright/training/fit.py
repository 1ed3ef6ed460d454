"""Training as a stage: from a candidate to a trained one, stopped and resumed at will."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelwright.data import BucketedSampler, Dataset, Sampler, Split, padding_share
from modelwright.data.batches import Batches
from modelwright.errors import RecipeError, StoppedError, TrainingError
from modelwright.files import append_line, canonical_json, read_lines, write_bytes
from modelwright.models.candidate import Candidate
from modelwright.models.seq2seq import Seq2Seq
from modelwright.recipe.data import AugmentSpec
from modelwright.recipe.spec import seconds
from modelwright.recipe.train import GdOptimizer, TrainSpec
from modelwright.run import Progress, Run
from modelwright.tasks import Task, join
from modelwright.training.averaging import build_averaging
from modelwright.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    named,
    restore,
    save_checkpoint,
)
from modelwright.training.decisions import StepTimer, choose_compile, choose_precision, compile_gain
from modelwright.training.distributed import init_distributed
from modelwright.training.loop import (
    Parts,
    State,
    Until,
    diverged,
    frozen_norms,
    set_training,
    train,
)
from modelwright.training.objectives import build_objective, resolve_loss
from modelwright.training.optimizers import Optimizer
from modelwright.training.plan import StepPlan, steps_in
from modelwright.training.precision import Precision, PrecisionName
from modelwright.training.resolution import Resolution
from modelwright.training.rules import WeightedMean
from modelwright.training.schedules import build_schedule
from modelwright.training.selection import Selection
from modelwright.training.stopping import stop_requests
from modelwright.training.validation_generations import ValidationGenerations

OUTPUTS_AT_ONCE = 1 << 26
"""Outputs of a validation that are held at once: 100,000 classes would else take gigabytes."""
AT_ONCE = 1 << 18
"""Tokens, or samples of recording, that are answered at once in a validation."""
DIVERGED = 10.0
"""How many times the first step's loss an epoch's mean loss may be before training is stopped."""


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


def answers_of(
    network: nn.Module,
    split: Split,
    *,
    precision: Precision,
    batch_size: int = 500,
    at_once: int | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yield a network's raw outputs over a split beside the targets, batch by batch, as arrays.

    The network answers in evaluation mode, without views. Of samples that differ in length, like
    ones come together, and at most `at_once` values with their padding.
    """
    at_once = AT_ONCE if at_once is None else at_once
    was_training = network.training
    network.eval()
    batches = Batches(split, device=precision.device)
    try:
        for positions in _positions(split, batch_size, at_once):
            batch = batches.at(0, positions)
            with torch.inference_mode(), precision.context():
                outputs = network(*batch.inputs)
            yield _arrays(outputs), split.targets[positions]
    finally:
        network.train(was_training)


def outputs_of(
    network: nn.Module, split: Split, *, precision: Precision, batch_size: int = 500
) -> NDArray[np.float32]:
    """Return a network's raw outputs `[N, …]` over a split of samples of one size."""
    found = answers_of(network, split, precision=precision, batch_size=batch_size)
    return np.concatenate([outputs for outputs, _ in found])


def _positions(split: Split, batch_size: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    lengths = split.lengths()
    if lengths is None:
        for start in range(0, len(split), batch_size):
            yield np.arange(start, min(start + batch_size, len(split)), dtype=np.int64)
        return
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    start = 0
    while start < len(order):
        end = start + 1
        while (
            end < min(start + batch_size, len(order))
            and (end + 1 - start) * lengths[order[end]] <= at_once
        ):
            end += 1
        yield order[start:end]
        start = end


def _arrays(held: Tensor | tuple[Tensor, ...]) -> Any:
    if isinstance(held, tuple):
        return tuple(_arrays(item) for item in held)
    return (held.float() if held.is_floating_point() else held).cpu().numpy()


def build_sampler(spec: TrainSpec, train: Split, seed: int) -> Sampler | BucketedSampler:
    """Return the order of the training samples: batches of one size, or of like lengths.

    Raises:
        RecipeError: a budget of tokens is asked for samples that are all of one length.
    """
    if spec.max_tokens_per_batch is None:
        full_batch = isinstance(spec.optimizer, GdOptimizer)
        return Sampler(len(train), len(train) if full_batch else spec.batch_size, seed)
    lengths = train.lengths()
    if lengths is None:
        raise RecipeError(
            "`train.max_tokens_per_batch` is for texts and recordings, and these samples are all of one length",
            fix="Leave it out: `batch_size` says how many samples a step takes",
        )
    return BucketedSampler(lengths, spec.max_tokens_per_batch, most=spec.batch_size, seed=seed)


class _Training:
    """One training from its first step to its last: parts, step_plan, selection, checkpoints."""

    def __init__(
        self,
        candidate: Candidate,
        spec: TrainSpec,
        data: Dataset,
        run: Run,
        *,
        task: Task,
        augment: AugmentSpec,
    ) -> None:
        self.spec, self.data, self.run, self.task = spec, data, run, task
        self.distributed = init_distributed(run.device)
        device = self.distributed.device
        self.network = copy.deepcopy(candidate.network).to(device)
        for parameter in self.network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        full_batch = isinstance(spec.optimizer, GdOptimizer)
        self.sampler = build_sampler(spec, data.train, run.seed)
        parts = (
            math.ceil(len(data.train) / spec.batch_size)
            if full_batch
            else spec.gradient_accumulation
        )
        self.parts = Parts(
            sampler=self.sampler,
            source=Batches(
                data.train,
                augment=augment,
                seed=run.seed,
                device=device,
                num_outputs=len(data.labels) or None,
            ),
            objective=build_objective(
                resolve_loss(spec.loss, task=task.name, output_kind=task.output_kind),
                data.train.targets,
                num_outputs=len(data.labels),
                device=device,
                network=self.network,
            ),
            rule=WeightedMean(spec.clip_norm),
            optimizer=Optimizer(self.network, spec),
            schedule=build_schedule(spec.schedule),
            averaging=build_averaging(spec.average, self.network),
            precision=Precision("fp32", device),
            distributed=self.distributed,
            accumulate=parts,
            seed=run.seed,
            resolution=Resolution.of(spec.resolution),
            frozen=frozen_norms(self.network),
        )
        writes = task.output_kind in ("tokens", "texts")
        self.vocabulary = int(candidate.architecture["num_outputs"]) if writes else 0
        """How many numbers each token's answer has, of a network that writes."""
        self.selection = Selection(
            task.select_by, task.higher_is_better, spec.patience, ties_by=task.ties_by
        )
        self.validation_generations = ValidationGenerations.of(
            data.validation, task, candidate.input
        )
        self.state = State(0, torch.zeros(2, device=device))
        self.step_plan = StepPlan.of(1)
        self.first_loss: float | None = None
        self.spent_s = 0.0
        self.begun = self.saved_at = time.monotonic()
        self.checkpoints = run.folder / "checkpoints"
        self._refuse_what_cannot_pass()

    def _refuse_what_cannot_pass(self) -> None:
        """Pass a sample or two through a copy of the network, at each size that training has.

        Raises:
            TrainingError: a size of image, or a part of a batch with one sample, is too small.
        """
        network = copy.deepcopy(self.network)
        set_training(network, self.parts.frozen)
        few = min(self._at_once(), 2)
        batch = Batches(self.data.train, device=self.distributed.device).at(0, np.arange(few))
        for _, progress in self.parts.resolution.shares():
            side = self.parts.resolution.side(progress)
            try:
                with torch.no_grad():
                    network(*self.parts.resolution.apply(batch, progress).inputs)
            except (RuntimeError, ValueError) as error:
                if few == 1 and _has_norms(network):
                    raise TrainingError(
                        "BatchNorm needs more than one sample in each part of a batch here",
                        where="train.batch_size",
                        fix="Raise it, or lower `train.gradient_accumulation` or the number of processes",
                    ) from error
                if side is None:
                    raise
                raise TrainingError(
                    f"this network can't take images of {side} pixels",
                    where="train.resolution",
                    why=str(error).partition("\n")[0],
                    fix="Leave `resolution` out, or use `resnet` or `speednet`",
                ) from error

    # -- decisions ---------------------------------------------------------------------------

    def decide(self) -> None:
        """Choose number format, number of steps and compiling, or read what was chosen."""
        run, device = self.run, self.distributed.device
        timer = StepTimer(self.network, self.parts)
        chosen = self._agreed("precision", lambda: self.choose_precision(timer))
        self.parts = replace(self.parts, precision=Precision(chosen["precision"], device))
        planned = self._agreed("steps", lambda: self._plan_steps(timer))
        self.step_plan = StepPlan.of(planned["total"])
        compiled = self._agreed(
            "compile",
            lambda: choose_compile(
                self.spec,
                training_s=planned["total"] * (planned["step_s"] or 0.0),
                device=device,
                gain=compile_gain(self.network, device),
            ),
        )
        if compiled["compile"]:
            self.network.compile(dynamic=False)
        run.say(
            f"Training {planned['total']:,} steps in {chosen['precision']} on {device}"
            + (f", {self.distributed.world} processes" if self.distributed.world > 1 else "")
        )
        self._say_statistics()
        self._say_padding()

    def choose_precision(self, timer: StepTimer) -> dict[str, object]:
        """Return the number format, and why."""
        epochs, budget = self.spec.epochs, self.spec.budget
        max_length = seconds(budget) if budget else math.inf
        steps = math.inf if epochs is None else epochs * self.sampler.steps_per_epoch
        return choose_precision(
            self.spec,
            timer.seconds,
            self.distributed.device,
            at_once=self._at_once(),
            training_s=lambda step_s: min(steps * step_s, max_length),
        )

    def _at_once(self) -> int:
        """Return the fewest samples that pass through the network together."""
        parts = self.parts.accumulate * self.distributed.world
        return min(max(self.sampler.batch_size // parts, 1), len(self.data.train))

    def _agreed(self, name: str, take: Any) -> Any:
        decided = self.run.decisions.decide(name, take) if self.distributed.is_main else None
        return self.distributed.from_main(decided)

    def _plan_steps(self, timer: StepTimer) -> dict[str, Any]:
        spec = self.spec
        most = None
        if spec.epochs is not None:
            most = max(round(spec.epochs * self.sampler.steps_per_epoch), 1)
        may_compile = spec.compile == "auto" and compile_gain(self.network, self.distributed.device)
        measure = spec.budget is not None or may_compile
        step_s = timer.mean_s(self.parts.precision.name) if measure else None
        if spec.budget is None:
            assert most is not None  # The recipe's rules ask for one of the two.
            return {"total": most, "step_s": step_s, "why": "epochs"}
        assert step_s is not None
        validation_s = self._time_validation()
        epoch_s = step_s * self.sampler.steps_per_epoch + validation_s
        step_cost = epoch_s / self.sampler.steps_per_epoch
        left = seconds(spec.budget) - self.elapsed_s
        total = steps_in(left, step_s=step_cost, overhead_s=validation_s, most=most)
        return {"total": total, "step_s": step_s, "validation_s": validation_s, "why": "budget"}

    def _time_validation(self) -> float:
        if self.data.validation is None or not len(self.data.validation):
            return 0.0
        begun = time.monotonic()
        self._scores(self.data.validation)
        return time.monotonic() - begun

    def _say_padding(self) -> None:
        lengths = self.data.train.lengths()
        if lengths is None:
            return
        share = padding_share(self.sampler, lengths)
        self.run.say(f"{share:.0%} of what a batch holds is padding, on average")

    def _say_statistics(self) -> None:
        if _has_norms(self.network) and (self.distributed.world > 1 or self.parts.accumulate > 1):
            self.run.say(
                "BatchNorm takes its statistics per process and part of a batch, so the result "
                "differs a little from one process with whole batches"
            )

    def revise(self) -> None:
        """Fit the number of steps to what is left of the budget; a resumed run reads it."""
        step = self.state.step
        name = f"steps_from_{step}"

        def measure() -> dict[str, Any]:
            assert self.spec.budget is not None
            most = None
            if self.spec.epochs is not None:
                most = max(round(self.spec.epochs * self.sampler.steps_per_epoch), 1) - step
            cost = self.elapsed_s / max(step, 1)
            left = seconds(self.spec.budget) - self.elapsed_s
            more = steps_in(left, step_s=cost, overhead_s=0.0, most=most)
            return {"total": step + more, "step_s": cost}

        self.step_plan = self.step_plan.revised(step, self._agreed(name, measure)["total"])

    @property
    def elapsed_s(self) -> float:
        """Wall-clock seconds of training so far, over all its pieces."""
        return self.spent_s + time.monotonic() - self.begun

    # -- state on disk -----------------------------------------------------------------------

    def resume(self) -> None:
        """Go on from the newest checkpoint, where there is one."""
        saved = load_checkpoint(self.checkpoints)
        if saved is None:
            if self.distributed.is_main:
                self._cut_history(0)  # A run that was killed before its first checkpoint.
            return
        restore(self.network.state_dict(), saved.part("network"))
        self.parts.optimizer.load_state(saved.part("optimizer"))
        self.parts.averaging.load_state(saved.part("averaging"))
        self.selection.load(saved.facts["selection"], saved.part("best"))
        totals = saved.tensors["totals"].to(self.distributed.device)
        self.state = State(saved.step, totals)
        self.spent_s = float(saved.facts["seconds"])
        self.first_loss = saved.facts["first_loss"]
        for revision in saved.facts["step_plan"]:
            self.step_plan = self.step_plan.revised(revision["step"], revision["total"])
        if self.distributed.is_main:
            self._cut_history(saved.step)
            self.run.say(f"Going on from step {saved.step:,}")

    def _cut_history(self, step: int) -> None:
        path = self.run.folder / "metrics.jsonl"
        if not path.exists():
            return
        kept = [line for line in read_lines(path) if line["step"] <= step]
        write_bytes(path, b"".join(canonical_json(line) + b"\n" for line in kept))

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        self.saved_at = time.monotonic()
        if not self.distributed.is_main:
            return
        network = {name: tensor.detach() for name, tensor in self.network.state_dict().items()}
        save_checkpoint(
            self.checkpoints,
            Checkpoint(
                step=self.state.step,
                tensors={
                    **named("network", network),
                    **named("optimizer", self.parts.optimizer.state()),
                    **named("averaging", self.parts.averaging.state()),
                    **named("best", self.selection.best),
                    "totals": self.state.totals,
                },
                facts={
                    "seconds": self.elapsed_s,
                    "first_loss": self.first_loss,
                    "selection": self.selection.facts(),
                    "step_plan": [
                        {"step": item.step, "total": item.total}
                        for item in self.step_plan.revisions[1:]
                    ],
                },
            ),
        )

    # -- the course of training --------------------------------------------------------------

    def course(self) -> None:
        """Train to the end, validating each epoch."""
        with stop_requests() as stop:
            while self.state.step < self.step_plan.total and not self.selection.has_stalled:
                step = self._next_point()
                until = Until(
                    step=step, step_plan=self.step_plan, stop=stop, on_progress=self.on_progress
                )
                self.state = train(self.network, self.parts, self.state, until)
                if self.state.step < step:
                    self.save()
                    raise StoppedError(
                        f"stopped at step {self.state.step:,} of {self.step_plan.total:,}",
                        fix="The state is saved: run the same command again to go on",
                    )
                if self.first_loss is None:
                    self.first_loss = self.state.loss
                if self._is_revision(step):
                    self.revise()
                if step % self.sampler.steps_per_epoch == 0 or step >= self.step_plan.total:
                    self.validate()
                self._save_if_due()
            self.save()
            if stop():
                raise StoppedError(
                    "stopped after training and before measuring",
                    fix="The state is saved: run the same command again to go on",
                )

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved_at >= seconds(self.spec.checkpoint_every):
            self.save()

    def _is_revision(self, step: int) -> bool:
        is_point = self.spec.budget is not None and step in self.step_plan.points()
        return is_point and step < self.step_plan.total

    def _next_point(self) -> int:
        step, size = self.state.step, self.sampler.steps_per_epoch
        points = [self.step_plan.total, (step // size + 1) * size]
        if step == 0:
            points.append(1)  # The first loss is what divergence is told by.
        if self.spec.budget is not None:
            points += self.step_plan.points()
        return min(point for point in points if point > step)

    def validate(self) -> None:
        """Score the averaged weights on the validation split, and keep them if they are best."""
        self._refuse_divergence()
        epoch = self.state.step / self.sampler.steps_per_epoch
        record: dict[str, float] = {
            "epoch": round(epoch, 4),
            "step": self.state.step,
            "train_loss": self.state.loss,
        }
        validation = self.data.validation
        with self.parts.averaging.applied():
            if validation is not None and len(validation):
                scores = self.distributed.from_main(self._scores(validation))
                record |= {f"val_{name}": value for name, value in scores.items()}
            record["seconds"] = round(self.elapsed_s, 3)
            if validation is not None and len(validation):
                self.selection.consider(record, self.network.state_dict())
            else:
                self.selection.history.append(record)
        self.state = State(self.state.step, torch.zeros_like(self.state.totals))
        if self.distributed.is_main:
            append_line(self.run.folder / "metrics.jsonl", record)
            self.run.observe(
                Progress("train", self.state.step, self.step_plan.total, values=record)
            )

    def _refuse_divergence(self) -> None:
        if self.first_loss is None or self.state.loss <= DIVERGED * self.first_loss:
            return
        raise diverged(
            f"the loss has grown from {self.first_loss:.3g} to {self.state.loss:.3g} "
            f"(step {self.state.step:,})"
        )

    def _scores(self, validation: Split) -> dict[str, float]:
        if not self.distributed.is_main:
            return {}
        tallies = []
        # Very many classes are answered few at a time: their outputs would take gigabytes.
        most = max(OUTPUTS_AT_ONCE // max(len(self.data.labels), 1), 1)
        tokens = max(OUTPUTS_AT_ONCE // self.vocabulary, 1) if self.vocabulary else AT_ONCE
        for outputs, targets in answers_of(
            self.network,
            validation,
            precision=self.parts.precision,
            batch_size=min(500, most),
            at_once=min(AT_ONCE, tokens),
        ):
            first = outputs[0] if isinstance(outputs, tuple) else outputs
            if not np.isfinite(first).all():
                raise diverged(
                    f"the network's outputs are not numbers any more (step {self.state.step})"
                )
            labels = (*self.data.labels, *validation.unknown)
            tallies.append(self.task.tally(outputs, targets, labels))
        scores = dict(self.task.summary(join(tallies)))
        if self.validation_generations is not None:
            scores |= self.validation_generations.scores(cast(Seq2Seq, self.network))
        return scores

    def on_progress(self, state: State, steps_per_s: float) -> None:
        """Show progress, and save where that is due."""
        self.state = state
        if not self.distributed.is_main:
            return
        left = (self.step_plan.total - state.step) / steps_per_s
        self.run.observe(
            Progress(
                "train",
                state.step,
                self.step_plan.total,
                values={
                    "epoch": state.step / self.sampler.steps_per_epoch,
                    "loss": state.loss,
                    "samples_per_s": steps_per_s * self.sampler.batch_size,
                    "left_s": left,
                },
            )
        )
        self._save_if_due()

    def result(self) -> dict[str, Tensor]:
        """Return the weights to ship: the best epoch's, or the last."""
        if self.spec.select == "best" and self.selection.best:
            return self.selection.best
        with self.parts.averaging.applied():
            return {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in self.network.state_dict().items()
            }


def _has_norms(network: nn.Module) -> bool:
    return any(isinstance(item, nn.modules.batchnorm._BatchNorm) for item in network.modules())


def fit(
    candidate: Candidate,
    spec: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    augment: AugmentSpec,
) -> tuple[Candidate, FitReport]:
    """Train a candidate; go on where an earlier call in the same run folder stopped.

    Args:
        candidate: the network to train; it isn't changed.
        spec: the recipe's section `train`.
        data: the training and validation splits.
        run: folder, seed, device, decisions.
        task: gives the scores that choose the epoch.
        augment: the recipe's section `augment`.

    Returns:
        The trained candidate, on the processor, in evaluation mode; and what happened.

    Raises:
        StoppedError: it was asked to stop; the state is saved.
        TrainingError: training diverged, or changed nothing.
    """
    training = _Training(candidate, spec, data, run, task=task, augment=augment)
    training.decide()
    training.resume()
    resumed_at, begun = training.state.step, time.monotonic()
    training.course()
    spent = max(time.monotonic() - begun, 1e-9)
    weights = training.result()
    network = copy.deepcopy(candidate.network)
    before = copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    if all(torch.equal(before[name], weights[name]) for name in weights):
        raise TrainingError(
            "training changed no weight",
            fix="Look at `train.optimizer.lr`, `train.groups` and `model.freeze`",
        )
    history = training.selection.history
    chosen = training.selection.best_index if spec.select == "best" else None
    total = training.elapsed_s
    rate = (training.state.step - resumed_at) * training.sampler.batch_size / spent
    report = FitReport(
        history=tuple(history),
        chosen=chosen,
        steps=training.state.step,
        seconds=total,
        samples_per_s=rate,
        precision=training.parts.precision.name,
        world=training.distributed.world,
    )
    return replace(candidate, network=network.eval()), report


def time_steps(
    candidate: Candidate,
    spec: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    augment: AugmentSpec,
) -> tuple[float, float]:
    """Return the measured seconds of a training step and of a validation; nothing is trained."""
    training = _Training(candidate, spec, data, run, task=task, augment=augment)
    timer = StepTimer(training.network, training.parts)
    chosen = training.choose_precision(timer)["precision"]
    precision: PrecisionName = "bf16" if chosen == "bf16" else "fp32"
    training.parts = replace(training.parts, precision=Precision(precision, run.device))
    return timer.mean_s(precision), training._time_validation()
