"""What a reader in a hurry should know, a sentence each: from the ledger and the gate alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from modelwright.evaluation import WITHOUT_NEAR, Verdict, answer, chosen_threshold
from modelwright.ledger import Evidence
from modelwright.report.data import ReportData
from modelwright.report.tables import compared_by
from modelwright.report.words import (
    BASELINES,
    figure,
    limit,
    meaning_of,
    name_of,
    percent,
    plain,
    short,
)

Tone = Literal["", "good", "bad", "warn"]
_NAMED = 5
"""How many classes a sentence names."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and whether it is good or bad news."""

    text: str
    tone: Tone = ""


def headline_sentences(data: ReportData) -> list[Sentence]:
    """Return the headline: how good, whether it does what was asked, and what qualifies that."""
    accuracy = data.ledger.find("accuracy")
    sentences = [
        *_how_good(accuracy, data.thing),
        *_how_near(data),
        *_how_well(data),
        *_from_when(data),
        *_how_exact(data),
        *_what_is_unknown(data),
        *about_targets(data.verdicts),
    ]
    main = data.ledger.find(compared_by(data.ledger))
    if main is not None and main.split == "validation":
        text = (
            f"There is no test split, so this figure comes from the {data.thing}s that also chose "
            "the epoch: it flatters the model a little."
        )
        sentences.append(Sentence(text, "warn"))
    if any(step.get("step") == "init" for step in data.lineage):
        text = (
            "It went on from another model file, and nobody has said whether that one learned from "
            f"some of these {data.thing}s; if it did, this figure is too good."
        )
        sentences.append(Sentence(text, "warn"))
    beside = answer(data.ledger, words=BASELINES)
    if beside:
        sentences.append(Sentence(beside))
    without = None if main is None else data.ledger.find(main.metric, slice=WITHOUT_NEAR)
    if main is not None and without is not None:
        left_out = main.n - without.n
        it = "it" if main.metric == "accuracy" else f"its {name_of(main.metric)}"
        text = (
            f"{left_out:,} of these {data.thing}s closely resemble{'s' if left_out == 1 else ''} "
            f"one of another split; without them {it} is {figure(main.metric, without.value)}."
        )
        sentences.append(Sentence(text))
    if data.test_accesses is not None and data.test_accesses > 1:
        text = (
            f"This test set has been opened {data.test_accesses:,} times on this machine. Each "
            "look that leads to a change makes its figures a little too good."
        )
        sentences.append(Sentence(text, "warn"))
    return sentences


def _how_good(accuracy: Evidence | None, thing: str) -> Iterator[Sentence]:
    if accuracy is None:
        return
    images = f"{accuracy.split} {thing}{'' if accuracy.n == 1 else 's'}".strip()
    text = (
        f"Of {accuracy.n:,} {images} that it had not learned from, the model names "
        f"{percent(accuracy.value)} right"
    )
    if accuracy.low < accuracy.high:
        text += (
            f"; for other {thing}s of the same kind, expect {percent(accuracy.low)} to "
            f"{percent(accuracy.high)}"
        )
    yield Sentence(f"{text}.")


def _from_when(data: ReportData) -> Iterator[Sentence]:
    """Say from which probability on a class is called, where the recipe asks for that."""
    chosen = chosen_threshold(data.ledger)
    recall = data.ledger.find("recall_at_threshold")
    precision = data.ledger.find("precision_at_threshold")
    if chosen is None or recall is None or precision is None:
        return
    label = plain(chosen.slice.removeprefix("label="))
    yield Sentence(
        f"Called “{label}” from a probability of {percent(chosen.value)} on, "
        f"{percent(recall.value)} of the {recall.n:,} {data.thing}s of “{label}” are found "
        f"({percent(recall.low)} to {percent(recall.high)}), and {percent(precision.value)} of "
        "those called so are right."
    )


def _how_near(data: ReportData) -> Iterator[Sentence]:
    """Say how far predicted numbers are off, and how that compares with saying the average."""
    error, explained = data.ledger.find("mae"), data.ledger.find("r2")
    if error is None or explained is None:
        return
    things = f"{error.split} {data.thing}{'' if error.n == 1 else 's'}".strip()
    yield Sentence(
        f"On {error.n:,} {things} that it had not learned from, the model is off by "
        f"{short(error.value)} on average; for others of the same kind, expect "
        f"{short(error.low)} to {short(error.high)}."
    )
    simple = data.ledger.find("mae", subject="baseline:mean")
    if simple is not None and simple.value > 0:
        change = 1 - error.value / simple.value
        how = f"{percent(abs(change))} {'less' if change >= 0 else 'more'}"
        yield Sentence(
            f"That is {how} than by always answering the training samples' average "
            f"({short(simple.value)}).",
            "" if change > 0 else "bad",
        )


def _how_well(data: ReportData) -> Iterator[Sentence]:
    """Say the main figure of a model that answers with texts or boxes, beside the simple answer."""
    metric = compared_by(data.ledger)
    found = data.ledger.find(metric)
    if found is None or metric in ("accuracy", "rmse"):
        return
    thing = "stretch of text" if metric == "perplexity" else data.thing
    many = "stretches of text" if metric == "perplexity" else f"{data.thing}s"
    things = f"{found.split} {thing if found.n == 1 else many}".strip()
    yield Sentence(
        f"On {found.n:,} {things} that it had not learned from, its {name_of(metric)} is "
        f"{figure(metric, found.value)}; for others of the same kind, expect "
        f"{figure(metric, found.low)} to {figure(metric, found.high)}. {meaning_of(metric)}"
    )
    for record in data.ledger:
        if record.metric == metric and record.subject.startswith("baseline:"):
            name = record.subject.partition(":")[2]
            yield Sentence(
                f"{BASELINES.get(name, name).capitalize()} would come to "
                f"{figure(metric, record.value)}."
            )


def _how_exact(data: ReportData) -> Iterator[Sentence]:
    """Say how often all labels of a sample are right, where a sample may have several."""
    found = data.ledger.find("exact_match")
    if found is not None:
        yield Sentence(
            f"It gives {percent(found.value)} of these {data.thing}s just their labels: none is "
            "missing, and none is too many."
        )


def _what_is_unknown(data: ReportData) -> Iterator[Sentence]:
    """Say which classes are measured that the model can't know, since training has none of them."""
    unknown = data.measurement.unknown
    if not unknown:
        return
    shown = ", ".join(f"“{plain(label)}”" for label in unknown[:_NAMED])
    more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
    them = "it" if len(unknown) == 1 else "them"
    yield Sentence(
        f"It can't know {shown}{more}, as training had none of {them}: what is so labelled counts "
        "as wrong.",
        "warn",
    )


def about_targets(verdicts: Sequence[Verdict]) -> Iterator[Sentence]:
    """Say plainly which targets are missed, or that all are met."""
    missed = [verdict for verdict in verdicts if not verdict.passed]
    total = len(verdicts)
    if missed:
        of = f"{len(missed)} of {total} targets" if total > 1 else "its only target"
        yield Sentence(f"It misses {of}: {'; '.join(map(_missed, missed))}.", "bad")
    elif verdicts:
        met = "its only target" if total == 1 else f"all {total} targets"
        proven = sum(verdict.proven for verdict in verdicts)
        how = {0: ", but proves none of them", total: ", and proves them"}
        if total == 1:
            how = {0: ", but doesn't prove it", 1: ", and proves it"}
        yield Sentence(f"It meets {met}{how.get(proven, f' and proves {proven} of them')}.", "good")


def _missed(verdict: Verdict) -> str:
    asked = limit(verdict.metric, verdict.target)
    if verdict.value is None:
        return f"{name_of(verdict.metric)} not measured, {asked} asked"
    return f"{name_of(verdict.metric)} {figure(verdict.metric, verdict.value)}, {asked} asked"
