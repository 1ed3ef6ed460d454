from __future__ import annotations

import sys

import pytest

from modelwright.cli import show
from modelwright.evaluation import Verdict
from modelwright.progress import duration


def verdict(**changes):
    values = {
        "metric": "accuracy",
        "target": ">= 0.9",
        "bound": 0.9,
        "value": 0.95,
        "low": 0.93,
        "high": 0.97,
        "passed": True,
        "proven": True,
    }
    return Verdict(**(values | changes))


def test_verdicts_say_met_proven_or_missed_and_why():
    said = show.verdict_table(
        [
            verdict(),
            verdict(metric="f1_macro", proven=False, why="the 95 % interval reaches to 0.89"),
            verdict(metric="size_bytes", passed=False, value=4e6, low=4e6, high=4e6, why="too big"),
            verdict(
                metric="top5_accuracy", passed=False, value=None, low=None, high=None, why="no"
            ),
        ]
    )
    rows = said.splitlines()
    assert rows[1].endswith("0.93 – 0.97    met, proven")
    assert rows[2].endswith("met, not proven: the 95 % interval reaches to 0.89")
    assert rows[3].split() == ["size_bytes", ">=", "0.9", "4,000,000", "missed:", "too", "big"]
    assert "–" in rows[4]


@pytest.mark.parametrize(
    ("passed", "sentence"),
    [
        ([True], "The target is met."),
        ([True, True], "Every target is met."),
        ([False], "The target is missed."),
        ([False, False], "Every target is missed."),
        ([True, False], "1 of 2 targets is missed."),
        ([True, False, False], "2 of 3 targets are missed."),
    ],
)
def test_the_first_sentence_says_how_it_ended(passed, sentence):
    assert show._verdict_sentence([verdict(passed=item) for item in passed]) == sentence


def test_labels_cannot_steer_a_terminal():
    answers = [[{"label": "a\x1b[31m\nb 猫", "probability": 0.5}]]
    assert show.predictions(["x\r.png"], answers) == "x·.png: a·[31m·b 猫 50.0 %"


def test_a_file_with_an_odd_input_is_described():
    found = dict.fromkeys(
        ("parameters", "multiply_adds", "size_bytes", "file_bytes", "evidence"), 1
    )
    found |= {"task": "t", "labels": [], "architecture": {}, "digest": "d", "lineage": []}
    found["inference"] = {"tta": "none", "threshold": None, "generate": None}
    assert "image" in show.description(found | {"input": {"kind": "image"}})
    assert "image" in show.description(found | {"input": {"kind": "image", "height": []}})


def test_what_decides_answers_beyond_the_weights_is_described():
    figures = ("parameters", "multiply_adds", "size_bytes", "file_bytes", "evidence")
    found = dict.fromkeys(figures, 1)
    found |= {"task": "t", "labels": [], "architecture": {}, "digest": "d", "input": {}}
    found["lineage"] = [
        {"step": "train"},
        {"step": "prune", "kind": "structured"},
        {"step": "distill", "kind": "soft-labels"},
        {"step": "quantize", "dtype": None, "weights": "int4"},
        {"step": "vector-quantize"},
    ]
    threshold = {"label": "sick\x1b", "probability": 0.25}
    said = show.description(found | {"inference": {"tta": "flip", "threshold": threshold}})
    assert "augmentation   answers averaged over flip\n" in said
    steps = "prune structured, distill soft-labels, quantize int4, vector-quantize\n"
    assert f"compression    {steps}" in said
    assert "threshold      sick· from a probability of 0.25 on\n" in said
    said = show.description(found | {"inference": {"tta": "none", "threshold": None}})
    assert "augmentation" not in said
    assert "threshold" not in said


def test_an_answer_without_probabilities_is_shown_by_its_names():
    assert show.predictions(["a"], [[{"value": 3.5}]]) == "a: value 3.5"


def test_nothing_found_says_so():
    assert "Nothing was found wrong" in show.finding_lines([])


def test_numbers_and_sizes():
    assert [show.number(x) for x in (0.98765, 12.3456, 1234.5, 0.0)] == [
        "0.9877",
        "12.35",
        "1,234",
        "0",
    ]
    assert [show.size(x) for x in (12, 2048, 5 << 30)] == ["12 bytes", "2.0 KiB", "5.0 GiB"]
    assert duration(0.4) == "0 s"


def test_the_line_to_try_names_the_program_as_it_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / ".venv" / "bin" / "modelwright"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "run"])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert show.program() == ".venv/bin/modelwright"
    monkeypatch.setenv("PATH", str(program.parent))
    assert show.program() == "modelwright"
    monkeypatch.setattr(sys, "argv", ["/x/modelwright/__main__.py", "run"])
    assert show.program() == f"{sys.executable} -m modelwright"


def test_a_program_with_a_blank_in_its_path_can_be_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/my tools/bin/mw", "run"])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert show.program() == "'/opt/my tools/bin/mw'"


def test_of_sets_of_labels_those_predicted_are_shown():
    answers = [
        [
            {"label": "bill", "probability": 0.9, "predicted": True},
            {"label": "food", "probability": 0.5, "predicted": True},
            {"label": "room", "probability": 0.1, "predicted": False},
        ],
        [{"label": "room", "probability": 0.1, "predicted": False}],
    ]
    shown = show.predictions(["a", "b"], answers)
    assert shown == "a: bill 90.0 %, food 50.0 %\nb: none"
