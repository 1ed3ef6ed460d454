"""Which task some data is for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelwright.data.waves import as_wav
from modelwright.errors import DataError
from modelwright.scaffold.infer import (
    Inferred,
    are_transcripts,
    begins_with_labels,
    has_boxes,
    has_transcripts,
    holds_transcripts,
    infer_task,
    likely_kind,
    partner,
)
from tests.data.making import folder, picture


def tone(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_wav((np.sin(np.arange(2400)) * 9000).astype(np.int16), 8000))


def sentences(count):
    return [f"number {at} of some" + " words" * (at % 3) for at in range(count)]


def test_known_data_has_a_name():
    assert infer_task("digits", "x") == Inferred("image-classification", {"source": "digits"})


def test_folders(tmp_path):
    folder(tmp_path / "pets", each=2)
    assert infer_task(tmp_path / "pets", "../pets") == Inferred(
        "image-classification", {"source": "folder", "path": "../pets"}
    )
    for name in ("a", "b"):
        (tmp_path / "mail" / name).mkdir(parents=True)
        (tmp_path / "mail" / name / "1.txt").write_text("hello")
    assert infer_task(tmp_path / "mail", "x").task == "text-classification"
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one.md").write_text("once upon a time")
    assert infer_task(tmp_path / "books", "x") == Inferred(
        "language-modeling", {"source": "documents", "path": "x"}
    )


def test_recordings_with_texts_beside_them_are_speech_recognition(tmp_path):
    for at in range(3):
        tone(tmp_path / "s" / "a" / f"{at}.wav")
    assert not has_transcripts(tmp_path / "s")
    assert infer_task(tmp_path / "s", "x").task == "audio-classification"
    for at in range(2):
        (tmp_path / "s" / "a" / f"{at}.txt").write_text("hello")
    assert has_transcripts(tmp_path / "s")
    assert infer_task(tmp_path / "s", "x").task == "speech-recognition"


def test_many_long_texts_are_transcripts_and_classes_are_none(tmp_path):
    assert are_transcripts(sentences(60))
    assert not are_transcripts(sentences(10))
    assert not are_transcripts(["yes", "no"] * 50)
    assert not are_transcripts([str(1000 + at) for at in range(60)])
    assert not are_transcripts([chr(97 + at % 26) for at in range(60)])
    for labels, found in ((sentences(60), True), ([f"class {at % 3}" for at in range(60)], False)):
        rows = "".join(f"{at}.wav,{label}\n" for at, label in enumerate(labels))
        (tmp_path / "t.csv").write_text(f"audio,label\n{rows}")
        assert holds_transcripts(tmp_path / "t.csv", {}) == found


def test_boxes_are_recognised_by_file_names_and_beginnings(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(0))
    assert not has_boxes(tmp_path)
    for number, text in enumerate(('{"images": [{"a": 1}]}', '{"images": "annotations"}', "[]")):
        (tmp_path / f"{number}.json").write_text(text)
        assert not has_boxes(tmp_path / f"{number}.json")
    long, lists = "x" * 100_000, '"images": [], "annotations": [], "categories": []'
    (tmp_path / "c.json").write_text(f'{{"a": "{long}", {lists}, "b": "{long}"}}')
    assert has_boxes(tmp_path / "c.json")
    assert has_boxes(tmp_path)
    (tmp_path / "c.json").unlink()
    (tmp_path / "a.xml").write_text("<annotation/>")
    assert infer_task(tmp_path, "x") == Inferred(
        "object-detection", {"source": "boxes", "path": "x"}
    )


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
    for name, lines in (("t.en", 3), ("t.de", 3), ("u.en", 3), ("u.de", 4)):
        (tmp_path / name).write_text("word\n" * lines)
    assert partner(tmp_path / "t.en") == tmp_path / "t.de"
    assert partner(tmp_path / "u.en") is None
    pair = {"source": "parallel_text", "path": "p/t.en", "target": "p/t.de"}
    assert infer_task(tmp_path / "t.en", "p/t.en") == Inferred("translation", pair)


def test_json_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"text": "a"}]))
    with pytest.raises(DataError, match="one JSON list"):
        infer_task(tmp_path / "a.json", "x")


def test_most_files_decide(tmp_path):
    folder(tmp_path / "pets", each=2)
    for at in range(5):
        tone(tmp_path / "pets" / "cat" / f"{at}.wav")
    assert likely_kind(tmp_path / "pets") == "audio"
