"""The tables of the report: figures from the ledger as text, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modelwright.evaluation import Verdict
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
"""More classes than this are folded away."""
OVERALL = (
    "accuracy",
    "top5_accuracy",
    "exact_match",
    "f1_micro",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "f1_weighted",
    "recall_at_threshold",
    "precision_at_threshold",
    "log_loss",
    "calibration_error",
    "rmse",
    "mae",
    "r2",
    "bleu",
    "chrf",
    "rouge1",
    "rouge2",
    "rouge_l",
    "wer",
    "cer",
    "map50",
    "map50_95",
    "token_loss",
    "perplexity",
    "bits_per_byte",
)


def compared_by(ledger: Ledger) -> str:
    """Return the figure that models of this kind are compared by."""
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
    found: Figure
    meaning: str = ""
    key: str = ""
    """The name in scripts."""
    here: bool = False
    """Whether it is the model itself, among others."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """What became of one target."""

    name: str
    asked: str
    found: Figure
    passed: bool
    proven: bool
    why: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The figures of one class."""

    label: str
    samples: str
    rates: dict[str, Figure] = field(default_factory=dict)
    """By metric; empty where no sample shows anything of the class."""
    is_known: bool = True
    """Whether training has some of it: else it is never predicted."""


def _figure(found: Evidence) -> Figure:
    return Figure(figure(found.metric, found.value), interval(found.metric, found.low, found.high))


def _row(found: Evidence) -> Row:
    metric = found.metric
    return Row(name_of(metric), _figure(found), meaning_of(metric), metric)


def target_rows(verdicts: Sequence[Verdict]) -> list[TargetRow]:
    """Return what was asked, beside what was measured."""
    return [
        TargetRow(
            name=name_of(verdict.metric),
            asked=limit(verdict.metric, verdict.target),
            found=_measured(verdict),
            passed=verdict.passed,
            proven=verdict.proven,
            why=_why(verdict),
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
    """Return the gate's reason, with its figures in the reader's units."""
    metric, value = verdict.metric, verdict.value
    if value is None:
        return verdict.why
    if not verdict.passed:  # Both figures stand beside it.
        return ""
    sign, bound = parse_target(verdict.target)
    doubtful = verdict.low if sign.startswith(">") else verdict.high
    if not verdict.why or doubtful is None:
        return verdict.why
    beyond = doubtful < bound if sign.startswith(">") else doubtful > bound
    return f"it could be {figure(metric, doubtful)}" if beyond else verdict.why


def overall_rows(ledger: Ledger, *, num_classes: int) -> list[Row]:
    """Return the figures over all samples, of the shipped model.

    Of five classes or fewer, the right one is always among the first five: that tells nothing.
    """
    telling = (name for name in OVERALL if name != "top5_accuracy" or num_classes > 5)
    found = (ledger.find(metric) for metric in telling)
    return [_row(item) for item in found if item is not None]


def size_rows(ledger: Ledger) -> list[Row]:
    """Return sizes and times of the shipped model."""
    timed = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "throughput_per_s")
    counted = ("size_bytes", "file_bytes", "parameters", "multiply_adds")
    found = (ledger.find(metric) for metric in (*timed, *counted))
    return [_row(item) for item in found if item is not None]


def timed_on(ledger: Ledger) -> str:
    """Return the machine that times were measured on; empty where none was."""
    found = ledger.find("latency_p50_ms")
    if found is None:
        return ""
    return ", ".join(part for part in (found.hardware, found.runtime) if part)


def baseline_rows(ledger: Ledger) -> list[Row]:
    """Return accuracy, or error, of the model and each baseline, best first.

    Nothing is returned where there is no baseline.

    Names that evaluation may gain later are shown as they are.
    """
    subjects = dict.fromkeys(
        record.subject for record in ledger if record.subject.startswith("baseline:")
    )
    rows = []
    metric = compared_by(ledger)
    is_better_low = not METRICS[metric].higher_is_better
    for subject in ("model", *subjects):
        found = ledger.find(metric, subject=subject)
        if found is not None:
            name = subject.partition(":")[2]
            words = "this model" if subject == "model" else BASELINES.get(name, name)
            row = Row(words, _figure(found), key=name, here=subject == "model")
            rows.append((found.value if is_better_low else -found.value, row))
    rows.sort(key=lambda pair: pair[0])
    return [row for _, row in rows] if len(rows) > 1 else []


def class_rows(data: ReportData) -> list[ClassRow]:
    """Return precision, recall and F1 of each class, the weakest first; nothing without classes.

    With so many classes that the ledger doesn't hold them, the figures are those of the table that
    its averages were computed from.
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
            found = of_class[name].find(metric, slice=name)
            if found is None:
                low, high = (float(bound[at]) for bound in getattr(bounds, metric))
                value = figure(metric, float(getattr(scores, metric)[at]))
                rates[metric] = Figure(value, interval(metric, low, high))
            else:
                rates[metric] = _figure(found)
        samples = count(int(scores.support[at]))
        rows.append(ClassRow(plain(labels[at]), samples, rates, is_known=at < known))
    return rows


def most_confused(data: ReportData, *, most: int = 12) -> list[dict[str, str]]:
    """Return the pairs of classes that are taken for each other most often."""
    cells, labels = data.measurement.confusion, data.measurement.names
    if cells is None or data.measurement.per_label is None:
        return []
    wrong = np.flatnonzero(cells.targets != cells.predicted)
    order = wrong[np.argsort(-cells.counts[wrong], kind="stable")][:most]
    support = data.measurement.per_label.scores.support
    return [
        {
            "truth": plain(labels[int(cells.targets[at])]),
            "answer": plain(labels[int(cells.predicted[at])]),
            "count": count(int(cells.counts[at])),
            "share": percent(float(cells.counts[at]) / max(int(support[cells.targets[at]]), 1)),
        }
        for at in order.tolist()
    ]


def split_rows(data: ReportData) -> list[tuple[str, str, str]]:
    """Return each split, how many samples it holds, and what they were used for."""
    uses = {
        "train": "learning",
        "validation": "choosing the epoch",
        "test": "the figures in this report, once, at the end",
    }
    if "test" not in data.counts:
        uses["validation"] += ", and the figures in this report"
    return [(name, count(sum(counts)), uses.get(name, "")) for name, counts in data.counts.items()]
