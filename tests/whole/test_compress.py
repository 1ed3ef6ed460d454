"""Compression from end to end: in a run, and of a finished file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import modelwright as mw
from modelwright import modelfile
from modelwright.cli.main import main
from modelwright.errors import DataError, RecipeError, RequestError

INT8 = {"name": "quantize", "dtype": "int8"}
RECIPE = {
    "version": 1,
    "data": {"source": "digits"},
    "model": {"name": "cnn", "blocks": [{"filters": 16}, {"filters": 32}]},
    "train": {"epochs": 3, "optimizer": {"name": "adamw", "lr": 0.005}},
    "evaluate": {"baselines": False},
    "resources": {"threads": 1},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that trains and compresses."""
    out = tmp_path_factory.mktemp("runs")
    asked = {"size_ratio": ">= 2", "flipped": "<= 0.2"}
    return mw.run({**RECIPE, "compress": [INT8], "targets": asked}, out=out, name="digits")


def test_what_ships_is_int8_smaller_and_nearly_as_good(finished):
    assert finished.passed
    ledger = finished.ledger
    assert ledger.find("size_ratio").value > 2.5
    assert ledger.find("gain_over_parent").value > -0.05
    assert ledger.find("accuracy").value > 0.8
    assert ledger.find("accuracy", subject="parent").value > 0.8
    assert ledger.find("speedup_batch_1").low > 0
    before = modelfile.describe(finished.folder / "uncompressed.mw")
    # Norms are folded into biases.
    assert ledger.find("parameters").value == pytest.approx(before["parameters"], rel=0.05)
    layers = modelfile.integer_layers(finished.model)
    assert len(layers) >= 3
    assert all(layers.values())
    steps = [step["step"] for step in modelfile.describe(finished.model)["lineage"]]
    assert steps == ["train", "quantize", "export"]


def test_the_file_verifies_and_the_network_before_is_kept(finished):
    modelfile.verify(finished.model, sandbox=False)
    before = modelfile.describe(finished.folder / "uncompressed.mw")
    assert before["size_bytes"] > 2 * modelfile.describe(finished.model)["size_bytes"]
    assert [step["step"] for step in before["lineage"]] == ["train", "export"]


def test_the_report_says_what_changed(finished):
    page = finished.report.read_text()
    assert "What compression changed" in page
    assert "Compression made the model" in page


def test_a_finished_file_is_compressed_to_the_same_weights(finished, tmp_path, capsys):
    before = finished.folder / "uncompressed.mw"
    again = mw.compress(before, {"compress": [INT8]}, out=tmp_path, name="again")
    assert again.ledger.find("size_ratio").value == finished.ledger.find("size_ratio").value
    own, other = (modelfile.read_weights(item.model) for item in (again, finished))
    assert own.keys() == other.keys()
    assert all((own[name] == other[name]).all() for name in own)
    arguments = ["compress", str(before), "--out", str(tmp_path), "--name", "again", "--json"]
    setting = f"compress={json.dumps([INT8])}"
    assert main([*arguments, "--set", setting, "--set", "resources.threads=1"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["size_ratio"]["value"] > 2.5


def test_what_cannot_be_compressed_is_refused(finished, tmp_path):
    before = finished.folder / "uncompressed.mw"
    with pytest.raises(RequestError, match="nothing says how to compress"):
        mw.compress(before, {"compress": []}, out=tmp_path)
    with pytest.raises(modelfile_error(), match="int8"):
        mw.compress(finished.model, out=tmp_path, name="twice")
    with pytest.raises(DataError, match="isn't the one that"):
        mw.compress(before, {"compress": [INT8]}, overrides=["data.split.seed=5"], out=tmp_path)
    assert not list(tmp_path.glob("*/model.mw"))


def modelfile_error():
    from modelwright.errors import ModelFileError

    return ModelFileError


def test_a_step_that_the_network_cannot_take_is_refused_before_training(tmp_path):
    convolutions = {"name": "resnet", "depth": 20, "width": 0.25}
    step = {"name": "quantize", "weights": "int8"}
    recipe = {**RECIPE, "model": convolutions, "compress": [step]}
    with pytest.raises(RequestError, match="fully connected layer or embedding"):
        mw.run(recipe, out=tmp_path, name="never")
    assert not (tmp_path / "never" / "stages" / "train").exists()


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="one process"):
        mw.run({**RECIPE, "compress": [INT8]}, out=tmp_path, name="never")


def test_a_target_of_compression_needs_compression(tmp_path):
    with pytest.raises(RecipeError, match="size_ratio"):
        mw.run({**RECIPE, "targets": {"size_ratio": ">= 2"}}, out=tmp_path)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "quantize"}, "give one of"),
        ({"name": "quantize", "dtype": "int8", "weights": "int4"}, "give one of"),
        ({"name": "quantize", "dtype": "int8", "group_size": 16}, "no effect"),
        ({"name": "quantize", "weights": "int4", "ranges": "min-max"}, "no effect"),
        (
            {"name": "quantize", "dtype": "int8", "samples": 0},
            r"`compress\.0\.samples` must be a whole number",
        ),
        ({"name": "squeeze"}, "squeeze"),
        ({"name": "distill", "teacher": []}, "names no model file"),
        ({"name": "distill", "teacher": ""}, "names no model file"),
        ({"name": "vector-quantize", "block_size": 4, "ratio": 9}, "no effect"),
        ({"name": "vector-quantize", "codebook_size": 257}, "codebook_size"),
    ],
)
def test_a_step_that_makes_no_sense_is_named(step, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        mw.run({**RECIPE, "compress": [step]}, out=tmp_path)


def test_codebooks_ship_smaller_and_nearly_as_good(tmp_path):
    step = {"name": "vector-quantize", "ratio": 8, "epochs": 4, "max_drop": 0.1}
    recipe = {**RECIPE, "model": {"name": "mlp", "hidden": [128, 128]}, "compress": [step]}
    found = mw.run(recipe, out=tmp_path, name="codes")
    assert found.ledger.find("size_ratio").value > 5
    assert found.ledger.find("gain_over_parent").value > -0.05
    lineage = modelfile.describe(found.model)["lineage"][1]
    assert lineage["step"] == "vector-quantize"
    assert lineage["weights_ratio"] >= 8
    assert lineage["kept"] == {"body.head": "small"}
    modelfile.verify(found.model, sandbox=False)
    # Norms, biases and whole layers of such a file may be trained further.
    again = {**RECIPE, "model": {"init": str(found.model)}}
    further = mw.run(again, out=tmp_path, name="further")
    own, other = (modelfile.read_weights(item.model) for item in (found, further))
    names = [name for name in own if ".coded." in name]
    assert names
    assert all((own[name] == other[name]).all() for name in names)
    assert not (own["body.head.weight"] == other["body.head.weight"]).all()


def test_data_elsewhere_is_given(tmp_path, monkeypatch):
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = [f"{word} thing number {at},{word}" for at in range(40) for word in ("good", "bad")]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]))
    recipe = {
        **RECIPE,
        "task": "text-classification",
        "data": {"source": "table", "path": "rows.csv"},
        "model": {"name": "bow", "width": 32, "buckets": 256},
        "compress": [],
    }
    monkeypatch.chdir(folder)
    trained = mw.run(recipe, out=tmp_path / "runs", name="texts")
    monkeypatch.chdir(tmp_path)
    step = {"compress": [{"name": "quantize", "weights": "int8", "max_drop": 0.5}]}
    own = mw.compress(trained.model, step, out=tmp_path / "runs")  # Its folder says where.
    assert Path(own.folder).name == "texts-compressed"
    elsewhere = shutil.copy(trained.model, tmp_path / "alone.mw")
    with pytest.raises(RecipeError, match="--data PATH"):
        mw.compress(elsewhere, step, out=tmp_path / "runs")
    found = mw.compress(elsewhere, step, data="texts/rows.csv", out=tmp_path / "runs")
    assert found.ledger.find("size_ratio").value > 1.2
    assert Path(found.folder).name == "alone-compressed"


def test_channels_go_and_int8_follows(tmp_path):
    narrow = {
        "name": "prune",
        "kind": "structured",
        "multiply_adds": 0.6,
        "rounds": 2,
        "epochs": 4,
        "max_drop": 0.2,
    }
    evaluate = {"baselines": False, "latency": False}
    steps = [narrow, {**INT8, "max_drop": 0.2}]
    recipe = {**RECIPE, "evaluate": evaluate, "compress": steps}
    result = mw.run(recipe, out=tmp_path, name="chain")
    description = modelfile.describe(result.model)
    steps = {step["step"]: step for step in description["lineage"]}
    assert list(steps) == ["train", "prune", "quantize", "export"]
    assert steps["prune"]["multiply_adds_share"] <= 0.6
    assert steps["prune"]["parameters_share"] < 0.9
    assert result.ledger.find("size_ratio").value > 2.5
    assert any("multiply-adds have become" in note for note in result.notes)
    modelfile.verify(result.model, sandbox=False)
    folders = sorted(path.name for path in (result.folder / "stages/prune/stages").iterdir())
    assert folders == ["round-1", "round-2"]
    assert not list(result.folder.rglob("checkpoints"))
