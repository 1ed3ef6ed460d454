"""Several labels for images and recordings: `labels.csv` in a folder, lists, columns of 0 and 1."""

from __future__ import annotations

import wave

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.kinds import OutputKind
from modelwright.pipeline import evaluate, run
from modelwright.recipe import load_recipe, parse_recipe
from modelwright.scaffold import new

NAMES = ("blue", "green", "red")
RATE = 4000
IMAGES = """\
version: 1
data: {DATA}
model: {name: cnn, blocks: [{filters: 8}, {filters: 8}], head: [16]}
augment: {flip: random}
train: {epochs: 20, batch_size: 16, optimizer: {name: adamw, lr: 0.01}, precision: fp32}
evaluate: {latency: false}
resources: {threads: 1}
"""
RECORDINGS = """\
version: 1
task: audio-classification
data: {DATA}
audio: {n_mels: 16}
augment: {waveform: false, time_masks: 0, freq_masks: 0}
model: {name: audio-cnn, widths: [8, 16], dropout: 0}
train: {epochs: 20, batch_size: 16, optimizer: {name: adamw, lr: 0.01}, precision: fp32}
evaluate: {latency: false}
resources: {threads: 1}
"""


def draw_labels(count):
    """Return which of the three labels each sample has `[N, 3]`."""
    return np.random.default_rng(0).random((count, len(NAMES))) < 0.5


def write_image(path, present, random):
    """Write an image whose left, middle and right third are bright where a label is present."""
    pixels = random.integers(0, 60, (12, 12, 3))
    for number, is_present in enumerate(present):
        pixels[:, 4 * number : 4 * number + 4, 2 - number] += 180 * int(is_present)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_recording(path, present, random):
    """Write a recording with a tone for each label that is present."""
    time = np.arange(RATE // 4) / RATE
    waves = [np.sin(2 * np.pi * pitch * time) for pitch in (300.0, 700.0, 1400.0)]
    samples = 8000 * sum(part * int(there) for part, there in zip(waves, present, strict=True))
    samples = samples + random.normal(0, 100, len(time))
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, RATE, 0, "NONE", ""))
        stream.writeframes(samples.astype("<i2").tobytes())


def one_hot(files, labels):
    rows = [
        ",".join([file, *(str(int(item)) for item in row)]) for file, row in labelled(files, labels)
    ]
    return "\n".join([",".join(["file", *NAMES]), *rows]) + "\n"


def separated(files, labels):
    rows = [
        f"{file},{'|'.join(np.array(NAMES)[row].tolist())}" for file, row in labelled(files, labels)
    ]
    return "\n".join(["file,labels", *rows]) + "\n"


def labelled(files, labels):
    return zip(files, labels, strict=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with images and recordings, and their labels in each form."""
    here = tmp_path_factory.mktemp("several")
    labels, random = draw_labels(160), np.random.default_rng(1)
    for folder, suffix, write in (
        ("images", "png", write_image),
        ("audio", "wav", write_recording),
    ):
        (here / folder).mkdir()
        files = [f"{number:03}.{suffix}" for number in range(len(labels))]
        for file, row in labelled(files, labels):
            write(here / folder / file, row, random)
        (here / folder / "labels.csv").write_text(one_hot(files, labels))
        (here / folder / "separated.csv").write_text(separated(files, labels))
    return here


SOURCES = {
    "images, a folder": (IMAGES, "source: folder, path: images, labels: labels.csv"),
    "images, labels in a cell": (
        IMAGES,
        "source: table, path: images/separated.csv, image: file, label: labels, multi_label: true",
    ),
    "recordings, one-hot columns": (
        RECORDINGS,
        "source: table, path: audio/labels.csv, audio: file, multi_label: true, "
        "target_columns: [blue, green, red]",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_model_learns_several_labels(place, name):
    text, data = SOURCES[name]
    recipe = place / f"{name.split(',')[0]}-{len(data)}.yaml"
    recipe.write_text(text.replace("DATA", data))
    result = run(recipe, out=place / "runs")
    assert result.ledger.find("f1_macro").value >= 0.9
    assert result.ledger.find("f1_macro", subject="baseline:frequent").value < 0.9
    model = modelfile.load(result.model)
    assert model.spec.output_kind == OutputKind.MULTI_LABEL
    assert model.labels == NAMES
    folder = place / ("images" if text is IMAGES else "audio")
    answers = {
        item["label"]: item["predicted"] for item in model.predict(next(folder.glob("000.*")))
    }
    truth = dict(zip(NAMES, draw_labels(160)[0].tolist(), strict=True))
    assert answers == truth


def test_evaluate_reads_a_folder_with_its_table_again(place):
    recipe = place / "again.yaml"
    recipe.write_text(
        IMAGES.replace("DATA", SOURCES["images, a folder"][1]).replace("epochs: 20", "epochs: 1")
    )
    result = run(recipe, out=place / "runs")
    metrics = evaluate(result.model, place / "images")["metrics"]
    assert metrics["f1_macro"]["n"] == 160


@pytest.mark.parametrize("source", ["images", "audio", "images/labels.csv"])
def test_new_proposes_several_labels(place, tmp_path, source):
    new(place / source, out=tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").output_kind == OutputKind.MULTI_LABEL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            IMAGES.replace("DATA", "source: folder, path: x, labels: l.csv") + "task: regression",
            "lab",
        ),
        (
            IMAGES.replace(
                "DATA", "source: table, path: x, multi_label: true, target_columns: [a]"
            ),
            "two or more",
        ),
        (
            IMAGES.replace("DATA", "source: folder, path: x, labels: l.csv").replace(
                "flip: random", "mixup: 0.2"
            ),
            "`augment.mixup` is for predicting one label",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(text, words):
    from modelwright.recipe import check_composition

    with pytest.raises(RecipeError, match=words):
        check_composition(parse_recipe(text, where="recipe.yaml"))


def test_a_cell_that_is_neither_0_nor_1_is_named(place, tmp_path):
    table = (place / "images" / "labels.csv").read_text().splitlines()
    table[1] = table[1][:-1] + "7"
    (place / "images" / "odd.csv").write_text("\n".join(table) + "\n")
    recipe = place / "odd.yaml"
    recipe.write_text(
        IMAGES.replace("DATA", "source: folder, path: images, labels: odd.csv").replace(
            "epochs: 20", "epochs: 1"
        )
    )
    result = run(recipe, out=tmp_path)
    assert any("0 or 1" in note for note in result.notes)
