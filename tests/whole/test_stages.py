"""Stages of a run: each with a folder, decisions, checkpoints and a record of its own."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from modelwright import modelfile
from modelwright.files import read_json, read_lines
from modelwright.pipeline import run, running
from modelwright.run import StageReport
from tests.whole import two_trainings

RECIPE = """\
version: 1
data: {source: digits}
model: {name: mlp, hidden: [16], dropout: 0.1}
train:
  epochs: 8
  batch_size: 64
  optimizer: {name: adamw, lr: 0.005}
  average: {name: ema, decay: 0.9}
  select: last
  checkpoint_every: 0.01s
  precision: fp32
  compile: off
evaluate: {baselines: false, latency: false}
resources: {threads: 1, device: cpu}
"""


def recipe_in(folder: Path, text: str = RECIPE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "two.yaml").write_text(text)
    return folder / "two.yaml"


def started(recipe: Path, out: Path, *end: str) -> int:
    """Run two trainings in a process of their own, and return how it ended."""
    command = [sys.executable, "-m", "tests.whole.two_trainings", str(recipe), str(out), *end]
    root = Path(two_trainings.__file__).parents[2]
    return subprocess.run(command, cwd=root, check=False).returncode


def test_killed_in_each_of_two_trainings_each_goes_on_with_its_own(tmp_path):
    recipe = recipe_in(tmp_path)
    assert started(recipe, tmp_path / "whole") == 0
    for stage in ("first", "second"):
        assert started(recipe, tmp_path / "cut", stage, "60") == -signal.SIGKILL
        assert any((tmp_path / "cut/two/stages" / stage / "checkpoints").iterdir())
        assert not (tmp_path / "cut/two/model.mw").exists()
    assert started(recipe, tmp_path / "cut") == 0
    whole, cut = (tmp_path / name / "two" for name in ("whole", "cut"))
    assert modelfile.digest(cut / "model.mw") == modelfile.digest(whole / "model.mw")
    losses = []
    for stage in ("first", "second"):
        resumed, undisturbed = (
            [
                {key: value for key, value in line.items() if key != "seconds"}
                for line in read_lines(folder / "stages" / stage / "metrics.jsonl")
            ]
            for folder in (cut, whole)
        )
        assert resumed == undisturbed
        assert len(resumed) == 8
        losses += [line["train_loss"] for line in resumed]
        assert "steps" in read_json(cut / "stages" / stage / "decisions.json")
    # The second began where the first had ended, and didn't come back with its weights.
    assert losses[8] < losses[0] / 2
    assert losses[15] < losses[7]
    assert [step["step"] for step in modelfile.describe(cut / "model.mw")["lineage"]] == [
        "first",
        "second",
        "export",
    ]


def halve(candidate, recipe, data, run):
    """Halve the last layer's bias: a stage that isn't a training."""
    network = copy.deepcopy(candidate.network)
    with torch.no_grad():
        network.body.head.bias.mul_(0.5)
    report = StageReport(run.stage_name, seconds=0.0)
    return replace(candidate, network=network).after(report, {"layer": "body.head", "by": 0.5})


def test_a_second_stage_is_in_the_file_its_lineage_and_the_report(tmp_path, monkeypatch):
    recipe = recipe_in(tmp_path, RECIPE.replace("epochs: 8", "epochs: 1"))
    plain = run(recipe, out=tmp_path / "plain")
    monkeypatch.setattr(running, "STAGES", (*running.STAGES, ("halve", halve)))
    result = run(recipe, out=tmp_path / "halved")
    lineage = modelfile.describe(result.model)["lineage"]
    assert [step["step"] for step in lineage] == ["train", "halve", "export"]
    assert lineage[1] == {"step": "halve", "layer": "body.head", "by": 0.5}
    before, after = (modelfile.read_weights(item.model) for item in (plain, result))
    assert before.keys() == after.keys()
    for name in before:
        expected = before[name] / 2 if name == "body.head.bias" else before[name]
        assert (after[name] == expected).all()
    page = result.report.read_text()
    assert "<dt>stage: halve</dt>" in page
    assert "<dt>step: halve</dt><dd>" in page
    assert "layer body.head" in page
