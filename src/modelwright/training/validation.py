"""A network's outputs on a split, and the scores of a validation, while training stands still."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.arrays import Array, Ints
from modelwright.data import Dataset, Split
from modelwright.data.batches import Batches
from modelwright.data.sampler import cut_by_length
from modelwright.models.candidate import Candidate
from modelwright.models.seq2seq import Seq2Seq, Seq2SeqStepper
from modelwright.run import Run
from modelwright.tasks import Task, concatenate
from modelwright.tasks.generation import collect, generate
from modelwright.tasks.sampling import SamplingConfig
from modelwright.training.loop import diverged
from modelwright.training.precision import Precision
from modelwright.transforms.text import BEGIN, TextInput

OUTPUTS_AT_ONCE = 1 << 26
"""The most outputs in memory at once: those of 100,000 classes would take gigabytes."""
_TOKENS_AT_ONCE = 1 << 18
"""Tokens, or samples of a recording, that pass through the network at once."""
_TEXTS = 200
"""So many texts show where training stands; the file is measured on all, and with beam search."""


@dataclass(frozen=True, slots=True)
class ValidationGenerations:
    """Some samples of the validation split, from which texts are generated each epoch."""

    task: Task
    input: TextInput
    source: Mapping[str, Array]
    references: list[str]
    max_length: int
    """Where a text is cut that doesn't end by itself."""

    @staticmethod
    def of(validation: Split, task: Task, input: TextInput) -> ValidationGenerations:
        """Return the samples of a validation split that texts are generated from."""
        assert validation.pairs is not None
        rows = np.unique(np.linspace(0, len(validation) - 1, _TEXTS).astype(np.int64))
        samples, texts = validation.gather(rows), validation.pairs()[1]
        longest = int((validation.targets[rows]["next"] != 0).sum(axis=1).max())
        return ValidationGenerations(
            task,
            input,
            {name: samples[name] for name in ("source", "source_length")},
            [texts[row] for row in rows.tolist()],
            min(input.max_length, 2 * longest),
        )

    def scores(self, network: Seq2Seq) -> dict[str, float]:
        """Return the task's metrics of the texts that the network generates, greedily."""
        assert self.task.text_metrics is not None
        was_training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                pieces = generate(
                    Seq2SeqStepper(network),
                    self.source,
                    np.full((len(self.references), 1), BEGIN, np.int64),
                    config=SamplingConfig(max_new_tokens=self.max_length, temperature=0),
                )
                generated = collect(pieces, len(self.references))
        finally:
            network.train(was_training)
        texts = [self.input.tokenizer.decode(item.ids) for item in generated]
        metrics = self.task.text_metrics
        return dict(metrics.compute(metrics.sample_stats(texts, self.references)))


@dataclass(frozen=True, slots=True)
class Validation:
    """The samples of the validation split, and how their scores are computed."""

    split: Split
    task: Task
    labels: tuple[str, ...]
    vocab_size: int
    """How many logits each token has, of a network that generates; else 0."""
    generations: ValidationGenerations | None

    @staticmethod
    def of(data: Dataset, task: Task, candidate: Candidate) -> Validation | None:
        """Return the validation of a training, or nothing where there are no samples for it."""
        if data.validation is None or not len(data.validation):
            return None
        generations = None
        if task.text_metrics is not None:
            assert isinstance(candidate.input, TextInput)
            generations = ValidationGenerations.of(data.validation, task, candidate.input)
        is_generative = task.output_kind.is_generative
        vocab_size = int(candidate.architecture["num_outputs"]) if is_generative else 0
        return Validation(data.validation, task, data.labels, vocab_size, generations)

    def scores(self, network: nn.Module, precision: Precision, *, step: int) -> dict[str, float]:
        """Return the task's scores of a network.

        Raises:
            TrainingError: an output is not a number; the message names this step.
        """
        stats = []
        names = (*self.labels, *self.split.unknown)
        # Of very many classes or tokens few are computed at once: they would take gigabytes.
        batch_size = min(500, max(OUTPUTS_AT_ONCE // max(len(self.labels), 1), 1))
        tokens = min(_TOKENS_AT_ONCE, max(OUTPUTS_AT_ONCE // max(self.vocab_size, 1), 1))
        for outputs, targets in outputs_of(
            network, self.split, precision=precision, batch_size=batch_size, at_once=tokens
        ):
            first = outputs[0] if isinstance(outputs, tuple) else outputs
            if not np.isfinite(first).all():
                raise diverged(f"the network's outputs are not numbers any more (step {step})")
            stats.append(self.task.sample_stats(outputs, targets, names))
        scores = dict(self.task.compute(concatenate(stats)))
        if self.generations is not None:
            scores |= self.generations.scores(cast(Seq2Seq, network))
        return scores


def validation_scores(
    candidate: Candidate, data: Dataset, run: Run, *, task: Task
) -> dict[str, float]:
    """Return the task's scores of a candidate on the validation split, which must be there."""
    validation = Validation.of(data, task, candidate)
    assert validation is not None
    network = candidate.network.to(run.device)
    try:
        return validation.scores(network, Precision("fp32", run.device), step=0)
    finally:
        candidate.network.to("cpu")


def outputs_of(
    network: nn.Module, split: Split, *, precision: Precision, batch_size: int, at_once: int
) -> Iterator[tuple[Any, Any]]:
    """Yield a network's raw outputs over a split beside the targets, batch by batch, as arrays.

    The network is in evaluation mode, and there is no test-time augmentation. Samples that differ
    in length are sorted by it, and a batch holds at most `at_once` values with their padding.
    """
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


def _positions(split: Split, batch_size: int, at_once: int) -> list[Ints]:
    lengths = split.lengths()
    if lengths is None:
        return np.split(np.arange(len(split)), range(batch_size, len(split), batch_size))
    order = np.argsort(lengths, kind="stable")
    bounds = cut_by_length(lengths[order], at_once, batch_size)
    return [order[start:end] for start, end in itertools.pairwise(bounds)]


def _arrays(outputs: Tensor | tuple[Tensor, ...]) -> Any:
    if isinstance(outputs, tuple):
        return tuple(_arrays(item) for item in outputs)
    return (outputs.float() if outputs.is_floating_point() else outputs).cpu().numpy()
