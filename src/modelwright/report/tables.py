"""The records of the ledger that each table of the report shows; the page formats them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from modelwright.evaluation import PARENT, Verdict
from modelwright.kinds import ANY_OUTPUT
from modelwright.ledger import Evidence, Ledger
from modelwright.recipe.targets import METRICS, headline_metric, parse_target
from modelwright.report.data import ReportData
from modelwright.report.words import count, figure, percent, plain

MOST_CLASSES_LISTED = 200
CLASSES_AT_ONCE = 20
"""More classes than this are folded."""
QUALITY = tuple(name for name, metric in METRICS.items() if metric.outputs != ANY_OUTPUT)
"""The metrics of predictions; the others measure time and size."""
RATES = ("precision", "recall", "f1")


class Rate(NamedTuple):
    """A rate of one class, as in the ledger."""

    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The figures of one class."""

    label: str
    samples: int
    rates: dict[str, Rate | Evidence]
    """By metric; empty where the class was neither present nor predicted."""
    is_known: bool
    """Whether it occurs in the training split; else it is never predicted."""


def compared_by(ledger: Ledger) -> str:
    """Return the main metric: the first headline metric that was measured."""
    own = (record.metric for record in ledger if (record.subject, record.slice) == ("model", ""))
    return headline_metric(own) or "accuracy"


def verdict_reason(verdict: Verdict) -> str:
    """Return why a target isn't met or proven, with figures as the report formats them."""
    if verdict.value is None:
        return verdict.why
    if not verdict.passed:  # Both figures are in the table.
        return ""
    sign, bound = parse_target(verdict.target)
    doubtful = verdict.low if sign.startswith(">") else verdict.high
    if not verdict.why or doubtful is None:
        return verdict.why
    beyond = doubtful < bound if sign.startswith(">") else doubtful > bound
    return f"it could be {figure(verdict.metric, doubtful)}" if beyond else verdict.why


def _records(metrics: Sequence[str], ledger: Ledger) -> list[Evidence]:
    records = [ledger.find(metric) for metric in metrics]
    return [record for record in records if record is not None]


def quality_records(ledger: Ledger) -> list[Evidence]:
    """Return the quality of the model over all samples."""
    return _records([name for name in QUALITY if not METRICS[name].needs_compression], ledger)


def size_records(ledger: Ledger) -> list[Evidence]:
    """Return times and sizes of the model."""
    names = [name for name in METRICS if name not in QUALITY]
    return _records([name for name in names if not METRICS[name].needs_compression], ledger)


def timed_on(ledger: Ledger) -> str:
    """Return the machine that times are of; empty where none were measured."""
    latency = ledger.find("latency_p50_ms")
    if latency is None:
        return ""
    place = ", ".join(filter(None, (latency.hardware, latency.runtime)))
    if latency.basis == "derived":
        return f"another machine, and count as on {place} by the profiles of both"
    return f"this machine: {place}"


def baseline_records(ledger: Ledger) -> list[Evidence]:
    """Return the main metric of the model and of each baseline, best first; empty without one."""
    metric = compared_by(ledger)
    subjects = {record.subject for record in ledger if record.subject.startswith("baseline:")}
    records = [ledger.find(metric, subject=subject) for subject in ("model", *sorted(subjects))]
    measured = [record for record in records if record is not None]
    measured.sort(key=lambda record: record.value, reverse=METRICS[metric].higher_is_better)
    return measured if len(measured) > 1 else []


class ChangeRow(NamedTuple):
    """A figure before and after compression."""

    metric: str
    before: Evidence | None
    after: Evidence


AFTER = "after "
"""What the slice of evidence after a step of compression begins with."""
_BEFORE_AND_AFTER = ("calibration_error", "size_bytes")
"""What is shown before and after compression, beside the main metric."""


def change_rows(ledger: Ledger) -> list[ChangeRow]:
    """Return what compression changed; nothing where there was none."""
    rows = []
    if ledger.find("size_ratio") is not None:
        for metric in (compared_by(ledger), *_BEFORE_AND_AFTER):
            before, after = ledger.find(metric, subject=PARENT), ledger.find(metric)
            if before is not None and after is not None:
                rows.append(ChangeRow(metric, before, after))
    names = [name for name, metric in METRICS.items() if metric.needs_compression]
    return rows + [ChangeRow(record.metric, None, record) for record in _records(names, ledger)]


class StepRow(NamedTuple):
    """What the network was like after a step of compression, on the validation split."""

    step: str
    records: Sequence[Evidence | None]
    """One for each of the columns."""


def step_columns(ledger: Ledger) -> list[str]:
    """Return the metrics that are known after steps of compression, the main one first."""
    found = {item.metric for item in ledger if item.slice.startswith(AFTER)}
    wanted = (compared_by(ledger), *(name for name in METRICS if name in found))
    return [name for name in dict.fromkeys(wanted) if name in found]


def step_rows(ledger: Ledger) -> list[StepRow]:
    """Return what was measured after each step of compression, in order."""
    slices = dict.fromkeys(item.slice for item in ledger if item.slice.startswith(AFTER))
    columns = step_columns(ledger)
    return [
        StepRow(each.removeprefix(AFTER), [ledger.find(metric, slice=each) for metric in columns])
        for each in slices
    ]


def class_rows(data: ReportData) -> list[ClassRow]:
    """Return precision, recall and F1 of each class, lowest F1 first; nothing without classes.

    The ledger holds the figures of a limited number of classes; those of the others come from the
    measurement.
    """
    if data.measurement.per_label is None:
        return []
    (scores, bounds), labels = data.measurement.per_label, data.measurement.names
    unseen = (scores.support == 0) & (scores.predicted == 0)
    order = np.lexsort((scores.recall, scores.f1, unseen))[:MOST_CLASSES_LISTED].tolist()
    recorded = {
        (record.slice, record.metric): record for record in data.ledger if record.subject == "model"
    }
    rows = []
    for at in order:
        rates: dict[str, Rate | Evidence] = {}
        for metric in RATES if not unseen[at] else ():
            low, high = (float(bound[at]) for bound in getattr(bounds, metric))
            measured = Rate(metric, float(getattr(scores, metric)[at]), low, high)
            rates[metric] = recorded.get((f"label={labels[at]}", metric), measured)
        is_known = at < len(data.measurement.labels)
        rows.append(ClassRow(plain(labels[at]), int(scores.support[at]), rates, is_known))
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


def split_rows(data: ReportData) -> list[tuple[str, int, str]]:
    """Return the name of each split, its number of samples, and their use."""
    uses = {
        "train": "training",
        "validation": "choosing the epoch",
        "test": "the figures in this report",
    }
    if "test" not in data.counts:
        uses["validation"] += ", and the figures in this report"
    return [(name, sum(counts), uses.get(name, "")) for name, counts in data.counts.items()]
