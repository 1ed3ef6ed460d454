"""Words that start from a file of word vectors: a run goes on with the same file alone."""

from __future__ import annotations

import csv

import pytest

from modelwright.errors import DataError
from modelwright.pipeline import run

RECIPE = """
version: 1
task: text-classification
data: {source: table, path: data.csv}
text: {vectors: vectors.txt}
model: {name: text-cnn, width: 4, filters: 4, kernels: [1]}
train: {epochs: 1}
evaluate: {baselines: false, latency: false}
"""


def test_a_run_does_not_go_on_with_other_vectors(tmp_path):
    texts = [f"the {a} {b} is {c}" for a in ("soup", "rice", "cake") for b in "xyz" for c in "stuv"]
    with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = ((text, "ab"[at % 2]) for at, text in enumerate(texts))
        csv.writer(stream).writerows([("text", "label"), *rows])
    recipe, vectors = tmp_path / "recipe.yaml", tmp_path / "vectors.txt"
    recipe.write_text(RECIPE)
    vectors.write_text("soup 1 2 3 none\n")
    with pytest.raises(DataError, match="`none` isn't a finite number"):
        run(recipe, out=tmp_path, name="one")
    # What was refused is no start.
    vectors.write_text("soup 1 2 3 4\n")
    result = run(recipe, out=tmp_path, name="one")
    (result.folder / "result.json").unlink()
    vectors.write_text("soup 4 3 2 1\n")
    with pytest.raises(DataError, match="has changed since this run began"):
        run(recipe, out=tmp_path, name="one")
