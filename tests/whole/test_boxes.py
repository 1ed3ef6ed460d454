"""Object detection as its user meets it: runs, other data, places in one's own images."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.kinds import OutputKind
from modelwright.pipeline import evaluate, run
from modelwright.recipe import load_recipe
from modelwright.scaffold import new
from modelwright.tasks import TASKS
from modelwright.tasks.boxes import framing
from modelwright.transforms import decode_image

MAKE = Path(__file__).parents[2] / "examples" / "small" / "make_data.py"
RECIPE = """\
version: 1
task: object-detection
data: {source: boxes, path: data/shapes, leaks: allow}
transforms: {size: [48, 64], resize: letterbox}
augment: {flip: random, vertical_flip: true, translate: 2, crop: {scale: [0.8, 1.0]}}
model: {name: detector, widths: [8, 16], neck: 8}
train:
  epochs: 15
  batch_size: 8
  optimizer: {name: adamw, lr: 0.01}
  average: {name: ema, decay: 0.9}
  precision: fp32
  compile: off
evaluate: {latency: false}
resources: {threads: 1}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a recipe, its data, and a finished run."""
    here = tmp_path_factory.mktemp("boxes")
    (here / "data").mkdir()
    runpy.run_path(str(MAKE))["shapes"](here / "data", count=60)
    (here / "recipe.yaml").write_text(RECIPE)
    return here, run(here / "recipe.yaml", out=here / "runs")


def as_coco(folder, shapes, count, *, label="disc"):
    """Write some of the pictures as a COCO file, with one box each."""
    folder.mkdir()
    images, annotations = [], []
    for number in range(count):
        name = f"{number:03d}.png"
        (folder / name).write_bytes((shapes / name).read_bytes())
        images.append({"id": number, "file_name": name, "width": 64, "height": 64})
        annotations.append({"image_id": number, "category_id": 0, "bbox": [1, 2, 20, 20]})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 0, "name": label}],
    }
    (folder / "all.json").write_text(json.dumps(content))
    return folder / "all.json"


def test_training_can_be_repeated(shop):
    here, first = shop
    again = run(here / "recipe.yaml", out=here / "again")
    assert modelfile.digest(again.model) == modelfile.digest(first.model)
    other = run(here / "recipe.yaml", out=here / "other", overrides=["seed=1"])
    assert modelfile.digest(other.model) != modelfile.digest(first.model)


def test_a_file_is_measured_on_other_data(shop, tmp_path):
    here, result = shop
    path = as_coco(tmp_path / "other", here / "data" / "shapes", 12)
    for source in (path, path.parent):
        found = evaluate(result.model, source)["metrics"]
        sizes = {"size_bytes", "file_bytes", "parameters", "multiply_adds"}
        assert set(found) == {"map50", "map50_95", *sizes}
        assert found["map50"]["n"] == 12


def test_labels_that_the_file_does_not_know_are_said(shop, tmp_path):
    here, result = shop
    path = as_coco(tmp_path / "other", here / "data" / "shapes", 6, label="ring")
    content = json.loads(path.read_text())
    content["categories"].append({"id": 1, "name": "disc"})
    content["annotations"][0]["category_id"] = 1
    path.write_text(json.dumps(content))
    said = []
    found = evaluate(result.model, path, observe=said.append)["metrics"]
    assert any("`ring` (5); such boxes count as missed" in item.note for item in said)
    assert found["map50"]["value"] <= 0.5  # Of two classes, one is never found.


def test_boxes_are_in_pixels_of_the_image_that_was_handed_over(shop, tmp_path):
    here, result = shop
    model = modelfile.load(result.model)
    task = TASKS[model.task, OutputKind.BOXES]
    images = [Image.open(here / "data" / "shapes" / f"{n:03d}.png").convert("L") for n in range(6)]
    wide = [image.resize((200, 90)) for image in images]
    tall = [image.resize((31, 77)) for image in images]
    for given in (images, wide, tall):
        pixels = np.stack([decode_image(image, model.input) for image in given])
        raw = task.decode(model.outputs(pixels), model.labels, 1)
        answers = model.predict(given)
        width, height = given[0].size
        frame = framing(model.input, width=width, height=height)
        for found, inside in zip(answers, raw, strict=True):
            assert [item["label"] for item in found] == [item["label"] for item in inside]
            for item, other in zip(found, inside, strict=True):
                assert item["box"] == frame.to_image(np.array(other["box"])).tolist()
    assert any(answers for answers in model.predict(images))
    # As EXIF turns it, and the same through a path, a file and a list.
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    wide[0].save(path, exif=exif)
    upright = model.predict(Image.open(path).transpose(Image.Transpose.ROTATE_270))
    with path.open("rb") as stream:
        assert model.predict(stream) == upright
    assert model.predict(str(path)) == upright
    assert model.predict([path.read_bytes()]) == [upright]


def test_pixels_that_fit_are_answered_in_their_own_places(shop):
    _, result = shop
    model = modelfile.load(result.model)
    pixels = np.zeros((2, 48, 64, model.input.channels), np.uint8)
    pixels[:, 10:30, 20:40] = 230
    together = model.predict(pixels)
    assert together == TASKS[model.task, OutputKind.BOXES].decode(
        model.outputs(pixels), model.labels, 1
    )
    assert model.predict(pixels[0]) == together[0]


def test_each_place_has_one_label():
    scores = np.array([[[3.0, 2.0], [1.0, -5.0], [-9.0, -9.0]]], np.float32)
    places = np.array([[[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 9, 9]]], np.float32)
    (found,) = TASKS["object-detection", OutputKind.BOXES].decode(
        (scores, places), ("cat", "dog"), 5
    )
    assert [(item["label"], item["box"]) for item in found] == [
        ("cat", [0, 0, 10, 10]),
        ("cat", [50, 50, 60, 60]),
    ]


def test_training_goes_on_with_other_labels_and_another_size(shop, tmp_path):
    here, result = shop
    as_coco(tmp_path / "other", here / "data" / "shapes", 30, label="ring")
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.replace("data/shapes", "other")
        .replace(
            "model: {name: detector, widths: [8, 16], neck: 8}", f"model: {{init: {result.model}}}"
        )
        .replace("size: [48, 64], resize: letterbox", "size: 64")
    )
    found = modelfile.load(run(tmp_path / "recipe.yaml", out=tmp_path / "runs").model)
    assert found.labels == ("ring",)
    assert (found.input.height, found.input.width, found.input.resize) == (64, 64, "letterbox")


def test_images_smaller_than_the_coarsest_stride_are_refused(shop, tmp_path):
    here, _ = shop
    with pytest.raises(RecipeError, match="too small for this `detector`"):
        run(
            here / "recipe.yaml",
            out=tmp_path,
            overrides=["transforms.size=16", "model.widths=[4, 8, 8, 8]"],
        )


def test_the_report_shows_the_boxes(shop):
    _, result = shop
    page = result.report.read_text(encoding="utf-8")
    shown = page.partition(">Sample predictions<")[2].partition("<h2")[0]
    assert "Predicted boxes are solid, reference boxes dashed" in shown
    assert shown.count("data:image/png") == 8


@pytest.mark.parametrize("kind", ["folder", "coco", "coco folder", "table"])
def test_new_recognises_boxes_in_each_form(shop, tmp_path, kind):
    here, _ = shop
    shapes = here / "data" / "shapes"
    source = shapes
    if "coco" in kind:
        source = as_coco(tmp_path / "other", shapes, 20)
        source = source.parent if kind == "coco folder" else source
    if kind == "table":
        source = tmp_path / "table.jsonl"
        rows = [
            {
                "picture": str(shapes / f"{n:03d}.png"),
                "voc_xml": (shapes / f"{n:03d}.xml").read_text(),
            }
            for n in range(20)
        ]
        source.write_text("\n".join(json.dumps(row) for row in rows))
    recipe = load_recipe(new(source, out=tmp_path / "recipe.yaml").path)
    assert (recipe.task, recipe.data.source) == ("object-detection", "boxes")
    if kind == "table":
        assert (recipe.data.image, recipe.data.boxes) == ("picture", "voc_xml")
