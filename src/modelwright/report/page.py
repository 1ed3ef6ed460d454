"""The page itself: sentences and tables from the ledger, in one HTML file without links out."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from modelwright.evaluation import DIFFERENCE, WITHOUT_NEAR, Verdict
from modelwright.files import write_bytes
from modelwright.ledger import Evidence, Ledger
from modelwright.recipe.evaluate import parse_target
from modelwright.report.charts import confusion_chart, learning_curves, reliability_chart
from modelwright.report.story import Pixels, Story

MOST_CLASSES_DRAWN = 40
MOST_CLASSES_LISTED = 200
_BLANK = "\u00a0"
"""Keeps a number and its unit on one line."""

BASELINES = {
    "majority": "always answering the most frequent class",
    "centroid": "the class whose average image is nearest",
    "hog": "hand-crafted features (HOG) with a linear classifier",
}
"""What each baseline is, in words; another one is shown by its name."""


def write_report(path: Path, story: Story) -> None:
    """Write the report of a run as one HTML file that needs nothing else, aside and renamed.

    Raises:
        ResourceError: the file can't be written.
    """
    write_bytes(path, page(story).encode())


def page(story: Story) -> str:
    """Return the report as HTML."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "count": _count, "figure": figure}
    text = resources.files("modelwright.report").joinpath("page.html.j2").read_text("utf-8")
    labels = story.measurement.labels
    drawn = len(labels) <= MOST_CLASSES_DRAWN
    return environment.from_string(text).render(
        story=story,
        headline=headline_sentences(story),
        targets=[_target_row(verdict) for verdict in story.verdicts],
        curves=[
            Markup(chart)
            for chart in learning_curves(
                story.history, select_by=story.select_by, chosen=story.chosen
            )
        ],
        confusion=Markup(confusion_chart(story.measurement.confusion.dense(), labels))
        if drawn
        else None,
        confused=most_confused(story),
        reliability=Markup(reliability_chart(story.measurement.reliability)),
        classes=class_rows(story),
        classes_left_out=max(len(labels) - MOST_CLASSES_LISTED, 0),
        baselines=baseline_rows(story),
        speed=speed_rows(story),
        overall=overall_rows(story),
        mistakes=mistakes(story),
        augmented=augmented_rows(story.augmented),
        totals={name: sum(counts) for name, counts in story.counts.items()},
        num_classes=len(labels),
    )


# -- sentences ---------------------------------------------------------------------------------


def headline_sentences(story: Story) -> list[str]:
    """Return what a reader in a hurry should know, a sentence each."""
    accuracy = story.ledger.find("accuracy")
    said = []
    if accuracy is not None:
        where = "test images" if accuracy.split == "test" else f"{accuracy.split} images"
        said.append(
            f"Of {accuracy.n:,} {where} it had not learned from, the model names "
            f"{percent(accuracy.value)} right; for other images of the same kind, expect "
            f"{percent(accuracy.low)} to {percent(accuracy.high)}."
        )
        if accuracy.split != "test":
            said.append(
                "There is no test split, so this figure comes from the samples that also chose "
                "the epoch: it flatters the model a little."
            )
        beside = beside_baseline(story.ledger)
        if beside:
            said.append(beside)
        without = story.ledger.find("accuracy", slice=WITHOUT_NEAR)
        if without is not None:
            said.append(
                f"Without the {accuracy.n - without.n:,} that closely resemble an image of "
                f"another split it is {percent(without.value)}."
            )
    missed = missed_targets(story.verdicts)
    if missed:
        said.insert(1, missed)
    if story.openings is not None and story.openings > 1:
        said.append(
            f"This test set has been opened {story.openings} times on this machine. Each look that "
            "leads to a change makes its figures a little too good."
        )
    return said


def _is_baseline(row: Evidence) -> bool:
    return row.subject.startswith("baseline:") and not row.slice


def beside_baseline(ledger: Ledger) -> str:
    """Say whether the network beats the strongest simple method, by their paired difference."""
    newest = {row.subject: row for row in ledger if row.metric == DIFFERENCE}
    strongest = min(newest.values(), key=lambda row: row.value, default=None)
    if strongest is None:
        return ""
    name = strongest.subject.partition(":")[2]
    reached = ledger.find("accuracy", subject=strongest.subject)
    words = BASELINES.get(name, name)
    figure = f" reaches {percent(reached.value)}" if reached is not None else " was measured"
    if strongest.low > 0:
        return f"The best simple method ({words}){figure}: the network is clearly better."
    if strongest.high < 0:
        return (
            f"A simple method ({words}){figure}: it is clearly better than this network, so use "
            "it, or train longer."
        )
    return (
        f"A simple method ({words}){figure}: these samples don't tell which of the two is better."
    )


def missed_targets(verdicts: Sequence[Verdict]) -> str:
    """Say how many targets are missed; empty where none is."""
    missed = [name_of(verdict.metric) for verdict in verdicts if not verdict.passed]
    if not missed:
        return ""
    of = f"{len(missed)} of {len(verdicts)} targets" if len(verdicts) > 1 else "its only target"
    return f"It misses {of}: {', '.join(missed)}."


def percent(share: float) -> str:
    r"""Write a share as a percentage, with the digits that matter near 0 and 1.

    >>> percent(0.9412), percent(0.99987), percent(1.0)
    ('94.1\xa0%', '99.99\xa0%', '100\xa0%')
    """
    if share in (0.0, 1.0):
        return f"{share * 100:.0f}{_BLANK}%"
    digits = 2 if share > 0.995 or share < 0.005 else 1
    return f"{share * 100:.{digits}f}{_BLANK}%"


def _count(number: float) -> str:
    return f"{number:,.0f}"


SHARES = ("accuracy", "precision", "recall", "f1", "top5")


def figure(metric: str, value: float) -> str:
    r"""Write a metric's value as a reader expects it: a percentage, milliseconds, bytes.

    >>> figure("accuracy", 0.5), figure("latency_p95_ms", 1.2345), figure("size_bytes", 2500000)
    ('50.0\xa0%', '1.23\xa0ms', '2.5\xa0MB')
    """
    if metric.startswith(SHARES):
        return percent(value)
    if metric.endswith("_ms"):
        return f"{value:.3g}{_BLANK}ms"
    if metric.endswith("_bytes"):
        scale, unit = (1e6, "MB") if value >= 1e6 else (1e3, "kB")
        return f"{value / scale:.3g}{_BLANK}{unit}"
    if metric.endswith("_per_s"):
        return f"{value:,.0f} per second"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


NAMES = {
    "accuracy": "right answers (accuracy)",
    "top5_accuracy": "right among the first five answers",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "size_bytes": "size of the model",
    "file_bytes": "size of the file, proof included",
    "parameters": "learned numbers",
    "multiply_adds": "multiply-adds an image and view",
}


def name_of(metric: str) -> str:
    """Return a metric's name in words."""
    return NAMES.get(metric, metric.replace("_", " "))


# -- tables ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A figure with its interval, as text."""

    name: str
    value: str
    interval: str = ""
    note: str = ""
    key: str = ""
    """The metric's name in scripts."""


def _row(found: Evidence, *, name: str | None = None, note: str = "") -> Row:
    sampled = found.low != found.high
    interval = f"{figure(found.metric, found.low)} – {figure(found.metric, found.high)}"
    return Row(
        name=name or name_of(found.metric),
        value=figure(found.metric, found.value),
        interval=interval if sampled else "",
        note=note,
        key=found.metric,
    )


def _target_row(verdict: Verdict) -> dict[str, Any]:
    found = verdict.to_json()
    metric = str(found["metric"])

    def text(value: Any) -> str:
        return "–" if value is None else figure(metric, float(value))

    return {
        "metric": metric,
        "name": name_of(metric),
        "target": limit(metric, str(found["target"])),
        "value": text(found.get("value")),
        "passed": verdict.passed,
        "proven": bool(found.get("proven")),
        "why": str(found.get("why") or ""),
    }


_SIGNS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}


def limit(metric: str, target: str) -> str:
    r"""Write a target as a reader says it.

    >>> limit("size_bytes", "<= 2_000_000")
    'at most 2\xa0MB'
    """
    sign, bound = parse_target(target)
    return f"{_SIGNS[sign]} {figure(metric, bound)}"


def overall_rows(story: Story) -> list[Row]:
    """Return the figures over all samples, of the shipped model."""
    metrics = (
        "accuracy",
        "top5_accuracy",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "f1_weighted",
        "log_loss",
        "calibration_error",
    )
    found = (story.ledger.find(metric) for metric in metrics)
    return [_row(item) for item in found if item is not None]


def speed_rows(story: Story) -> list[Row]:
    """Return sizes and times."""
    chosen: dict[str, Evidence] = {}
    for row in story.ledger:
        is_speed = row.metric.startswith(("latency_", "throughput_"))
        if row.subject == "model" and (is_speed or row.metric in NAMES) and not row.split:
            chosen[row.metric] = row
    notes = {"size_bytes": "what decides a prediction"}
    return [
        _row(row, note=notes.get(row.metric, row.hardware if row.hardware else ""))
        for row in chosen.values()
    ]


def baseline_rows(story: Story) -> list[Row]:
    """Return the accuracy of the model and of each baseline."""
    rows = []
    model = story.ledger.find("accuracy")
    if model is not None:
        rows.append(_row(model, name="this model"))
    newest = {
        row.subject: row for row in story.ledger if row.metric == "accuracy" and _is_baseline(row)
    }
    for row in sorted(newest.values(), key=lambda row: -row.value):
        name = row.subject.partition(":")[2]
        rows.append(_row(row, name=BASELINES.get(name, name)))
    return rows


def class_rows(story: Story) -> list[dict[str, str]]:
    """Return precision, recall and F1 of each class, the weakest first."""
    scores, bounds = story.measurement.classes, story.measurement.bounds
    order = np.argsort(scores.f1, kind="stable")[:MOST_CLASSES_LISTED]

    def cell(metric: str, at: int) -> tuple[str, str]:
        low, high = getattr(bounds, metric)
        value = float(getattr(scores, metric)[at])
        return percent(value), f"{percent(float(low[at]))} – {percent(float(high[at]))}"

    rows = []
    for at in order.tolist():
        row = {"label": story.measurement.labels[at], "samples": f"{int(scores.support[at]):,}"}
        for metric in ("precision", "recall", "f1"):
            row[metric], row[f"{metric}_interval"] = cell(metric, at)
        rows.append(row)
    return rows


def most_confused(story: Story, *, most: int = 12) -> list[dict[str, str]]:
    """Return the pairs of classes that are taken for each other most often."""
    cells, labels = story.measurement.confusion, story.measurement.labels
    wrong = np.flatnonzero(cells.targets != cells.predicted)
    order = wrong[np.argsort(-cells.counts[wrong], kind="stable")][:most]
    support = story.measurement.classes.support
    return [
        {
            "truth": labels[int(cells.targets[at])],
            "answer": labels[int(cells.predicted[at])],
            "count": f"{int(cells.counts[at]):,}",
            "share": percent(float(cells.counts[at]) / max(int(support[cells.targets[at]]), 1)),
        }
        for at in order.tolist()
    ]


# -- pictures ----------------------------------------------------------------------------------


def picture(pixels: Pixels) -> str:
    """Return an image `[H, W, C]` as a data address that a page can show."""
    held = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    stream = io.BytesIO()
    held.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def mistakes(story: Story) -> list[dict[str, str]]:
    """Return the wrong answers that the model was surest of, with their pictures."""
    labels = story.measurement.labels
    return [
        {
            "picture": picture(pixels),
            "truth": labels[item.target],
            "answer": labels[item.predicted],
            "confidence": percent(item.confidence),
        }
        for item, pixels in zip(story.measurement.mistakes, story.mistakes, strict=True)
    ]


def augmented_rows(augmented: Pixels | None) -> Sequence[Sequence[str]]:
    """Return the pictures of augmented samples, a row each."""
    if augmented is None:
        return []
    return [[picture(pixels) for pixels in row] for row in augmented]
