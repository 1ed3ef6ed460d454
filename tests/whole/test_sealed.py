"""From sealed data to a sealed model that answers: nothing of either is found unsealed anywhere."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelwright.cli import main
from modelwright.security.sealing import ENVIRONMENT, create_identity_file

pytest.importorskip("pyrage")
PLANTED = "zyxwvut"
"""In each text beside other words, once: the vocabulary takes what occurs twice."""
RECIPE = """\
version: 1
data: {source: table, path: table.csv.age, text: text, sealed: true}
task: text-classification
text: {min_count: 2, max_length: 16}
model: {name: text-cnn, width: 8, filters: 4}
train: {epochs: 2, batch_size: 16}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work in a folder with a cache and a folder for temporary files of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    return tmp_path


@pytest.fixture
def call(place, capsys):
    def run(*words, code=0):
        assert main([*words, "--json"]) == code
        captured = capsys.readouterr()
        said.append(captured.out + captured.err)
        return json.loads(captured.out)

    said = run.said = []
    return run


def holding(place: Path, *planted: bytes) -> list[str]:
    """Return the files that hold one of some bytes."""
    files = [item for item in place.rglob("*") if item.is_file()]
    assert len(files) > 5
    return [str(file) for file in files if any(text in file.read_bytes() for text in planted)]


def test_a_text_of_sealed_data_is_nowhere_after_a_run(place, call):
    with Path("table.csv").open("w", newline="") as stream:
        rows = [(f"{PLANTED}{n} a {'good' if n % 2 else 'bad'} day", n % 2) for n in range(120)]
        csv.writer(stream).writerows([("text", "label"), *rows])
    Path("recipe.yaml").write_text(RECIPE)
    public = call("identity", "create", "own.key")["recipient"]
    call("seal", "table.csv", "--to", public)
    Path("table.csv").unlink()
    Path("site.yaml").write_text("resources: {identity: [own.key]}\n")
    assert "no identity" in call("run", "recipe.yaml", code=1)["error"]["what"]
    call("check", "recipe.yaml", "--identity", "own.key")
    model = call("run", "recipe.yaml", "--site", "site.yaml")["model"]
    call("evaluate", model, "table.csv.age", "--identity", "own.key")
    assert not Path("runs/recipe/samples").exists()
    assert "The data is sealed" in Path("runs/recipe/report.html").read_text()
    assert holding(place, PLANTED.encode()) == []
    assert PLANTED not in "".join(call.said)
    call("verify", model)


def test_pixels_of_sealed_data_are_nowhere_after_a_run(place, call):
    draw = np.random.default_rng(0)
    for number in range(60):
        pixels = draw.integers(0, 255, (8, 8), dtype=np.uint8)
        pixels[:4] = 200 if number % 2 else 20
        path = Path(f"photos/{'light' if number % 2 else 'dark'}/{number:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    planted = [path.read_bytes()[40:] for path in sorted(Path("photos").rglob("*.png"))]
    planted += [
        row.tobytes()
        for path in sorted(Path("photos").rglob("*.png"))
        for row in [np.asarray(Image.open(path))[5:8]]
    ]
    public = call("identity", "create", "own.key")["recipient"]
    call("seal", "photos", "--to", public)
    for path in Path("photos").rglob("*.png"):
        path.unlink()
    Path("recipe.yaml").write_text(
        "version: 1\ndata: {source: folder, path: photos.age, sealed: true}\n"
        "model: {name: mlp, hidden: [4]}\ntrain: {epochs: 2, batch_size: 16}\n"
    )
    model = call("run", "recipe.yaml", "--identity", "own.key")["model"]
    assert holding(place, *planted) == []
    call("seal", model, "--to", public)
    asked = ("predict", f"{model}.age", "photos.age/dark/00.png.age")
    assert "--identity" in call(*asked, code=1)["error"]["fix"]
    sealed = call(*asked, "--identity", "own.key")
    assert sealed == call("predict", model, asked[-1], "--identity", "own.key")
    assert holding(place, *planted) == []


def test_every_command_reads_a_sealed_model(workspace, capsys):
    def call(*words, code=0):
        assert main([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    model, key = "runs/quick/model.mw", ("--identity", "own.key")
    sample = str(min(Path("runs/quick/samples").glob("*.png")))
    public = create_identity_file(Path("own.key"))
    create_identity_file(Path("other.key"))
    sealed = call("seal", model, "--to", public)["sealed"]
    asked = {
        "predict": (sample,),
        "evaluate": (),
        "verify": (),
        "inspect": (),
    }
    for name, more in asked.items():
        found, plain = call(name, sealed, *more, *key), call(name, model, *more)
        if name == "verify":
            found, plain = found["digest"], plain["digest"]
        assert found == plain
        error = call(name, sealed, *more, code=1)["error"]
        assert error["kind"] == "SealError"
        assert "--identity" in error["fix"]
        call(name, sealed, *more, "--identity", "other.key", code=1)
    call("export", sealed, "exported", "--to", "onnx", *key)
    assert Path("exported").is_dir()
    error = call("compress", sealed, code=1)["error"]
    assert "sealed" in error["what"]
    Path("half.age").write_bytes(Path(sealed).read_bytes()[:1000])
    assert call("verify", "half.age", *key, code=1)["intact"] is False
    assert call("open", sealed, *key, "--out", "back.mw") == {"opened": "back.mw"}
    assert Path("back.mw").read_bytes() == Path(model).read_bytes()
    assert "is a folder" in call("predict", ".", sample, *key, code=1)["error"]["what"]


def test_a_network_begins_with_a_sealed_model(workspace, capsys):
    public = create_identity_file(Path("own.key"))
    assert main(["seal", "runs/quick/model.mw", "--to", public, "--out", "old.mw.age"]) == 0
    recipe = "version: 1\ndata: {source: digits}\nmodel: {init: old.mw.age}\ntrain: {epochs: 1}\n"
    Path("on.yaml").write_text(recipe)
    assert main(["run", "on.yaml", "-q"]) == 1
    assert "--identity" in capsys.readouterr().err
    assert main(["run", "on.yaml", "-q", "--identity", "own.key"]) == 0
