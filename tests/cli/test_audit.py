"""`modelwright audit`: what it prints, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelwright.cli import main

MODEL = "runs/quick/model.mw"


def called(capsys, *words, code=0):
    """Run `audit --json`, and return what it prints."""
    assert main(["audit", *words, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1, out
    return json.loads(out)


def test_extraction_prints_the_agreement_by_questions_and_protection(workspace, capsys):
    line = (MODEL, "--extraction", "--queries", "100", "--top", "2", "--digits", "0", "-q")
    found = called(capsys, *line)
    assert set(found) == {
        "model",
        "agreement",
        "tolerance",
        "queries",
        "mixed",
        "seed",
        "chance",
        "confidence",
        "mixed_confidence",
        "protections",
    }
    assert (found["agreement"], found["tolerance"], found["seed"]) == (0.9, None, 0)
    assert (found["queries"], found["mixed"], found["mixed_confidence"]) == (100, 0, None)
    rows = found["protections"]
    assert [(row["name"], row["digits"], row["top"]) for row in rows] == [
        ("none", None, None),
        ("rounded", 0, None),
        ("top", None, 2),
        ("both", 0, 2),
    ]
    for row in rows:
        points = row["agreements"]
        assert [point["queries"] for point in points] == [16, 32, 64, 100]
        assert set(points[0]) == {"queries", "value", "low", "high", "n", "copy"}
        assert all(point["low"] <= point["value"] <= point["high"] for point in points)
        reached = [point["queries"] for point in points if point["value"] >= 0.9]
        assert row["queries_needed"] == (reached[0] if reached else None)
    assert called(capsys, *line) == found


def test_extraction_says_what_it_does_not_show(workspace, capsys):
    assert main(["audit", MODEL, "--extraction", "--queries", "16", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["questions", "none", "rounded", "to", "1", "top", "1", "both"]
    assert lines[1].startswith("16 ")
    assert lines[2].startswith("90 % at")
    assert "not within 16" in lines[2]
    assert "may need fewer" in lines[-1]


def test_without_a_switch_it_says_which_there_is(workspace, capsys):
    error = called(capsys, MODEL, code=2)["error"]
    assert error["kind"] == "RequestError"
    assert "--extraction" in error["what"]


@pytest.mark.parametrize("option", ["--top 0", "--digits 7", "--digits -1", "--queries 15"])
def test_settings_that_make_no_sense_are_named(option, workspace, capsys):
    error = called(capsys, MODEL, "--extraction", *option.split(), code=2)["error"]
    assert error["what"].startswith(option.split()[0])


@pytest.mark.parametrize(
    ("model", "data", "kind"),
    [
        (MODEL, "nothing", "DataError"),
        (MODEL, "runs/quick/samples", "DataError"),
        (MODEL, "quick.yaml", "DataError"),
        ("nope.mw", "digits", "ModelFileError"),
        ("quick.yaml", "digits", "ModelFileError"),
        ("cut.mw", "digits", "ModelFileError"),
        ("sealed.mw.age", "digits", "SealError"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(model, data, kind, workspace, capsys):
    whole = Path(MODEL).read_bytes()
    Path("cut.mw").write_bytes(whole[: len(whole) // 2])
    Path("sealed.mw.age").write_bytes(b"age-encryption.org/v1\n-> X25519 abc\n")
    error = called(capsys, model, "--extraction", "--data", data, "-q", code=1)["error"]
    assert error["kind"] == kind
    assert error["what"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_measurement_that_is_stopped_ends_cleanly(workspace):
    line = [sys.executable, "-m", "modelwright", "audit", MODEL, "--extraction"]
    process = subprocess.Popen(
        [*line, "--queries", "20000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stderr.readline()  # It has begun.
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=120)
    assert process.returncode == 143
    assert out == ""
    assert "Traceback" not in rest
