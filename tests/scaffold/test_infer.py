"""Which task some data is for, by its layout."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelwright.data.waves import as_wav
from modelwright.errors import DataError, RequestError
from modelwright.scaffold.infer import infer_task
from modelwright.scaffold.inferred import DataOptions, Inferred
from modelwright.scaffold.texts import begins_with_labels, partner
from tests.data.making import folder, picture


def tone(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_wav((np.sin(np.arange(2400)) * 9000).astype(np.int16), 8000))


def taken(path, options=None):
    """Return the inferred task and the section `data` but for its path."""
    found = infer_task(path, "x", options)
    return found.task, {key: value for key, value in found.data.items() if key != "path"}


FOLDER = ("image-classification", {"source": "folder"})


def test_known_data_has_a_name():
    assert infer_task("digits", "x") == Inferred("image-classification", {"source": "digits"})


def test_class_folders_whatever_text_is_beside_them(tmp_path):
    folder(tmp_path / "pets", each=2)
    for name in ("README.md", "LICENSE", "classes.txt", "cat/notes.txt"):
        (tmp_path / "pets" / name).write_text("about these pictures\n")
    found = infer_task(tmp_path / "pets", "../pets")
    assert (found.task, found.data) == (FOLDER[0], {"source": "folder", "path": "../pets"})
    assert any("README.md" in note for note in found.notes)


def test_class_folders_of_texts(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.txt").write_text("hello")
    (tmp_path / "README.txt").write_text("about these texts")
    assert taken(tmp_path) == ("text-classification", {"source": "folder"})
    assert "README.txt" in infer_task(tmp_path, "x").notes[1]


def test_nested_folders_and_folders_around_all(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "all" / "photos" / name / "Imgs").mkdir(parents=True)
        for at in range(2):
            (tmp_path / "all" / "photos" / name / "Imgs" / f"{at}.png").write_bytes(picture(at))
    found = infer_task(tmp_path / "all", "all")
    assert found.data == {"source": "folder", "path": "all/photos"}
    assert "`cat`, `dog`" in found.notes[0]
    assert "cat/Imgs" in found.notes[1]


def test_names_of_files_are_labels(tmp_path):
    for at in range(8):
        (tmp_path / f"{['cat', 'dog'][at % 2]}_{at:03d}.png").write_bytes(picture(at))
    task, data = taken(tmp_path)
    assert (task, data["source"]) == (FOLDER[0], "folder")
    assert data["label_pattern"]


def test_texts_without_labels_are_documents(tmp_path):
    (tmp_path / "one.md").write_text("once upon a time")
    assert taken(tmp_path) == ("language-modeling", {"source": "documents"})


def test_recordings_with_texts_beside_them_are_speech_recognition(tmp_path):
    for place in "ab":
        for at in range(3):
            tone(tmp_path / "s" / place / f"{at}.wav")
    assert infer_task(tmp_path / "s", "x").task == "audio-classification"
    for place in "ab":
        for at in range(2):
            (tmp_path / "s" / place / f"{at}.txt").write_text("hello")
    assert infer_task(tmp_path / "s", "x").task == "speech-recognition"


def test_boxes_are_recognised_by_file_names_and_beginnings(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(0))
    boxes = ("object-detection", {"source": "boxes"})
    long, lists = "x" * 100_000, '"images": [], "annotations": []'
    (tmp_path / "c.json").write_text(f'{{"a": "{long}", {lists}, "b": "{long}"}}')
    assert taken(tmp_path / "c.json") == taken(tmp_path) == boxes
    (tmp_path / "c.json").write_text(json.dumps({"shapes": [], "imagePath": "a.png"}))
    assert taken(tmp_path) == boxes
    (tmp_path / "c.json").unlink()
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert taken(tmp_path) == boxes
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.xml").write_text("<annotation/>")
    assert taken(tmp_path) == boxes


def test_files_of_texts(tmp_path):
    labelled = "".join(f"{'xy'[at % 2]} some words {at}\n" for at in range(40))
    prose = "once upon a time there was a table\nand so on\n"
    for name, text, data in (
        (
            "a.txt",
            labelled,
            Inferred("text-classification", {"source": "labelled_lines", "path": "p/a.txt"}),
        ),
        ("b.txt", prose, Inferred("language-modeling", {"source": "documents", "path": "p/b.txt"})),
    ):
        (tmp_path / name).write_text(text)
        assert infer_task(tmp_path / name, f"p/{name}") == data
    assert begins_with_labels(tmp_path / "a.txt")


def test_two_languages_belong_together(tmp_path):
    for name, lines in (("t.en", 30), ("t.de", 30), ("u.en", 30), ("u.de", 29)):
        (tmp_path / name).write_text("word\n" * lines)
    assert partner(tmp_path / "t.en") == tmp_path / "t.de"
    found = infer_task(tmp_path / "t.en", "p/t.en")
    assert (found.task, found.data) == (
        "translation",
        {"source": "parallel_text", "path": "p/t.en", "target": "p/t.de"},
    )
    with pytest.raises(DataError, match=r"look like parallel text, and have 30 and 29 lines"):
        infer_task(tmp_path / "u.en", "p/u.en")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"PK\x03\x04", "a ZIP archive.*Unpack it"),
        ("a.xlsx", b"PK\x03\x04", "Excel.*CSV"),
        ("a.csv", b"PK\x03\x04", "a ZIP archive"),
        ("a.m4a", b"\0\0\0 ftyp", r"MPEG-4.*ffmpeg -i a\.m4a a\.wav"),
        ("a.pdf", b"%PDF-1.4", "PDF"),
        ("a.png", picture(0), "this is one image"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        infer_task(tmp_path / name, "x")


def test_folders_of_nothing_that_is_read(tmp_path):
    with pytest.raises(DataError, match="It is empty"):
        infer_task(tmp_path, "x")
    (tmp_path / "a.m4a").write_bytes(b"x")
    with pytest.raises(DataError, match=r"ffmpeg -i NAME\.m4a NAME\.wav"):
        infer_task(tmp_path, "x")
    for at in range(4):
        (tmp_path / f"IMG_{at}.png").write_bytes(picture(at))
    with pytest.raises(DataError, match="nothing says which class each image is of"):
        infer_task(tmp_path, "x")


def test_options_without_a_place(tmp_path):
    folder(tmp_path / "pets", each=2)
    with pytest.raises(RequestError, match="this is no table"):
        infer_task(tmp_path / "pets", "x", DataOptions(target=("label",)))
    with pytest.raises(RequestError, match="there is no task"):
        infer_task(tmp_path / "pets", "x", DataOptions(task="image-clasification"))
    with pytest.raises(DataError, match="looks like data for image-classification"):
        infer_task(tmp_path / "pets", "x", DataOptions(task="translation"))
    with pytest.raises(DataError, match="no such file"):
        infer_task(tmp_path / "pts", "x")
