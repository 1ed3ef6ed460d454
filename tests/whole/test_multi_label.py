"""Texts with several labels or none, from the table to the file, the report and the commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import DataError, ModelwrightError, RecipeError
from modelwright.modelfile.outputs import difference
from modelwright.pipeline import evaluate, run
from modelwright.recipe import load_recipe
from modelwright.scaffold import new

WORDS = {"food": ("soup", "bread"), "room": ("bed", "lamp"), "bill": ("price", "paid")}
FAMILIES = [
    "{name: bow, width: 8, buckets: 256}",
    "{name: text-cnn, width: 8, filters: 4, kernels: [1, 3]}",
    "{name: rnn, width: 8, hidden: 8}",
    "{name: transformer, width: 8, layers: 1, heads: 2}",
]
QUICK = ["train.epochs=1", "targets={}", "evaluate={baselines: false, latency: false}"]
RECIPE = """\
version: 1
task: text-classification
data: {source: table, path: a.jsonl, label: topics, multi_label: true}
model: {name: bow, width: 16, buckets: 1024}
train: {epochs: 30, batch_size: 16, optimizer: {name: adamw, lr: 0.05}, precision: fp32}
targets: {f1_macro: ">= 0.9", exact_match: ">= 0.8"}
resources: {threads: 1}
"""


def samples(count, first=0, topics=tuple(WORDS)):
    """Return texts with their topics: each is told by one of its words."""
    chance = np.random.default_rng(first)
    found = []
    for at in range(first, first + count):
        held = [topic for topic in topics if chance.random() < 0.5]
        said = " and the ".join(chance.choice(WORDS[topic]) for topic in held)
        found.append({"text": f"Number {at}: the {said or 'end'}", "topics": held})
    return found


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    here = tmp_path_factory.mktemp("multi_label")
    write(here / "a.jsonl", samples(240))
    (here / "recipe.yaml").write_text(RECIPE)
    return here, run(here / "recipe.yaml", out=here / "runs")


def test_it_learns_and_says_which_labels_are_chosen(made, capsys):
    _, result = made
    assert result.passed
    model = modelfile.load(result.model)
    assert (model.task, model.spec.output_kind) == ("text-classification", "multi_label")
    (answers,) = model.predict(["The soup, the lamp"])
    assert {item["label"]: item["predicted"] for item in answers} == {
        "food": True,
        "room": True,
        "bill": False,
    }
    shares = [item["probability"] for item in answers]
    assert shares == sorted(shares, reverse=True)
    assert len(model.predict("The soup", top=1)) == 1
    assert main(["predict", str(result.model), "The soup", "Number 5: the end"]) == 0
    soup, end = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"The soup: food [0-9.]+ %", soup)
    assert end.endswith(": none")


def test_the_file_holds_each_labels_evidence_and_the_baselines(made):
    _, result = made
    ledger = result.ledger
    assert {item.slice for item in ledger if item.metric == "recall"} == {
        "label=bill",
        "label=food",
        "label=room",
    }
    simple = ledger.find("f1_macro", subject="baseline:frequent")
    assert simple is not None
    assert simple.value < ledger.find("f1_macro").value
    assert ledger.find("accuracy") is None


def test_the_report_shows_the_labels_one_by_one(made):
    _, result = made
    page = result.report.read_text(encoding="utf-8")
    assert "assigns any of 3 labels to texts" in page
    assert "all labels are right: none is missing" in page
    assert "Class by class" in page
    assert "Confusion matrix" not in page
    assert "always predicting the most frequent labels" in page
    for label in WORDS:
        assert f"<bdi>{label}</bdi>" in page


def test_other_data_is_measured(made, tmp_path):
    _, result = made
    path = write(tmp_path / "b.jsonl", samples(30, 1000))
    found = evaluate(result.model, path)["metrics"]
    assert found["f1_macro"]["value"] > 0.9
    assert found["exact_match"]["n"] == 30
    cells = [f"{row['text']},{'|'.join(row['topics'])}" for row in samples(30, 1000)]
    (tmp_path / "b.csv").write_text("\n".join(["text,topics", *cells]) + "\n")
    assert evaluate(result.model, tmp_path / "b.csv")["metrics"] == found
    strange = write(tmp_path / "c.jsonl", [{"text": "a cow", "topics": ["cow"]}])
    with pytest.raises(DataError, match=r"is no label that the model knows: .* `cow`"):
        evaluate(result.model, strange)


def test_predicting_needs_no_torch(made):
    _, result = made
    code = (
        "import sys, modelwright\n"
        f"modelwright.load({str(result.model)!r}).predict('The soup')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_texts_learns_sets_of_labels(made, family, tmp_path):
    here, _ = made
    overrides = [f"model={family}", "train.max_tokens_per_batch=300", *QUICK]
    result = run(here / "recipe.yaml", out=tmp_path, overrides=overrides)
    assert modelfile.verify(result.model).golden_difference <= 1e-4
    assert len(modelfile.load(result.model).predict("The soup")) == 3


def test_training_goes_on_with_the_same_labels_or_others(made, tmp_path):
    here, first = made
    init = f"model={{init: {json.dumps(str(first.model))}}}"
    same = run(here / "recipe.yaml", out=tmp_path, name="same", overrides=[init, *QUICK])
    assert modelfile.load(same.model).labels == ("bill", "food", "room")
    path = write(tmp_path / "two.jsonl", samples(80, 2000, ("food", "room")))
    other = run(
        here / "recipe.yaml",
        out=tmp_path,
        name="other",
        overrides=[init, f"data.path={json.dumps(str(path))}", *QUICK],
    )
    model = modelfile.load(other.model)
    assert model.labels == ("food", "room")
    assert {item["label"] for item in model.predict("The soup")} == {"food", "room"}


def test_one_label_a_text_does_not_start_from_sets_of_labels(made, tmp_path):
    here, first = made
    rows = [{"text": row["text"], "topics": ",".join(row["topics"]) or "-"} for row in samples(80)]
    path = write(tmp_path / "one.jsonl", rows)
    with pytest.raises(RecipeError, match="predicts several labels from texts"):
        run(
            here / "recipe.yaml",
            out=tmp_path,
            overrides=[
                f"model={{init: {json.dumps(str(first.model))}}}",
                f"data={{source: table, path: {json.dumps(str(path))}, label: topics}}",
                *QUICK,
            ],
        )


@pytest.mark.parametrize(
    ("rows", "label", "multi"),
    [
        ([{"text": f"t {at}", "labels": [["a"], []][at % 2]} for at in range(40)], "labels", True),
        (
            [{"text": f"t {at}", "genres": [["a"], ["b"]][at % 2]} for at in range(40)],
            "genres",
            True,
        ),
        (
            [
                {"text": f"t {at}", "title": "x", "tags": [["a"], ["a", "b"]][at % 2]}
                for at in range(40)
            ],
            "tags",
            True,
        ),
        (
            [{"text": f"t {at}", "label": "ab"[at % 2], "tags": ["c"]} for at in range(40)],
            "label",
            False,
        ),
        (
            [{"text": [f"t {at}", "more"], "label": "ab"[at % 2]} for at in range(40)],
            "label",
            False,
        ),
    ],
)
def test_new_recognises_columns_of_lists(tmp_path, rows, label, multi):
    path = write(tmp_path / "a.jsonl", rows)
    found = load_recipe(new(path, out=tmp_path / "recipe.yaml").path)
    assert found.task == "text-classification"
    assert (found.data.label, found.data.multi_label) == (label, multi)
    assert "loss: {" not in (tmp_path / "recipe.yaml").read_text() or not multi


def test_new_takes_no_list_of_tokens_for_labels(tmp_path):
    rows = [{"text": f"t {at}", "tokens": ["t", str(at)], "ids": [1, at]} for at in range(40)]
    with pytest.raises(DataError, match="no column holds the targets"):
        new(write(tmp_path / "a.jsonl", rows), out=tmp_path / "recipe.yaml")


@pytest.mark.parametrize("bad", ["{a: b}", "1", "[]", "''", "null", "maybe"])
@pytest.mark.parametrize("key", ["multi_label", "separator"])
def test_wrong_settings_are_refused_with_their_place(made, key, bad, capsys):
    here, _ = made
    if (key, bad) == ("separator", "maybe"):
        bad = "far too long"
    code = main(["check", str(here / "recipe.yaml"), "--set", f"data.{key}={bad}", "--quiet"])
    assert code == 2
    assert f"data.{key}" in capsys.readouterr().err


def test_another_source_says_where_the_setting_belongs(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "version: 1\ntask: text-classification\ndata:\n  source: labelled_lines\n  path: x\n"
        "  multi_label: true\n"
    )
    with pytest.raises(RecipeError, match="is not a setting of `labelled_lines`") as caught:
        load_recipe(path)
    assert caught.value.where.endswith("r.yaml:6")
    assert "table" in caught.value.fix


def test_outputs_are_compared_as_probabilities_of_each_label():
    one, other = np.array([[20.0, -20.0]]), np.array([[20.0, -19.0]])
    assert difference("labels", one, other) == pytest.approx(1 / 21)
    near = np.array([[0.0, 0.0]]), np.array([[0.1, 0.0]])
    # A share of 1 + the largest logit is more than the probability's difference of 0.025.
    assert difference("labels", *near) == pytest.approx(0.1 / 1.1)
    assert difference("labels", np.array([[np.nan, 0.0]]), one) == float("inf")


def test_broken_tables_end_in_a_sentence(made, tmp_path):
    here, _ = made
    texts = [
        "",
        "[1, 2]\n",
        '{"text": "a", "topics": {"food": true}}\n' * 30,
        '{"text": "a"}\n' * 30,
        '{"text": "a", "topics": null}\n' * 30,
        '{"topics": ["a"]}\n' * 30,
    ]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(text)
        with pytest.raises(ModelwrightError):
            run(
                here / "recipe.yaml",
                out=tmp_path,
                name=str(number),
                overrides=[f"data.path={json.dumps(str(path))}"],
            )
