"""The result of measuring a model file on a split, whatever it predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from modelwright import metrics
from modelwright.arrays import Doubles, Ints
from modelwright.data.dataset import Split
from modelwright.evaluation.intervals import RateBounds
from modelwright.ledger import Evidence, exact
from modelwright.metrics import ClassScores
from modelwright.tasks import SampleStats

if TYPE_CHECKING:
    from modelwright.modelfile import Model  # Only its type: this room doesn't read files.

Record = Callable[..., Evidence]
"""Makes a record as `sampled` does; what all records of one measurement share is filled in."""


class PerLabel(NamedTuple):
    """Counts and rates of each label `[K]`, and the rates' bounds."""

    scores: ClassScores
    bounds: RateBounds


@dataclass(frozen=True, slots=True)
class Measurement:
    """The evidence of one model on one split, and the data that the report shows.

    A field that the kind of prediction doesn't have is `None` or empty.
    """

    evidence: tuple[Evidence, ...]
    model: str
    """The digest of the model that was measured."""
    stats: SampleStats
    """The statistics of each sample, in the order of the split."""
    labels: tuple[str, ...]
    """The labels of the model."""
    unknown: tuple[str, ...] = ()
    """Labels of the samples that the model doesn't have; their numbers follow those of `labels`."""
    worst: Ints | None = None
    """Positions in the split of the worst mistakes or the largest errors, worst first; `None` for
    outputs that aren't simply right or wrong."""
    per_label: PerLabel | None = None
    confusion: metrics.Confusion | None = None
    reliability: metrics.Reliability | None = None
    numbers: tuple[Doubles, Doubles] | None = None
    """The numbers predicted and the true ones, `[N, D]` each."""
    texts: tuple[str, ...] = ()
    """The text that was generated from each sample."""

    @property
    def names(self) -> tuple[str, ...]:
        """All labels, by their numbers in `stats`, `confusion` and `per_label`."""
        return (*self.labels, *self.unknown)


def sampled(
    metric: str, value: float, bounds: tuple[float, float], *, n: int, method: str, **context: Any
) -> Evidence:
    """Return evidence of a figure that was measured on `n` samples, with its 95 % bounds."""
    low, high = bounds
    return Evidence(metric=metric, value=value, low=low, high=high, n=n, method=method, **context)


def recorder(samples: Split, fingerprint: str, **shared: Any) -> Record:
    """Return what makes records about a split, whose name says which evidence it gives.

    They all share the fingerprint of the samples and further fields, such as the model.
    """
    split = samples.name if samples.name in ("test", "validation", "train") else ""
    return partial(sampled, split=split, data=fingerprint, **shared)


def sizes(model: Model) -> list[Evidence]:
    """Return the figures of a model that aren't sampled."""
    return [
        exact(metric, float(value), method=method, model=model.digest)
        for metric, value, method in (
            ("size_bytes", model.size_bytes, "the members under model/, counted"),
            ("file_bytes", model.file_bytes, "the whole file, counted"),
            ("parameters", model.parameters, "the network's learnt numbers, counted"),
            ("multiply_adds", model.multiply_adds, "one pass of one sample, counted by layer"),
        )
    ]
