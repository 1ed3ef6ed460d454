"""Distillation from end to end: in a run, from files, stopped and resumed, and what is refused."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modelwright as mw
from modelwright import modelfile
from modelwright.errors import (
    CompressionError,
    ModelwrightError,
    RecipeError,
    RequestError,
    StoppedError,
)
from modelwright.initialization.teachers import open_teachers
from modelwright.pipeline.compressing import compressed
from modelwright.pipeline.request import Notes, run_in
from modelwright.recipe.compression import DistillStep
from modelwright.run import silent
from tests.compression.making import split_of
from tests.whole.leaves.data import write_all
from tests.whole.leaves.effects import Place, _begin, digest, effects, write_untrained
from tests.whole.leaves.witnesses import (
    AUDIO_CNN,
    BASES,
    BOW,
    CONV_CTC,
    DECODER,
    MLP,
    RNN_CTC,
    SEQ2SEQ,
    put,
)

STUDENT = {"name": "cnn", "blocks": [{"filters": 8}, {"filters": 16}], "head": [32]}
RECIPE: dict[str, Any] = {
    "version": 1,
    "data": {"source": "digits"},
    "model": {"name": "cnn", "blocks": [{"filters": 16}, {"filters": 32}]},
    "train": {"epochs": 4, "optimizer": {"name": "adamw", "lr": 0.005}},
    "evaluate": {"baselines": False, "latency": False},
    "resources": {"threads": 1},
}


def step(**settings: Any) -> dict[str, Any]:
    return {"name": "distill", **settings}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def teacher(runs):
    """A run without compression: its file teaches."""
    return mw.run(RECIPE, out=runs, name="big")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tiny data of every kind, and where their runs are."""
    here = tmp_path_factory.mktemp("kinds")
    (here / "data").mkdir()
    (here / "runs").mkdir()
    write_all(here / "data")
    return Place(here / "data", here / "runs")


def test_a_student_learns_from_the_network_before_it(teacher, runs):
    found = mw.compress(
        teacher.model, {"compress": [step(student=STUDENT, epochs=12)]}, out=runs, name="student"
    )
    assert found.ledger.find("size_ratio").value > 2.5
    assert found.ledger.find("accuracy").value > 0.85
    modelfile.verify(found.model, sandbox=False)
    described = modelfile.describe(found.model)
    steps = [item["step"] for item in described["lineage"]]
    assert steps == ["train", "export", "distill", "export"]
    facts = described["lineage"][2]
    assert facts["teachers"] == [{"file": None}]
    assert facts["student"] == "cnn"
    assert any("times as many as the student" in note for note in found.notes)
    assert any("`accuracy` on validation is" in note for note in found.notes)
    assert mw.load(found.model).to_torch().body.head.in_features == 32


def digits_with_noise(folder: Path) -> Path:
    """Write some of the digits, and others that are like them, without labels."""
    from sklearn.datasets import load_digits

    folder.mkdir()
    random = np.random.default_rng(0)
    for number, image in enumerate(load_digits().images[:240]):
        noise = random.normal(0, 9, image.shape) if number < 160 else 0
        pixels = np.clip(np.round(image * 255 / 16 + noise), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


class StopInDistillation:
    """Asks for a stop, as Ctrl-C does, once the step `distill` trains."""

    def __init__(self) -> None:
        self.has_begun = False

    def __call__(self, progress) -> None:
        self.has_begun |= progress.note.startswith("The student has")
        if self.has_begun and progress.stage == "train" and "val_accuracy" in progress.values:
            self.has_begun = False
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_teachers_of_other_forms_and_samples_without_labels_resume_to_the_same_bits(
    teacher, runs, tmp_path
):
    """One is int8, one takes larger images; both answer once. A stop changes no bit."""
    int8 = mw.compress(
        teacher.model, {"compress": [step(name="quantize", dtype="int8")]}, out=runs, name="int8"
    )
    larger = mw.run(
        {**RECIPE, "transforms": {"size": 12}, "train": {**RECIPE["train"], "epochs": 1}},
        out=runs,
        name="larger",
    )
    more = digits_with_noise(tmp_path / "more")
    recipe = {
        **RECIPE,
        "data": {"source": "digits", "unlabelled": str(more)},
        "train": {**RECIPE["train"], "epochs": 1, "checkpoint_every": "1h"},
        "augment": {"translate": 1},
        "compress": [step(teacher=[str(int8.model), str(larger.model)], epochs=3)],
    }
    whole = mw.run(recipe, out=tmp_path, name="whole")
    with pytest.raises(StoppedError):
        mw.run(recipe, out=tmp_path, name="cut", observe=StopInDistillation())
    kept = tmp_path / "cut" / "stages" / "distill" / "teachers"
    assert [item.name for item in sorted(kept.iterdir())] == ["0", "1"]
    resumed = mw.run(recipe, out=tmp_path, name="cut")
    assert modelfile.digest(resumed.model) == modelfile.digest(whole.model)
    assert not kept.exists()
    notes = " ".join(whole.notes)
    assert "`int8/model.mw` can't run in torch" in notes
    assert "can teach" in notes
    assert "more are left out" in notes
    assert whole.ledger.find("accuracy").value > 0.8
    facts = modelfile.describe(whole.model)["lineage"][1]
    assert [item["file"] for item in facts["teachers"]] == ["model.mw", "model.mw"]
    assert facts["teachers"][0]["model"] == modelfile.digest(int8.model)
    assert 160 <= facts["unlabelled"]["samples"] < 240
    assert "unlabelled" not in modelfile.data_card(whole.model)["splits"]


@pytest.mark.slow
def test_a_teacher_that_has_changed_since_a_stop_is_noticed(teacher, tmp_path):
    other = tmp_path / "teacher.mw"
    other.write_bytes(teacher.model.read_bytes())
    recipe = {
        **RECIPE,
        "train": {**RECIPE["train"], "epochs": 1},
        "compress": [step(teacher=str(other), epochs=2)],
    }
    with pytest.raises(StoppedError):
        mw.run(recipe, out=tmp_path, name="cut", observe=StopInDistillation())
    again = {**RECIPE, "seed": 1, "train": {**RECIPE["train"], "epochs": 1}}
    other.write_bytes(mw.run(again, out=tmp_path, name="other").model.read_bytes())
    with pytest.raises(RequestError, match="has changed since this run began"):
        mw.run(recipe, out=tmp_path, name="cut")


@pytest.mark.slow
def test_after_another_step_the_network_before_all_steps_teaches(tmp_path, teacher, runs):
    """In a chain, a second `distill` names neither teacher nor student."""
    steps = [step(student=STUDENT, epochs=1), step(epochs=1), step(name="quantize", dtype="int8")]
    for item in steps[1:]:
        item["max_drop"] = 1.0
    found = mw.compress(teacher.model, {"compress": steps}, out=runs, name="chain")
    lineage = modelfile.describe(found.model)["lineage"]
    names = [item["step"] for item in lineage if item["step"] != "export"]
    assert names == ["train", "distill", "distill-2", "quantize"]
    facts = next(item for item in lineage if item["step"] == "distill-2")
    assert facts["teachers"][0]["file"] == "uncompressed.mw"


KINDS = {
    "texts": {**BOW, "width": 3},
    "several": {**MLP, "hidden": [4]},
    "scores": {**MLP, "hidden": [4]},
    "sounds": {**AUDIO_CNN, "widths": [3]},
    "speech": {**RNN_CTC, "hidden": 4},
    "story": {**DECODER, "width": 8},
    "pairs": {**SEQ2SEQ, "layers": 2},
}


@pytest.mark.parametrize("base", [*KINDS, "photos"])
def test_every_kind_of_output_can_be_learnt(base, place):
    """A student of another form learns, and what the teacher's answers weigh changes it."""
    student = KINDS.get(base, {"name": "cnn", "blocks": [{"filters": 4}]})
    found = []
    for weight in (0.2, 1.0):
        taught = step(student=student, epochs=1, weight=weight)
        found.append(effects("compressed", {**BASES[base], "compress": [taught]}, place)["state"])
    assert found[0].keys() == found[1].keys()
    assert found[0] != found[1]


def test_the_same_labels_in_another_order_teach_the_same(place):
    """The answers of a file are put in the student's order."""
    path = place.data / "teacher.mw"
    write_untrained(BASES["photos"], place, path)
    plain = modelfile.rebuild(path)
    turned = replace(plain, labels=("b", "a"))
    by_file = DistillStep(name="distill", teacher=str(path))
    (same,), (other,) = (open_teachers(by_file, item, item) for item in (plain, turned))
    assert (same.order, other.order) == ((), (1, 0))
    split, rows = split_of(plain), np.arange(4)
    assert (same.outputs(split, rows)[:, ::-1] == other.outputs(split, rows)).all()


def test_a_stopped_step_comes_to_the_same_bits(place, monkeypatch):
    """With a teacher that answers once, one that sees the batches, and unlabelled samples."""
    for name, more in (("first.mw", {}), ("small.mw", {"transforms": {"size": 10}})):
        write_untrained({**BASES["photos"], **more}, place, place.data / name)
    recipe = {**BASES["photos"], "augment": {"translate": 1}}
    taught = step(teacher=["first.mw", "small.mw"], epochs=4, kind="decoupled", max_drop=9.0)
    recipe["compress"] = [taught]
    put(recipe, "data.unlabelled", "others")
    put(recipe, "train.select", "best")

    def learn(folder: Path, observe: Any = silent) -> dict[str, Any]:
        request, found, _, candidate = _begin(recipe, place)
        context = run_in(request, folder, observe=observe)
        weights = compressed(candidate, request, found, context).network.state_dict()
        return {name: digest(item) for name, item in weights.items()}

    folder, other = place.folder(), place.folder()
    whole = learn(folder)
    with pytest.raises(StoppedError):
        learn(other, StopInDistillation())
    notes = Notes(silent)
    assert learn(other, notes) == whole
    assert any("Going on from step" in note for note in notes.sentences)
    decisions = other / "stages" / "distill" / "decisions.json"
    assert "others" not in decisions.read_text()
    write_untrained({**BASES["photos"], "seed": 5}, place, place.data / "first.mw")
    with pytest.raises(RequestError, match="has changed since this run began"):
        learn(other)


BAD = [
    ({"compress": [step()]}, RecipeError, "learn from itself"),
    (
        {"compress": [step(name="quantize", dtype="int8"), step(teacher="first.mw")]},
        RecipeError,
        "`distill` can't follow `quantize`",
    ),
    ({"data.unlabelled": "others"}, RecipeError, "`data.unlabelled` has no effect"),
    (
        {
            "data.unlabelled": "others",
            "augment": {"mixup": 0.5},
            "compress": [step(teacher="first.mw")],
        },
        RecipeError,
        "targets of samples",
    ),
    (
        {"data.unlabelled": "photos.txt", "compress": [step(teacher="first.mw")]},
        ModelwrightError,
        "photos.txt",
    ),
    ({"compress": [step(teacher="nowhere.mw")]}, RecipeError, "there is no `nowhere.mw`"),
    ({"compress": [step(teacher="photos.csv")]}, ModelwrightError, "photos.csv"),
    ({"compress": [step(student={"name": "linear"})]}, RecipeError, "linear"),
    ({"compress": [step(student={"name": "bow"})]}, RecipeError, "is for texts"),
    ({"compress": [step(teacher="first.mw", temperature=0)]}, RecipeError, "temperature"),
    ({"compress": [step(teacher=[])]}, RecipeError, "teacher"),
    ({"compress": [step(teacher="texts.mw")]}, RequestError, "predicts one label from texts"),
    ({"compress": [step(teacher="digits.mw")]}, RequestError, "it lacks `a`, `b`, and it alone"),
    ({"compress": [step(teacher="small.mw", kind="features")]}, RequestError, "compares the sam"),
    (
        {"compress": [step(teacher="small.mw")], "augment": {"cutmix": 0.5}},
        RequestError,
        "never sees the mixed images",
    ),
]


@pytest.mark.parametrize(("settings", "kind", "message"), BAD, ids=[item[2] for item in BAD])
def test_what_cannot_teach_is_refused_before_anything_is_trained(settings, kind, message, place):
    teachers = {
        "first.mw": BASES["photos"],
        "texts.mw": BASES["texts"],
        "digits.mw": BASES["digits"],
        "small.mw": {**BASES["photos"], "transforms": {"size": 10}},
    }
    for name, document in teachers.items():
        if name in str(settings) and not (place.data / name).is_file():
            write_untrained(document, place, place.data / name)
    recipe: dict[str, Any] = {**BASES["photos"]}
    for path, value in settings.items():
        put(recipe, path, value)
    folder = place.folder()
    (place.data / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(kind, match=message):
        mw.run(place.data / "recipe.yaml", out=folder)
    assert not list(folder.glob("*/stages"))


@pytest.mark.parametrize(
    ("base", "settings", "message"),
    [
        pytest.param("rows", {}, "gives boxes", marks=pytest.mark.slow),
        pytest.param(
            "pairs",
            {"text": {"tokenizer": "character", "vocab_size": 60}},
            "other tokens",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "speech",
            {"model": {**CONV_CTC, "stride": 4}},
            "frames, and the student",
            marks=pytest.mark.slow,
        ),
        ("scores", {"compress.0.kind": "decoupled"}, "is for predicting one label"),
        ("scores", {"compress.0.temperature": 2.0}, "`compress.temperature` is for"),
        ("scores", {"data": {**BASES["scores"]["data"], "target_columns": ["depth"]}}, "it lacks"),
    ],
)
def test_teachers_of_other_kinds_are_refused(base, settings, message, place):
    path = place.data / f"{base}.mw"
    if not path.is_file():
        write_untrained(BASES[base], place, path)
    recipe = {**BASES[base], "compress": [step(teacher=path.name)]}
    for key, value in settings.items():
        put(recipe, key, value)
    with pytest.raises(RequestError, match=message):
        effects("compressed", recipe, place)


def test_a_student_that_loses_more_than_is_allowed_is_refused(teacher, tmp_path):
    lossy = step(student={**STUDENT, "blocks": [{"filters": 1}]}, epochs=0.1, max_drop=0.05)
    with pytest.raises(CompressionError, match="makes `accuracy` worse by"):
        mw.compress(teacher.model, {"compress": [lossy]}, out=tmp_path)


@pytest.mark.slow
def test_a_distilled_file_is_compressed_further_without_its_unlabelled_samples(teacher, tmp_path):
    digits_with_noise(tmp_path / "more")
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "teacher.mw").write_bytes(teacher.model.read_bytes())
    distil = tmp_path / "recipe" / "distil.yaml"
    asked = "compress: [{name: distill, epochs: 1, max_drop: 1.0, teacher: teacher.mw}]"
    distil.write_text(f"version: 1\ndata: {{source: digits}}\n{asked}\n")
    found = mw.compress(
        teacher.model, distil, overrides=[f"data.unlabelled={tmp_path / 'more'}"], out=tmp_path
    )
    assert "more" in modelfile.recipe_text(found.model)
    assert found.ledger.find("size_ratio").value == 1.0  # Learning on makes nothing smaller.
    int8 = {"compress": [step(name="quantize", dtype="int8", max_drop=1.0)]}
    again = mw.compress(found.model, int8, out=tmp_path, name="again")
    assert again.ledger.find("size_ratio").value > 2
    assert not any("can teach" in note for note in again.notes)
