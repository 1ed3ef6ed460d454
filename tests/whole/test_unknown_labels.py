"""Labels that training has none of, from the data to the file, the report and the commands."""

from __future__ import annotations

import json
import re
from html import unescape

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import DataError
from modelwright.files import read_lines
from modelwright.pipeline import check, evaluate, run
from tests.data.making import folder, picture

QUICK = """\
train: {epochs: 1, batch_size: 8, precision: fp32}
evaluate: {latency: false}
resources: {device: cpu, threads: 1}
"""
IMAGES = f"""\
version: 1
data: {{source: folder, path: pets}}
model: {{name: mlp}}
targets: {{accuracy: ">= 0"}}
{QUICK}"""
TEXTS = f"""\
version: 1
task: text-classification
data: {{source: table, path: texts, multi_label: true}}
model: {{name: bow, width: 8, buckets: 256}}
{QUICK}"""
BOXES = f"""\
version: 1
task: object-detection
data: {{source: boxes, path: boxes}}
model: {{name: detector, widths: [4, 8], neck: 8}}
{QUICK}"""


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A run on images, of which the test split has another class and validation one more."""
    here = tmp_path_factory.mktemp("pets")
    folder(here / "pets" / "train", each=20)
    folder(here / "pets" / "val", classes=("cat", "dog", "owl"), each=4, first=100)
    folder(here / "pets" / "test", classes=("Cat", "cat", "dog", "emu"), each=5, first=200)
    (here / "recipe.yaml").write_text(IMAGES)
    said = []
    return here, run(here / "recipe.yaml", out=here / "runs", observe=said.append), said


def test_the_check_and_the_run_list_them(pets):
    here, _, said = pets
    (found,) = (
        item for item in check(here / "recipe.yaml").findings if item.kind == "untrained_class"
    )
    assert found.message == (
        "3 classes have no image in the training split, and can't be learned: `Cat` (5 test), "
        "`emu` (5 test), `owl` (4 validation); such images count as wrong, and the log loss leaves "
        "them out"
    )
    assert any(found.message in item.note for item in said)


def test_the_file_knows_the_training_classes_alone(pets):
    _, result, _ = pets
    model = modelfile.load(result.model)
    assert model.labels == ("cat", "dog")
    (answers,) = model.predict([np.zeros((12, 12, 3), np.uint8)])
    assert {item["label"] for item in answers} == {"cat", "dog"}
    history = read_lines(result.folder / "stages/train/metrics.jsonl")
    assert all(record["val_accuracy"] <= 8 / 12 for record in history)


def test_the_figures_count_them_as_wrong(pets):
    _, result, _ = pets
    ledger = result.ledger
    assert ledger.find("accuracy").n == 20
    assert ledger.find("accuracy").value <= 0.5
    assert ledger.find("log_loss").n == 10
    for label in ("Cat", "emu"):
        recall = ledger.find("recall", slice=f"label={label}")
        assert (recall.value, recall.n) == (0.0, 5)
    # Of validation alone; the figures are those of the test split.
    assert ledger.find("recall", slice="label=owl") is None
    for name in ("majority", "centroid", "hog"):
        simple = ledger.find("accuracy", subject=f"baseline:{name}")
        assert simple.n == 20
        assert simple.value <= 0.5


def test_the_report_names_them(pets):
    _, result, _ = pets
    page = unescape(result.report.read_text())
    assert page.count("never predicted: not in training") == 2
    assert "The training split has no images of “Cat”, “emu”" in page
    assert "into 2 classes" in page
    assert re.search("emu predicted as (cat|dog): [1-5]", page)


def test_other_data_is_measured_alike(pets, tmp_path, capsys):
    _, result, _ = pets
    folder(tmp_path / "more", classes=("cat", "dogs", "dog"), each=4, first=500)
    assert main(["evaluate", str(result.model), str(tmp_path / "more"), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)["metrics"]
    assert found["accuracy"]["n"] == 12
    assert found["log_loss"]["n"] == 8
    assert "`dogs` (4); such images count as wrong" in told.err
    folder(tmp_path / "other", classes=("emu", "owl"), each=4, first=600)
    with pytest.raises(DataError, match="is no label that the model knows"):
        evaluate(result.model, tmp_path / "other")


def test_validation_alone_counts_them_too(tmp_path):
    """Without a test split the figures, and the threshold, come from the validation split."""
    folder(tmp_path / "pets" / "train", each=20)
    folder(tmp_path / "pets" / "val", classes=("cat", "dog", "emu"), each=4, first=100)
    more = IMAGES.replace(
        "latency: false", "latency: false}\ninference: {threshold: {label: cat, min_recall: 0.5}"
    ).replace("path: pets", "path: pets, split: {test: 0}")
    (tmp_path / "recipe.yaml").write_text(more)
    ledger = run(tmp_path / "recipe.yaml", out=tmp_path / "runs").ledger
    assert (ledger.find("accuracy").n, ledger.find("accuracy").split) == (12, "validation")
    assert ledger.find("recall_at_threshold").n == 4
    (tmp_path / "recipe.yaml").write_text(more.replace("label: cat", "label: emu"))
    with pytest.raises(DataError, match="there is no class `emu`"):
        run(tmp_path / "recipe.yaml", out=tmp_path / "others")


def table(path, rows):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_any_number_of_labels(tmp_path):
    def rows(first, count, sets):
        return [
            {"text": f"number {at}", "label": sets[at % len(sets)]}
            for at in range(first, first + count)
        ]

    table(tmp_path / "texts" / "train.parquet", rows(0, 40, [["a"], ["a", "b"], ["b"]]))
    table(tmp_path / "texts" / "val.parquet", rows(100, 12, [["a", "0"], ["b"]]))
    table(tmp_path / "texts" / "test.parquet", rows(200, 12, [["a", "b"], ["b", "new", "0"]]))
    (tmp_path / "recipe.yaml").write_text(TEXTS)
    said = []
    result = run(tmp_path / "recipe.yaml", out=tmp_path / "runs", observe=said.append)
    assert modelfile.load(result.model).labels == ("a", "b")
    message = "`0` (6 validation, 6 test), `new` (6 test); such labels count as missed"
    assert any(message in item.note for item in said)
    ledger = result.ledger
    assert (ledger.find("exact_match").n, ledger.find("log_loss").n) == (12, 6)
    assert ledger.find("exact_match").value <= 0.5
    assert ledger.find("f1_macro").value <= 0.5
    assert ledger.find("recall", slice="label=new").n == 6
    assert ledger.find("log_loss", subject="baseline:frequent").n == 6
    page = unescape(result.report.read_text())
    assert page.count("never predicted: not in training") == 2
    assert "b, 0, new" in page


def test_boxes(tmp_path):
    def rows(first, count, labels):
        return [
            {
                "image": picture(at),
                "boxes": [
                    {"label": label, "x1": 1, "y1": 1, "x2": 7, "y2": 8}
                    for label in labels[at % len(labels)]
                ],
            }
            for at in range(first, first + count)
        ]

    table(tmp_path / "boxes" / "train.parquet", rows(0, 24, ["a", "b"]))
    table(tmp_path / "boxes" / "val.parquet", rows(100, 8, ["a", "0"]))
    table(tmp_path / "boxes" / "test.parquet", rows(200, 8, ["ab", "b", "zo"]))
    (tmp_path / "recipe.yaml").write_text(BOXES)
    said = []
    result = run(tmp_path / "recipe.yaml", out=tmp_path / "runs", observe=said.append)
    assert modelfile.load(result.model).labels == ("a", "b")
    message = "`0` (4 validation), `o` (3 test), `z` (3 test); such boxes count as missed"
    assert any(message in item.note for item in said)
    assert result.ledger.find("map50").n == 8
    assert result.ledger.find("map50").value <= 0.5
    assert result.ledger.find("map50", subject="baseline:box").value <= 0.5
    page = unescape(result.report.read_text())
    assert "A model that detects a, b in images" in page
    assert "The training split has no images of “o”, “z”" in page
    assert "z, o" in page
