"""The page itself: sentences, tables and charts put into one HTML file without links out."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from modelwright.files import write_bytes
from modelwright.report import tables, words
from modelwright.report.charts import (
    confusion_chart,
    learning_curves,
    reliability_chart,
    scatter_chart,
)
from modelwright.report.data import ReportData
from modelwright.report.headline import headline_sentences
from modelwright.report.pictures import are_coarse, augmented_rows, shown_samples
from modelwright.run import StageReport

MOST_CLASSES_DRAWN = 40
MOST_NUMBERS_DRAWN = 6
_ARGUMENTS = {
    "image": '"picture.png"',
    "text": '"a text of your own"',
    "audio": '"recording.wav"',
}


def write_report(path: Path, data: ReportData) -> None:
    """Write the report of a run as one HTML file that needs nothing else, aside and renamed.

    Raises:
        ResourceError: the file can't be written.
    """
    # Names of files may hold bytes that are no text; everything else can be encoded.
    write_bytes(path, page(data).encode("utf-8", "replace"))


def page(data: ReportData) -> str:
    """Return the report as HTML."""
    found = data.measurement
    of_classes, labels = found.confusion is not None, found.labels
    accuracy = data.ledger.find(tables.compared_by(data.ledger))
    return _template(data.thing).render(
        data=data,
        thing=data.thing,
        things=f"{data.thing}s",
        predict_argument=_ARGUMENTS[data.thing],
        headline=headline_sentences(data),
        measured_split=accuracy.split if accuracy is not None and accuracy.split else "test",
        targets=tables.target_rows(data.verdicts),
        curves=[_curves(data, stage) for stage in data.trainings],
        training_s=sum(stage.seconds for stage in data.trainings),
        select_by=words.name_of(data.select_by),
        of_classes=of_classes,
        of_labels=found.per_label is not None,
        as_they_come=found.worst is None,
        what_it_does=_what_it_does(data, [words.plain(name) for name in labels]),
        example_target=_example_target(tables.compared_by(data.ledger)),
        compared_by=words.name_of(tables.compared_by(data.ledger)),
        scatter=_scatter(data),
        confusion=_confusion(data),
        confused=tables.most_confused(data),
        reliability=found.reliability and Markup(reliability_chart(found.reliability)),
        classes=tables.class_rows(data),
        classes_at_once=tables.CLASSES_AT_ONCE,
        classes_left_out=max(len(found.names) - tables.MOST_CLASSES_LISTED, 0),
        rates=tables.RATES,
        baselines=tables.baseline_rows(data.ledger),
        sizes=tables.size_rows(data.ledger),
        timed_on=tables.timed_on(data.ledger),
        overall=tables.overall_rows(data.ledger, num_classes=len(labels)),
        mistakes=shown_samples(data),
        mistakes_coarse=isinstance(data.mistakes, np.ndarray) and are_coarse(data.mistakes),
        augmented=augmented_rows(data.augmented),
        augmented_coarse=data.augmented is not None and are_coarse(data.augmented),
        splits=tables.split_rows(data),
        notes=_notes(data),
        decisions=json.dumps(data.decisions, indent=2, ensure_ascii=False),
    )


def _template(thing: str) -> Template:
    """Return the page's template, whose texts speak of images where nothing else is said."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": words.count,
        "duration": words.duration,
        "plain": words.plain,
        "prose": words.prose,
        "said": said,
        "of_things": lambda text: text.replace("image", thing),
    }
    text = resources.files("modelwright.report").joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(text)


def _curves(data: ReportData, stage: StageReport) -> list[Markup]:
    """Return the charts of a training."""
    charts = learning_curves(
        stage.history,
        select_by=data.select_by,
        chosen=stage.chosen,
        higher_is_better=data.higher_is_better,
    )
    # Charts escape their labels; what they call the samples is ours.
    return [Markup(chart.replace(" images", f" {data.thing}s")) for chart in charts]


def said(value: object) -> str:
    """Write a value that a run wrote down, a number in as many digits as one reads."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _example_target(metric: str) -> str:
    """Return a target of the figure that models of this kind are compared by."""
    bounds = {"rmse": "<= 1", "bleu": ">= 20", "rouge_l": ">= 0.2", "map50": ">= 0.5"}
    bounds |= {"wer": "<= 0.2", "perplexity": "<= 20"}
    return f'{metric}: "{bounds.get(metric, ">= 0.9")}"'


def _what_it_does(data: ReportData, names: list[str]) -> str:
    """Return what the model does, in half a sentence."""
    if data.measurement.confusion is not None:
        return f"A model that tells {words.count(len(names))} classes apart"
    match tables.compared_by(data.ledger):
        case "f1_macro":
            return f"A model that says which of {words.count(len(names))} labels a text has"
        case "map50":
            return f"A model that finds {', '.join(names)} in images"
        case "wer":
            return "A model that writes down what is spoken"
        case "perplexity":
            return "A model that writes texts on"
        case "bleu":
            return "A model that translates texts"
        case "rouge_l":
            return "A model that sums texts up"
    return f"A model that predicts {', '.join(names)} from {data.thing}s"


def _scatter(data: ReportData) -> list[Markup]:
    """Return a chart of each number: what was predicted against the truth."""
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
    chart = confusion_chart(cells.dense(), labels)
    return Markup(chart)  # it escapes the labels


def _notes(data: ReportData) -> list[str]:
    """Return what the run said, without what the audit's list says again."""
    return [
        note for note in data.notes if not any(finding.message in note for finding in data.findings)
    ]
