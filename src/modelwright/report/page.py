"""The page: sentences, tables and charts in one HTML file without external links."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from modelwright.files import write_bytes
from modelwright.report import tables, words
from modelwright.report.charts import (
    Mark,
    confusion_chart,
    cost_chart,
    learning_curves,
    reliability_chart,
    scatter_chart,
)
from modelwright.report.data import ReportData
from modelwright.report.headline import headline_sentences
from modelwright.report.pictures import (
    are_coarse,
    augmented_rows,
    changed_samples,
    shown_samples,
)

MOST_CLASSES_DRAWN = 40
MOST_NUMBERS_DRAWN = 6
_ARGUMENTS = {"image": '"picture.png"', "text": '"a text of your own"', "audio": '"recording.wav"'}


def write_report(path: Path, data: ReportData) -> None:
    """Write the report of a run as one self-contained HTML file, atomically.

    Raises:
        ResourceError: the file can't be written.
    """
    # Names of files may hold bytes that aren't UTF-8.
    write_bytes(path, page(data).encode("utf-8", "replace"))


def page(data: ReportData) -> str:
    """Return the report as HTML."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("count", "duration", "plain", "prose"):
        environment.filters[name] = getattr(words, name)
    environment.filters["brief"] = brief
    text = resources.files("modelwright.report").joinpath("page.html.j2").read_text("utf-8")
    measurement, samples = data.measurement, data.input_kind.plural
    metric = tables.compared_by(data.ledger)
    main = data.ledger.find(metric)
    findings = [finding.message for finding in data.findings]
    return environment.from_string(text).render(
        data=data,
        words=words,
        tables=tables,
        input_kind=data.input_kind,
        samples=samples,
        predict_argument=_ARGUMENTS[data.input_kind],
        headline=headline_sentences(data),
        measured_split=main.split if main is not None and main.split else "test",
        # Charts escape their labels.
        curves=[
            [
                Markup(chart)
                for chart in learning_curves(
                    stage.history, select_by=data.select_by, chosen=stage.chosen, samples=samples
                )
            ]
            for stage in data.trainings
        ],
        is_single_label=measurement.confusion is not None,
        is_ranked=measurement.worst is not None,
        purpose=_purpose(data, [words.plain(name) for name in measurement.labels]),
        compared_by=words.name_of(metric),
        scatter=_scatter(data),
        confusion=_confusion(data),
        reliability=measurement.reliability and Markup(reliability_chart(measurement.reliability)),
        mistakes=shown_samples(data),
        mistakes_coarse=isinstance(data.mistakes, np.ndarray) and are_coarse(data.mistakes),
        search_charts=_search_charts(data),
        changed=changed_samples(data),
        changed_coarse=isinstance(data.changed_samples, np.ndarray)
        and are_coarse(data.changed_samples),
        augmented=augmented_rows(data.augmented),
        augmented_coarse=data.augmented is not None and are_coarse(data.augmented),
        notes=[note for note in data.notes if not any(message in note for message in findings)],
        decisions=json.dumps(data.decisions, indent=2, ensure_ascii=False),
    )


def brief(value: object) -> str:
    """Return a recorded value as text, a number with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _purpose(data: ReportData, names: list[str]) -> str:
    """Return what the model does, as the beginning of a sentence."""
    samples = data.input_kind.plural
    if data.measurement.confusion is not None:
        return f"A model that classifies {samples} into {words.count(len(names))} classes"
    match tables.compared_by(data.ledger):
        case "f1_macro":
            return f"A model that assigns any of {words.count(len(names))} labels to {samples}"
        case "map50":
            return f"A model that detects {', '.join(names)} in {samples}"
        case "wer":
            return "A model that transcribes speech"
        case "perplexity":
            return "A model that continues texts"
        case "bleu":
            return "A model that translates texts"
        case "rouge_l":
            return "A model that summarizes texts"
    return f"A model that predicts {', '.join(names)} from {samples}"


def _search_charts(data: ReportData) -> list[Markup]:
    """Return a chart of what a search has tried for each cost."""
    if not data.tried:
        return []
    metric, *costs = data.tried_by
    charts = []
    for cost in costs:
        marks = [
            Mark(
                item.name,
                item.figures[cost],
                item.figures[metric],
                "--ink" if item.is_on_front else "--series-1",
                item.is_chosen,
            )
            for item in data.tried
            if cost in item.figures and metric in item.figures
        ]
        charts.append(Markup(cost_chart(marks, metric=metric, cost=cost)))  # It escapes names.
    return charts


def _scatter(data: ReportData) -> list[Markup]:
    """Return a scatter plot of each number that is predicted."""
    if data.measurement.numbers is None:
        return []
    predicted, targets = data.measurement.numbers
    return [
        # The chart escapes the name.
        Markup(scatter_chart(predicted[:, at], targets[:, at], name))
        for at, name in enumerate(data.measurement.labels[:MOST_NUMBERS_DRAWN])
    ]


def _confusion(data: ReportData) -> Markup | None:
    cells, labels = data.measurement.confusion, data.measurement.names
    if cells is None or len(labels) > MOST_CLASSES_DRAWN:
        return None
    return Markup(confusion_chart(cells.dense(), labels))  # It escapes the labels.
