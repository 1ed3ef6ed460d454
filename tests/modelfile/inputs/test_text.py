"""Texts that a network answers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelwright.errors import DataError
from modelwright.modelfile import inputs
from modelwright.modelfile.inputs import read_batch
from modelwright.modelfile.inputs import text as texts
from modelwright.modelfile.inputs.text import NgramReader, PromptReader, SourceReader, TextReader
from modelwright.transforms.text import BEGIN
from tests.modelfile.inputs.declared import ASSETS, TEXT


def test_texts_are_read_as_they_are_or_from_files(tmp_path: Path) -> None:
    reader = inputs.open_input(TEXT.to_json(), ASSETS)
    (tmp_path / "one.txt").write_text("the cat sat")
    held = ["the cat sat", tmp_path / "one.txt", b"the cat sat", io.BytesIO(b"the cat sat")]
    batch = inputs.read_batch(reader, held)
    assert batch["length"].tolist() == [3, 3, 3, 3]
    assert (batch["tokens"] == batch["tokens"][0]).all()
    assert reader.split_inputs("the cat").is_one
    long = inputs.read_batch(reader, ["the cat sat on the mat the cat"])
    assert long["length"].tolist() == [TEXT.max_length]
    unknown = inputs.read_batch(reader, ["\u4e00"])
    assert unknown["tokens"].tolist() == [[1]]  # unknown, and never nothing
    for wrong in ("", "  ", 3, b"\xff", tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError):
            inputs.read_batch(reader, [wrong])


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("text", "its end is cut off"),
        ("source", "its end is cut off"),
        ("prompt", "its beginning is left out"),
    ],
)
def test_texts_that_are_too_long_are_told(kind: Any, lost: str, tmp_path: Path) -> None:
    reader, said = inputs.open_input(replace(TEXT, kind=kind).to_json(), ASSETS), []
    words = ("the cat sat on the mat " * 9).split()[: TEXT.max_length + 1]
    (tmp_path / "long.txt").write_text(" ".join(words))
    held = [" ".join(words[:-1]), tmp_path / "long.txt", io.BytesIO(" ".join(words).encode())]
    inputs.read_batch(reader, held, first=7, observe=lambda progress: said.append(progress.note))
    note = f"the text has {len(words)} tokens, and the model reads {TEXT.max_length}: {lost}"
    assert said == [f"{tmp_path / 'long.txt'}: {note}", f"standard input: {note}"]
    with pytest.raises(DataError) as raised:
        inputs.read_batch(reader, [3], first=7)
    assert raised.value.where == "input 8"


def test_what_is_not_a_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    wrong = {
        "isn't UTF-8 text": tmp_path / "latin.txt",
        "the text is empty": " \n",
        "a int isn't a text": 3,
        "no such file": tmp_path / "none.txt",
        "is longer than": "x" * (texts.MOST_TEXT_BYTES + 1),
    }
    for why, item in wrong.items():
        with pytest.raises(DataError, match=why) as caught:
            texts.read_text(item, 4)
        assert caught.value.where == (str(item) if isinstance(item, Path) else "input 5")
    assert texts.read_text(" ", 0, may_be_empty=True) == " "
    assert texts.read_text(bytearray("狗".encode()), 0) == "狗"


LONG = "the cat sat on the mat the dog"


def test_the_end_of_a_long_prompt_is_read() -> None:
    spec = replace(TEXT, kind="prompt")
    whole = spec.tokenizer.encode([LONG])[0].tolist()
    found = read_batch(PromptReader(spec), [LONG, "a dog", ""])
    assert found.keys() == {"tokens"}
    assert found["tokens"][0].tolist() == whole[-6:]
    assert found["tokens"][1, 2:].tolist() == [0] * 4
    assert not found["tokens"][2].any()


def test_a_place_is_kept_for_the_token_that_begins() -> None:
    spec = replace(TEXT, kind="prompt", places=5)
    whole = spec.tokenizer.encode([LONG])[0].tolist()
    said: list[str] = []
    reader = PromptReader(spec)
    found = read_batch(reader, [LONG], observe=lambda progress: said.append(progress.note))
    assert found["tokens"].tolist() == [whole[-4:]]
    assert said == [
        "input 1: the text has 8 tokens, and the model reads 4: its beginning is left out"
    ]


READER = SourceReader(replace(TEXT, kind="source"))


def test_a_source_is_read_as_a_text_and_its_answer_begun() -> None:
    given = ["the cat", "the dog sat on the mat the cat"]
    found, text = read_batch(READER, given), read_batch(TextReader(TEXT), given)
    assert np.array_equal(found["source"], text["tokens"])
    assert np.array_equal(found["source_length"], text["length"])
    assert found["target"].tolist() == [[BEGIN], [BEGIN]]


def test_synthetic_answers_begin_and_go_on() -> None:
    made = READER.synthetic(4)
    assert made["target"].shape == (4, 4)
    assert (made["target"][:, 0] == BEGIN).all()
    assert made["target"].flags["C_CONTIGUOUS"]


def test_a_text_of_the_greatest_length_is_taken(monkeypatch):
    monkeypatch.setattr(texts, "MOST_TEXT_BYTES", 4)
    assert texts.read_text("abcd", 0) == "abcd"
    with pytest.raises(DataError, match="longer than 4"):
        texts.read_text("abcde", 0)


@pytest.mark.parametrize("size", [3, 1000])
def test_synthetic_ngrams_are_spread_over_the_vocabulary(size: int) -> None:
    declared = SimpleNamespace(size=size)
    made = NgramReader(declared).synthetic(3)  # type: ignore[arg-type]
    for row in range(3):
        count = min(5 + 3 * row, size)
        numbers, weights = made["ngrams"][row, :count], made["weights"][row, :count]
        assert np.diff(numbers).min() >= size // count
        assert numbers[0] == 0
        assert size - size / count - 1 < numbers[-1] < size
        assert np.linalg.norm(weights) == pytest.approx(1)
        assert not made["weights"][row, count:].any()
