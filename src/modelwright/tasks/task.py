"""What a task is to the rest of the code: a name, a kind of output, metrics, and decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelwright.arrays import Array, Doubles, Ints
from modelwright.files import JsonObject
from modelwright.kinds import OutputKind

Prediction = JsonObject
"""One answer: `{"label": …, "probability": …}` of a classification, `{"value": …}` of a number,
`{"text": …}` of a text, with `"box"` of a detection."""

Outputs = Any
"""A network's raw outputs: an array `[N, …]`, or a tuple of several."""
Targets = Any
"""The targets of some samples: an array `[N, …]`, or several by name."""
SampleStats = Mapping[str, Array]
"""Statistics of each sample: arrays `[N, …]`, so that those of two batches are concatenated."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Metrics that follow from sums over the samples, from which their intervals follow too.

    It is called with the statistics of any number of samples, and returns the metrics by name.
    """

    columns: Callable[[SampleStats], Doubles]
    """What each sample adds to the sums `[N, C]`."""
    of_sums: Callable[[Doubles], Mapping[str, Doubles]]
    """From sums `[..., C]` to metrics `[...]` by name."""
    scales: Mapping[str, tuple[Callable[[Doubles], Doubles], Callable[[Doubles], Doubles]]] = field(
        default_factory=dict
    )
    """For metrics that are a rising function of a mean: the way to the mean, and the way back."""

    def __call__(self, stats: SampleStats) -> dict[str, float]:
        """Return the metrics of some samples."""
        metrics = self.of_sums(self.columns(stats).sum(axis=0))
        return {name: float(value) for name, value in metrics.items()}


@dataclass(frozen=True, slots=True)
class Ranking:
    """Metrics that rank the predictions of all samples together, such as average precision.

    They are biased where there are few samples, which their intervals allow for.
    """

    compute: Callable[[SampleStats], Mapping[str, float]]
    support: Callable[[SampleStats], Ints]
    """How many samples each label occurs in `[K]`."""

    def __call__(self, stats: SampleStats) -> Mapping[str, float]:
        """Return the metrics of some samples."""
        return self.compute(stats)


Compute = Callable[[SampleStats], Mapping[str, float]]
"""From the statistics of any number of samples to metrics by name; where these follow from sums, a
`Scoring`, and where they rank predictions, a `Ranking`."""


@dataclass(frozen=True, slots=True)
class TextMetrics:
    """How generated texts are compared with reference texts."""

    sample_stats: Callable[[Sequence[str], Sequence[str]], SampleStats]
    """From generated and reference texts to the statistics of each pair."""
    compute: Scoring
    """From the statistics of any number of pairs to metrics by name."""
    describe: Callable[[Sequence[str]], str]
    """How the reference texts are cut into words, for the evidence."""


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of prediction.

    `sample_stats(outputs, targets, labels)` compares raw outputs with targets and returns the
    statistics of each sample; `labels` may go on behind those of the outputs with labels that no
    output stands for. `compute` turns the statistics of any number of samples into metrics by name.
    `decode(outputs, labels, top)` turns raw outputs into answers, best first, at most `top` each.
    """

    name: str
    output_kind: OutputKind
    select_by: str
    """The metric that chooses the epoch."""
    goal: tuple[str, str]
    """A target to begin with: a metric and its bound."""
    sample_stats: Callable[[Outputs, Targets, Sequence[str]], SampleStats]
    compute: Compute
    decode: Callable[[Outputs, Sequence[str], int], list[list[Prediction]]]
    ties_by: str | None = None
    """A metric that is better when lower, which decides where `select_by` ties."""
    text_metrics: TextMetrics | None = None
    """How generated texts are measured, where the model generates some."""
    label_counts: Callable[[SampleStats], tuple[Ints, Ints, Ints]] | None = None
    """Where each label is predicted by itself: how often each is rightly predicted, predicted, and
    there, `[K]` each."""
    describe: Callable[[Any, Sequence[str]], str] | None = None
    """Writes one target, or one prediction in the same form, for people; `None` where neither is a
    value of its own: texts and boxes."""
    top: int | None = 5
    """How many answers are given where no number is asked for; `None`: all."""

    def scores(
        self, outputs: Outputs, targets: Targets, labels: Sequence[str]
    ) -> Mapping[str, float]:
        """Return the metrics of some outputs."""
        return self.compute(self.sample_stats(outputs, targets, labels))


def concatenate(parts: Sequence[SampleStats]) -> SampleStats:
    """Return the statistics of several batches as one, in order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(stats: SampleStats, rows: Ints) -> SampleStats:
    """Return the statistics of some samples, which may occur several times."""
    return {name: array[rows] for name, array in stats.items()}
