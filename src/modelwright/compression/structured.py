"""Structured pruning: channels, heads and layers are taken out while the network trains on.

In each round units of `coupling` go, first those that matter least for the time that they take:
what is lost by the scores, over what is gained by times measured on this machine. Then the network
trains on. What is left is the same network with narrower layers, so any other step may follow.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from modelwright.compression.coupling import Width, cut, find_blocks, find_widths
from modelwright.compression.cut_plan import CutPlan
from modelwright.compression.importance import Importance, by_activations, by_taylor
from modelwright.compression.prune import fit_further, further, keeping_zeros
from modelwright.compression.sensitivity import allowed_drop, both_scores
from modelwright.data import Dataset, Split
from modelwright.data.batches import Batch, Batches
from modelwright.errors import RequestError
from modelwright.files import Json, JsonObject
from modelwright.modelfile.layer_costs import answering, by_turns, layer_costs
from modelwright.modelfile.tracing import synthetic_inputs
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import Drop, Heads, Modification, Resize, modified, modify
from modelwright.models.summary import multiply_adds
from modelwright.recipe import Recipe
from modelwright.recipe.compression import PruneStep
from modelwright.run import Run
from modelwright.tasks import Task
from modelwright.training.objectives import build_objective, resolve_loss

_SAMPLES, _BATCH = 512, 16
"""So many training samples tell what each channel matters, so many at once."""
_MOST_DROPPED = 0.5
"""The largest share of the layers of lists that may be left out."""
_TRIES, _NEAR = 4, 1.03
"""How many times more is cut until the measured time is as asked, or this near to it."""


def prune_structured(
    candidate: Candidate, step: PruneStep, recipe: Recipe, data: Dataset, run: Run, task: Task
) -> tuple[Candidate, dict[str, Any]]:
    """Return a candidate with fewer channels, heads and layers, and the facts.

    Raises:
        RequestError: so much can't be taken out.
        CompressionError: the main metric gets worse by more than `step.max_drop` on validation.
        StoppedError: a stop was requested; the state is saved.
    """
    narrow = _Narrowing(candidate, step, recipe, data, run, task)
    current = candidate
    for number in range(step.rounds):
        stage = run.stage(f"round-{number + 1}")
        current = narrow.round(current, number, stage)
        share = 0.5 if number == step.rounds - 1 else 0.5 / (step.rounds - 1)
        share = share if step.rounds > 1 else 1.0
        train = further(recipe.train, step.epochs, share=share, changes={})
        current, _ = fit_further(current, train, recipe, data, stage, task, keeping_zeros(current))
    facts = narrow.proof(current)
    scores = both_scores(candidate, current, data, run, task)
    made = f" with {facts['multiply_adds_share']:.0%} of the multiply-adds"
    fix = f"Raise `{narrow.goal}`, `epochs` or `max_drop`, or leave the step out"
    drop = allowed_drop(scores, step.max_drop, run, task, made=made, fix=fix)
    return current, {**facts, "validation_drop": drop}


def check_structured(candidate: Candidate, step: PruneStep) -> None:
    """Refuse a network of which nothing, or too little, can be taken out."""
    inputs = tuple(item[:1] for item in synthetic_inputs(candidate))
    widths, blocks = _parts(candidate)
    most = int(_MOST_DROPPED * len(blocks))
    plan = CutPlan(layer_costs(candidate.network, inputs), widths, blocks, most_blocks=most)
    whole = float(multiply_adds(candidate.network, *inputs))
    least = 1 - (plan.spent()[0] - plan.least()[0]) / whole
    if step.multiply_adds is not None and least > step.multiply_adds:
        raise RequestError(
            f"no less than {least:.0%} of this network's multiply-adds can be left",
            where="compress",
            why="The rest is in layers that keep their widths, and each width keeps an eighth",
            fix=f"Raise `multiply_adds` to {least + 0.005:.2f} or more, or leave the step out",
        )


def _parts(candidate: Candidate) -> tuple[list[Width], list[str]]:
    """Return the widths and whole layers that may be taken out of a network; refuse one of none."""
    widths, blocks = find_widths(candidate), find_blocks(candidate)
    if not widths and not blocks:
        raise RequestError(
            "this network has no channels, heads or layers that can be taken out",
            where="compress",
            why="Those of recurrent layers stay, as do all that reach an operation that couples "
            "them in a way that isn't known here",
            fix="Write `kind: unstructured`, or leave the step out",
        )
    return widths, blocks


class _Narrowing:
    """Cuts round by round, until the goal is reached."""

    def __init__(
        self,
        candidate: Candidate,
        step: PruneStep,
        recipe: Recipe,
        data: Dataset,
        run: Run,
        task: Task,
    ) -> None:
        self._start, self._step, self._run, self._data = candidate, step, run, data
        self.goal = "latency" if step.multiply_adds is None else "multiply_adds"
        self._place = 0 if self.goal == "multiply_adds" else 1
        self._asked = step.multiply_adds or step.latency or 1.0
        self._inputs = typical_sample(data.train)
        network, decide = candidate.network, run.decisions.decide
        self._costs = layer_costs(network, self._inputs, run.threads, decide)
        self._whole = np.array([multiply_adds(network, *self._inputs), 0], float)
        if self.goal == "latency":
            self._whole[1] = decide("whole_seconds", self._measure)[0]
        # What isn't in layers that are counted stays as it is.
        of_layers = CutPlan(self._costs, (), ()).spent()
        self._rest = np.maximum(self._whole - of_layers, 0)
        self._whole[1] = max(self._whole[1], of_layers[1])
        self._changes: dict[tuple[str, str], Modification] = {}
        self._widths, blocks = _parts(candidate)
        self._most_blocks = int(_MOST_DROPPED * len(blocks))
        loss = resolve_loss(recipe.train.loss, task.output_kind)
        self._objective = build_objective(
            loss,
            data.train.targets,
            output_kind=task.output_kind,
            num_outputs=len(data.labels),
            device=run.device,
            network=network,
        )

    def round(self, current: Candidate, number: int, stage: Run) -> Candidate:
        """Return the candidate with less of its channels, as one of the rounds takes it.

        Raises:
            RequestError: so much can't be taken out.
        """
        if self.goal == "latency" and number == 0 and self._step.rounds > 1:
            self._check_latency(current)
        share = self._asked ** ((number + 1) / self._step.rounds)
        bound = self._whole[self._place] * share - self._rest[self._place]
        is_measured = self.goal == "latency" and number == self._step.rounds - 1
        decide = stage.decisions.decide
        for attempt in range(_TRIES):
            gone = decide(f"cut-{attempt + 1}", partial(self._cut, current, bound))
            current = self._apply(current, gone)
            if not is_measured:
                break
            seconds = decide(f"seconds-{attempt + 1}", partial(self._measure, current))
            found = seconds[1] / seconds[0]
            if found <= self._asked * _NEAR:
                break
            bound *= self._asked / found
        else:
            raise self._too_much(f"it is {found:.2f} of what it was, as measured")
        return current

    def _check_latency(self, current: Candidate) -> None:
        """Refuse a time that the narrowest network misses, before anything is trained."""
        changes = dict(self._changes)
        narrowest = self._apply(current, self._cut(current, 0.0))
        self._changes = changes
        seconds = self._run.decisions.decide("least_seconds", partial(self._measure, narrowest))
        if seconds[1] / seconds[0] > self._asked * _NEAR:
            raise self._too_much(f"the narrowest takes {seconds[1] / seconds[0]:.2f} of the time")

    def proof(self, after: Candidate) -> JsonObject:
        """Return what became of the network, and say it."""
        seconds = self._run.decisions.decide("seconds", partial(self._measure, after))
        products = multiply_adds(after.network, *self._inputs)
        networks = (self._start.network, after.network)
        counts = [sum(item.numel() for item in network.parameters()) for network in networks]
        if products >= self._whole[0] or counts[1] >= counts[0]:
            raise self._too_much("the network is no smaller than before")
        kinds = [change.kind for change in self._changes.values()]
        faster = seconds[0] / seconds[1]
        self._run.say(
            f"{self._whole[0]:,.0f} multiply-adds have become {products:,}, and {counts[0]:,} "
            f"parameters {counts[1]:,}; layers left out: {kinds.count('drop')}. One sample "
            f"takes {seconds[1] * 1e3:.3g} ms in onnxruntime in place of {seconds[0] * 1e3:.3g}"
            + (f": {faster:.2f} times as fast" if faster > 1 else ", so it is no faster here")
        )
        return {
            "kind": self._step.kind,
            self.goal: self._asked,
            "scores": self._step.scores,
            "rounds": self._step.rounds,
            "multiply_adds_share": products / float(self._whole[0]),
            "parameters_share": counts[1] / counts[0],
            "seconds_share": seconds[1] / seconds[0],
            "layers": kinds.count("resize"),
            "heads": kinds.count("heads"),
            "dropped": kinds.count("drop"),
        }

    @cached_property
    def _answering(self) -> Callable[[], object]:
        return answering(self._start, self._inputs, self._run.threads)

    def _measure(self, *others: Candidate) -> Json:
        """Return how many seconds the network takes as it was, and others by turns with it."""
        runs = [answering(other, self._inputs, self._run.threads) for other in others]
        return list(by_turns([self._answering, *runs]))

    def _cut(self, current: Candidate, bound: float) -> Json:
        """Return what goes, as a decision keeps it."""
        widths, blocks = find_widths(current, self._widths), find_blocks(current)
        if not widths and not blocks:  # All is as narrow as it can be.
            return {"channels": [], "layers": []}
        dropped = sum(change.kind == "drop" for change in self._changes.values())
        plan = CutPlan(
            self._costs,
            widths,
            blocks,
            self._scores(current, widths, blocks),
            network=current.network,
            most_blocks=self._most_blocks - dropped,
        )
        # Of times these are estimates; the narrowest network is measured before it is refused.
        if not plan.cut_to(self._place, bound) and self.goal == "multiply_adds":
            left = (plan.spent() + self._rest)[self._place] / self._whole[self._place]
            raise self._too_much(f"{left:.2f} of it would be left with the least widths")
        channels = [[*axis, places] for axis, places in plan.gone().items()]
        return {"channels": channels, "layers": plan.dropped}

    def _apply(self, current: Candidate, decision: Any) -> Candidate:
        """Return the candidate without what a decision takes out."""
        drops = [Drop(layer=name) for name in decision["layers"]]
        network = copy.deepcopy(current.network)
        modify(network, drops)
        gone = {(layer, end): places for layer, end, places in decision["channels"]}
        network, changes = cut(network, gone)
        for change in drops:
            inside = f"{change.layer}."
            for key in [key for key in self._changes if key[1].startswith(inside)]:
                del self._changes[key]
        for new in (*drops, *changes):
            assert isinstance(new, Drop | Heads | Resize)
            old = self._changes.get((new.kind, new.layer))
            given = {name: value for name, value in new.model_dump().items() if value is not None}
            self._changes[new.kind, new.layer] = old.model_copy(update=given) if old else new
        left = network.state_dict()
        return replace(
            current,
            network=network.eval(),
            codecs={name: codec for name, codec in current.codecs.items() if name in left},
            architecture=modified(self._start.architecture, *self._changes.values()),
        )

    def _too_much(self, why: str) -> RequestError:
        return RequestError(
            f"`{self.goal}: {self._asked:g}` can't be reached with this network",
            where="compress",
            why=why,
            fix=f"Raise `{self.goal}`, or leave the step out",
        )

    def _scores(
        self, current: Candidate, widths: Sequence[Width], blocks: Sequence[str]
    ) -> Importance:
        """Return what each unit of each width matters, and each layer that may be left out."""
        network = copy.deepcopy(current.network).to(self._run.device).eval()
        rows = np.linspace(0, len(self._data.train) - 1, min(_SAMPLES, len(self._data.train)))
        source = Batches(self._data.train, device=self._run.device)
        parts = np.array_split(np.unique(rows.astype(np.int64)), -(-len(rows) // _BATCH))
        batches = (source.at(0, part) for part in parts)
        if self._step.scores == "activations":
            return by_activations(network, widths, blocks, batches)
        return by_taylor(network, widths, blocks, batches, self._loss)

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        loss, weight = self._objective(network(*batch.inputs), batch)
        return (loss * weight).sum() / weight.sum().clamp(min=1e-12)


def typical_sample(split: Split) -> tuple[Tensor, ...]:
    """Return the inputs of one sample, of the middle length where they differ."""
    lengths = split.lengths()
    order = np.arange(len(split)) if lengths is None else np.argsort(lengths, kind="stable")
    return Batches(split).at(0, order[len(order) // 2 : len(order) // 2 + 1]).inputs
