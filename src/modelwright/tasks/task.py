"""What a task is to the rest of the code: a name, metrics, and how outputs become answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.metrics import Ints

Floats = NDArray[np.floating[Any]]
Prediction = dict[str, Any]
"""One answer: `{"label": …, "probability": …}` of a classification, `{"value": …}` of a number,
`{"text": …}` of a text, with `"box"` of a detection."""
Target = Literal["label", "labels", "numbers", "letters", "text", "next", "boxes"]
"""What is predicted: one label; several labels, or none; numbers; a text letter by letter, as it
is heard; a text written from another; what follows each token; boxes with labels."""

Outputs = Any
"""A network's raw outputs: an array `[N, …]`, or a tuple of several."""
SampleStats = Mapping[str, NDArray[Any]]
"""What became of each sample: arrays `[N, …]`, so that those of two batches together are joined."""


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of prediction.

    `tally` compares raw outputs with targets, knowing the labels (behind the outputs' own, those
    that no output stands for), and says what became of each sample; `summary` turns the tallies of
    any number of samples into metrics by name. Training selects by `select_by` of them. `decode`
    turns raw outputs into answers, best first, at most `top` each. Where answers are texts that are
    written token by token, `judge` compares them with the texts wanted, and gives a tally too.
    """

    name: str
    select_by: str
    higher_is_better: bool
    tally: Callable[[Outputs, Any, Sequence[str]], SampleStats]
    summary: Callable[[SampleStats], Mapping[str, float]]
    decode: Callable[[Outputs, Sequence[str], int], list[list[Prediction]]]
    ties_by: str | None = None
    """A score that is better when lower, which decides where `select_by` ties."""
    input: Literal["image", "text", "audio"] = "image"
    """What the samples are, where the task doesn't leave it open."""
    target: Target = "label"
    """What is predicted."""
    output_kind: str = "logits"
    """What a network gives for it, as a model file calls it."""
    judge: Callable[[Sequence[str], Sequence[str]], SampleStats] | None = None
    judged: Callable[[SampleStats], Mapping[str, float]] | None = None
    """From what `judge` gave to metrics by name."""
    judged_by: Callable[[Sequence[str]], str] | None = None
    """What counts as a word in the texts wanted, for the evidence."""

    counts: Callable[[SampleStats], tuple[Ints, Ints, Ints]] | None = None
    """Where each label is there or not by itself: how often each is rightly chosen, chosen, and
    there, `[K]` each."""
    top: int | None = 5
    """How many answers are given where no number is asked for; `None`: all."""

    def scores(self, outputs: Outputs, targets: Any, labels: Sequence[str]) -> Mapping[str, float]:
        """Return the metrics of some outputs."""
        return self.summary(self.tally(outputs, targets, labels))


def join(parts: Sequence[SampleStats]) -> SampleStats:
    """Return the tallies of several batches as one, in order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(tally: SampleStats, chosen: NDArray[np.int64]) -> SampleStats:
    """Return the tallies of some samples, which may come several times."""
    return {name: array[chosen] for name, array in tally.items()}
