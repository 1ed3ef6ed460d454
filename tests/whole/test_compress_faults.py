"""Compression that is interrupted, asked for twice, or asked for of what it isn't for."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import modelwright as mw
from modelwright import modelfile
from modelwright.errors import (
    CompressionError,
    DataError,
    ModelFileError,
    RecipeError,
    RequestError,
    ResourceError,
)
from modelwright.ledger import Ledger

INT8 = {"name": "quantize", "dtype": "int8", "max_drop": 1.0}
QAT = {**INT8, "qat": True, "epochs": 1}
INT4 = {"name": "quantize", "weights": "int4", "max_drop": 1.0}
HALF = {"name": "quantize", "dtype": "bfloat16", "max_drop": 1.0}
ZEROS = {"name": "prune", "sparsity": 0.5, "max_drop": 1.0, "epochs": 1}
RECIPE = {
    "version": 1,
    "data": {"source": "digits", "limit": 400},
    "model": {"name": "cnn", "blocks": [{"filters": 16}, {"filters": 32}], "head": [64]},
    "train": {"epochs": 2, "optimizer": {"name": "adamw", "lr": 0.005}, "precision": "fp32"},
    "evaluate": {"baselines": False, "latency": False},
    "resources": {"threads": 1},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished model file that is compressed."""
    return mw.run(RECIPE, out=tmp_path_factory.mktemp("runs"), name="digits").model


@pytest.fixture(scope="module")
def small(trained, tmp_path_factory):
    """The file of int8 layers that is made of it."""
    return compress(trained, INT8, out=tmp_path_factory.mktemp("runs"), name="small").model


def compress(path: Path, *steps: dict, out: Path, name: str = "small", **options: object):
    return mw.compress(path, {**RECIPE, "compress": list(steps)}, out=out, name=name, **options)


@pytest.mark.parametrize(
    "steps",
    [(INT8, INT8), (INT4, INT8), (INT8, ZEROS), (INT8, INT4), (HALF, ZEROS), (HALF, HALF)],
)
def test_a_step_that_cannot_follow_is_refused_before_any_work(steps, trained, tmp_path):
    with pytest.raises(RecipeError, match="can't follow `quantize`"):
        compress(trained, *steps, out=tmp_path)
    assert not list(tmp_path.glob("*/stages"))


@pytest.mark.slow
def test_a_file_of_few_bits_is_not_compressed_again(trained, small, tmp_path):
    few = compress(trained, INT4, out=tmp_path, name="few").model
    for step in (INT4, INT8, ZEROS):
        with pytest.raises(RequestError, match="few bits already"):
            compress(few, step, out=tmp_path, name="again")
    for step in (INT4, INT8, ZEROS):
        with pytest.raises(ModelFileError, match="int8"):
            compress(small, step, out=tmp_path, name="again")
    assert not (tmp_path / "again" / "model.mw").exists()


def test_data_that_has_changed_names_its_split(trained, tmp_path):
    with pytest.raises(DataError, match="the train split isn't the one"):
        compress(trained, INT8, out=tmp_path, overrides=["data.limit=300"])


def test_without_vnni_it_works_and_says_what_it_gains(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["modelwright.run"], "has_vnni", lambda: False)
    found = compress(trained, INT8, out=tmp_path)
    (step,) = (
        step for step in modelfile.describe(found.model)["lineage"] if step["step"] == "quantize"
    )
    assert step["weight_bits"] == 7
    assert any("the processor has no VNNI" in note for note in found.notes)
    assert any("`body.head`" in note and "stay as they are" in note for note in found.notes)


def test_a_drop_of_nothing_is_kept_to_or_refused(trained, tmp_path):
    asked, refusal = {**INT8, "max_drop": 0}, ""
    try:
        found = compress(trained, asked, out=tmp_path)
    except CompressionError as error:
        refusal = str(error)
    if refusal:
        assert "and 0 is allowed" in refusal
        assert not list(tmp_path.rglob("model.mw"))
    else:
        assert modelfile.describe(found.model)["lineage"][-2]["validation_drop"] <= 0


@pytest.mark.parametrize(
    "written", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (0, 2, 4))]
)
def test_a_full_disk_is_a_sentence_and_it_goes_on_afterwards(
    written, trained, small, tmp_path, monkeypatch
):
    left, replace = [written], Path.replace

    def full(self, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        compress(trained, INT8, out=tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".aside.*"))
    for path in tmp_path.rglob("*.mw"):
        modelfile.verify(path, sandbox=False)
    again = compress(trained, INT8, out=tmp_path).model
    assert modelfile.digest(again) == modelfile.digest(small)


PROCESS = """
import json, os, signal, sys
import modelwright as mw
path, out, recipe, stage, done = sys.argv[1:]
def observe(progress):
    if progress.stage == stage and progress.done >= int(done):
        os.kill(os.getpid(), signal.SIGKILL)
mw.compress(path, json.loads(recipe), out=out, name="small", observe=observe)
"""


def contents(path: Path, folder: Path) -> bytes:
    """Return a model file's bytes but for its ledger, whose evidence is of a machine and a time."""
    folder.mkdir(exist_ok=True)
    plain = folder / path.parent.parent.name
    shutil.copyfile(path, plain)
    modelfile.with_ledger(plain, Ledger())
    return plain.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "stage", "done"),
    [
        ((INT8,), "calibrate", 1),
        ((INT8,), "quantize", 0),
        ((QAT,), "train", 1),
        ((ZEROS, INT8), "train", 1),
        ((ZEROS, HALF), "train", 1),
    ],
)
def test_a_kill_in_the_middle_changes_nothing(steps, stage, done, trained, tmp_path):
    recipe = {**RECIPE, "compress": list(steps)}
    whole = compress(trained, *steps, out=tmp_path / "whole").model
    arguments = [str(trained), str(tmp_path / "cut"), json.dumps(recipe), stage, str(done)]
    ended = subprocess.run([sys.executable, "-c", PROCESS, *arguments], env=os.environ, check=False)
    assert ended.returncode == -9
    assert not (tmp_path / "cut" / "small" / "model.mw").exists()
    cut = compress(trained, *steps, out=tmp_path / "cut").model
    assert contents(cut, tmp_path / "plain") == contents(whole, tmp_path / "plain")
