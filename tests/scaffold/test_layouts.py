"""Layouts that data sets are handed out in, and what is inferred of each."""

from __future__ import annotations

import json

import pytest

from modelwright.errors import DataError
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
