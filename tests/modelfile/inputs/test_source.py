"""Texts from which others are written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelwright.modelfile.inputs import read_batch
from modelwright.modelfile.inputs.source import SourceReader
from modelwright.modelfile.inputs.text import TextReader
from modelwright.transforms.text import BEGIN
from tests.modelfile.inputs.declared import TEXT

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
