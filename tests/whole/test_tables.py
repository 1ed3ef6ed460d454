"""A table from one end to the other: trained on, answered into a file, evaluated, exported."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.cli import main
from modelwright.data.table_stream import stream_table
from modelwright.errors import DataError, RequestError
from modelwright.kinds import OutputKind
from modelwright.pipeline import evaluate, run
from modelwright.pipeline.answers import answer_columns, write_answers
from modelwright.pipeline.predicting import predict_file

WORDS = {"pos": ("great", "lovely", "fine"), "neg": ("awful", "poor", "dull")}
SPLITS = ("train",) * 6 + ("val", "test")
RECIPE = """\
version: 1
task: text-classification
data: {source: table, path: t.csv, split_column: part}
model: {name: linear}
evaluate: {baselines: false, latency: false}
"""


def row(at):
    label = "pos" if at % 2 else "neg"
    word = WORDS[label][at // 2 % 3]
    return {"text": f"a {word} film, no {at}", "label": label, "part": SPLITS[at // 2 % 8]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a table and the run that was made of it; don't change it."""
    folder = tmp_path_factory.mktemp("tables")
    write(folder / "t.csv", [row(at) for at in range(160)])
    (folder / "r.yaml").write_text(RECIPE)
    run(folder / "r.yaml", out=folder / "runs")
    return folder


@pytest.fixture
def model(place):
    return modelfile.load(place / "runs/r/model.mw")


def write(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rows_of(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


# -- predict --out ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_table_is_answered_row_by_row(name, place, model, tmp_path):
    report = predict_file(model, place / "t.csv", tmp_path / name)
    assert (report.rows, report.answered) == (160, 160)
    found = rows_of(tmp_path / name)
    expected = model.predict([row(at)["text"] for at in range(160)], top=1)
    for at, (item, (best,)) in enumerate(zip(found, expected, strict=True)):
        assert {key: item[key] for key in row(at)} == row(at)
        assert item["prediction"] == best["label"]
        assert float(item["probability"]) == pytest.approx(best["probability"], rel=1e-5)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_columns_do_not_collide_and_several_labels_may_be_asked_for(model, tmp_path):
    rows = [{"text": "great", "Prediction": "old", "model_probability": "x"}]
    write(tmp_path / "t.csv", rows)
    predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv", top=9)
    (found,) = rows_of(tmp_path / "a.csv")
    assert list(found)[3:] == [
        "model_2_prediction",
        "model_2_probability",
        "model_2_prediction_2",
        "model_2_probability_2",
    ]
    assert found["Prediction"] == "old"


def test_bad_rows_are_named_or_listed_and_skipped(model, tmp_path, capsys):
    (tmp_path / "t.csv").write_text('id,text\n1,great\n2\n3,\n4,"dull\nfilm"\n')
    with pytest.raises(DataError, match="1 cells") as raised:
        predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv")
    assert raised.value.where == "t.csv:3"
    assert "--skip-bad" in raised.value.fix
    assert [item.name for item in tmp_path.iterdir()] == ["t.csv"]
    report = predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv", skip_bad=True)
    assert report.to_json() | {"out": ""} == {
        "out": "",
        "columns": ["prediction", "probability"],
        "rows": 4,
        "answered": 2,
        "skipped": 2,
        "skipped_list": str(tmp_path / "a.bad.csv"),
    }
    assert [item["id"] for item in rows_of(tmp_path / "a.csv")] == ["1", "4"]
    listed = rows_of(tmp_path / "a.bad.csv")
    assert [(item["file"], item["line"], item["row"]) for item in listed] == [
        ("t.csv", "3", "2"),
        ("t.csv", "4", "3"),
    ]
    assert listed[1]["why"] == "the text is empty"
    (tmp_path / "t.csv").write_text("text\n  \n")
    with pytest.raises(DataError, match="no row can be answered"):
        predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv", skip_bad=True)


def test_answers_in_csv_are_no_formulas_and_cells_of_csv_stay(model, tmp_path):
    (tmp_path / "t.csv").write_text("text,x\ngreat,=1+1\n")
    predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv")
    assert rows_of(tmp_path / "a.csv")[0]["x"] == "=1+1"
    line = {"text": "great", "x": "=1+1", "y": -5, "z": "-5.5", "=w": "@a"}
    (tmp_path / "t.jsonl").write_text(json.dumps(line))
    said = []
    predict_file(model, tmp_path / "t.jsonl", tmp_path / "b.csv", observe=said.append)
    (found,) = rows_of(tmp_path / "b.csv")
    assert (found["x"], found["y"], found["z"], found["'=w"]) == ("'=1+1", "-5", "-5.5", "'@a")
    assert any("apostrophe" in item.note for item in said)
    predict_file(model, tmp_path / "t.jsonl", tmp_path / "b.jsonl")
    assert rows_of(tmp_path / "b.jsonl")[0]["x"] == "=1+1"


def test_another_encoding_is_found_or_named(model, tmp_path):
    data = "编号,text\n1,很好的电影\n".encode("gb18030")
    (tmp_path / "t.csv").write_bytes(data)
    said = []
    predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv", observe=said.append)
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert rows_of(tmp_path / "a.csv")[0]["text"] == "很好的电影"
    assert "gb18030" in said[0].note
    predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv", encoding="gb18030")


@pytest.mark.parametrize(
    ("source", "out", "options", "word"),
    [
        ("t.csv", "t.csv", {}, "would replace the table"),
        ("t.csv", "a.txt", {}, "answers are written as"),
        ("t.csv", "a.csv", {"column": "txet"}, "Did you mean `text`"),
        ("t.csv", "a.csv", {"encoding": "utf-99"}, "no encoding"),
        ("t.csv", "a.csv", {"top": 0}, "at least 1"),
        (".", "a.csv", {"column": "text"}, "this is a folder"),
        ("gone.csv", "a.csv", {}, "no such file"),
        ("empty", "a.csv", {}, "there are no texts"),
        ("one.txt", "a.csv", {}, "this is one text"),
        ("other.csv", "a.csv", {}, "--column"),
    ],
)
def test_what_makes_no_sense_is_refused(source, out, options, word, model, tmp_path):
    write(tmp_path / "t.csv", [{"text": "great"}])
    write(tmp_path / "other.csv", [{"n": "1", "m": "2"}, {"n": "3", "m": "4"}])
    (tmp_path / "one.txt").write_text("great")
    (tmp_path / "empty").mkdir()
    with pytest.raises((RequestError, DataError), match=re.escape(word)):
        predict_file(model, tmp_path / source, tmp_path / out, **options)


def test_a_column_of_another_name_is_found_by_its_cells(model, tmp_path):
    rows = [{"stars": at % 5, "review": f"it was a great and lovely film {at}"} for at in range(9)]
    write(tmp_path / "t.csv", rows)
    predict_file(model, tmp_path / "t.csv", tmp_path / "a.csv")
    assert {item["prediction"] for item in rows_of(tmp_path / "a.csv")} == {"pos"}


KINDS = [
    (
        OutputKind.MULTI_LABEL,
        ("a", "b", "=c"),
        [
            {"label": "=c", "probability": 0.75, "predicted": True},
            {"label": "a", "probability": 0.5, "predicted": True},
            {"label": "b", "probability": 0.1, "predicted": False},
        ],
        {"prediction": ["=c", "a"], "probability": [0.75, 0.5]},
        {"prediction": "'=c|a", "probability": "0.75|0.5"},
    ),
    (
        OutputKind.REGRESSION,
        ("w", "h"),
        [{"label": "w", "value": -1.5}, {"label": "h", "value": 2.0}],
        {"prediction_w": -1.5, "prediction_h": 2.0},
        {"prediction_w": "-1.5", "prediction_h": "2"},
    ),
    (
        OutputKind.REGRESSION,
        ("w",),
        [{"label": "w", "value": 3.0}],
        {"prediction": 3.0},
        {"prediction": "3"},
    ),
    (OutputKind.CTC, ("a",), [{"text": "-x"}], {"prediction": "-x"}, {"prediction": "'-x"}),
    (
        OutputKind.BOXES,
        ("a",),
        [{"label": "a", "probability": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}],
        {"prediction": [{"label": "a", "probability": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}]},
        {"prediction": '[{"label": "a", "probability": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}]'},
    ),
    (OutputKind.BOXES, ("a",), [], {"prediction": []}, {"prediction": "[]"}),
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("kind", "labels", "predictions", "cells", "in_csv"), KINDS)
def test_answers_of_every_kind(kind, labels, predictions, cells, in_csv, suffix, tmp_path):
    write(tmp_path / "t.csv", [{"x": "1"}, {"x": "2"}])
    stream = stream_table(tmp_path / "t.csv")
    columns = answer_columns(kind, labels, stream.names)
    out = tmp_path / f"a{suffix}"
    with write_answers(out, stream, columns) as writer:
        for chunk in stream.chunks(9):
            writer.write(chunk, [1], [columns.cells(predictions)])
    assert rows_of(out) == [{"x": "2"} | (in_csv if suffix == ".csv" else cells)]
    if kind not in (OutputKind.MULTI_LABEL,):
        with pytest.raises(RequestError, match="no effect"):
            answer_columns(kind, labels, stream.names, top=2)


def test_images_of_a_folder_and_of_a_table(workspace, capsys):
    samples = sorted(Path("runs/quick/samples").glob("*.png"))
    folder = Path("images/some")
    folder.mkdir(parents=True)
    for at, sample in enumerate(samples):
        shutil.copy(sample, folder / f"{at}.png")
    (folder / "note.txt").write_text("x")
    (folder / "zz.png").write_bytes(b"no image")
    words = ["predict", "runs/quick/model.mw", "images", "--out", "a.csv", "--skip-bad", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["answered"], report["skipped"]) == (len(samples), 1)
    model = modelfile.load("runs/quick/model.mw")
    best = [item[0]["label"] for item in model.predict(samples, top=1)]
    assert [item["prediction"] for item in rows_of(Path("a.csv"))] == best
    assert rows_of(Path("a.csv"))[0]["file"] == "some/0.png"
    (bad,) = rows_of(Path("a.bad.csv"))
    assert bad["file"] == "images/some/zz.png"
    names = [f"some/{at}.png" for at in range(len(samples))]
    more = ["https://example.org/1.png", "some/gone.png", ""]
    write(Path("images/t.csv"), [{"path": name} for name in (*names, *more)])
    predict_file(model, "images/t.csv", "b.jsonl", skip_bad=True)
    assert [item["prediction"] for item in rows_of(Path("b.jsonl"))] == best
    assert [item["why"] for item in rows_of(Path("b.bad.csv"))] == [
        "https://example.org/1.png: this is an address, and files aren't fetched from them",
        "some/gone.png: there is no such file",
        "the cell is empty",
    ]


# -- evaluate --------------------------------------------------------------------------------


def test_of_a_table_with_splits_the_test_rows_are_measured(place):
    said = []
    found = evaluate(place / "runs/r/model.mw", place / "t.csv", observe=said.append)
    assert found["metrics"]["accuracy"]["n"] == 20
    assert found["is_test"] is True
    assert found["seen"] == {"train": 0, "validation": 0, "of": 20}
    assert any("the 20 of the test split are measured" in item.note for item in said)


def test_rows_that_were_trained_on_are_no_test(place, tmp_path, capsys):
    rows = [row(at) for at in range(160) if row(at)["part"] != "test"]
    for item in rows:
        item["part"] = ""
    write(tmp_path / "t.csv", [*rows, {"text": "a great thing", "label": "pos", "part": ""}])
    found = evaluate(place / "runs/r/model.mw", tmp_path / "t.csv")
    assert found["is_test"] is False
    assert found["seen"] == {"train": 120, "validation": 20, "of": 141}
    words = ["evaluate", str(place / "runs/r/model.mw"), str(tmp_path / "t.csv"), "--quiet"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("Not a test: 120 of 141 samples were trained on, and 20 chose the model")


def test_a_file_alone_recognises_whole_splits(place, tmp_path):
    model = shutil.copy(place / "runs/r/model.mw", tmp_path / "m.mw")
    train = [row(at) | {"part": ""} for at in range(160) if row(at)["part"] == "train"]
    write(tmp_path / "train.csv", train)
    assert evaluate(model, tmp_path / "train.csv")["seen"] == {
        "train": 120,
        "validation": 0,
        "of": 120,
    }
    assert evaluate(model, place / "t.csv")["is_test"] is True
    write(tmp_path / "some.csv", train[:9])
    said = []
    found = evaluate(model, tmp_path / "some.csv", observe=said.append)
    assert found["seen"] is None
    assert any("can't be told" in item.note for item in said)


# -- export --to onnx ------------------------------------------------------------------------


def example(folder):
    """Return the example of a README as a program."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_plain_onnx_of_texts_gives_the_same_answers(place, model, tmp_path, monkeypatch):
    folder = tmp_path / "onnx"
    assert main(["export", str(place / "runs/r/model.mw"), str(folder), "--to", "onnx"]) == 0
    names = {item.name for item in folder.iterdir()}
    assert names == {"README.md", "model.json", "model.onnx", "vocabulary.json"}
    monkeypatch.chdir(folder)
    space = {}
    exec(example(folder).replace("A text.", "A  GREAT film, no 7!"), space)
    expected = {item["label"]: item["probability"] for item in model.predict("A GREAT film, no 7!")}
    found = dict(zip(model.labels, space["probabilities"].tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-5)


def test_plain_onnx_of_images_gives_the_same_numbers(workspace, monkeypatch):
    assert main(["export", "runs/quick/model.mw", "--to", "onnx"]) == 0
    folder = Path("runs/quick/model-onnx")
    model = modelfile.load("runs/quick/model.mw")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    (found,) = session.run(None, {"pixels": pixels})
    logits = model.outputs(pixels) * model.inference.temperature[0]
    assert np.abs(found - logits).max() <= 1e-5
    large = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(large).save(folder / "image.png")
    monkeypatch.chdir(folder)
    space = {}
    exec(example(Path()), space)
    best = {item["label"]: item["probability"] for item in model.predict("image.png", top=10)}
    found = dict(zip(model.labels, space["probabilities"].tolist(), strict=True))
    assert found == pytest.approx(best, abs=1e-5)


def test_a_format_that_is_not_known_and_a_folder_that_is_there(workspace, capsys):
    assert main(["export", "runs/quick/model.mw", "--to", "onxx"]) == 2
    assert "`onnx`" in capsys.readouterr().err
    assert main(["export", "runs/quick/model.mw", "runs", "--to", "onnx"]) == 2
