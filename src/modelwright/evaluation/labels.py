"""Figures of labels: accuracy, rates of each label and their means, calibration.

Shares have exact intervals, means over labels a bootstrap of the confusion matrix, which draws
cells and not samples and so takes no longer for a million samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelwright import metrics
from modelwright.arrays import Bools
from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.bootstrap import without_loss
from modelwright.evaluation.measurement import PerLabel, Record
from modelwright.evaluation.studentized import (
    FEW_APART,
    MEAN_LOSS,
    interval_method,
    studentized_bounds,
)
from modelwright.ledger import Evidence
from modelwright.metrics import ClassScores, Confusion, Outcomes

LABELS_IN_LEDGER = 1000
"""Up to so many labels, each has its own evidence; with more, the table alone holds them."""
WITHOUT_NEAR = "without near-duplicates"
DIFFERENCE = "accuracy_difference"
"""The metric's name in the ledger: the model's accuracy minus that of the record's subject."""
_SHARE = "exact interval"


def accuracy(hits: Bools, record: Record, *, method: str, slice: str = "") -> Evidence:
    """Return the share of samples that are predicted rightly."""
    right, count = int(hits.sum()), len(hits)
    bounds = intervals.share(right, count)
    method = f"{method}; {_SHARE}"
    return record("accuracy", right / count, bounds, n=count, method=method, slice=slice)


def accuracy_difference(
    model_hits: Bools, other_hits: Bools, record: Record, *, model: str
) -> Evidence:
    """Return the model's accuracy minus another method's, from the samples each had right `[N]`.

    Pairing removes the variance that both share, so that fewer samples are needed (Bonett and Price
    2012; the test is McNemar's of 1947, exact). The record's subject is the other method; `model`
    is the model digest.

    Raises:
        DataError: there are no samples, or the lengths differ.
    """
    if model_hits.shape != other_hits.shape or model_hits.ndim != 1 or len(model_hits) == 0:
        raise DataError(
            f"two models are compared on the same samples, one at least, not on "
            f"{list(model_hits.shape)} and {list(other_hits.shape)}"
        )
    only_model = int((model_hits & ~other_hits).sum())
    only_other = int((other_hits & ~model_hits).sum())
    count = len(model_hits)
    difference = (only_model - only_other) / count
    ends = (difference, *intervals.paired_bounds(only_model, only_other, count))
    p = intervals.mcnemar(only_model, only_other)
    return record(
        DIFFERENCE,
        difference,
        (min(ends), max(ends)),
        n=count,
        method="the model's accuracy minus this baseline's on the same samples; paired interval of "
        "Bonett and Price; exact McNemar test p " + (f"= {p:.2g}" if p >= 1e-12 else "< 1e-12"),
        model=model,
    )


def averages(cells: Confusion, record: Record, *, method: str = "") -> list[Evidence]:
    """Return precision, recall and F1, averaged over the classes."""
    scores, bounds = metrics.class_scores(cells), intervals.average_bounds(cells)
    values = metrics.averages(scores.hits, scores.predicted, scores.support)
    means = {
        "macro": "mean over the classes that occur; ",
        "weighted": "mean over the classes, weighted by their samples; ",
    }
    drawn = (
        f"bootstrap of {intervals.replicates(len(cells.counts)):,} draws of the confusion matrix, "
        "where a class has few mistakes never narrower than the classes' exact intervals combined"
    )
    return [
        record(
            metric,
            float(value),
            bounds[metric],
            n=int(cells.counts.sum()),
            method=method + means[metric.partition("_")[2]] + drawn,
        )
        for metric, value in values.items()
    ]


def single_label_figures(
    outcomes: Outcomes, cells: Confusion, record: Record, *, num_classes: int
) -> list[Evidence]:
    """Return the figures over all samples, where each has one label.

    `num_classes` counts those that the model can predict.
    """
    best = "share of samples whose most probable class is the target"
    lost = int((outcomes.ranks == metrics.NEVER).sum())
    if lost:
        best += f"; {lost:,} are of classes that aren't in training, and count as wrong"
    return [
        accuracy(outcomes.hits, record, method=best),
        *_top5_accuracy(outcomes, num_classes, record),
        *averages(cells, record),
        *_log_loss(outcomes, record),
        _calibration_error(outcomes, record),
    ]


def _top5_accuracy(outcomes: Outcomes, num_classes: int, record: Record) -> list[Evidence]:
    """Return the top-5 accuracy; of five classes or fewer nothing, as it would always be 1."""
    if num_classes <= 5:
        return []
    hits, count = int((outcomes.ranks < 5).sum()), len(outcomes)
    method = "share of samples whose target is among the five most probable classes; " + _SHARE
    bounds = intervals.share(hits, count)
    return [record("top5_accuracy", hits / count, bounds, n=count, method=method)]


_SUREST = 1e-12
"""The least probability that is left for the other classes."""


def _log_loss(outcomes: Outcomes, record: Record) -> list[Evidence]:
    """Return the log loss of the samples that have one; nothing where none has."""
    is_known = np.isfinite(outcomes.losses)
    losses = outcomes.losses[is_known]
    if not len(losses):
        return []
    low, high = studentized_bounds(MEAN_LOSS.columns({"losses": losses}), MEAN_LOSS)["log_loss"]
    is_wrong = ~outcomes.hits[is_known]
    if is_wrong.sum() <= FEW_APART:
        # So few mistakes don't show what a mistake costs: by the model's own confidence, at least.
        share = intervals.share(int(is_wrong.sum()), len(losses)).high
        rest = np.maximum(1 - outcomes.confidence[is_known], _SUREST)
        cost = max(float(-np.log(rest).mean()), float(losses[is_wrong].max(initial=0.0)))
        high = float(losses.mean() + (share - is_wrong.mean()) * cost)
    method = (
        f"mean cross-entropy in nats{without_loss(outcomes.losses)}; "
        f"{interval_method(len(losses))}, where few samples are wrong up to what the exact "
        "interval of their share would cost"
    )
    mean = float(losses.mean())
    return [record("log_loss", mean, (low, high), n=len(losses), method=method)]


def _calibration_error(outcomes: Outcomes, record: Record) -> Evidence:
    table = metrics.reliability(outcomes.confidence, outcomes.hits)
    return record(
        "calibration_error",
        metrics.calibration_error(table),
        intervals.calibration_bounds(outcomes.confidence, outcomes.hits),
        n=len(outcomes),
        method=f"expected calibration error over {metrics.CALIBRATION_BINS} bins of equal width, "
        "which overstates a small one; bootstrap of "
        f"{intervals.replicates(len(outcomes)):,} draws of the samples",
    )


def per_label_figures(
    scores: ClassScores, names: Sequence[str], record: Record, *, known: int
) -> tuple[PerLabel, list[Evidence]]:
    """Return the rates of each label, and evidence of its precision, recall and F1.

    The first `known` labels are the model's.
    """
    bounds = intervals.class_bounds(scores.hits, scores.predicted, scores.support)
    if len(names) > LABELS_IN_LEDGER:
        return PerLabel(scores, bounds), []
    rates = (
        ("precision", scores.predicted, "share of the samples taken for the class that are of it"),
        ("recall", scores.support, "share of the class's samples taken for it"),
        (
            "f1",
            scores.predicted + scores.support - scores.hits,
            "harmonic mean of precision and recall, from the share of hits among the samples that "
            "are of the class or were taken for it",
        ),
    )
    evidence = []
    for number, name in enumerate(names):
        for metric, counts, what in rates:
            never = "" if number < known else ": not in training, so never predicted"
            low, high = getattr(bounds, metric)
            evidence.append(
                record(
                    metric,
                    float(getattr(scores, metric)[number]),
                    (float(low[number]), float(high[number])),
                    n=int(counts[number]),
                    method=f"{what}{never}; {_SHARE}",
                    slice=f"label={name}",
                )
            )
    return PerLabel(scores, bounds), evidence
