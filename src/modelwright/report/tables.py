"""The tables of the report: figures from the ledger as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modelwright.evaluation import Verdict
from modelwright.kinds import ANY_OUTPUT
from modelwright.ledger import Evidence, Ledger
from modelwright.recipe.targets import METRICS, parse_target
from modelwright.report.data import ReportData
from modelwright.report.words import (
    BASELINES,
    count,
    figure,
    interval,
    limit,
    meaning_of,
    name_of,
    percent,
    plain,
)

MOST_CLASSES_LISTED = 200
CLASSES_AT_ONCE = 20
"""More classes than this are folded."""
QUALITY = tuple(name for name, metric in METRICS.items() if metric.outputs != ANY_OUTPUT)
"""The metrics of predictions; the others measure time and size."""


def compared_by(ledger: Ledger) -> str:
    """Return the main metric: the first headline metric that was measured."""
    headlines = (metric.name for metric in METRICS.values() if metric.is_headline)
    return next((name for name in headlines if ledger.find(name) is not None), "accuracy")


RATES = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its interval, as text."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A named figure."""

    name: str
    measured: Figure
    meaning: str = ""
    key: str = ""
    """The name in recipes and in the ledger."""
    here: bool = False
    """Whether it is the model of this report, among other methods."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target, and whether it is met."""

    name: str
    limit: str
    measured: Figure
    passed: bool
    proven: bool
    why: str
    outcome: str
    """The verdict in a word or two."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The figures of one class."""

    label: str
    samples: str
    rates: dict[str, Figure] = field(default_factory=dict)
    """By metric; empty where the class was neither present nor predicted."""
    is_known: bool = True
    """Whether it occurs in the training split; else it is never predicted."""


def _figure(record: Evidence) -> Figure:
    metric = record.metric
    return Figure(figure(metric, record.value), interval(metric, record.low, record.high))


def _rows(metrics: Sequence[str], ledger: Ledger) -> list[Row]:
    records = [ledger.find(metric) for metric in metrics]
    return [
        Row(name_of(record.metric), _figure(record), meaning_of(record.metric), record.metric)
        for record in records
        if record is not None
    ]


def target_rows(verdicts: Sequence[Verdict]) -> list[TargetRow]:
    """Return the targets beside the measured figures."""
    return [
        TargetRow(
            name=name_of(verdict.metric),
            limit=limit(verdict.metric, verdict.target),
            measured=_measured(verdict),
            passed=verdict.passed,
            proven=verdict.proven,
            why=_why(verdict),
            outcome=verdict.outcome,
        )
        for verdict in verdicts
    ]


def _measured(verdict: Verdict) -> Figure:
    if verdict.value is None:
        return Figure("–")
    low, high = verdict.low, verdict.high
    known = low is not None and high is not None
    between = interval(verdict.metric, low or 0.0, high or 0.0) if known else ""
    return Figure(figure(verdict.metric, verdict.value), between)


def _why(verdict: Verdict) -> str:
    """Return why a target isn't met or proven, with figures as the report formats them."""
    metric, value = verdict.metric, verdict.value
    if value is None:
        return verdict.why
    if not verdict.passed:  # Both figures are in the table.
        return ""
    sign, bound = parse_target(verdict.target)
    doubtful = verdict.low if sign.startswith(">") else verdict.high
    if not verdict.why or doubtful is None:
        return verdict.why
    beyond = doubtful < bound if sign.startswith(">") else doubtful > bound
    return f"it could be {figure(metric, doubtful)}" if beyond else verdict.why


def overall_rows(ledger: Ledger, *, num_classes: int) -> list[Row]:
    """Return the quality of the model over all samples.

    With five classes or fewer, top-5 accuracy is always 1 and is left out.
    """
    shown = [name for name in QUALITY if name != "top5_accuracy" or num_classes > 5]
    return _rows(shown, ledger)


def size_rows(ledger: Ledger) -> list[Row]:
    """Return times and sizes of the model."""
    return _rows([name for name in METRICS if name not in QUALITY], ledger)


def timed_on(ledger: Ledger) -> str:
    """Return the machine that times were measured on; empty where none were measured."""
    latency = ledger.find("latency_p50_ms")
    if latency is None:
        return ""
    return ", ".join(part for part in (latency.hardware, latency.runtime) if part)


def baseline_rows(ledger: Ledger) -> list[Row]:
    """Return the main metric of the model and of each baseline, best first.

    The list is empty where there is no baseline.
    """
    subjects = dict.fromkeys(
        record.subject for record in ledger if record.subject.startswith("baseline:")
    )
    rows = []
    metric = compared_by(ledger)
    sign = -1 if METRICS[metric].higher_is_better else 1
    for subject in ("model", *subjects):
        record = ledger.find(metric, subject=subject)
        if record is not None:
            name = subject.partition(":")[2]
            words = "this model" if subject == "model" else BASELINES.get(name, name)
            row = Row(words, _figure(record), key=name, here=subject == "model")
            rows.append((sign * record.value, row))
    rows.sort(key=lambda pair: pair[0])
    return [row for _, row in rows] if len(rows) > 1 else []


def class_rows(data: ReportData) -> list[ClassRow]:
    """Return precision, recall and F1 of each class, lowest F1 first; nothing without classes.

    The ledger holds the figures of a limited number of classes; those of the others come from the
    measurement.
    """
    if data.measurement.per_label is None:
        return []
    (scores, bounds), labels = data.measurement.per_label, data.measurement.names
    known = len(data.measurement.labels)
    unseen = (scores.support == 0) & (scores.predicted == 0)
    order = np.lexsort((scores.recall, scores.f1, unseen))[:MOST_CLASSES_LISTED].tolist()
    of_class: dict[str, Ledger] = {f"label={labels[at]}": Ledger() for at in order}
    for record in data.ledger:
        if record.slice in of_class:
            of_class[record.slice].append(record)
    rows = []
    for at in order:
        name = f"label={labels[at]}"
        rates = {}
        for metric in RATES if not unseen[at] else ():
            rate = of_class[name].find(metric, slice=name)
            if rate is None:
                low, high = (float(bound[at]) for bound in getattr(bounds, metric))
                value = figure(metric, float(getattr(scores, metric)[at]))
                rates[metric] = Figure(value, interval(metric, low, high))
            else:
                rates[metric] = _figure(rate)
        samples = count(int(scores.support[at]))
        rows.append(ClassRow(plain(labels[at]), samples, rates, is_known=at < known))
    return rows


def most_confused(data: ReportData, *, most: int = 12) -> list[dict[str, str]]:
    """Return the pairs of classes that are confused most often."""
    cells, labels = data.measurement.confusion, data.measurement.names
    if cells is None or data.measurement.per_label is None:
        return []
    wrong = np.flatnonzero(cells.targets != cells.predicted)
    order = wrong[np.argsort(-cells.counts[wrong], kind="stable")][:most]
    support = data.measurement.per_label.scores.support
    return [
        {
            "truth": plain(labels[int(cells.targets[at])]),
            "predicted": plain(labels[int(cells.predicted[at])]),
            "count": count(int(cells.counts[at])),
            "share": percent(float(cells.counts[at]) / max(int(support[cells.targets[at]]), 1)),
        }
        for at in order.tolist()
    ]


def split_rows(data: ReportData) -> list[tuple[str, str, str]]:
    """Return the name of each split, its number of samples, and their use."""
    uses = {
        "train": "training",
        "validation": "choosing the epoch",
        "test": "the figures in this report",
    }
    if "test" not in data.counts:
        uses["validation"] += ", and the figures in this report"
    return [(name, count(sum(counts)), uses.get(name, "")) for name, counts in data.counts.items()]
