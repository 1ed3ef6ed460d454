"""The headline of the report: the most important results, one sentence each.

They are taken from the ledger and the verdicts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from modelwright.evaluation import (
    DIFFERENCE,
    PARENT_GAIN,
    WITHOUT_NEAR,
    Verdict,
    chosen_threshold,
)
from modelwright.ledger import Evidence
from modelwright.modelfile.origin import describe_origin
from modelwright.recipe.targets import METRICS
from modelwright.report.data import ReportData
from modelwright.report.tables import compared_by
from modelwright.report.words import (
    figure,
    is_share,
    limit,
    meaning_of,
    name_of,
    percent,
    plain,
    subject_name,
)

Tone = Literal["", "good", "bad", "warn"]
_NAMED = 5
"""The most classes that a sentence names."""
_CHOICES = {
    "choose": (
        "A linear model and a network",
        {"linear": "the linear model", "network": "the network"},
    ),
    "choose-network": (
        "Published weights and a network of the default family",
        {
            "published": "the network of published weights",
            "default": "the network of the default family",
        },
    ),
}
"""The steps of the lineage that chose a model: what was trained, and the words for each."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and whether it is good news, bad news or a warning."""

    text: str
    tone: Tone = ""


def headline_sentences(data: ReportData) -> list[Sentence]:
    """Return the headline: how good the model is, whether targets are met, and caveats."""
    return [
        *_about_accuracy(data),
        *_about_regression(data),
        *_about_other_metrics(data),
        *_about_threshold(data),
        *_about_exact_match(data),
        *_about_unknown_classes(data),
        *about_targets(data.verdicts),
        *_about_compression(data),
        *_about_choice(data),
        *(Sentence(plain(text)) for text in describe_origin(data.lineage)),
        *_about_splits(data),
        *_about_baselines(data),
        *_about_near_duplicates(data),
        *_about_test_accesses(data),
    ]


def _about_compression(data: ReportData) -> Iterator[Sentence]:
    """Say what compression gained and what it cost."""
    found = {name: data.ledger.find(name) for name in ("size_ratio", "speedup_batch_1")}
    size, speed, gain = found["size_ratio"], found["speedup_batch_1"], data.ledger.find(PARENT_GAIN)
    if size is None or gain is None:
        return
    smaller = f"{size.value:.3g} times smaller" if size.value >= 1.005 else "no smaller"
    text = f"Compression made the model {smaller}"
    if speed is not None and speed.low <= 1 <= speed.high:
        text += ", and it is about as fast as before"
    elif speed is not None:
        faster, factor = speed.value >= 1, max(speed.value, 1 / max(speed.value, 1e-9))
        text += f" and {factor:.3g} times {'faster' if faster else 'slower'}"
    metric = compared_by(data.ledger)
    scale, unit = (100, " percentage points") if is_share(metric) else (1, "")
    better = "better" if gain.value >= 0 else "worse"
    ends = f"95 %: {gain.low * scale:+.2g} to {gain.high * scale:+.2g}"
    by = f"{abs(gain.value) * scale:.2g}{unit} {better}"
    yield Sentence(f"{text}; the main figure, {name_of(metric)}, is {by} ({ends}).")


def _about_choice(data: ReportData) -> Iterator[Sentence]:
    """Say which of the models that `model: auto` trained ships, and why."""
    for name, (trained, words) in _CHOICES.items():
        step = next((step for step in data.lineage if step.get("step") == name), {})
        metric = str(step.get("metric", ""))
        if not metric:
            continue
        values = {key: float(str(step[key])) for key in words}
        chosen = str(step["chosen"])
        other = next(key for key in words if key != chosen)
        sign = 1.0 if METRICS[metric].higher_is_better else -1.0
        is_lead = sign * (values[chosen] - values[other]) >= 0
        shown = {key: figure(metric, value) for key, value in values.items()}
        yield Sentence(
            f"{trained} were trained; {words[chosen]} ships. On the validation split: "
            f"{name_of(metric)} {shown[chosen]} for {words[chosen]}, {shown[other]} for "
            f"{words[other]}{'' if is_lead else ', which is hardly better'}."
        )


def _about_splits(data: ReportData) -> Iterator[Sentence]:
    """Warn where the measured samples also chose the epoch, or may have been trained on."""
    main = data.ledger.find(compared_by(data.ledger))
    samples = data.input_kind.plural
    if main is not None and main.split == "validation":
        yield Sentence(
            f"There is no test split, so this figure comes from the {samples} that also chose "
            "the epoch: it is slightly too good.",
            "warn",
        )
    if any(step.get("step") == "init" for step in data.lineage):
        yield Sentence(
            "Training began with another model file, and it isn't known whether that one was "
            f"trained on some of these {samples}; if it was, this figure is too good.",
            "warn",
        )


def _about_baselines(data: ReportData) -> Iterator[Sentence]:
    """Say whether the model is significantly better than the strongest baseline."""
    newest = {record.subject: record for record in data.ledger if record.metric == DIFFERENCE}
    closest = min(newest.values(), key=lambda record: record.value, default=None)
    if closest is None:
        return
    name = subject_name(closest.subject)
    points = f"{abs(closest.value) * 100:.1f} percentage points"
    bounds = f"{closest.low * 100:+.1f} to {closest.high * 100:+.1f}"
    sure = f"(95 %: {bounds}, same {closest.n:,} samples)"
    if closest.low > 0:
        yield Sentence(
            f"The network beats the strongest simple method, {name}, by {points} {sure}."
        )
    elif closest.high < 0:
        yield Sentence(
            f"A simple method, {name}, beats the network by {points} {sure}: use it instead, or "
            "train longer."
        )
    else:
        yield Sentence(
            "On these samples the network isn't significantly better than the strongest simple "
            f"method, {name} {sure}."
        )


def _about_near_duplicates(data: ReportData) -> Iterator[Sentence]:
    """Say what the main metric is without the samples that resemble one of another split."""
    main = data.ledger.find(compared_by(data.ledger))
    without = None if main is None else data.ledger.find(main.metric, slice=WITHOUT_NEAR)
    if main is not None and without is not None:
        left_out = main.n - without.n
        it = "it" if main.metric == "accuracy" else f"its {name_of(main.metric)}"
        samples = data.input_kind.plural
        yield Sentence(
            f"{left_out:,} of these {samples} closely resemble{'s' if left_out == 1 else ''} "
            f"one of another split; without them {it} is {figure(main.metric, without.value)}."
        )


def _about_test_accesses(data: ReportData) -> Iterator[Sentence]:
    if data.test_accesses is not None and data.test_accesses > 1:
        yield Sentence(
            f"Samples of this test set have been used {data.test_accesses:,} times on this "
            "machine. If their results led to changes of the model, its figures are slightly too "
            "good.",
            "warn",
        )


def _measured_on(record: Evidence, data: ReportData) -> str:
    """Return the samples of a record in words: `120 test images that weren't used in training`."""
    noun = data.input_kind.noun if record.n == 1 else data.input_kind.plural
    if record.metric == "perplexity":  # Texts are measured in windows of the context's length.
        noun = "window of text" if record.n == 1 else "windows of text"
    verb = "wasn't" if record.n == 1 else "weren't"
    return f"{record.n:,} {f'{record.split} {noun}'.strip()} that {verb} used in training"


def _expected(record: Evidence, data: ReportData) -> str:
    """Return the 95 % interval of a record in words, as the end of a sentence."""
    if record.low == record.high:
        return ""
    low, high = (figure(record.metric, bound) for bound in (record.low, record.high))
    return f"; for other {data.input_kind.plural} of the same kind, expect {low} to {high}"


def _about_accuracy(data: ReportData) -> Iterator[Sentence]:
    accuracy = data.ledger.find("accuracy")
    if accuracy is not None:
        yield Sentence(
            f"Of {_measured_on(accuracy, data)}, the model classifies {percent(accuracy.value)} "
            f"correctly{_expected(accuracy, data)}."
        )


def _about_threshold(data: ReportData) -> Iterator[Sentence]:
    """Give recall and precision at the decision threshold, where there is one."""
    chosen = chosen_threshold(data.ledger)
    recall = data.ledger.find("recall_at_threshold")
    precision = data.ledger.find("precision_at_threshold")
    if chosen is None or recall is None or precision is None:
        return
    label = plain(chosen.slice.removeprefix("label="))
    yield Sentence(
        f"The model predicts “{label}” from a probability of {percent(chosen.value)} on. So it "
        f"finds {percent(recall.value)} of the {recall.n:,} {data.input_kind.plural} of “{label}” "
        f"({percent(recall.low)} to {percent(recall.high)}), and {percent(precision.value)} of "
        "these predictions are right."
    )


def _about_regression(data: ReportData) -> Iterator[Sentence]:
    """Give the mean error of predicted numbers, beside that of always predicting the mean."""
    error, explained = data.ledger.find("mae"), data.ledger.find("r2")
    if error is None or explained is None:
        return
    yield Sentence(
        f"On {_measured_on(error, data)}, the model's mean error is {figure('mae', error.value)}"
        f"{_expected(error, data)}."
    )
    simple = data.ledger.find("mae", subject="baseline:mean")
    if simple is not None and simple.value > 0:
        change = 1 - error.value / simple.value
        how = f"{percent(abs(change))} {'less' if change >= 0 else 'more'}"
        yield Sentence(
            f"That is {how} than always predicting the mean of the training samples "
            f"({figure('mae', simple.value)}).",
            "" if change > 0 else "bad",
        )


def _about_other_metrics(data: ReportData) -> Iterator[Sentence]:
    """Give the main metric of a model that predicts neither one label nor numbers."""
    metric = compared_by(data.ledger)
    main = data.ledger.find(metric)
    if main is None or metric in ("accuracy", "rmse"):
        return
    yield Sentence(
        f"On {_measured_on(main, data)}, its {name_of(metric)} is {figure(metric, main.value)}"
        f"{_expected(main, data)}. {meaning_of(metric)}"
    )
    for record in data.ledger:
        if record.metric == metric and record.subject.startswith("baseline:"):
            name = subject_name(record.subject)
            text = f"{name[:1].upper()}{name[1:]} reaches {figure(metric, record.value)}."
            yield Sentence(text)


def _about_exact_match(data: ReportData) -> Iterator[Sentence]:
    """Say how often all labels of a sample are right, where a sample may have several."""
    exact_match = data.ledger.find("exact_match")
    if exact_match is not None:
        yield Sentence(
            f"For {percent(exact_match.value)} of these {data.input_kind.plural} all labels are "
            "right: none is missing, none is extra."
        )


def _about_unknown_classes(data: ReportData) -> Iterator[Sentence]:
    """Name the measured classes that the training split doesn't contain."""
    unknown = data.measurement.unknown
    if not unknown:
        return
    shown = ", ".join(f"“{plain(label)}”" for label in unknown[:_NAMED])
    more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
    yield Sentence(
        f"The training split has no {data.input_kind.plural} of {shown}{more}, so the model never "
        "predicts that: all of them count as mistakes.",
        "warn",
    )


def about_targets(verdicts: Sequence[Verdict]) -> Iterator[Sentence]:
    """Say which targets are missed, or that all are met."""
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
    limit_text = limit(verdict.metric, verdict.target)
    if verdict.value is None:
        return f"{name_of(verdict.metric)} not measured, required {limit_text}"
    value = figure(verdict.metric, verdict.value)
    return f"{name_of(verdict.metric)} {value}, required {limit_text}"
