"""Training further from a model file: its way of taking images, a new head, frozen layers."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.modelfile import rebuild
from modelwright.pipeline import check, layers, run
from tests.data.making import folder

SETTINGS = """\
train: {epochs: 1, batch_size: 8, precision: fp32, compile: off}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
FIRST = """\
version: 1
data: {source: folder, path: pets}
transforms: {size: 12, resize: letterbox, interpolation: lanczos, background: 7}
model: {name: resnet, depth: 20, width: 0.25}
"""
FURTHER = """\
version: 1
data: {source: folder, path: birds}
model: {init: runs/first/model.mw, freeze: ["body.stem.*"]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run `first`, and other data with other labels."""
    here = tmp_path_factory.mktemp("init")
    folder(here / "pets", each=12)
    folder(here / "birds", classes=("emu", "jay", "owl"), each=12, first=100)
    (here / "first.yaml").write_text(FIRST + SETTINGS)
    run(here / "first.yaml", out=here / "runs")
    return here


def further(place, name, text=FURTHER):
    (place / f"{name}.yaml").write_text(text + SETTINGS)
    return place / f"{name}.yaml"


def test_images_are_taken_as_the_file_takes_them_and_the_head_is_new(place):
    result = run(further(place, "further"), out=place / "runs")
    first = modelfile.load(place / "runs/first/model.mw")
    second = modelfile.load(result.model)
    assert second.input == first.input
    assert (second.input.resize, second.input.background) == ("letterbox", 7)
    assert second.labels == ("emu", "jay", "owl")
    assert any("letterbox" in note for note in result.notes)
    steps = [step["step"] for step in rebuild(result.model).lineage]
    assert steps == ["train", "export", "init", "train", "export"]


def test_frozen_layers_and_figures_of_normalising_stay(place):
    run(further(place, "frozen"), out=place / "runs")
    files = (place / f"runs/{name}/model.mw" for name in ("first", "frozen"))
    first, second = (rebuild(file).network.state_dict() for file in files)
    for name, tensor in first.items():
        same = np.array_equal(tensor.numpy(), second[name].numpy())
        if name.startswith(("body.stem.", "steps.")):
            assert same, name
    assert not np.array_equal(first["body.head.weight"].numpy(), second["body.head.weight"].numpy())


@pytest.mark.parametrize(
    ("task", "data", "asks"),
    [
        ("text-classification", "source: labelled_lines, path: t.txt", "one label from texts"),
        ("audio-classification", "source: folder, path: birds", "one label from recordings"),
        ("language-modeling", "source: documents, path: t.txt", "the next tokens from"),
        ("object-detection", "source: boxes, path: birds", "boxes from images"),
    ],
)
def test_a_file_of_another_task_is_refused_first(place, task, data, asks):
    text = f"version: 1\ntask: {task}\ndata: {{{data}}}\nmodel: {{init: runs/first/model.mw}}\n"
    (place / "task.yaml").write_text(text)  # Nor is the data looked for: there may be none.
    for look in (check, layers):
        with pytest.raises(RecipeError) as caught:
            look(place / "task.yaml")
        assert "model.mw predicts one label from images (`task: image-cl" in str(caught.value)
        assert f"the recipe asks for {asks}" in str(caught.value)
        assert caught.value.where.endswith("task.yaml:4")


def test_another_size_suits_a_network_that_takes_any(place):
    text = FURTHER + "transforms: {size: 16}\n"
    result = run(further(place, "larger", text), out=place / "runs")
    taken = modelfile.load(result.model).input
    assert (taken.height, taken.width, taken.resize) == (16, 16, "letterbox")


def test_transforms_that_contradict_the_file_are_refused(place):
    path = further(place, "other", FURTHER + "transforms: {resize: stretch}\n")
    for look in (check, layers):
        with pytest.raises(RecipeError) as caught:
            look(path)
        assert "was trained with `letterbox`" in str(caught.value)
        assert caught.value.where.endswith("other.yaml:4")


def test_a_network_of_one_size_takes_no_other(place):
    text = FIRST.replace("name: resnet, depth: 20, width: 0.25", "name: mlp, hidden: [8]")
    run(further(place, "flat", text), out=place / "runs")
    text = FURTHER.replace("first", "flat").replace(', freeze: ["body.stem.*"]', "")
    path = further(place, "flat-larger", text + "transforms: {size: 16}\n")
    with pytest.raises(RecipeError) as caught:
        run(path, out=place / "runs")
    assert "takes images of one size alone" in str(caught.value)


def test_a_pattern_that_freezes_nothing_is_refused(place):
    path = further(place, "astray", FURTHER.replace("body.stem.*", "stam.*"))
    with pytest.raises(RecipeError, match="matches no parameter"):
        run(path, out=place / "runs")
