"""Tables with a box a row, or a list of boxes a row."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from modelwright.data.box_labels import read_boxes
from modelwright.data.boxed import list_boxes
from modelwright.data.sources import _boxes_like
from modelwright.errors import DataError
from modelwright.recipe.data import BoxesData
from tests.data.making import picture

SIDE = 8


def boxes_of(folder, **settings):
    spec = BoxesData(source="boxes", path="boxes.csv", **settings)
    listing = list_boxes(spec, base=folder)
    return listing, [read_boxes(text).boxes for text in listing.labels]


def shown(boxes):
    return [(box.label, box.x1, box.y1, box.x2, box.y2) for box in boxes]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for at in range(3):
        (tmp_path / "images" / f"{at}.png").write_bytes(picture(at, SIDE))
    return tmp_path


CORNERS = {"box_columns": ("xmin", "ymin", "xmax", "ymax"), "image": "file", "files": "images/{}"}


def test_rows_of_one_image_belong_together(folder):
    (folder / "boxes.csv").write_text(
        "file,label,xmin,ymin,xmax,ymax\n"
        "0.png,red,1,2,5,6\n1.png,green,0,0,4,4\n0.png,green,2,2,8,8\n2.png,,,,,\n"
    )
    listing, boxes = boxes_of(folder, **CORNERS)
    assert listing.origins == ["0.png", "1.png", "2.png"]
    assert listing.places == ["boxes.csv:2", "boxes.csv:3", "boxes.csv:5"]
    assert shown(boxes[0]) == [("red", 1, 2, 5, 6), ("green", 2, 2, 8, 8)]
    assert [len(found) for found in boxes] == [2, 1, 0]
    assert listing.faults == {}
    assert listing.read(2) == (folder / "images" / "2.png").read_bytes()


@pytest.mark.parametrize(
    ("form", "numbers"),
    [("xyxy", "2,1,6,5"), ("xywh", "2,1,4,4"), ("cxcywh", "4,3,4,4"), ("xywh", ".25,.125,.5,.5")],
)
def test_all_forms_come_to_the_same_corners(folder, form, numbers):
    (folder / "boxes.csv").write_text(f"file,label,xmin,ymin,xmax,ymax\n0.png,7,{numbers}\n")
    _, boxes = boxes_of(folder, box_format=form, **CORNERS)
    assert shown(boxes[0]) == [("7", 2, 1, 6, 5)]


def test_lists_of_boxes_in_cells(folder):
    rows = [
        {
            "image": "images/0.png",
            "objects": {"bbox": [[0, 0, 2, 2], [1, 1, 3, 3]], "kind": [0, 1]},
        },
        {"image": "images/1.png", "objects": {"bbox": [], "kind": []}},
    ]
    (folder / "boxes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = BoxesData(
        source="boxes",
        path="boxes.jsonl",
        box_columns=("objects.bbox",),
        box_format="xywh",
        label="objects.kind",
    )
    listing = list_boxes(spec, base=folder)
    boxes = [read_boxes(text).boxes for text in listing.labels]
    assert shown(boxes[0]) == [("0", 0, 0, 2, 2), ("1", 1, 1, 4, 4)]
    assert (len(boxes[1]), listing.faults) == (0, {})


def test_one_cell_of_four_numbers(folder):
    (folder / "boxes.csv").write_text('image,label,bbox\nimages/0.png,ear,"[1.0, 2.0, 3.0, 4.0]"\n')
    _, boxes = boxes_of(folder, box_columns=("bbox",), box_format="xywh")
    assert shown(boxes[0]) == [("ear", 1, 2, 4, 6)]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("0.png,red,1,2,x,6", "boxes.csv:3: `xmax` is 'x', not a place"),
        ("0.png,red,1,2,nan,6", "`xmax` is 'nan'"),
        ("0.png,red,1,2,,6", "`xmax` is ''"),
        ("0.png,,1,2,5,6", "`label` is empty beside a box"),
    ],
)
def test_a_row_that_cannot_be_read_is_a_fault_of_its_image(folder, row, why):
    (folder / "boxes.csv").write_text(
        f"file,label,xmin,ymin,xmax,ymax\n0.png,red,1,2,5,6\n{row}\n1.png,red,1,2,5,6\n"
    )
    listing, _ = boxes_of(folder, **CORNERS)
    assert list(listing.faults) == [0]
    assert why in listing.faults[0]


def test_splits_of_rows(folder):
    (folder / "boxes.csv").write_text(
        "file,label,xmin,ymin,xmax,ymax,part\n0.png,red,1,2,5,6,train\n1.png,red,1,2,5,6,test\n"
    )
    listing, _ = boxes_of(folder, split_column="part", **CORNERS)
    assert listing.splits == ["train", "test"]


@pytest.mark.parametrize(
    "settings",
    [
        {"label": "kind"},
        {"box_format": "xywh"},
        {"box_columns": ("a", "b")},
        {"box_columns": ("a", "a", "b", "c")},
        {"box_columns": ("a",), "boxes": "b"},
        {"box_columns": ("label",)},
        {"files": "images"},
    ],
)
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        BoxesData(source="boxes", path="x", **settings)


def test_settings_of_a_table_are_refused_without_one(folder):
    spec = BoxesData(source="boxes", path="images", files="images/{}")
    with pytest.raises(DataError, match="`files` says how a table is read"):
        list_boxes(spec, base=folder)


def test_a_model_of_rows_is_measured_on_rows_and_on_folders(folder, monkeypatch):
    header = "file,label,xmin,ymin,xmax,ymax"
    (folder / "boxes.csv").write_text(f"{header},part\n0.png,red,1,2,5,6,test\n")
    (folder / "more.csv").write_text(f"{header}\n1.png,red,1,2,5,6\n")
    like = BoxesData(source="boxes", path="boxes.csv", split_column="part", **CORNERS)
    monkeypatch.chdir(folder)
    for name, splits in (("boxes.csv", ["test"]), ("more.csv", [""])):
        assert list(_boxes_like(folder / name, like).splits) == splits
    with pytest.raises(DataError, match="there are no boxes here"):
        _boxes_like(folder / "images", like)
