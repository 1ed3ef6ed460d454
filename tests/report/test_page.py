from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from modelwright import metrics
from modelwright.data import Split
from modelwright.evaluation import Place, judge, measure
from modelwright.ledger import Evidence, Ledger
from modelwright.report import Finding, Story, write_report
from modelwright.report.page import page

ATTACK = ["<img src=x onerror=alert(1)>", "猫 😀", "../../etc", "a" * 200]


class Answers:
    """A model that answers with what it was given: for measuring without a file."""

    digest = "sha256:" + "0" * 64
    parameters, multiply_adds, size_bytes, file_bytes = 1000, 2000, 3000, 4000

    def __init__(self, labels, outputs):
        self.labels, self._outputs = labels, outputs

    def outputs(self, pixels):
        return self._outputs[pixels[:, 0, 0, 0].astype(int)]


def story(labels=("cat", "dog", "emu"), *, targets=None, wrong=True, **changes):
    count = 60
    chance = np.random.default_rng(0)
    targets_of = np.arange(count, dtype=np.int64) % len(labels)
    outputs = chance.normal(size=(count, len(labels))).astype(np.float32)
    outputs[np.arange(count), targets_of] += 2.0 if wrong else 50.0
    pixels = np.zeros((count, 4, 4, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    samples = Split("test", pixels, np.arange(count), targets_of)
    found = measure(
        Answers(labels, outputs), samples, fingerprint="sha256:x", place=Place("a machine")
    )
    ledger = Ledger(found.evidence)
    worst = np.array([item.position for item in found.mistakes], dtype=np.int64)
    known = {
        "name": "pets",
        "source": "folder pets",
        "ledger": ledger,
        "verdicts": judge(targets or {}, ledger, hardware="a machine"),
        "measurement": found,
        "higher_is_better": True,
        "select_by": "accuracy",
        "history": [
            {"epoch": 1.0, "train_loss": 1.0, "val_accuracy": 0.5, "val_log_loss": 0.9},
            {"epoch": 2.0, "train_loss": 0.5, "val_accuracy": 0.6, "val_log_loss": 0.8},
        ],
        "chosen": 1,
        "counts": {"train": [10] * len(labels), "test": [20] * len(labels)},
        "findings": [],
        "openings": 1,
        "recipe": "version: 1\n# </script><script>alert(1)</script>\n",
        "decisions": {"precision": {"precision": "fp32"}},
        "environment": {"python": "3.11"},
        "lineage": [{"step": "train", "steps": 5}],
        "model_name": "model.mw",
        "model_digest": Answers.digest,
        "predict_command": "modelwright predict model.mw a.png",
        "seconds": 10.0,
        "training_s": 8.0,
        "mistakes": samples.gather(worst),
    }
    return Story(**{**known, **changes})


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for key, value in attrs if key in ("src", "href", "action")]


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def plain(text):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text))).replace("\xa0", " ")


def test_it_needs_nothing_from_outside_and_runs_no_script():
    found = read(page(story(ATTACK[:3])))
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert not [tag for tag, _ in found.tags if tag in ("script", "link", "iframe", "object")]
    assert not [key for _, attrs in found.tags for key in attrs if key.startswith("on")]
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_labels_stand_as_they_are_and_escaped():
    text = page(story(ATTACK))
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "猫 😀" in text


def test_every_figure_comes_from_the_ledger():
    told = story()
    accuracy = told.ledger.find("accuracy")
    changed = Ledger([*told.ledger, replace(accuracy, value=0.123, low=0.101, high=0.145)])
    before, after = plain(page(told)), plain(page(replace(told, ledger=changed)))
    assert "12.3 %" not in before
    assert "names 12.3 % right" in after
    assert "10.1 % to 14.5 %" in after


def test_a_missed_target_stands_in_the_headline():
    told = story(targets={"accuracy": ">= 0.999", "size_bytes": "<= 1_000_000"})
    text = plain(page(told))
    assert "It misses 1 of 2 targets: right answers (accuracy)." in text
    assert "at least 99.90 %" in text
    assert "missed" in text
    assert "met, proven" in text


def test_no_mistakes_and_no_targets_are_said():
    text = plain(page(story(wrong=False)))
    assert "It made no mistake" in text
    assert "sets no targets" in text


def test_without_a_test_split_it_says_so():
    told = story()
    validation = Ledger(replace(row, split="validation") for row in told.ledger if row.split)
    text = plain(page(replace(told, ledger=validation, openings=None)))
    assert "There is no test split" in text


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.2, "the network is clearly better"),
        (-0.2, -0.1, "clearly better than this network"),
        (-0.1, 0.1, "don't tell which"),
    ],
)
def test_the_comparison_with_simple_methods_is_the_paired_one(low, high, words):
    told = story()
    base = told.ledger.find("accuracy")
    rows = [
        replace(base, subject="baseline:hog", value=0.5),
        replace(
            base,
            metric="accuracy_difference",
            subject="baseline:hog",
            value=(low + high) / 2,
            low=low,
            high=high,
        ),
    ]
    assert words in plain(page(replace(told, ledger=Ledger([*told.ledger, *rows]))))


def test_a_test_set_that_was_opened_often_is_no_longer_one():
    text = plain(page(story(openings=20)))
    assert "opened 20 times" in text


def test_findings_and_many_classes(tmp_path):
    labels = tuple(f"class {number}" for number in range(300))
    finding = Finding(kind="leak", severity="warning", message="two <b> images", fix="take one")
    told = story(labels, findings=[finding])
    write_report(tmp_path / "report.html", told)
    text = (tmp_path / "report.html").read_text()
    assert "two &lt;b&gt; images" in text
    assert "100 more classes" in plain(text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_light_and_dark_are_both_there():
    text = page(story())
    assert "prefers-color-scheme: dark" in text
    assert "color-scheme: light dark" in text


def test_augmented_samples_are_shown_row_by_row():
    augmented = np.zeros((2, 5, 4, 4, 3), dtype=np.uint8)
    strips = [
        a for t, a in read(page(story(augmented=augmented))).tags if a.get("class") == "strip"
    ]
    assert len(strips) == 2


def test_ledger_rows_of_other_kinds_do_no_harm():
    told = story()
    odd = Evidence(metric="new_figure", value=1.0, low=1.0, high=1.0, n=1, method="m")
    page(replace(told, ledger=Ledger([*told.ledger, odd])))


def test_reliability_needs_no_answers_in_every_bin():
    told = story()
    table = metrics.reliability(np.array([0.5]), np.array([True]))
    page(replace(told, measurement=replace(told.measurement, reliability=table)))
