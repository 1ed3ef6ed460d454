"""Images with boxes: each source, what is wrong in them, and what a split of them asks for."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modelwright.data import labelled_split
from modelwright.data.batches import Batches
from modelwright.data.box_labels import read_boxes
from modelwright.data.boxed import list_boxes
from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.recipe.data import BoxesData
from modelwright.recipe.preparation import AugmentSpec
from modelwright.tasks.boxes import BoxedImage, LabelledBox
from modelwright.transforms.image import ImageInput, open_image
from tests.data.making import picture, prepared

DATA = os.environ.get("MODELWRIGHT_DATA")
TASK = "task: object-detection\ntransforms: {size: 12}\n"
SMALL = LabelledBox("cat", 1.0, 2.0, 5.0, 7.0)


def voc(*boxes, width=12, height=12):
    objects = "".join(
        f"<object><name>{box.label}</name><bndbox><xmin>{box.x1 + 1}</xmin>"
        f"<ymin>{box.y1 + 1}</ymin><xmax>{box.x2}</xmax><ymax>{box.y2}</ymax></bndbox></object>"
        for box in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size}{objects}</annotation>"


def write(root, images, *, xml=""):
    """Write images by path with their boxes; the XML beside them or in the folder `xml`."""
    for number, (file, boxes) in enumerate(images.items()):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
        document = (path.parent.parent / xml if xml else path.parent) / f"{path.stem}.xml"
        document.parent.mkdir(exist_ok=True)
        document.write_text(boxes if isinstance(boxes, str) else voc(*boxes))
    return root


def listed(path, **more):
    return list_boxes(BoxesData(source="boxes", path=str(path), **more), base=Path("/"))


def boxes_of(listing):
    return {
        origin: read_boxes(label).boxes
        for origin, label in zip(listing.origins, listing.labels, strict=True)
    }


def turned(path, orientation, size=(8, 4)):
    """Write an image that is to be turned as EXIF's `orientation` says; one pixel is white."""
    image = Image.new("L", size)
    image.putpixel((1, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


# -- VOC -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "xml"), [("", ""), ("JPEGImages/", "Annotations"), ("images/", "annotations")]
)
def test_xml_stands_beside_an_image_or_in_a_folder(tmp_path, folder, xml):
    write(tmp_path, {f"{folder}a.png": [SMALL], f"{folder}b.png": []}, xml=xml)
    found = listed(tmp_path)
    assert boxes_of(found) == {f"{folder}a.png": (SMALL,), f"{folder}b.png": ()}
    assert found.notes == ()
    assert found.faults == {}
    assert found.read(1) == picture(1)


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("train/images/x/a.png", "train/annotations/a.xml"),
        ("JPEGImages/train/a.png", "Annotations/train/a.xml"),
    ],
)
def test_xml_is_found_under_folders_of_splits(tmp_path, image, xml):
    for file, content in ((image, picture(1)), (xml, voc(SMALL).encode())):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_bytes(content)
    found = listed(tmp_path)
    assert boxes_of(found) == {image: (SMALL,)}
    assert found.splits == ["train"]


def test_folders_of_splits_are_splits(tmp_path):
    write(tmp_path, {"train/a.png": [SMALL], "valid/b.png": [SMALL], "test/c.png": [SMALL]})
    found = listed(tmp_path)
    assert dict(zip(found.origins, found.splits, strict=True)) == {
        "train/a.png": "train",
        "valid/b.png": "validation",
        "test/c.png": "test",
    }
    write(tmp_path, {"d.png": []})
    with pytest.raises(DataError, match=r"1 images stand outside .* d\.png"):
        listed(tmp_path)


def test_a_broken_xml_is_a_fault_and_a_missing_one_is_passed_over(tmp_path):
    write(tmp_path, {"a.png": [SMALL], "b.png": "<annotation>", "c.png": "", "d.png": []})
    (tmp_path / "e.png").write_bytes(picture(9))
    (tmp_path / "f.xml").write_text(voc())
    found = listed(tmp_path)
    assert found.origins == ["a.png", "b.png", "c.png", "d.png"]
    assert list(found.faults) == [1, 2]
    assert "b.xml: this isn't a VOC annotation" in found.faults[1]
    assert found.notes[0].startswith("1 images have no XML file and are passed over, e.png first")
    assert found.notes[1] == "1 XML files belong to no image, f.xml first"


def test_boxes_that_cannot_be_used_are_counted_and_listed(tmp_path):
    outside = LabelledBox("cat", 20.0, 2.0, 25.0, 7.0)
    flat = LabelledBox("cat", 3.0, 2.0, 3.0, 7.0)
    over = LabelledBox("cat", 8.0, 2.0, 15.0, 7.0)
    write(tmp_path, {"a.png": [SMALL, outside, flat], "b.png": [over]})
    found = listed(tmp_path)
    cut = LabelledBox("cat", 8.0, 2.0, 12.0, 7.0)
    assert boxes_of(found) == {"a.png": (SMALL,), "b.png": (cut,)}
    dropped, cut = found.findings
    assert dropped.message.startswith("2 of 4 boxes have no area in their image and are left out")
    assert "a.png: box 2 (`cat`) lies outside the image" in dropped.message
    assert dropped.rows == ("a.png", "a.png")
    assert cut.message.startswith("1 of 4 boxes have parts beyond the edge")


def test_boxes_follow_the_image_to_its_own_size(tmp_path):
    write(tmp_path, {"a.png": voc(LabelledBox("cat", 2.0, 4.0, 10.0, 20.0), width=24, height=48)})
    assert boxes_of(listed(tmp_path)) == {"a.png": (LabelledBox("cat", 1.0, 1.0, 5.0, 5.0),)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_follow_an_image_that_exif_turns(tmp_path, orientation):
    """Where the annotation states the stored size, its boxes lie in the image as it is stored."""
    turned(tmp_path / "a.png", orientation)
    shown = open_image(tmp_path / "a.png")
    stated = (8, 4) if orientation >= 5 else shown.size
    (y,), (x,) = np.nonzero(np.asarray(shown))
    at = (1, 0) if orientation >= 5 else (int(x), int(y))
    box = LabelledBox("dot", at[0], at[1], at[0] + 1, at[1] + 1)
    (tmp_path / "a.xml").write_text(voc(box, width=stated[0], height=stated[1]))
    found = read_boxes(listed(tmp_path).labels[0])
    assert (found.width, found.height) == shown.size
    (place,) = found.boxes
    assert (place.x1, place.y1, place.x2, place.y2) == (x, y, x + 1, y + 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_an_annotation_of_the_shown_size_is_taken_as_it_is(tmp_path, name):
    turned(tmp_path / name, 6)
    box = LabelledBox("cat", 0.0, 5.0, 3.0, 8.0)
    (tmp_path / "a.xml").write_text(voc(box, width=4, height=8))
    assert read_boxes(listed(tmp_path).labels[0]) == BoxedImage(4, 8, (box,))


def test_a_broken_image_is_left_to_the_store(tmp_path):
    write(tmp_path, {f"{number}.png": [SMALL] for number in range(8)})
    (tmp_path / "3.png").write_bytes(b"no image")
    found = prepared(tmp_path, "source: boxes, path: .", TASK)
    assert list(found.store.errors()) == [3]
    assert sum(len(rows) for rows in found.rows.values()) == 7


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "there are no boxes here"),
        ({"a.png": picture(1)}, "there are no boxes here"),
        ({"a.png": picture(1), "b.xml": b"<annotation/>"}, "no image has an XML file"),
    ],
)
def test_a_folder_without_boxes_is_refused(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        listed(tmp_path)


# -- COCO ------------------------------------------------------------------------------------


def coco(files, label="cat", **others):
    return json.dumps(
        {
            "images": [
                {"id": number, "file_name": name, "width": 12, "height": 12}
                for number, name in enumerate(files)
            ],
            "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 4, 5], **others}],
            "categories": [{"id": 1, "name": label}],
        }
    )


def write_coco(root, documents):
    for at, (document, (folder, names)) in enumerate(documents.items()):
        (root / document).parent.mkdir(parents=True, exist_ok=True)
        (root / document).write_text(coco(names))
        for number, name in enumerate(names):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_bytes(picture(10 * at + number))


@pytest.mark.parametrize("folder", ["", "images"])
def test_one_coco_file_names_its_images(tmp_path, folder):
    write_coco(tmp_path, {"all.json": (folder, ["a.png", "b.png"])})
    found = listed(tmp_path / "all.json")
    prefix = f"{folder}/" if folder else ""
    assert boxes_of(found) == {f"{prefix}a.png": (SMALL,), f"{prefix}b.png": ()}
    assert found.read(0) == picture(0)


def test_the_images_of_a_coco_file_may_be_elsewhere(tmp_path):
    write_coco(tmp_path, {"json/all.json": ("pictures", ["a.png"])})
    found = listed(tmp_path / "json" / "all.json", images=str(tmp_path / "pictures"))
    assert found.read(0) == picture(0)


def test_the_only_folder_that_has_the_images_is_theirs(tmp_path):
    write_coco(tmp_path, {"json/all.json": ("my pictures", ["a.png"])})
    (tmp_path / "other").mkdir()
    assert listed(tmp_path / "json" / "all.json").read(0) == picture(0)
    (tmp_path / "other" / "a.png").write_bytes(picture(5))
    with pytest.raises(OSError, match="No such file"):
        listed(tmp_path / "json" / "all.json").read(0)  # Either may be meant.


@pytest.mark.parametrize("images", ["my pictures", "{}/my pictures"])
def test_a_models_recipe_says_where_images_may_be(tmp_path, images):
    write_coco(tmp_path, {"json/all.json": ("my pictures", ["a.png"])})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(picture(5))
    like = BoxesData(source="boxes", path="x.json", images=images.format(tmp_path))
    found, *_ = labelled_split(
        tmp_path / "json" / "all.json",
        input=ImageInput(12, 12, 3),
        labels=["cat"],
        observe=lambda progress: None,
        like=like,
        output_kind=OutputKind.BOXES,
    )
    assert len(found) == 1


@pytest.mark.parametrize("name", ["annotations", "annotations/instances_train2017.json"])
def test_coco_files_beside_each_other_are_splits(tmp_path, name):
    write_coco(
        tmp_path,
        {
            "annotations/instances_train2017.json": ("train2017", ["a.png", "b.png"]),
            "annotations/instances_val2017.json": ("val2017", ["a.png"]),
        },
    )
    found = listed(tmp_path / name)
    assert found.splits == ["train", "train", "validation"]
    assert [found.read(row) for row in range(3)] == [picture(0), picture(1), picture(10)]


def test_coco_files_inside_folders_of_splits(tmp_path):
    write_coco(
        tmp_path,
        {
            "train/_annotations.coco.json": ("train", ["a.png"]),
            "test/_annotations.coco.json": ("test", ["a.png"]),
        },
    )
    found = listed(tmp_path)
    assert dict(zip(found.origins, found.splits, strict=True)) == {
        "test/a.png": "test",
        "train/a.png": "train",
    }


def test_crowds_are_said_and_missing_images_are_left_to_the_store(tmp_path):
    (tmp_path / "all.json").write_text(coco(["a.png"], iscrowd=1))
    found = listed(tmp_path / "all.json")
    assert found.notes == ("1 regions marked `iscrowd` are left out",)
    with pytest.raises(OSError, match="No such file"):
        found.read(0)


def test_a_broken_coco_file_is_an_error(tmp_path):
    (tmp_path / "all.json").write_text("{")
    with pytest.raises(DataError, match="isn't a COCO annotation file"):
        listed(tmp_path / "all.json")


def test_some_files_named_after_splits_and_some_not(tmp_path):
    write_coco(tmp_path, {"train.json": ("", ["a.png"]), "more.json": ("", ["b.png"])})
    with pytest.raises(DataError, match="some are named after splits"):
        listed(tmp_path)


# -- tables ----------------------------------------------------------------------------------

LISTED = [{"label": "cat", "x1": 1, "y1": 2, "x2": 5.0, "y2": 7.0}]


def parquet(path, cells, *, first=0, column="boxes"):
    images = [picture(first + number) for number in range(len(cells))]
    pq.write_table(pa.table({"image": images, column: cells}), path)


@pytest.mark.parametrize("cell", [voc(SMALL), LISTED])
def test_a_parquet_column_holds_xml_or_lists(tmp_path, cell):
    empty = voc() if isinstance(cell, str) else []
    parquet(tmp_path / "t.parquet", [cell, empty, None], column="voc_xml")
    found = listed(tmp_path / "t.parquet", boxes="voc_xml")
    assert list(boxes_of(found).values()) == [(SMALL,), (), ()]
    assert found.read(0) == picture(0)


def test_csv_and_json_lines_name_images_beside_them(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(0))
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "boxes"], ["a.png", json.dumps(LISTED)]])
    row = {"file": "a.png", "boxes": LISTED}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    for name in ("t.csv", "t.jsonl"):
        assert boxes_of(listed(tmp_path / name, image="file")) == {"a.png": (SMALL,)}


def test_a_folder_of_tables_is_split(tmp_path):
    for number, name in enumerate(("train", "val", "test")):
        parquet(tmp_path / f"{name}.parquet", [LISTED], first=number)
    assert listed(tmp_path).splits == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("<annotation", "isn't a VOC annotation"),
        ("cat", "neither VOC XML nor a JSON list"),
        ("{}", "aren't a list"),
        ("[3]", "its box 1 isn't an object"),
        (json.dumps([*LISTED, {"label": "cat"}]), "`x1` of its box 2 is None"),
        (json.dumps([{**LISTED[0], "x2": True}]), "`x2` of its box 1 is True"),
        ('[{"label": "cat", "x1": NaN, "y1": 0, "x2": 1, "y2": 1}]', "`x1` of its box 1 is nan"),
        (json.dumps([{**LISTED[0], "y2": 1e300}]), "`y2` of its box 1 is 1e\\+300"),
    ],
)
def test_a_broken_cell_is_a_fault_of_its_row(tmp_path, cell, words):
    parquet(tmp_path / "t.parquet", [json.dumps(LISTED), cell])
    found = listed(tmp_path / "t.parquet")
    assert list(found.faults) == [1]
    assert re.search(words, found.faults[1])


def test_a_missing_column_is_named_as_the_recipe_calls_it(tmp_path):
    parquet(tmp_path / "t.parquet", [LISTED])
    with pytest.raises(DataError) as caught:
        listed(tmp_path / "t.parquet", boxes="boxen")
    assert "(data.boxes)" in caught.value.where
    assert "Did you mean `boxes`?" in caught.value.why


@pytest.mark.skipif(not DATA, reason="needs MODELWRIGHT_DATA")
def test_neu_det_is_read_at_the_images_own_size():
    path = Path(str(DATA)) / "neu_det" / "neu_det.parquet"
    found = listed(path, image="image_jpg", boxes="voc_xml")
    held = [read_boxes(label) for label in found.labels]
    assert len(held) == 1800
    assert {(image.width, image.height) for image in held} == {(416, 416)}
    assert len({box.label for image in held for box in image.boxes}) == 6
    assert max(box.x2 for image in held for box in image.boxes) > 400
    assert found.faults == {}


# -- splits and targets ----------------------------------------------------------------------


def many(root, name, count, label, first=0):
    """Write images of one label, each with one box."""
    place = root / name
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (place / f"{number}.png").write_bytes(picture(first + number))
        box = LabelledBox(label, 1.0, 2.0, 5.0, 7.0)
        (place / f"{number}.xml").write_text(voc(box))


def test_labels_are_fitted_to_the_training_split_alone(tmp_path):
    many(tmp_path, "train", 6, "cat")
    many(tmp_path, "test", 4, "emu", first=20)
    (tmp_path / "test" / "0.xml").write_text(voc(SMALL))
    said = []
    found = prepared(tmp_path, "source: boxes, path: .", TASK, observe=said.append)
    assert found.labels == ("cat",)
    assert found.num_outputs == 1
    assert any("`emu` (3 test); such boxes count as missed" in item.note for item in said)
    assert found.test().unknown == ("emu",)
    asked = found.test().targets[np.arange(4)]
    assert sorted(asked["labels"].max(axis=1).tolist()) == [0, 1, 1, 1]
    assert found.dataset().train.unknown == ()


def test_a_test_split_without_any_label_of_training_is_refused(tmp_path):
    many(tmp_path, "train", 6, "cat")
    many(tmp_path, "test", 4, "emu", first=20)
    with pytest.raises(DataError, match=r"test split has no label that training has: .* `emu`"):
        prepared(tmp_path, "source: boxes, path: .", TASK)


def test_statistics_are_fitted_to_the_training_split_alone(tmp_path):
    many(tmp_path, "train", 6, "cat")
    many(tmp_path, "test", 4, "cat", first=20)
    found = prepared(tmp_path, "source: boxes, path: .", TASK)
    train = found.dataset().train.gather() / 255
    assert found.mean == pytest.approx(train.mean((0, 1, 2)), abs=1e-9)


def test_boxes_that_resizing_cuts_away_are_said(tmp_path):
    many(tmp_path, "train", 6, "cat")
    wide = Image.new("L", (48, 12), 90)
    wide.putpixel((7, 7), 255)
    wide.save(tmp_path / "train" / "wide.png")
    edge = LabelledBox("cat", 0.0, 0.0, 6.0, 6.0)
    (tmp_path / "train" / "wide.xml").write_text(voc(edge, width=48))
    for resize, count in (("shorter", 1), ("letterbox", 0)):
        said = []
        more = TASK.replace("12}", f"12, resize: {resize}}}")
        prepared(tmp_path, "source: boxes, path: .", more, observe=said.append)
        notes = [item.note for item in said if "1 boxes lie where" in item.note]
        assert len(notes) == count


def test_without_a_training_box_there_is_nothing_to_learn(tmp_path):
    write(tmp_path, {f"{number}.png": [] for number in range(8)})
    with pytest.raises(DataError, match="no training image has a box"):
        prepared(tmp_path, "source: boxes, path: .", TASK)


def test_other_data_is_measured_by_a_models_own_labels(tmp_path):
    many(tmp_path / "one", "train", 6, "cat")
    many(tmp_path / "other", "", 5, "cat", first=40)
    (tmp_path / "other" / "0.xml").write_text(voc(LabelledBox("emu", 0.0, 0.0, 3.0, 3.0)))
    found = prepared(tmp_path, "source: boxes, path: one, split: {test: 0}", TASK)
    said = []
    samples, mark, *_ = labelled_split(
        tmp_path / "other",
        input=found.input,
        labels=found.labels,
        observe=said.append,
        output_kind=OutputKind.BOXES,
    )
    assert len(samples) == 5
    assert samples.unknown == ("emu",)
    assert any("doesn't know 1 of the labels: `emu` (1)" in item.note for item in said)
    assert mark.startswith("sha256:")
    asked = samples.targets[np.arange(5)]
    assert sorted(asked["labels"].max(axis=1).tolist()) == [0, 0, 0, 0, 1]


def test_images_and_boxes_are_varied_together(tmp_path):
    """A box still frames the one bright square, however the image is turned and cut."""
    place = tmp_path / "train"
    place.mkdir()
    chance = np.random.default_rng(0)
    for number in range(24):
        x, y = chance.integers(2, 20, 2).tolist()
        pixels = np.zeros((32, 32), np.uint8)
        pixels[y : y + 10, x : x + 8] = 200 + number
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        (place / f"{number}.png").write_bytes(stream.getvalue())
        box = LabelledBox("bright", float(x), float(y), x + 8.0, y + 10.0)
        (place / f"{number}.xml").write_text(voc(box, width=32, height=32))
    found = prepared(tmp_path, "source: boxes, path: ., leaks: allow", TASK.replace("12", "32"))
    augment = AugmentSpec.model_validate(
        {"flip": "random", "vertical_flip": True, "translate": 4, "crop": {"scale": [0.5, 1.0]}}
    )
    train = found.dataset().train
    source = Batches(train, augment=augment, seed=1)
    positions = np.arange(len(train))
    batch = source.at(3, positions)
    again = source.at(3, positions)
    assert batch.inputs[0].equal(again.inputs[0])
    assert all(one.equal(two) for one, two in zip(batch.targets, again.targets, strict=True))
    boxes, labels = batch.targets
    seen = 0
    for image, box, label in zip(batch.inputs[0], boxes[:, 0], labels[:, 0], strict=True):
        if label < 0:
            continue
        seen += 1
        y, x = np.nonzero(image[..., 0].numpy() > 100)
        inside = (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert box.tolist() == pytest.approx(inside, abs=1.6)  # A zoomed edge is a slope.
    assert seen > len(train) // 2
    assert not batch.inputs[0].equal(source.at(4, positions).inputs[0])


def test_a_folder_of_images_is_for_coco_alone(tmp_path):
    write(tmp_path / "voc", {"a.png": [SMALL]})
    (tmp_path / "table.csv").write_text("image,boxes\na.png,[]\n")
    for path in ("voc", "table.csv"):
        with pytest.raises(DataError, match="`images` says where a COCO file's images are"):
            listed(tmp_path / path, images="pictures")


def test_classes_of_boxes_get_other_names(tmp_path):
    other = LabelledBox("dog", 1.0, 2.0, 5.0, 7.0)
    write(tmp_path / "pets", {f"{at}.png": [SMALL, other] for at in range(12)})
    found = prepared(tmp_path, "source: boxes, path: pets, rename: {cat: feline}", TASK)
    assert found.labels == ("dog", "feline")
    assert {
        box.label for label in found.store.strings("label") for box in read_boxes(label).boxes
    } == {
        "dog",
        "feline",
    }
