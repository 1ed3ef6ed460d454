"""Layouts that data sets are handed out in, and what is inferred of each."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from modelwright.data.table import list_table
from modelwright.errors import DataError
from modelwright.kinds import InputKind
from modelwright.recipe.data import TableData
from modelwright.scaffold import DataOptions
from modelwright.scaffold.infer import infer_task
from tests.data.making import picture, prepared
from tests.scaffold.test_infer import tone

PETS = ("cat", "dog")


def pictures(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for at, name in enumerate(names):
        (folder / name).write_bytes(picture(at))


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_test_table_without_labels_is_left_aside(tmp_path):
    pictures(tmp_path / "train", [f"{at:03}.png" for at in range(12)])
    pictures(tmp_path / "test", [f"{at:03}.png" for at in range(12, 16)])
    lines(tmp_path / "train.csv", "id,breed", *(f"{at:03}.png,{PETS[at % 2]}" for at in range(12)))
    lines(tmp_path / "test.csv", "id", *(f"{at:03}.png" for at in range(12, 16)))
    found = infer_task(tmp_path, "pets")
    assert found.data == {
        "source": "table",
        "path": "pets/train.csv",
        "image": "id",
        "files": "train/{}",
        "label": "breed",
    }
    assert any("`test.csv` has no column `breed`" in note for note in found.notes)


def test_one_of_several_split_tables_without_labels_is_refused(tmp_path):
    rows = [f"a text of number {at},{PETS[at % 2]}" for at in range(12)]
    lines(tmp_path / "train.csv", "text,label", *rows)
    lines(tmp_path / "val.csv", "text,label", *rows)
    lines(tmp_path / "test.csv", "text", "one text")
    with pytest.raises(DataError, match="no column `label`, which train"):
        infer_task(tmp_path, "x")


def test_each_split_table_may_have_a_folder_of_its_name(tmp_path):
    for split, numbers in (("train", range(12)), ("test", range(12, 18))):
        pictures(tmp_path / split, [f"{at}.png" for at in numbers])
        lines(tmp_path / f"{split}.csv", "file,label", *(f"{n}.png,{PETS[n % 2]}" for n in numbers))
    found = infer_task(tmp_path, "pets")
    assert (found.data["path"], found.data["files"]) == ("pets", "{table}/{}")


def test_a_table_may_stand_beside_the_folder_of_its_files(tmp_path):
    rows = []
    for at in range(12):
        tone(tmp_path / "audio" / f"1-{at}.wav")
        rows.append(f"1-{at}.wav,{PETS[at % 2]}")
    lines(tmp_path / "meta" / "sounds.csv", "filename,category", *rows)
    found = infer_task(tmp_path, "x")
    assert found.task == "audio-classification"
    assert (found.data["path"], found.data["files"]) == ("x/meta/sounds.csv", "../audio/{}")
    assert not any("left aside" in note for note in found.notes)


def test_a_list_of_files_with_labels_is_a_table(tmp_path):
    pictures(tmp_path / "images", [f"{at:03}.png" for at in range(12)])
    rows = [f"{at:03}.png {at % 3}" for at in range(12)]
    lines(tmp_path / "labels.txt", *rows)
    lines(tmp_path / "val.txt", *rows)
    found = infer_task(tmp_path, "x")
    assert found.data == {
        "source": "table",
        "path": "x/labels.txt",
        "columns": ["image", "label"],
        "files": "images/{}",
    }
    assert any("`val.txt` does so as well" in note for note in found.notes)


def test_a_list_of_a_split_is_named(tmp_path):
    for name in PETS:
        pictures(tmp_path / name, [f"{at}.png" for at in range(4)])
    lines(tmp_path / "testing_list.txt", "cat/0.png", "dog/1.png")
    found = infer_task(tmp_path, "x")
    assert found.data["source"] == "folder"
    assert any("`testing_list.txt` lists some of the images" in note for note in found.notes)


def test_masks_are_no_class(tmp_path):
    for name in ("images", "masks"):
        pictures(tmp_path / name, [f"{at}.png" for at in range(4)])
    with pytest.raises(DataError, match="`masks` holds masks"):
        infer_task(tmp_path, "x")


def test_numbers_do_not_name_files_by_chance(tmp_path):
    pictures(tmp_path / "other", [f"{at}.png" for at in range(10)])
    rows = [f"{at},{at % 2},some words of number {at}" for at in range(40)]
    table = lines(tmp_path / "t.csv", "number,label,text", *rows)
    assert infer_task(table, "t.csv").task == "text-classification"


def test_pixels_in_columns_are_named(tmp_path):
    names = ",".join(f"pixel{at}" for at in range(64))
    rows = [",".join(str((at * 7 + of) % 256) for of in range(65)) for at in range(20)]
    table = lines(tmp_path / "digits.csv", f"label,{names}", *rows)
    with pytest.raises(DataError, match="numbers in columns aren't an input") as caught:
        infer_task(table, "x")
    assert ".npz" in str(caught.value)
    assert "and 57 more" in str(caught.value)


def test_words_with_tags_are_named(tmp_path):
    file = lines(tmp_path / "train.txt", *["EU B-ORG", "rejects O", "calls O", ""] * 5)
    with pytest.raises(DataError, match="CoNLL"):
        infer_task(file, "x")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("train-images-idx3-ubyte", "IDX"),
        ("data_batch_1", "pickle"),
        ("photos.tar.gz", "archive"),
    ],
)
def test_formats_are_told_by_whole_names(tmp_path, name, word):
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=word):
        infer_task(tmp_path / name, "x")


def test_tags_between_blanks_are_several_labels(tmp_path):
    sets = ["clear", "clear road", "road water", "clear water", "water", "road", "clear road water"]
    sets += ["haze", "haze road", "haze water", "haze road water"]
    rows = [f"some words of number {at},{sets[at % len(sets)]}" for at in range(44)]
    found = infer_task(lines(tmp_path / "t.csv", "text,tags", *rows), "t.csv")
    assert (found.data["multi_label"], found.data["separator"]) == (True, " ")
    names = ["golden retriever", "labrador retriever", "maine coon", "norwegian forest cat"]
    rows = [f"some words of number {at},{names[at % 4]}" for at in range(40)]
    assert "separator" not in infer_task(lines(tmp_path / "u.csv", "text,breed", *rows), "x").data


def test_a_nested_json_object_is_flat(tmp_path):
    rows = [
        json.dumps({"data": {"text": f"some words of {at}"}, "label": {"name": PETS[at % 2]}})
        for at in range(20)
    ]
    found = infer_task(lines(tmp_path / "t.jsonl", *rows), "t.jsonl")
    assert (found.data["text"], found.data["label"]) == ("data.text", "label.name")


@pytest.mark.parametrize(
    ("text", "source", "task"),
    [
        ("ABBR:exp what is it?\nDESC:def who is he?\n", "labelled_lines", "text-classification"),
        (
            "once upon a time\nthere was\na king who\nhad five sons\n",
            "documents",
            "language-modeling",
        ),
    ],
)
def test_files_called_after_splits_are_splits(tmp_path, text, source, task):
    for name in ("corpus.train.txt", "corpus.valid.txt", "corpus.test.txt"):
        (tmp_path / name).write_text(text * (20 if source == "labelled_lines" else 1))
    (tmp_path / "README.md").write_text("about it")
    found = infer_task(tmp_path, "x")
    assert (found.task, found.data) == (
        task,
        {
            "source": source,
            "path": "x/corpus.train.txt",
            "val": "x/corpus.valid.txt",
            "test": "x/corpus.test.txt",
        },
    )


def test_the_sample_of_a_contests_answers_is_no_table_of_labels(tmp_path):
    pictures(tmp_path / "train", [f"{PETS[at % 2]}.{at}.png" for at in range(12)])
    pictures(tmp_path / "test1", [f"{at}.png" for at in range(4)])
    lines(tmp_path / "sampleSubmission.csv", "id,label", *(f"{at},{at % 2}" for at in range(4)))
    found = infer_task(tmp_path, "pets")
    assert (found.data["source"], found.data["path"]) == ("folder", "pets/train")
    assert "label_pattern" in found.data
    assert any("left aside, without labels: `test1`" in note for note in found.notes)


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002.csv", "train-00001-of-00002.csv", "test-00000-of-00001.csv"),
        ("part-00000.csv", "part-00001.csv"),
    ],
)
def test_parts_of_tables_are_refused_with_the_way_to_join_them(names, tmp_path):
    for name in names:
        rows = [f"a text of number {at},{PETS[at % 2]}" for at in range(12)]
        lines(tmp_path / "data" / name, "text,label", *rows)
    with pytest.raises(DataError, match=r"tables in parts.*Join the parts"):
        infer_task(tmp_path, "x")


def test_of_a_table_in_each_split_that_of_training_is_taken(tmp_path):
    for split in ("test", "train", "valid"):
        names = [f"{split}{at}.png" for at in range(12)]
        pictures(tmp_path / split, names)
        rows = [f"{name},{at % 2},{at % 3 == 0:d}" for at, name in enumerate(names)]
        lines(tmp_path / split / "_classes.csv", "filename,red,blue", *rows)
    assert infer_task(tmp_path, "x").data["path"] == "x/train/_classes.csv"


def test_a_label_may_end_at_a_tab(tmp_path):
    rows = [f"{('ham', 'spam')[at % 2]}\tfree money number {at} now" for at in range(12)]
    source = lines(tmp_path / "sms.txt", *rows)
    found = infer_task(source, "sms.txt")
    assert found.data["source"] == "labelled_lines"
    read = prepared(
        tmp_path, "source: labelled_lines, path: sms.txt", "task: text-classification\n"
    )
    assert read.labels == ("ham", "spam")


def test_an_address_is_named_as_one():
    with pytest.raises(DataError, match=r"this is an address.*Download it"):
        infer_task("https://example.org/a.csv", "x")


TWELVE = [f"{at}.png" for at in range(12)]


def test_images_in_several_folders_are_found_by_a_table(tmp_path):
    pictures(tmp_path / "part_1", TWELVE[:7])
    pictures(tmp_path / "part_2", TWELVE[7:])
    rows = [f"{name.removesuffix('.png')},{PETS[at % 2]}" for at, name in enumerate(TWELVE)]
    lines(tmp_path / "meta.csv", "image_id,dx", *rows)
    found = infer_task(tmp_path, "x")
    assert (found.data["files"], found.data["label"]) == ("*/{}.png", "dx")
    files = {key: found.data[key] for key in ("image", "files", "label")}
    spec = TableData(source="table", path="meta.csv", **files)
    listing = list_table(spec, base=tmp_path)
    assert [listing.read(at) for at in (0, 11)] == [picture(0), picture(4)]


def test_folders_that_are_called_like_parts_are_no_classes(tmp_path):
    for at in range(4):
        for pet in PETS:
            pictures(tmp_path / f"fold{at}" / pet, TWELVE[:3])
    found = infer_task(tmp_path, "x")
    assert found.data["label_pattern"] == "^[^/]+/([^/]+)/"
    assert "parts of the data" in found.notes[0]
    assert "`cat`, `dog`" in found.notes[1]
    for at in range(4):
        (tmp_path / f"fold{at}").rename(tmp_path / f"kind{'abcd'[at]}")
    found = infer_task(tmp_path, "x")
    assert "label_pattern" not in found.data
    assert "`data.label_pattern: '^[^/]+/([^/]+)/'`" in found.choices[0]


def test_parts_without_anything_else_stay_classes(tmp_path):
    for at in range(3):
        pictures(tmp_path / f"group{at}", TWELVE)
    assert "`group0`, `group1`, `group2`" in infer_task(tmp_path, "x").notes[0]


def test_folders_of_unlabelled_samples_are_no_classes(tmp_path):
    for name in (*PETS, "unsup"):
        for at in range(3):
            lines(tmp_path / "train" / name / f"{at}.txt", f"a text of {name} {at}")
            lines(tmp_path / "test" / name / f"{at}.txt", f"another text of {name} {at}")
    found = infer_task(tmp_path, "x")
    assert found.notes[0] == "The folders are the classes: `cat`, `dog`"
    data = prepared(tmp_path, "source: folder, path: .", "task: text-classification")
    assert tuple(data.labels) == PETS


@pytest.mark.parametrize(
    ("name", "values", "splits"),
    [
        ("is_test", ("0", "1"), ("train", "test")),
        ("is_valid", ("False", "True"), ("", "validation")),
        ("isTrain", ("1", "0"), ("train", "test")),
        ("Usage", ("Training", "PrivateTest"), ("train", "test")),
        ("数据集", ("训练集", "测试集"), ("train", "test")),
    ],
)
def test_columns_that_say_the_split(tmp_path, name, values, splits):
    rows = [f"a text of number {at},{PETS[at % 2]},{values[at % 3 == 0]}" for at in range(30)]
    table = lines(tmp_path / "t.csv", f"text,label,{name}", *rows)
    found = infer_task(table, "t.csv")
    assert found.data["split_column"] == name
    spec = TableData.model_validate({**found.data, "path": str(table)})
    listing = list_table(spec, base=tmp_path, kind=InputKind.TEXT)
    assert listing.splits[:2] == [splits[1], splits[0]]


def test_a_column_of_numbered_parts_is_neither_split_nor_label(tmp_path):
    rows = [f"a text of number {at},{at % 3},{at % 5}" for at in range(30)]
    found = infer_task(lines(tmp_path / "t.csv", "text,kind,fold", *rows), "t.csv")
    assert found.data == {"source": "table", "path": "t.csv", "label": "kind"}
    assert "{by: group, column: fold}" in found.choices[0]


def test_empty_cells_of_the_split_are_said(tmp_path):
    rows = [f"a text of {at},{PETS[at % 2]},{('test', '', 'train')[at % 3]}" for at in range(30)]
    table = lines(tmp_path / "t.csv", "text,label,split", *rows)
    spec = TableData(source="table", path=str(table), split_column="split")
    listing = list_table(spec, base=tmp_path, kind=InputKind.TEXT)
    assert "10 of 30 cells of `split` are empty: these rows are for training" in listing.notes


def test_a_folder_of_training_alone_gives_a_test_as_well(tmp_path):
    for pet in PETS:
        pictures(tmp_path / "train" / pet, TWELVE)
    data = prepared(tmp_path, "source: folder, path: ., leaks: allow")
    assert len(data.rows["test"]) > 0


BOXES = "a.png,1,1,5,5,red", "b.png,2,2,6,6,green", "a.png,0,0,3,3,green", "c.png,1,2,3,4,red"


@pytest.mark.parametrize("header", [(), ("filename,x1,y1,x2,y2,class",)])
def test_a_table_with_a_box_a_row(tmp_path, header):
    pictures(tmp_path / "images", ["a.png", "b.png", "c.png"])
    lines(tmp_path / "boxes.csv", *header, *BOXES)
    found = infer_task(tmp_path, "x")
    assert found.task == "object-detection"
    assert found.data["box_columns"] == ["x1", "y1", "x2", "y2"]
    assert found.data["files"] == "images/{}"
    assert ("columns" in found.data) == (not header)
    assert "Each row is a box" in found.notes[-1]
    if header:
        options = DataOptions(target=("class",))
        assert infer_task(tmp_path, "x", options).task == "image-classification"


def test_boxes_without_a_class_are_refused(tmp_path):
    pictures(tmp_path, ["a.png", "b.png", "c.png"])
    lines(tmp_path / "boxes.csv", "image,x,y,w,h", *(f"{name}.png,1,1,2,3" for name in "abc"))
    with pytest.raises(DataError, match="no column says what is in them"):
        infer_task(tmp_path / "boxes.csv", "x")


@pytest.mark.parametrize(
    ("name", "content", "tool"),
    [
        ("a.json", '{"a": {"filename": "0.png", "regions": [{"shape_attributes": {}}]}}', "VIA"),
        (
            "a.json",
            '[{"image": "0.png", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}]',
            "CreateML",
        ),
        ("a.xml", "<annotations><version>1.1</version><meta></meta></annotations>", "CVAT"),
        ("a.csv", "filename,region_shape_attributes\n", "VIA"),
        ("a.json", '{"objects": [], "size": {}, "tags": []}', "Supervisely"),
    ],
)
def test_boxes_of_other_tools_are_named(tmp_path, name, content, tool):
    pictures(tmp_path, TWELVE[:3])
    lines(tmp_path / name, content)
    with pytest.raises(DataError, match=f"annotations as {tool} writes them"):
        infer_task(tmp_path, "x")


def test_files_written_into_cells_are_named(tmp_path):
    encoded = base64.b64encode(picture(1)).decode()
    table = lines(tmp_path / "a.csv", "image,label", *(f"{encoded},{pet}" for pet in PETS * 6))
    with pytest.raises(DataError, match=r"written as base64.*b64decode"):
        infer_task(table, "x")
    pixels = " ".join(str(at % 256) for at in range(100))
    rows = [f"{at % 7},{at} {pixels},Training" for at in range(12)]
    with pytest.raises(DataError, match=r"holds pixels, written as numbers.*npz"):
        infer_task(lines(tmp_path / "b.csv", "emotion,pixels,Usage", *rows), "x")


@pytest.mark.parametrize(
    ("sign", "name", "encoding"), [("|", "t.csv", "utf-8"), ("\t", "t.tsv", "utf-16")]
)
def test_a_table_that_is_called_a_text_is_named(tmp_path, sign, name, encoding):
    rows = ["text", *(f"a sentence, of number {at}" for at in range(9))]
    text = "\n".join(f"{row}{sign}{PETS[at % 2]}" for at, row in enumerate(rows))
    (tmp_path / "t.txt").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=f"has 2 cells.*call it {name}"):
        infer_task(tmp_path / "t.txt", "x")


@pytest.mark.parametrize("names", [("rt.pos", "rt.neg"), ("positive.txt", "negative.txt")])
def test_a_file_of_texts_for_each_class_is_named(tmp_path, names):
    for name in names:
        lines(tmp_path / name, *(f"a line {at}" for at in range(9)))
    with pytest.raises(DataError, match="the texts of a class each"):
        infer_task(tmp_path, "x")


def test_texts_without_an_ending_are_named(tmp_path):
    for pet in PETS:
        lines(tmp_path / pet / "50123", "a text")
    with pytest.raises(DataError, match=r"2 without an ending.*find .* -exec mv"):
        infer_task(tmp_path, "x")


def test_a_title_beside_a_category_is_no_summary(tmp_path):
    rows = [
        f"title {at},a long body of a text with number {at} in it,{PETS[at % 2]}"
        for at in range(20)
    ]
    found = infer_task(lines(tmp_path / "t.csv", "title,body,category", *rows), "t.csv")
    assert (found.task, found.data["label"]) == ("text-classification", "category")


def test_choices_are_quoted_for_the_shell(tmp_path):
    rows = [f"a text of number {at} here,{at % 3},{at % 2}" for at in range(20)]
    found = infer_task(lines(tmp_path / "t.csv", "text,label,Q1 - how?", *rows), "t.csv")
    assert "--target 'Q1 - how?'" in found.choices[0]


def test_deep_images_of_a_small_range_are_said(tmp_path):
    for pet in PETS:
        (tmp_path / pet).mkdir()
        for at in range(6):
            pixels = np.full((9, 9), 200 + at, np.uint16)
            Image.fromarray(pixels).save(tmp_path / pet / f"{at}.png")
    data = prepared(tmp_path, "source: folder, path: ., leaks: allow")
    (finding,) = [item for item in data.report.findings if item.kind == "dark_images"]
    assert "256 of 65,535 at most, so that of 256 shades 1 are left" in finding.message


def test_a_column_of_groups_is_said(tmp_path):
    rows = [f"a text of number {at} here,{PETS[at % 2]},{at // 3}" for at in range(20)]
    found = infer_task(lines(tmp_path / "t.csv", "text,label,patient_id", *rows), "t.csv")
    assert "`data.split: {by: group, column: patient_id}`" in found.choices[0]
    assert len(found.choices) == 1
