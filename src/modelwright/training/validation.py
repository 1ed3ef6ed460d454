"""A network's answers on a split, and the scores of a validation, while training stands still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelwright.data import Dataset, Split
from modelwright.data.batches import Batches
from modelwright.models.candidate import Candidate
from modelwright.models.seq2seq import Seq2Seq
from modelwright.tasks import Task, concatenate
from modelwright.training.loop import diverged
from modelwright.training.precision import Precision
from modelwright.training.validation_generations import ValidationGenerations

OUTPUTS_AT_ONCE = 1 << 26
"""Outputs of a validation that are held at once: 100,000 classes would else take gigabytes."""
AT_ONCE = 1 << 18
"""Tokens, or samples of recording, that are answered at once in a validation."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The samples of the validation split, and how their scores are computed."""

    split: Split
    task: Task
    labels: tuple[str, ...]
    vocabulary: int
    """How many numbers each token's answer has, of a network that generates; else 0."""
    validation_generations: ValidationGenerations | None

    @staticmethod
    def of(data: Dataset, task: Task, candidate: Candidate) -> Validation | None:
        """Return the validation of a training, or nothing where there are no samples for it."""
        if data.validation is None or not len(data.validation):
            return None
        generates = task.output_kind.is_generative
        return Validation(
            data.validation,
            task,
            data.labels,
            int(candidate.architecture["num_outputs"]) if generates else 0,
            ValidationGenerations.of(data.validation, task, candidate.input),
        )

    def scores(self, network: nn.Module, precision: Precision, *, step: int) -> dict[str, float]:
        """Return the task's scores of a network.

        Raises:
            TrainingError: an output is not a number (said to be of this step).
        """
        stats = []
        # Very many classes are answered few at a time: their outputs would take gigabytes.
        most = max(OUTPUTS_AT_ONCE // max(len(self.labels), 1), 1)
        tokens = max(OUTPUTS_AT_ONCE // self.vocabulary, 1) if self.vocabulary else AT_ONCE
        for outputs, targets in answers_of(
            network,
            self.split,
            precision=precision,
            batch_size=min(500, most),
            at_once=min(AT_ONCE, tokens),
        ):
            first = outputs[0] if isinstance(outputs, tuple) else outputs
            if not np.isfinite(first).all():
                raise diverged(f"the network's outputs are not numbers any more (step {step})")
            stats.append(
                self.task.sample_stats(outputs, targets, (*self.labels, *self.split.unknown))
            )
        scores = dict(self.task.compute(concatenate(stats)))
        if self.validation_generations is not None:
            scores |= self.validation_generations.scores(cast(Seq2Seq, network))
        return scores


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
