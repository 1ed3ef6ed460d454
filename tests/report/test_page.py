"""The page: what it says, that it says nothing else, and that nothing gets out of its text."""

from __future__ import annotations

import base64
import io
import os
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelwright import metrics
from modelwright.data import Finding
from modelwright.errors import ResourceError
from modelwright.evaluation import DIFFERENCE, WITHOUT_NEAR, judge
from modelwright.kinds import InputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.report import Answered, write_report
from modelwright.report.headline import headline_sentences
from modelwright.report.page import page
from modelwright.report.pictures import BOXED_SIDE, MISTAKE_SIDE, are_coarse, picture, with_boxes
from modelwright.run import StageReport
from tests.report.sample_data import (
    ATTACKS,
    baselines,
    data,
    generated_data,
    history,
    multi_label_data,
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
TAGS = """
    html head meta title style body main h1 h2 p div nav a table tr th td span bdi b i br code
    pre figure figcaption img svg line text rect polyline circle ul li dl dt dd details
    summary
"""


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, kind: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == kind]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def plain(text: str) -> str:
    """Return what a reader sees."""
    body = text[text.index("<body>") :]
    shown = unescape(re.sub(r"<[^>]*>", " ", body)).replace("\xa0", " ")
    return re.sub(r" ([,.;])", r"\1", re.sub(r"\s+", " ", shown))


def section(text: str, name: str) -> str:
    found = re.search(rf'<h2 id="{name}">.*?(?=<h2|</main>)', text, re.DOTALL)
    assert found is not None, name
    return plain("<body>" + found[0])


def changed(report, metric: str, *, subject: str = "model", slice: str = "", **values):
    """Return the data of a report whose ledger has another value of one figure."""
    record = report.ledger.find(metric, subject=subject, slice=slice)
    assert record is not None, metric
    return replace(report, ledger=Ledger([*report.ledger, replace(record, **values)]))


# -- safe ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attacked() -> str:
    """Return a page with an attack in every text that comes from outside."""
    bad = ATTACKS[1]
    return page(
        data(
            ATTACKS,
            count=240,
            sure=1.0,
            targets={"accuracy": ">= 0.99"},
            name=bad,
            source=bad,
            findings=[Finding(kind=bad, severity=bad, message=f"`{bad}`", fix=bad)],
            notes=[bad],
            environment={bad: bad},
            lineage=[{"step": bad, bad: bad}],
            decisions={bad: [bad]},
            predict_command=bad,
            model_name=bad,
            model_digest=bad,
            augmented=np.zeros((1, 3, 4, 4, 3), dtype=np.uint8),
        )
    )


def test_it_needs_nothing_from_outside(attacked: str) -> None:
    found = read(attacked)
    addresses = [(key, value) for _, attrs in found.tags for key, value in attrs.items()]
    sources = [value for key, value in addresses if key in ("src", "srcset", "data", "poster")]
    assert sources
    assert all(str(value).startswith("data:image/png;base64,") for value in sources)
    links = [str(value) for key, value in addresses if key in ("href", "xlink:href", "action")]
    assert links
    assert all(link.startswith("#") for link in links)
    style = attacked[attacked.index("<style>") : attacked.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_no_text_becomes_a_tag_or_runs(attacked: str) -> None:
    found = read(attacked)
    assert {tag for tag, _ in found.tags} <= set(TAGS.split())
    assert not [key for _, attrs in found.tags for key in attrs if key.startswith("on")]
    assert "<script" not in attacked
    policy = next(
        meta["content"]
        for meta in found.of("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_labels_stand_as_they_are(attacked: str) -> None:
    shown = plain(attacked)
    for label in ("猫 😀 кот", "../../etc/passwd", "<img src=x onerror=alert(1)>", "a" * 200):
        assert label in shown
    assert "{{ 7 * 7 }}{% raw %}" in shown
    assert "(blank)" in shown
    assert not set(attacked) & set("\x00\x1b\u202e")


def test_a_script_in_the_recipe_is_only_read() -> None:
    assert "# </script><script>alert(1)</script>" in section(page(data()), "made")


def test_every_link_leads_to_a_section() -> None:
    found = read(page(data()))
    targets = {attrs["id"] for attrs in found.of("h2")}
    assert {str(attrs["href"])[1:] for attrs in found.of("a")} <= targets


# -- true ----------------------------------------------------------------------------------------

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


# -- content -------------------------------------------------------------------------------------


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


# -- odd -----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_grey_or_coloured_and_never_larger_than_looked_at(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, channels), dtype=np.uint8)
    data = picture(pixels, side=MISTAKE_SIDE).partition("base64,")[2]
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert shown.size == (192, 115)
    assert shown.mode == ("L" if channels == 1 else "RGB")
    small = pixels[:8, :8]
    data = picture(small, side=MISTAKE_SIDE).partition("base64,")[2]
    kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).reshape(small.shape)
    np.testing.assert_array_equal(kept, small)
    assert are_coarse(small)
    assert not are_coarse(pixels)


def test_reliability_needs_no_answers_in_every_bin() -> None:
    report = data()
    table = metrics.reliability(np.array([0.5]), np.array([True]))
    page(replace(report, measurement=replace(report.measurement, reliability=table)))


def test_the_longest_label_does_not_hide_others() -> None:
    text = page(data(("a" * 200, "b"), sure=0.0))
    assert text.count('class="clamp"') >= 4
    assert f'title="{"a" * 200}"' in text


# -- looks ---------------------------------------------------------------------------------------


def test_light_and_dark_define_the_same_colours_and_all_that_are_used() -> None:
    text = page(data(augmented=np.zeros((1, 2, 4, 4, 3), dtype=np.uint8)))
    light, _, dark = text.partition("prefers-color-scheme: dark")
    dark = dark[: dark.index("} }")]
    names = [set(re.findall(r"(--[a-z0-9-]+):", part)) for part in (light, dark)]
    assert names[0] == names[1]
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", text)) <= names[0]
    assert "color-scheme: light dark" in text
    assert 'name="viewport"' in text


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_can_be_read_on_its_ground_in_both() -> None:
    """Contrast of at least 4.5, as WCAG 2 asks for text."""
    style = page(data()).partition("</style>")[0]
    for part in style.partition("@media")[::2]:
        colours = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", part.partition("*")[0]))
        for ground in ("--ground", "--card"):
            for ink in ("--ink", "--soft", "--accent", "--good", "--bad", "--warn"):
                light, dark = sorted(_luminance(colours[name]) for name in (ground, ink))[::-1]
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)


# -- written -------------------------------------------------------------------------------------


def test_the_file_is_written_aside_and_is_the_page(tmp_path) -> None:
    report = data()
    target = tmp_path / "report.html"
    target.write_text("before")
    write_report(target, report)
    assert target.read_text("utf-8") == page(report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_told_leaves_the_one_before(tmp_path) -> None:
    target = tmp_path / "report.html"
    target.write_text("before")
    report = data()
    with pytest.raises(ValueError, match="zip"):
        write_report(target, replace(report, mistakes=report.mistakes[:1]))
    assert target.read_text() == "before"


def test_bytes_that_are_no_text_can_be_written(tmp_path) -> None:
    write_report(tmp_path / "report.html", data(name="pets \udcff", notes=["\udcff"]))
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_is_read_only_is_a_clear_error(tmp_path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ResourceError):
            write_report(tmp_path / "report.html", data())
    finally:
        tmp_path.chmod(0o700)


def test_the_same_story_is_the_same_page() -> None:
    assert page(data()) == page(data())


def test_predicted_boxes_are_solid_and_reference_boxes_dashed():
    pixels = np.full((88, 44, 1), 100, np.uint8)
    drawn = with_boxes(pixels, predicted=[(4, 8, 20, 40)], reference=[(10, 50, 44, 88)])
    scale = BOXED_SIDE // 88
    assert drawn.shape == (BOXED_SIDE, BOXED_SIDE // 2, 3)
    red, blue = (drawn == np.array(colour) for colour in ((255, 64, 32), (0, 190, 255)))
    edge = np.arange(4 * scale, 20 * scale)
    assert red.all(-1)[8 * scale, edge].all()
    assert red.all(-1)[40 * scale, edge].all()
    dashed = blue.all(-1)[50 * scale, 10 * scale : 44 * scale]
    assert 0.4 < dashed.mean() < 0.7
    assert (drawn[20 * scale, 10 * scale] == 100).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 8, 8), (-5.5, -2, 30, 30), (3, 3, 3, 3), (4.2, 1.1, 4.3, 7.9)]
)
def test_any_box_can_be_drawn(box):
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert with_boxes(pixels, predicted=[box], reference=[box]).shape == (BOXED_SIDE, BOXED_SIDE, 3)


def test_of_several_labels_each_is_shown_and_none_becomes_a_tag() -> None:
    report = multi_label_data(ATTACKS)
    text = page(report)
    assert {tag for tag, _ in read(text).tags} <= {*TAGS.split(), "blockquote"}
    found = report.ledger.find("recall", slice=f"label={ATTACKS[4]}")
    assert found is not None
    assert f"{100 * found.value:.1f} %" in section(text, "classes")
    assert "The largest errors" in section(text, "mistakes")
    assert "The first texts" not in section(text, "mistakes")
    assert "all labels are right: none is missing, none is extra" in plain(text)
    assert 'id="confusion"' not in text


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
