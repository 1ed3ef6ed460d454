"""A DataFrame as the data of `run`, `check`, `evaluate` and `new`, and recipes as dicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import modelwright as mw
from modelwright.errors import DataError, RecipeError, RequestError
from modelwright.recipe import load_recipe

ROWS = range(60)
RECIPE = {
    "version": 1,
    "model": {"name": "linear"},
    "evaluate": {"baselines": False, "latency": False},
}
TEXTS = pa.table(
    {
        "review": [f"{('fine', 'dull')[at % 2]} thing number {at}" for at in ROWS],
        "mood": [("praise", "blame")[at % 2] for at in ROWS],
    }
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_frame_is_run_measured_and_recognised_again():
    result = mw.run(RECIPE, data=TEXTS, name="reviews")
    assert result.notes[0] == "`review` is taken as the text and `mood` as the label"
    model = mw.load(result.model)
    assert model.labels == ("blame", "praise")
    assert str(Path.cwd()) not in model.recipe
    texts = TEXTS.column("review")
    expected = model.predict(texts.to_pylist())
    for given in (texts, np.array(texts.to_pylist()), np.array(texts.to_pylist(), dtype=object)):
        assert model.predict(given) == expected
    probabilities = model.predict_proba(texts)
    assert probabilities.shape == (60, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    best = probabilities.argmax(axis=1)
    assert [model.labels[at] for at in best] == [answers[0]["label"] for answers in expected]
    with pytest.raises(DataError, match="input 2: a missing value isn't a text"):
        model.predict(np.array(["a", None], dtype=object))
    with pytest.raises(DataError, match="the model takes one"):
        model.predict(TEXTS)
    words = repr(model)
    assert words.startswith("Model(text-classification: texts → one label of 2 (blame, praise); ")
    assert "kB; accuracy 1 (95 % interval 0." in words
    assert words.endswith(" test samples))")
    assert mw.run(RECIPE, data=TEXTS, name="reviews").finished_before
    with pytest.raises(RequestError, match=r"different recipe.*`data.path` was"):
        mw.run(RECIPE, data=TEXTS.slice(0, 50), name="reviews")
    measured = mw.evaluate(result.model, TEXTS.slice(0, 20))
    assert measured["metrics"]["accuracy"]["n"] == 20
    assert mw.evaluate(result, TEXTS.slice(0, 20)) == measured
    assert mw.evaluate(mw.load(result.model), TEXTS.slice(0, 20)) == measured
    with pytest.raises(RequestError, match="Give the path of its file"):
        mw.evaluate(mw.load(result.model.read_bytes()), TEXTS)


def test_what_a_recipe_says_of_the_columns_goes_first():
    frame = TEXTS.append_column("stars", pa.array([at % 5 for at in ROWS]))
    recipe = {**RECIPE, "data": {"label": "stars", "split": {"test": 0.25}}}
    notes = mw.check(recipe, data=frame).notes
    assert notes[0] == "`review` is taken as the text and `stars` as the label"


def test_a_path_that_a_recipe_has_is_replaced_by_the_frame(here):
    (here / "r.yaml").write_text(
        "version: 1\ntask: text-classification\n"
        "data: {source: table, path: gone.csv, text: review, label: mood}\nmodel: {name: linear}\n"
    )
    assert mw.check(here / "r.yaml", data=TEXTS).findings == ()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({**RECIPE, "data": {"source": "folder", "path": "x"}}, "the recipe's source is `folder`"),
        ({**RECIPE, "data": {"text": "reviews"}}, "no column `reviews`.*`review`"),
        ({**RECIPE, "modle": "auto"}, "`model`"),
        ({**RECIPE, "model": object()}, "`model` is a object, which no setting takes"),
        ({**RECIPE, 1: 2}, "the key 1 isn't text"),
        (RECIPE | {"train": {"epochs": "x"}}, "epochs"),
    ],
)
def test_a_dict_that_is_no_recipe_is_refused(recipe, message):
    with pytest.raises((RecipeError, DataError), match=message):
        mw.check(recipe, data=TEXTS)


@pytest.mark.parametrize("recipe", [3, None, ["version"]])
def test_what_is_no_recipe_at_all_is_refused(recipe):
    with pytest.raises(RequestError, match="a recipe is a path, a dict or a `Recipe`"):
        mw.run(recipe)


def test_what_is_no_frame_is_refused():
    with pytest.raises(RequestError, match="a list isn't a DataFrame"):
        mw.run(RECIPE, data=[1])
    with pytest.raises(RequestError, match="a list isn't a DataFrame"):
        mw.new([1])
    with pytest.raises(RequestError, match="the data is given twice"):
        mw.run(RECIPE, data=TEXTS, overrides=["data.path=other.csv"])


def test_missing_cells_are_findings_and_an_empty_frame_an_error():
    texts = TEXTS.column("review").to_pylist()
    holes = TEXTS.set_column(0, "review", pa.array([None, *texts[1:]]))
    (finding,) = mw.check(RECIPE, data=holes).findings
    assert finding.rows == ("row 1",)
    with pytest.raises(
        DataError, match=r"the DataFrame: this table names its columns, .* has no rows"
    ):
        mw.check(RECIPE, data=TEXTS.slice(0, 0))


def test_new_writes_the_frame_beside_its_recipe(here):
    result = mw.new(TEXTS, out="mine.yaml", target="mood")
    assert 'path: "mine.parquet"' in result.text
    assert load_recipe(result.path).data.label == "mood"
    assert (here / "mine.parquet").is_file()
    result.path.unlink()
    with pytest.raises(RequestError, match=r"mine\.parquet"):
        mw.new(TEXTS, out="mine.yaml")


def test_new_leaves_nothing_where_columns_cannot_be_told(here):
    with pytest.raises(DataError, match="no column holds"):
        mw.new(pa.table({"a": [1, 2], "b": [3, 4]}))
    assert list(here.iterdir()) == []


def images(folder):
    """Write images of two classes, and return a frame of their paths."""
    folder.mkdir()
    for at in range(24):
        Image.new("L", (12, 12), 100 * (at % 2) + 4 * at + 1).save(folder / f"{at}.png")
    paths = [f"{folder.name}/{at}.png" for at in range(24)]
    return pa.table({"file": paths, "kind": ["ab"[at % 2] for at in range(24)]})


def test_paths_of_images_start_from_the_current_folder(here):
    frame = images(here / "pictures")
    (here / "recipes").mkdir()
    result = mw.new(frame, out="recipes")
    assert result.notes[0] == "`file` is taken as the image and `kind` as the label"
    assert not [finding for finding in result.findings if finding.kind == "broken"]
    found = mw.check(RECIPE, data=frame)
    assert not [finding for finding in found.findings if finding.kind == "broken"]


def test_a_pattern_of_paths_works_on_a_frame(here):
    frame = images(here / "pictures")
    bare = pa.table({"id": list(range(24)), "kind": frame.column("kind")})
    data = {"source": "table", "image": "id", "label": "kind", "files": "pictures/{}.png"}
    found = mw.check({**RECIPE, "data": data}, data=bare)
    assert not [finding for finding in found.findings if finding.kind == "broken"]
