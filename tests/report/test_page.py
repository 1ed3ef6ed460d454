"""The page: what it says, and that it says nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelwright import metrics
from modelwright.data import Finding
from modelwright.evaluation import DIFFERENCE, WITHOUT_NEAR, judge
from modelwright.kinds import InputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.report import Answered
from modelwright.report.headline import headline_sentences
from modelwright.report.page import page
from modelwright.run import StageReport
from tests.report.reading import TAGS, changed, plain, read, section
from tests.report.sample_data import (
    ATTACKS,
    baselines,
    data,
    generated_data,
    history,
    number_data,
)

SECTIONS = [
    "targets",
    "use",
    "mistakes",
    "confusion",
    "classes",
    "worth",
    "figures",
    "speed",
    "confidence",
    "learning",
    "data",
    "made",
]


FIGURES = (
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "f1_weighted",
    "log_loss",
    "calibration_error",
)


@pytest.mark.parametrize("metric", FIGURES)
def test_every_overall_figure_is_the_ledgers(metric: str) -> None:
    report = data()
    share = metric not in ("log_loss", "calibration_error")
    want = "12.3 % 10.1–14.5 %" if share else "0.123 0.101–0.145"
    assert want not in section(page(report), "figures")
    other = changed(report, metric, value=0.123, low=0.101, high=0.145)
    assert want in section(page(other), "figures")


@pytest.mark.parametrize(
    ("metric", "want"),
    [
        ("latency_p50_ms", "123 ms 101–145 ms"),
        ("latency_p95_ms", "123 ms 101–145 ms"),
        ("latency_p99_ms", "123 ms 101–145 ms"),
        ("throughput_per_s", "123 101–145"),
        ("size_bytes", "123 bytes 101–145 bytes"),
        ("file_bytes", "123 bytes 101–145 bytes"),
        ("parameters", "123 101–145"),
        ("multiply_adds", "123 101–145"),
    ],
)
def test_every_size_and_time_is_the_ledgers(metric: str, want: str) -> None:
    report = data()
    assert want not in section(page(report), "speed")
    other = changed(report, metric, value=123.0, low=101.0, high=145.0)
    assert want in section(page(other), "speed")


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_every_figure_of_a_class_is_the_ledgers(metric: str) -> None:
    report = data()
    other = changed(report, metric, slice="label=dog", value=0.123, low=0.101, high=0.145)
    assert "12.3 % 10.1–14.5 %" not in section(page(report), "classes")
    shown = section(page(other), "classes")
    assert shown.count("12.3 % 10.1–14.5 %") == 1


def test_every_baseline_is_the_ledgers() -> None:
    report = data()
    for name in ("majority", "centroid", "hog"):
        other = changed(
            report, "accuracy", subject=f"baseline:{name}", value=0.123, low=0.101, high=0.145
        )
        assert "12.3 % 10.1–14.5 %" in section(page(other), "worth")


def test_the_headline_is_the_ledgers() -> None:
    report = changed(data(), "accuracy", value=0.123, low=0.101, high=0.145)
    assert (
        "classifies 12.3 % correctly; for other images of the same kind, expect 10.1 % to 14.5 %."
        in (plain(page(report)))
    )


def test_what_the_ledger_lacks_is_not_shown() -> None:
    bare = replace(data(), ledger=Ledger())
    text = page(bare)
    assert headline_sentences(bare) == []
    assert "%" not in section(text, "figures").replace("95 %", "")
    assert "ms" not in section(text, "speed").split()


def test_a_later_versions_figures_do_no_harm() -> None:
    report = data()
    odd = Evidence(metric="new_figure", value=1.0, low=1.0, high=1.0, n=1, method="m")
    assert page(replace(report, ledger=Ledger([*report.ledger, odd]))) == page(report)


def test_missed_targets_stand_plainly_in_the_headline() -> None:
    report = data(
        targets={"accuracy": ">= 0.999", "size_bytes": "<= 2_000_000", "latency_p95_ms": "<= 0.1"}
    )
    accuracy = report.ledger.find("accuracy")
    assert accuracy is not None
    said = headline_sentences(report)[1]
    assert said.tone == "bad"
    assert said.text.replace("\xa0", " ") == (
        f"It misses 2 of 3 targets: right answers (accuracy) {accuracy.value:.1%}, required at "
        "least 99.9 %; time for one answer, at most in 95 of 100 0.37 ms, required at most 0.1 ms."
    ).replace("%,", " %,")
    shown = section(page(report), "targets")
    assert shown.count("missed") == 2
    assert "met, proven" in shown
    assert 'class="headline missed"' in page(report)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"accuracy": ">= 0.999"}, "It misses its only target: right answers (accuracy) "),
        ({"accuracy": ">= 0.1"}, "It meets its only target, and proves it."),
        ({"latency_p95_ms": "<= 0.4"}, "It meets its only target, but doesn't prove it."),
        (
            {"accuracy": ">= 0.1", "latency_p95_ms": "<= 0.4"},
            "It meets all 2 targets and proves 1 of them.",
        ),
        ({"accuracy": ">= 0.1", "recall_macro": ">= 0.1"}, "all 2 targets, and proves them."),
        ({"top5_accuracy": ">= 2"}, "It misses its only target"),
    ],
)
def test_what_became_of_the_targets_in_a_sentence(targets: dict[str, str], said: str) -> None:
    assert said in plain(page(data(targets=targets)))


def test_a_target_that_was_not_measured_says_so() -> None:
    report = data()
    without = Ledger(row for row in report.ledger if not row.metric.startswith("latency"))
    verdicts = judge({"latency_p95_ms": "<= 5"}, without, hardware="here")
    shown = plain(page(replace(report, ledger=without, verdicts=verdicts)))
    assert "not measured, required at most 5 ms" in shown
    assert "missed not measured" in shown


def test_a_doubt_is_told_in_the_readers_units() -> None:
    shown = section(page(data(targets={"latency_p95_ms": "<= 0.4"})), "targets")
    assert "met, not proven it could be 0.444 ms" in shown


def test_no_targets_and_no_mistakes_are_said() -> None:
    text = page(data(sure=50.0))
    assert "sets no targets" in section(text, "targets")
    assert "made no mistake" in section(text, "mistakes")
    assert "No class was confused with another" in section(text, "confusion")
    assert not read(text).of("img")


def test_without_a_test_split_it_says_so() -> None:
    text = page(data(split="validation", compared=False))
    shown = plain(text)
    assert "validation images that weren't used in training" in shown
    assert "There is no test split" in shown
    assert "has been used" not in shown
    assert "validation 15 choosing the epoch, and the figures in this report" in shown


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (0.2, "The network beats the strongest simple method, hand-crafted features (HOG)"),
        (-0.2, "beats the network by 20.0 percentage points"),
        (0.01, "On these samples the network isn't significantly better"),
    ],
)
def test_the_comparison_with_simple_methods_is_the_paired_one(by: float, words: str) -> None:
    report = data(compared=False)
    ledger = Ledger([*report.ledger, *baselines(120, by=by)])
    assert words in plain(page(replace(report, ledger=ledger)))
    assert words not in plain(page(report))


def test_no_baseline_is_said() -> None:
    assert "No simple method was measured" in section(page(data(compared=False)), "worth")


def test_the_paired_difference_decides_and_not_the_two_intervals() -> None:
    report = changed(data(), DIFFERENCE, subject="baseline:hog", value=0.01, low=0.005, high=0.015)
    far = changed(report, "accuracy", subject="baseline:hog", value=0.9, low=0.85, high=0.95)
    assert "beats the strongest simple method" in plain(page(far))


def test_near_duplicates_left_out_are_told() -> None:
    report = data()
    whole = report.ledger.find("accuracy")
    assert whole is not None
    part = replace(whole, slice=WITHOUT_NEAR, n=whole.n - 5, value=0.5)
    text = plain(page(replace(report, ledger=Ledger([*report.ledger, part]))))
    assert "5 of these images closely resemble one of another split; without them it is 50.0 %" in (
        text
    )


def test_near_duplicates_of_boxes_are_told_too() -> None:
    report = data()
    whole = report.ledger.find("accuracy")
    assert whole is not None
    boxes = [
        replace(whole, metric="map50", value=0.75),
        replace(whole, metric="map50", value=0.5, n=whole.n - 1, slice=WITHOUT_NEAR),
    ]
    rest = [record for record in report.ledger if record.metric != "accuracy"]
    rest = [record for record in rest if record.metric != "f1_macro"]
    text = plain(page(replace(report, ledger=Ledger([*rest, *boxes]))))
    assert "1 of these images closely resembles one of another split; without them its" in text
    assert "is 50.0 %." in text


def test_a_test_set_that_was_opened_often_is_no_longer_one() -> None:
    assert "used 20 times" in plain(page(data(test_accesses=20)))
    first = data(test_accesses=1)
    assert "has been used" not in " ".join(sentence.text for sentence in headline_sentences(first))
    assert "used 1 time on this machine" in section(page(first), "data")


def test_notes_do_not_say_again_what_the_audit_found() -> None:
    finding = Finding(kind="near", severity="warning", message="2 pairs look alike", fix="Look")
    report = data(findings=[finding], notes=["Data: 2 pairs look alike", "Training 5 steps"])
    shown = plain(page(report))
    assert shown.count("2 pairs look alike") == 1
    assert "Training 5 steps" in shown


def test_all_sections_stand_in_their_order() -> None:
    ids = [attrs["id"] for attrs in read(page(data())).of("h2")]
    assert ids == SECTIONS
    augmented = np.zeros((2, 5, 4, 4, 3), dtype=np.uint8)
    text = page(data(augmented=augmented))
    assert [attrs["id"] for attrs in read(text).of("h2")] == [
        *SECTIONS[:-2],
        "augmented",
        *SECTIONS[-2:],
    ]
    assert len([a for a in read(text).of("div") if a.get("class") == "strip"]) == 2


def test_many_classes_are_folded_and_cut_but_never_hidden_silently() -> None:
    labels = tuple(f"class {number}" for number in range(300))
    text = page(data(labels, count=600))
    assert "The next 180 classes" in plain(text)
    assert "The 100 classes with the highest F1 are left out here" in plain(text)
    assert "predicted as class 1:" not in text


def test_more_classes_than_the_ledger_holds_come_from_the_table() -> None:
    labels = tuple(f"class {number}" for number in range(1001))
    text = page(data(labels, count=1001, sure=1.0))
    assert section(text, "classes").count("%") > 200


def test_classes_without_images_show_no_figures() -> None:
    shown = section(page(data(("cat", "dog", "emu"), count=2, sure=50.0)), "classes")
    assert re.search(r"emu 0 – – –", shown)


@pytest.mark.parametrize("epochs", [0, 1, 2, 400])
def test_any_number_of_epochs(epochs: int) -> None:
    text = page(
        data(stages=[StageReport("train", 1.0, tuple(history(epochs)), 0 if epochs else None)])
    )
    assert "nan" not in section(text, "learning")
    if epochs:
        assert f"The model file holds epoch 1 of {epochs}" in section(text, "learning")


def test_several_trainings_are_told_apart_and_a_stage_without_epochs_is_named() -> None:
    stages = [
        StageReport("train", 60.0, tuple(history(3)), 1),
        StageReport("halve", 2.0),
        StageReport("retrain", 30.0, tuple(history(2)), None),
    ]
    text = page(data(stages=stages))
    learning = section(text, "learning")
    assert "Stage train" in learning
    assert "Stage retrain" in learning
    assert "This stage keeps epoch 2 of 3" in learning
    assert "This stage keeps the last one" in learning
    assert "halve" not in learning
    assert "stage: halve" in section(text, "made")
    assert "of which 1\xa0min\xa030\xa0s were training" in text


def test_losses_that_ran_away_are_left_out() -> None:
    records = history(3)
    records[2] = records[2] | {"train_loss": float("nan"), "val_log_loss": float("inf")}
    text = page(data(stages=[StageReport("train", 1.0, tuple(records), 1)]))
    assert not re.search(r'="[^"]*(nan|inf)\b', text)


def test_reliability_needs_no_answers_in_every_bin() -> None:
    report = data()
    table = metrics.reliability(np.array([0.5]), np.array([True]))
    page(replace(report, measurement=replace(report.measurement, reliability=table)))


def test_the_longest_label_does_not_hide_others() -> None:
    text = page(data(("a" * 200, "b"), sure=0.0))
    assert text.count('class="clamp"') >= 4
    assert f'title="{"a" * 200}"' in text


def test_classes_that_are_not_in_training_are_named() -> None:
    report = data(unknown=("<emu>",))
    text = page(report)
    assert "The training split has no images of “<emu>”, so the model never predicts that" in plain(
        text
    )
    assert "classifies images into 3 classes" in plain(text)
    assert "<emu> never predicted: not in training" in section(text, "classes")
    assert "&lt;emu&gt; predicted as" in text
    assert "<emu>" not in text
    assert "never predicted" not in page(data())


def test_of_numbers_the_largest_errors_and_a_chart_of_each_are_shown() -> None:
    text = page(number_data(("width", ATTACKS[0])))
    assert "predicted width 9 true width 1" in section(text, "mistakes")
    assert "The largest errors" in section(text, "mistakes")
    assert section(text, "scatter").count("predicted against true") == 2
    assert ATTACKS[0] in plain(text)
    assert {tag for tag, _ in read(text).tags} <= set(TAGS.split())
    for name in ("confusion", "classes", "confidence"):
        assert f'id="{name}"' not in text


def test_of_texts_the_first_are_shown_as_they_come() -> None:
    shown = section(page(generated_data()), "mistakes")
    assert "Sample predictions The first texts of the measured split." in shown
    assert "Once upon predicted a time" in shown
    assert "a <king>" in shown
    assert "reference" not in shown


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (
            {"step": "choose-network", "published": 0.9, "default": 0.925, "chosen": "default"},
            "Published weights and a network of the default family were trained; the network of "
            "the default family ships. On the validation split: right answers (accuracy) 92.5 % "
            "for the network of the default family, 90.0 % for the network of published weights.",
        ),
        (
            {"step": "choose", "linear": 0.9, "network": 0.901, "chosen": "linear"},
            "A linear model and a network were trained; the linear model ships. On the validation "
            "split: right answers (accuracy) 90.0 % for the linear model, 90.1 % for the network, "
            "which is hardly better.",
        ),
    ],
)
def test_why_one_of_several_models_ships(step: dict[str, Any], sentence: str) -> None:
    report = data(lineage=[{**step, "metric": "accuracy"}])
    assert sentence in plain(page(report)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("kind", InputKind)
def test_samples_are_called_what_they_are(kind: InputKind) -> None:
    samples: dict[InputKind, Any] = {
        InputKind.IMAGE: np.zeros((2, 8, 8, 3), np.uint8),
        InputKind.TEXT: ["a text", "another one"],
        InputKind.AUDIO: [b"RIFF", b"RIFF"],
    }
    report = data(
        split="validation",
        unknown=("emu",),
        input_kind=kind,
        mistakes=samples[kind],
        answers=[Answered("cat", "dog"), Answered("dog", "emu")],
        lineage=[{"step": "init"}],
    )
    shown = plain(page(report))
    assert f"classifies {kind.plural} into 3 classes" in shown
    assert f"training {kind.plural}" in section(page(report), "learning")
    others = {"images", "texts", "recordings", "audios", "sounds"} - {kind.plural}
    assert not [word for word in others if re.search(rf"\b{word}\b", shown.lower())]
