"""What is spoken in recordings: where its text stands, and its characters."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from modelwright.data import labelled_split
from modelwright.data.text_targets import character_targets, fit_characters, normalize_transcript
from modelwright.data.waves import as_wav
from modelwright.errors import DataError, RecipeError
from modelwright.kinds import OutputKind
from modelwright.run import silent
from tests.data.making import prepared, recipe

SPEECH = "task: speech-recognition\n"


def audio(number, seconds=0.3, rate=8000, channels=1):
    """Return a WAV file unlike every other."""
    found = np.random.default_rng(number).normal(0, 2000, int(seconds * rate) * channels)
    data = bytearray(as_wav(found.astype(np.int16), rate))
    data[22] = channels
    data[32] = 2 * channels
    return bytes(data)


def speak(folder, texts, first=0):
    """Write recordings, each with its text beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, text in enumerate(texts):
        (folder / f"{at:02d}.wav").write_bytes(audio(first + at))
        (folder / f"{at:02d}.txt").write_text(text, encoding="utf-8")


def words(count, letters="abc"):
    return ["".join(np.random.default_rng(at).choice(list(letters), 4)) for at in range(count)]


def table(path, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def texts_of(found, name):
    held, rows = found.store.strings("label"), found.rows[name]
    return [held[row] for row in rows.tolist()]


# -- characters ----------------------------------------------------------------------------------


def test_texts_are_learnt_without_case_and_with_single_blanks():
    assert normalize_transcript("  Ab\tC\n d ") == "ab c d"


def test_letters_are_those_of_the_training_texts_alone():
    held = ["ab", "AC a", "xyz"]
    assert fit_characters(held[:2]) == (" ", "a", "b", "c")


def test_unknown_characters_are_counted_and_have_no_output():
    targets, unknown = character_targets(["b Ba", "xax", ""], (" ", "a", "b"))
    found = targets[np.arange(3)]
    assert found["count"].tolist() == [4, 3, 0]
    assert found["characters"][:, :4].tolist() == [[3, 1, 3, 2], [4, 2, 4, 0], [0, 0, 0, 0]]
    assert unknown == 2


def test_letters_of_a_recipe_come_from_its_training_split(tmp_path):
    speak(tmp_path / "s" / "train", words(20))
    speak(tmp_path / "s" / "test", ["abz", "bay"], first=50)
    said = []
    found = prepared(tmp_path, "source: folder, path: s", SPEECH, observe=said.append)
    assert found.labels == ("a", "b", "c")
    assert found.num_outputs == 4
    assert found.output_kind == OutputKind.CTC
    assert any("2 characters occur in no training text" in item.note for item in said)
    assert found.test().targets[np.arange(2)]["count"].tolist() == [3, 3]
    assert found.record["characters"] == "abc"


# -- folders ----------------------------------------------------------------------------------


def test_texts_stand_beside_sounds_at_any_depth(tmp_path):
    speak(tmp_path / "s" / "one", words(8))
    speak(tmp_path / "s" / "two" / "deep", words(8), first=20)
    (tmp_path / "s" / "two" / "mute.wav").write_bytes(audio(99))
    (tmp_path / "s" / ".hidden.wav").write_bytes(b"")
    found = prepared(tmp_path, "source: folder, path: s", SPEECH)
    assert len(found.store) == 17
    row = found.store.strings("origin").index("two/mute.wav")
    assert found.store.errors()[row] == "no text stands beside it"
    texts = [text for name in found.rows for text in texts_of(found, name)]
    assert sorted(texts) == sorted(words(8) * 2)


def test_folders_as_librispeech_has_them(tmp_path):
    for split, first in (("train-clean-100", 0), ("dev-clean", 20), ("test-clean", 40)):
        place = tmp_path / "s" / split / "19" / "198"
        place.mkdir(parents=True)
        lines = []
        for at in range(4):
            name = f"19-198-{at:04d}"
            (place / f"{name}.wav").write_bytes(audio(first + at))
            lines.append(f"{name} AB {'C' * at}D\n")
        (place / "19-198.trans.txt").write_text("".join(lines))
    found = prepared(
        tmp_path, "source: folder, path: s, split: {by: group, column: parent}", SPEECH
    )
    assert {name: len(rows) for name, rows in found.rows.items()} == {
        "train": 4,
        "validation": 4,
        "test": 4,
    }
    assert texts_of(found, "train") == ["AB D", "AB CD", "AB CCD", "AB CCCD"]
    assert found.labels == (" ", "a", "b", "c", "d")


def test_another_text_is_another_store(tmp_path):
    speak(tmp_path / "s", words(12))
    before = prepared(tmp_path, "source: folder, path: s", SPEECH)
    (tmp_path / "s" / "00.txt").write_text("cab")
    after = prepared(tmp_path, "source: folder, path: s", SPEECH)
    assert before.store.strings("label")[0] != "cab" == after.store.strings("label")[0]


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda folder: folder.mkdir(), "there are no recordings in this folder"),
        (lambda folder: folder.write_text("x"), "this is a file"),
        (
            lambda folder: (folder.mkdir(), (folder / "a.wav").write_bytes(audio(0))),
            "no recording has a text beside it",
        ),
    ],
)
def test_what_is_no_folder_of_speech_is_refused(tmp_path, make, words_):
    make(tmp_path / "s")
    with pytest.raises(DataError, match=words_):
        prepared(tmp_path, "source: folder, path: s", SPEECH)


def test_a_text_in_another_encoding_is_named(tmp_path):
    speak(tmp_path / "s", words(4))
    (tmp_path / "s" / "02.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="isn't UTF-8") as caught:
        prepared(tmp_path, "source: folder, path: s", SPEECH)
    assert caught.value.where.endswith("02.txt")


def test_folders_have_no_columns(tmp_path):
    speak(tmp_path / "s", words(4))
    with pytest.raises(DataError, match="a folder has no column `speaker`"):
        prepared(tmp_path, "source: folder, path: s, split: {by: group, column: speaker}", SPEECH)


# -- tables -----------------------------------------------------------------------------------


def spoken_table(tmp_path, texts, name="t.csv"):
    rows = [["audio", "label"]]
    for at, text in enumerate(texts):
        (tmp_path / f"{at}.wav").write_bytes(audio(at))
        rows.append([f"{at}.wav", text])
    table(tmp_path / name, rows)


def test_tables_of_sounds_and_texts(tmp_path):
    spoken_table(tmp_path, [*words(12), "", "ab"])
    (tmp_path / "0.wav").write_bytes(audio(70)[:900])
    (tmp_path / "1.wav").write_bytes(audio(71, rate=16_000))
    (tmp_path / "2.wav").write_bytes(audio(72, channels=2))
    found = prepared(tmp_path, "source: table, path: t.csv", SPEECH)
    errors = found.store.errors()
    assert set(errors) == {0, 12}
    assert "cut short" in errors[0]
    assert errors[12] == "its text is empty"
    assert "mixed_rates" in {item.kind for item in found.report.findings}
    assert found.inputs.lengths[1] == found.inputs.lengths[3] == 2400
    assert found.inputs.lengths[2] == 2400


def test_manifests(tmp_path):
    lines = []
    for at, text in enumerate(words(12)):
        (tmp_path / f"{at}.wav").write_bytes(audio(at))
        lines.append(f'{{"audio_filepath": "{at}.wav", "text": "{text}", "duration": 0.3}}\n')
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    data = "source: table, path: manifest.jsonl, audio: audio_filepath, label: text"
    assert prepared(tmp_path, data, SPEECH).labels == ("a", "b", "c")


def test_classes_may_stand_for_what_is_spoken(tmp_path):
    spoken_table(tmp_path, [str(at % 2) for at in range(12)])
    data = 'source: table, path: t.csv, rename: {"0": zero, "1": one}'
    found = prepared(tmp_path, data, SPEECH)
    assert found.labels == tuple("enorz")
    assert set(texts_of(found, "train")) == {"zero", "one"}
    with pytest.raises(RecipeError, match="names the label `7`"):
        prepared(tmp_path, 'source: table, path: t.csv, rename: {"7": seven}', SPEECH)
    asked = recipe(data, SPEECH)
    split, *_ = labelled_split(
        tmp_path / "t.csv",
        input=found.input,
        labels=found.labels,
        observe=silent,
        like=asked.data,
        output_kind=OutputKind.CTC,
    )
    assert split.targets[np.arange(2)]["count"].tolist() == [4, 3]
