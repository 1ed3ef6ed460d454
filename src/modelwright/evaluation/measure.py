"""How good a model file is: every metric of a classification, through the runtime that serves.

The model answers in chunks, and only a few figures a sample are kept, so 100,000 classes or a
million samples fit. What the report shows beside figures (confusion, classes, mistakes,
reliability) comes back in the same object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from modelwright import metrics
from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.intervals import Interval
from modelwright.evaluation.latency import Place
from modelwright.ledger import Evidence, exact
from modelwright.run import Observe, Progress, silent

CHUNK = 256
MISTAKES = 24
CLASSES_IN_LEDGER = 1000
"""Up to so many classes, each has its own evidence; with more, the table alone holds them."""
WITHOUT_NEAR = "without near-duplicates"

_SHARE = "Wilson interval"
SplitName = Literal["test", "validation", "train", ""]


class HasOutputs(Protocol):
    """What is measured: a loaded model file, or whatever answers as one."""

    @property
    def digest(self) -> str:
        """The model digest."""

    @property
    def labels(self) -> Sequence[str]:
        """The classes' names, in the order of the outputs."""

    @property
    def parameters(self) -> int:
        """How many numbers the network learnt."""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one pass of one sample."""

    @property
    def size_bytes(self) -> int:
        """The bytes of all that decides a prediction: the members under `model/`."""

    @property
    def file_bytes(self) -> int:
        """The bytes of the whole file."""

    def outputs(self, inputs: NDArray[Any], /) -> NDArray[np.float32]:
        """Return logits `[N, K]` for what the host steps deliver, averaged over the views."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A sample that the model took for another class."""

    position: int
    """Its place in the split."""
    row: int
    """Its row in the store."""
    target: int
    predicted: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The evidence, and what the report shows beside it."""

    evidence: tuple[Evidence, ...]
    model: str
    """The digest of the model that was measured."""
    outcomes: metrics.Outcomes
    """What became of each sample, in the order of the split."""
    confusion: metrics.Confusion
    classes: metrics.ClassScores
    bounds: intervals.RateBounds
    """The bounds of each class's scores."""
    mistakes: tuple[Mistake, ...]
    """The most confident ones, worst first."""
    reliability: metrics.Reliability
    labels: tuple[str, ...]
    """The model's."""
    unknown: tuple[str, ...] = ()
    """Those of the samples that the model doesn't know; their numbers go on behind its own."""

    @property
    def names(self) -> tuple[str, ...]:
        """All labels, by their numbers in `confusion` and `classes`."""
        return (*self.labels, *self.unknown)


def measure(
    model: HasOutputs,
    samples: Split,
    *,
    fingerprint: str,
    place: Place,
    near_duplicates: NDArray[np.int64] | None = None,
    chunk: int = CHUNK,
    observe: Observe = silent,
) -> Measurement:
    """Measure a model file on a split.

    Args:
        model: the model file, loaded.
        samples: the split; its name says which evidence it gives.
        fingerprint: the digest of the samples.
        place: hardware, runtime and threads.
        near_duplicates: rows of the store that resemble one of another split; where the split holds
            some, the accuracy without them is measured too.
        chunk: how many samples are answered at once; fewer where there are very many classes.
        observe: told how far it is.

    Raises:
        DataError: there are no samples, the targets aren't classes of the model, or its outputs
            aren't finite.
    """
    if len(samples) == 0:
        raise DataError(f"the {samples.name} split holds no samples to measure")
    found = predict_outcomes(model, samples, chunk=chunk, observe=observe)
    names = (*model.labels, *samples.unknown)
    cells = metrics.confusion(found.predicted, found.targets, num_classes=len(names))
    classes = metrics.class_scores(cells)
    bounds = intervals.class_bounds(classes.hits, classes.predicted, classes.support)
    split = samples.name if samples.name in ("test", "validation", "train") else ""
    context: dict[str, Any] = {
        "model": model.digest,
        "split": cast("SplitName", split),
        "data": fingerprint,
        "hardware": place.hardware,
        "runtime": place.runtime,
        "threads": place.threads,
    }
    evidence = _overall(found, cells, classes, context)
    if len(names) <= CLASSES_IN_LEDGER:
        evidence += by_class(classes, bounds, names, context, known=len(model.labels))
    if near_duplicates is not None:
        evidence += _without(found, np.isin(samples.rows, near_duplicates), context)
    return Measurement(
        evidence=tuple(evidence + sizes(model)),
        model=model.digest,
        outcomes=found,
        confusion=cells,
        classes=classes,
        bounds=bounds,
        mistakes=worst_mistakes(found, samples.rows),
        reliability=metrics.reliability(found.confidence, found.hits),
        labels=tuple(model.labels),
        unknown=samples.unknown,
    )


def predict_outcomes(
    model: HasOutputs, samples: Split, *, chunk: int = CHUNK, observe: Observe = silent
) -> metrics.Outcomes:
    """Let the model answer every sample of the split, and keep what became of each."""
    num_classes = len(model.labels)
    step = max(1, min(chunk, 16_000_000 // max(1, num_classes)))  # at most 64 MB of logits
    parts = []
    observe(Progress("measure", 0, len(samples)))
    for start in range(0, len(samples), step):
        chosen = slice(start, start + step)
        outputs = model.outputs(samples.gather(chosen))
        targets = samples.targets[chosen]
        if outputs.shape != (len(targets), num_classes):
            raise DataError(
                f"the model gave outputs of shape {list(outputs.shape)} for {len(targets)} samples "
                f"and {num_classes} labels"
            )
        parts.append(metrics.outcomes(outputs, targets, unknown=len(samples.unknown)))
        observe(Progress("measure", start + len(targets), len(samples)))
    return metrics.join(parts)


def sizes(model: HasOutputs) -> list[Evidence]:
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


def worst_mistakes(
    found: metrics.Outcomes, rows: NDArray[np.int64], *, most: int = MISTAKES
) -> tuple[Mistake, ...]:
    """Return the mistakes the model was surest of."""
    wrong = np.flatnonzero(~found.hits)
    worst = wrong[np.argsort(-found.confidence[wrong], kind="stable")[:most]]
    return tuple(
        Mistake(
            position=int(at),
            row=int(rows[at]),
            target=int(found.targets[at]),
            predicted=int(found.predicted[at]),
            confidence=float(found.confidence[at]),
        )
        for at in worst
    )


def _overall(
    found: metrics.Outcomes,
    cells: metrics.Confusion,
    classes: metrics.ClassScores,
    context: dict[str, Any],
) -> list[Evidence]:
    count, hits = len(found), int(found.hits.sum())

    def record(metric: str, value: float, bounds: Interval, method: str) -> Evidence:
        low, high = bounds
        return Evidence(
            metric=metric, value=value, low=low, high=high, n=count, method=method, **context
        )

    best = "share of samples whose most probable class is the target; "
    lost = int((found.ranks == metrics.NEVER).sum())
    if lost:
        best += f"{lost:,} are of classes that aren't in training, and count as wrong; "
    evidence = [record("accuracy", hits / count, intervals.share(hits, count), best + _SHARE)]
    near = int((found.ranks < 5).sum())
    if cells.num_classes > 5 or near < count:
        method = "share of samples whose target is among the five most probable classes; " + _SHARE
        within = intervals.share(near, count)
    else:
        method = "1 by definition: there are five classes or fewer"
        within = Interval(1.0, 1.0)
    evidence.append(record("top5_accuracy", near / count, within, method))
    values = metrics.averages(classes.hits, classes.predicted, classes.support)
    bounds = intervals.average_bounds(cells)
    kinds = {
        "macro": "mean over the classes that occur; ",
        "weighted": "mean over the classes, weighted by their samples; ",
    }
    drawn = (
        f"bootstrap of {intervals.replicates(len(cells.counts)):,} draws of the confusion matrix, "
        "never narrower than the classes' Wilson intervals combined"
    )
    for metric, value in values.items():
        method = kinds[metric.partition("_")[2]] + drawn
        evidence.append(record(metric, float(value), bounds[metric], method))
    evidence += _log_loss(found.losses, context)
    drawn = f"bootstrap of {intervals.replicates(count):,} draws of the samples"
    table = metrics.reliability(found.confidence, found.hits)
    evidence.append(
        record(
            "calibration_error",
            metrics.calibration_error(table),
            intervals.calibration_bounds(found.confidence, found.hits),
            f"expected calibration error over {metrics.CALIBRATION_BINS} bins of equal width, "
            f"which overstates a small one; {drawn}",
        )
    )
    return evidence


def _log_loss(losses: metrics.Doubles, context: dict[str, Any]) -> list[Evidence]:
    """Return the log loss of the samples that have one; nothing where none has."""
    found, known = metrics.mean_loss(losses), losses[np.isfinite(losses)]
    if not found:
        return []
    low, high = intervals.mean_bounds(known)
    return [
        Evidence(
            metric="log_loss",
            value=found["log_loss"],
            low=max(0.0, low),
            high=high,
            n=len(known),
            method=f"mean cross-entropy in nats{without_loss(losses)}; bootstrap of "
            f"{intervals.replicates(len(known)):,} draws of the samples",
            **context,
        )
    ]


def without_loss(losses: metrics.Doubles) -> str:
    """Say how many samples have no log loss that could be averaged, if some have none."""
    count = int(np.isinf(losses).sum())
    return f", without {count:,} samples of classes that aren't in training" if count else ""


def by_class(
    classes: metrics.ClassScores,
    bounds: intervals.RateBounds,
    labels: Sequence[str],
    context: dict[str, Any],
    *,
    known: int,
) -> list[Evidence]:
    """Return precision, recall and F1 of each class, with Wilson intervals.

    The first `known` of the labels are the model's.
    """
    kinds = (
        ("precision", classes.predicted, "share of the samples taken for the class that are of it"),
        ("recall", classes.support, "share of the class's samples taken for it"),
        (
            "f1",
            classes.predicted + classes.support - classes.hits,
            "harmonic mean of precision and recall, from the share of hits among the samples that "
            "are of the class or were taken for it",
        ),
    )
    evidence = []
    for number, label in enumerate(labels):
        for metric, counts, what in kinds:
            method = what if number < known else f"{what}: not in training, so never predicted"
            low, high = getattr(bounds, metric)
            evidence.append(
                Evidence(
                    metric=metric,
                    value=float(getattr(classes, metric)[number]),
                    low=float(low[number]),
                    high=float(high[number]),
                    n=int(counts[number]),
                    method=f"{method}; {_SHARE}",
                    slice=f"label={label}",
                    **context,
                )
            )
    return evidence


def _without(
    found: metrics.Outcomes, near: NDArray[np.bool_], context: dict[str, Any]
) -> list[Evidence]:
    hits, count = int(found.hits[~near].sum()), int((~near).sum())
    if count in (0, len(found)):
        return []
    low, high = intervals.share(hits, count)
    return [
        Evidence(
            metric="accuracy",
            value=hits / count,
            low=low,
            high=high,
            n=count,
            method=f"accuracy without the {len(found) - count} samples that resemble one of "
            f"another split; {_SHARE}",
            slice=WITHOUT_NEAR,
            **context,
        )
    ]
