"""Texts that a language model goes on from."""

from __future__ import annotations

from dataclasses import replace

from modelwright.modelfile.inputs import read_batch
from modelwright.modelfile.inputs.prompt import PromptReader
from tests.modelfile.inputs.declared import TEXT

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
