"""Boxes and labels as annotation tools write them: YOLO, LabelMe, Label Studio."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from modelwright.data.box_labels import read_boxes
from modelwright.data.boxed import list_boxes
from modelwright.data.inputs import INPUTS
from modelwright.data.store import open_store
from modelwright.data.table_reader import open_table
from modelwright.errors import DataError
from modelwright.kinds import InputKind
from modelwright.recipe.data import BoxesData
from modelwright.run import silent


def listed(root):
    return list_boxes(BoxesData(source="boxes", path=str(root)), base=root)


def boxes_of(listing, at):
    return [
        (box.label, box.x1, box.y1, box.x2, box.y2) for box in read_boxes(listing.labels[at]).boxes
    ]


def image(path, width=40, height=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((width, height), 50).save(path)


@pytest.fixture
def yolo(tmp_path):
    for split in ("train", "val"):
        for at in range(2):
            image(tmp_path / "images" / split / f"{at}.png")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "0.txt").write_text("1 0.5 0.5 0.5 0.5\n\n0 0.1 0.2 0.2 0.4\n")
    return tmp_path


def test_yolo_with_a_description(yolo):
    (yolo / "data.yaml").write_text("train: ../train\nval: images/val\nnames: [cup, pot]\n")
    listing = listed(yolo)
    assert listing.origins == [
        f"images/{split}/{at}.png" for split in ("train", "val") for at in (0, 1)
    ]
    assert list(listing.splits) == ["train", "train", "validation", "validation"]
    assert boxes_of(listing, 0) == [("pot", 10.0, 5.0, 30.0, 15.0), ("cup", 0.0, 0.0, 8.0, 8.0)]
    assert boxes_of(listing, 1) == []
    assert any("3 images have no text file" in note for note in listing.notes)


def test_yolo_with_a_description_of_a_path_that_is_too_long(yolo):
    (yolo / "data.yaml").write_text(f"train: {'x' * 3000}\nval: images/val\nnames: [a, b]\n")
    assert list(listed(yolo).splits) == ["train", "train", "validation", "validation"]


def test_yolo_without_names_and_with_polygons(yolo):
    (yolo / "labels" / "train" / "1.txt").write_text("2 0.1 0.1 0.5 0.1 0.5 0.6\n")
    listing = listed(yolo)
    assert [box[0] for box in boxes_of(listing, 0)] == ["1", "0"]
    assert boxes_of(listing, 1) == [("2", 4.0, 2.0, 20.0, 12.0)]
    assert any("1 lines are polygons" in note for note in listing.notes)


def test_one_folder_for_two_splits_says_nothing(yolo):
    (yolo / "data.yaml").write_text("train: images/train\nval: images/train\nnames: {0: a, 1: b}\n")
    for at in range(2):
        (yolo / "images" / "val" / f"{at}.png").unlink()
    listing = listed(yolo)
    assert set(listing.splits) == {""}
    assert any("several splits" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0 10 10 5 5\n", "counts in pixels"),
        ("0 0.5 0.5\n", "isn't a class's number and a box"),
        ("7 0.5 0.5 0.1 0.1\n", "the class 7 has no name"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1 0.1\n", "7 numbers"),
    ],
)
def test_lines_that_cannot_be_right_are_faults(yolo, text, fault):
    (yolo / "classes.txt").write_text("cup\npot\n")
    (yolo / "labels" / "train" / "1.txt").write_text(text)
    listing = list_boxes(BoxesData(source="boxes", path=str(yolo)), base=yolo)
    assert fault in listing.faults[1]


def test_classes_numbered_from_one_are_refused(yolo):
    (yolo / "classes.txt").write_text("cup\npot\n")
    (yolo / "labels" / "train" / "0.txt").write_text("1 0.5 0.5 0.5 0.5\n2 0.1 0.2 0.2 0.4\n")
    with pytest.raises(DataError, match="numbered from 1 to 2"):
        listed(yolo)


def test_labelme(tmp_path):
    shapes = [
        {"label": "cup", "points": [[30, 15], [10, 5]], "shape_type": "rectangle"},
        {"label": "pot", "points": [[1, 2], [5, 2], [5, 9]], "shape_type": "polygon"},
        {"label": "pea", "points": [[20, 10], [23, 14]], "shape_type": "circle"},
        {"label": "way", "points": [[0, 0], [9, 9]], "shape_type": "line"},
    ]
    for at in range(3):
        image(tmp_path / f"{at}.png")
        content = {
            "imagePath": f"..\\photos\\{at}.png",
            "imageWidth": 40,
            "imageHeight": 20,
            "shapes": shapes if at < 2 else [{"label": "a", "points": [[0, "x"], [1, 1]]}],
        }
        (tmp_path / f"{at}.json").write_text(json.dumps(content))
    listing = listed(tmp_path)
    assert boxes_of(listing, 0) == [
        ("cup", 10.0, 5.0, 30.0, 15.0),
        ("pot", 1.0, 2.0, 5.0, 9.0),
        ("pea", 15.0, 5.0, 25.0, 15.0),
    ]
    assert "a point of its shape 1" in listing.faults[2]
    assert any("2 shapes of the kind `line`" in note for note in listing.notes)


def labelme(names):
    return {
        f"{at}.json": {"imagePath": name, "imageWidth": 40, "imageHeight": 20, "shapes": []}
        for at, name in enumerate(names)
    }


def coco(names):
    images = [
        {"id": at, "file_name": name, "width": 40, "height": 20} for at, name in enumerate(names)
    ]
    box = {"image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]}
    category = {"id": 0, "name": "cup"}
    return {"all.json": {"images": images, "annotations": [box], "categories": [category]}}


@pytest.mark.parametrize(
    ("documents", "why"), [(labelme, "`\\\\ud83d` isn't there"), (coco, "surrogates")]
)
def test_an_image_whose_name_is_no_text_is_a_fault(documents, why, tmp_path):
    image(tmp_path / "a.png")
    for name, content in documents(["a.png", "\ud83d"]).items():
        (tmp_path / name).write_text(json.dumps(content))
    found = open_store(listed(tmp_path), INPUTS[InputKind.IMAGE].facts, observe=silent)
    assert list(found.errors()) == [1]
    assert re.search(why, found.errors()[1])


def tasks(value, kind, data, **sides):
    result = [{"from_name": "answer", "to_name": "x", "type": kind, "value": value, **sides}]
    cancelled = {"result": [], "was_cancelled": True}
    return [{"id": 1, "data": data, "annotations": [cancelled, {"result": result}]}]


def cells(path, name):
    table = open_table(path)
    return list(table.columns[name]())


def test_label_studio_choices_in_all_three_forms(tmp_path):
    one, two = {"choices": ["good"]}, {"choices": ["good", "new"]}
    path = tmp_path / "all.json"
    path.write_text(
        json.dumps(tasks(one, "choices", {"text": "a"}) + tasks(two, "choices", {"text": "b"}))
    )
    assert cells(path, "text") == ["a", "b"]
    assert cells(path, "answer") == ["good", ["good", "new"]]
    marks = {"id": 1, "annotator": 1, "annotation_id": 1, "lead_time": 2.5}
    path = tmp_path / "min.json"
    path.write_text(
        json.dumps(
            [{"text": "a", "answer": "good", **marks}, {"text": "b", "answer": two, **marks}]
        )
    )
    assert cells(path, "answer") == ["good", ["good", "new"]]
    path = tmp_path / "all.csv"
    row = json.dumps(two).replace('"', '""')
    path.write_text(
        f'text,answer,id,annotator,annotation_id,lead_time\na,good,1,1,1,2\nb,"{row}",2,1,2,2\n'
    )
    assert cells(path, "answer") == ["good", ["good", "new"]]


def test_label_studio_boxes(tmp_path):
    image(tmp_path / "cup.png")
    sides = {"original_width": 40, "original_height": 20}
    value = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["cup"]}
    path = tmp_path / "export.json"
    items = tasks(value, "rectanglelabels", {"image": "/data/upload/3/0a1b2c3d-cup.png"}, **sides)
    path.write_text(json.dumps(items))
    spec = BoxesData(source="boxes", path=str(path), boxes="answer")
    listing = list_boxes(spec, base=tmp_path)
    assert listing.origins == ["cup.png"]
    assert boxes_of(listing, 0) == [("cup", 10.0, 10.0, 30.0, 15.0)]


def coco(root, bbox, count=4):
    names = [f"{at}.png" for at in range(count)]
    for name in names:
        image(root / name)
    content = {
        "images": [
            {"id": at, "file_name": name, "width": 40, "height": 20}
            for at, name in enumerate(names)
        ],
        "annotations": [
            {"id": at, "image_id": at, "category_id": 1, "bbox": bbox} for at in range(count)
        ],
        "categories": [{"id": 1, "name": "cup"}],
    }
    (root / "all.json").write_text(json.dumps(content))
    return {finding.kind: finding for finding in listed(root).findings}


@pytest.mark.parametrize(
    ("bbox", "kind", "severity"),
    [
        ([0.1, 0.2, 0.3, 0.4], "boxes_in_shares", "error"),
        ([20, 10, 39, 19], "boxes_by_corners", "error"),
        ([100, 100, 5, 5], "boxes_outside", "warning"),
        ([10, 5, 0, 5], "boxes_outside", "warning"),
        ([30, 5, 20, 5], "boxes_cut", "warning"),
    ],
)
def test_boxes_that_cannot_be_right_are_findings(tmp_path, bbox, kind, severity):
    finding = coco(tmp_path, bbox)[kind]
    assert finding.severity == severity
    assert finding.message.startswith("4 of 4 boxes")


def test_boxes_that_are_right_are_none(tmp_path):
    assert coco(tmp_path, [10, 5, 20, 10]) == {}
