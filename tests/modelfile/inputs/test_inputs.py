"""The table of kinds of input, and what each of them promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelwright.errors import DataError, ModelFileError, ModelwrightError
from modelwright.modelfile import inputs
from modelwright.modelfile.inputs import Sample
from tests.modelfile.inputs.declared import ASSETS, DECLARED, TEXT


def test_the_battery_knows_every_kind() -> None:
    assert DECLARED.keys() == inputs.READERS.keys()


@pytest.mark.parametrize("kind", DECLARED)
def test_every_kind_of_input_keeps_its_promises(kind: str) -> None:
    """Synthetic samples fit what it declares and never change; so do all views of them."""
    reader = inputs.open_input(DECLARED[kind], ASSETS)
    made = reader.synthetic(5)
    assert inputs.check_batch(made, reader.tensors) == 5
    again = reader.synthetic(5)
    assert all((made[name] == again[name]).all() for name in made)
    for choice in reader.view_choices:
        views, weights = reader.views(made, choice)
        assert len(views) == len(weights)
        assert weights.sum() == pytest.approx(1.0)
        assert all(inputs.check_batch(view, reader.tensors) == 5 for view in views)
    with pytest.raises(ModelwrightError):
        reader.views(made, "twelve")


GOOD: dict[str, list[Any]] = {
    "image": [np.zeros((9, 7, 3), np.uint8), np.full((8, 8), 200, np.uint8)],
    "text": ["the cat", "the dog sat on the mat"],
    "prompt": ["the cat", ""],
    "source": ["the cat", "a dog"],
    "ngrams": ["the cat", "zzz"],
    "audio": [np.zeros(900, np.int16), np.ones(100, np.int16)],
}


@pytest.mark.parametrize("kind", GOOD)
def test_an_item_that_cannot_be_read_fails_alone(kind: str) -> None:
    reader = inputs.open_input(DECLARED[kind], ASSETS)
    first, last = GOOD[kind]
    found = reader.read_each([first, 3.5, last, None], first=10)
    assert [type(item) for item in found] == [Sample, DataError, Sample, DataError]
    assert [item.where for item in found if isinstance(item, DataError)] == ["input 12", "input 14"]
    batch = reader.collate([item for item in found if isinstance(item, Sample)])
    assert inputs.check_batch(batch, reader.tensors) == 2
    expected = inputs.read_batch(reader, [first, last])
    assert batch.keys() == expected.keys()
    assert all(np.array_equal(batch[name], expected[name]) for name in batch)
    with pytest.raises(DataError) as caught:
        inputs.read_batch(reader, [first, 3.5, last, None])
    assert caught.value.where == "input 2"


@pytest.mark.parametrize("kind", [*GOOD, "arrays"])
def test_one_is_told_from_several(kind: str) -> None:
    reader = inputs.open_input(DECLARED[kind], ASSETS)
    if kind == "arrays":
        several = reader.synthetic(2)
        one = {name: array[0] for name, array in several.items()}
    else:
        several, one = GOOD[kind], GOOD[kind][0]  # type: ignore[assignment]
    assert reader.split_inputs(one).is_one
    assert len(reader.split_inputs(one).items) == 1
    taken = reader.split_inputs(several)
    assert not taken.is_one
    assert len(taken.items) == 2


def test_an_unknown_kind_is_named() -> None:
    for declared in ({"kind": "smell"}, {"kind": 3}, {}):
        with pytest.raises(ModelFileError, match="aren't known to this version"):
            inputs.open_input(declared, {})


def test_a_foreign_tokenizer_is_refused() -> None:
    for kind in ("text", "prompt", "source"):
        declared = replace(TEXT, kind=kind).to_json()  # type: ignore[arg-type]
        cut = ASSETS["tokenizer.json"][:-2]
        for assets in ({}, {"tokenizer.json": b"{}"}, {"tokenizer.json": cut}):
            with pytest.raises(ModelFileError):
                inputs.open_input(declared, assets)
        with pytest.raises(ModelFileError):
            inputs.open_input({**declared, "vocabulary": 99}, ASSETS)
