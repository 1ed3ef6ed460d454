"""Some samples of a split, and what else is known of them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data import labelled_split
from modelwright.data.dataset import Split
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import DataError
from modelwright.run import silent
from tests.data.making import prepared, recipe

STORED = 30


def pixels(chance):
    return chance.integers(0, 256, (STORED, 2, 2, 1), dtype=np.uint8)


def tokens(chance, name="tokens"):
    rows = [chance.integers(1, 9, length) for length in chance.integers(1, 6, STORED)]
    return Ragged.of(name, rows, "int64", length_name=f"{name}_length")


INPUTS = {
    "pixels": pixels,
    "tokens": tokens,
    "source and target": lambda chance: Joined((tokens(chance), tokens(chance, "target"))),
}
TARGETS = {
    "classes": lambda chance, count: chance.integers(0, 3, count),
    "label sets": lambda chance, count: chance.random((count, 3)) < 0.5,
    "letters": lambda chance, count: tokens(chance, "letters").take(np.arange(count)),
}


@st.composite
def splits(draw):
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    count = draw(st.integers(1, 12))
    rows = chance.permutation(STORED)[:count]
    texts = [f"text {row}" for row in rows], [f"wanted {row}" for row in rows]
    return Split(
        "test",
        INPUTS[draw(st.sampled_from(sorted(INPUTS)))](chance),
        rows,
        TARGETS[draw(st.sampled_from(sorted(TARGETS)))](chance, count),
        pairs=lambda: texts,
        unknown=("emu",),
        texts=chance.integers(0, 3, count),
        metadata={"speaker": np.array([f"s{row % 3}" for row in rows], dtype=np.object_)},
    )


def flat(array):
    """Return an array or records as plain values, without padding."""
    if array.dtype.names is None:
        return array.tolist()
    return [[part[part != 0].tolist() for part in map(np.atleast_1d, row)] for row in array]


def values(split):
    """Return all that a split holds of each of its samples."""
    given_, wanted = split.pairs()
    columns = (
        split.rows.tolist(),
        flat(split.gather()),
        flat(split.targets[np.arange(len(split))]),
        given_,
        wanted,
        split.texts.tolist(),
        *(column.tolist() for column in split.metadata.values()),
    )
    assert all(len(column) == len(split) for column in columns)
    return list(zip(*columns, strict=True))


@settings(max_examples=80, deadline=None)
@given(splits(), st.data())
def test_all_that_is_known_of_a_sample_travels_along(split, data):
    count = len(split)
    positions = data.draw(st.lists(st.integers(0, count - 1), max_size=2 * count))
    some = split.take(np.array(positions, dtype=np.int64))
    whole = values(split)
    assert values(some) == [whole[at] for at in positions]
    assert (some.name, some.unknown) == (split.name, split.unknown)
    assert some.metadata.keys() == split.metadata.keys()


@settings(max_examples=40, deadline=None)
@given(splits(), st.data())
def test_taking_twice_is_taking_once(split, data):
    count = len(split)
    first = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=9)))
    places = st.lists(st.integers(0, len(first) - 1), max_size=9)
    second = np.array(data.draw(places), dtype=np.int64)
    assert values(split.take(first).take(second)) == values(split.take(first[second]))
    assert values(split.take(np.arange(count))) == values(split)


def test_nothing_is_copied_of_the_inputs():
    chance = np.random.default_rng(0)
    split = Split("train", pixels(chance), np.arange(STORED), np.zeros(STORED, np.int64))
    assert split.take(np.array([3, 1])).inputs is split.inputs


# -- metadata --------------------------------------------------------------------------------

TEXTS = "task: text-classification\n"


def table(path, count=60, first=0):
    rows = [
        {
            "text": f"sample number {at}",
            "label": "ab"[at % 2],
            "who": None if at % 10 == 0 else f"guest {at // 6}",
            "age": at % 7 + (0.5 if at % 2 else 0),
            "label.note": "\ud800" if at == 3 else "x",
        }
        for at in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_columns_of_a_table_travel_with_its_samples(tmp_path):
    rows = table(tmp_path / "t.jsonl")
    data = "source: table, path: t.jsonl, metadata_columns: [who, age, label.note]"
    found = prepared(tmp_path, data, TEXTS, run_folder=tmp_path / "run")
    for name in ("train", "validation", "test"):
        split = found.split(name)
        assert set(split.metadata) == {"who", "age", "label.note"}
        for place, row in enumerate(split.rows.tolist()):
            assert split.metadata["who"][place] == (rows[row]["who"] or "")
            assert float(split.metadata["age"][place]) == rows[row]["age"]
    assert found.dataset().train.take(np.array([0])).metadata["who"].shape == (1,)
    written = pq.read_table(tmp_path / "run" / "splits.parquet").to_pylist()
    assert len(written) == 60
    for item in written:
        row = rows[int(item["origin"].rpartition(":")[2]) - 1]
        assert item["metadata.who"] == (row["who"] or "")
        assert item["label"] == row["label"]


def test_what_splits_are_drawn_by_travels_along(tmp_path):
    table(tmp_path / "t.jsonl")
    data = "source: table, path: t.jsonl, split: {by: group, column: who}"
    found = prepared(tmp_path, data, TEXTS)
    groups = [set(found.split(name).metadata["who"]) for name in found.rows]
    assert sum(map(len, groups)) == len(set().union(*groups))
    # A column that is named twice comes once.
    again = prepared(tmp_path, f"{data}, metadata_columns: [who]", TEXTS)
    assert set(again.test().metadata) == {"who"}


def test_other_metadata_take_no_other_store(tmp_path):
    table(tmp_path / "t.jsonl")
    data = "source: table, path: t.jsonl"
    plain = prepared(tmp_path, data, TEXTS)
    more = prepared(tmp_path, f"{data}, metadata_columns: [who]", TEXTS)
    assert plain.store.folder == more.store.folder
    assert plain.test().metadata == {}
    assert plain.fingerprint("test") == more.fingerprint("test")


def test_stretches_have_the_metadata_of_their_text(tmp_path):
    table(tmp_path / "t.jsonl")
    found = prepared(
        tmp_path,
        "source: table, path: t.jsonl, metadata_columns: [who], leaks: allow",
        "task: language-modeling\ntext: {max_length: 4, tokenizer: character}\n",
    )
    train = found.dataset().train
    assert len(train) > 2 * len(found.rows["train"])
    by_text = {}
    for text, who in zip(train.texts.tolist(), train.metadata["who"], strict=True):
        by_text.setdefault(text, set()).add(who)
    assert all(len(whos) == 1 for whos in by_text.values())
    assert len(set().union(*by_text.values())) > 2


def test_the_folder_and_the_order_are_metadata_too(tmp_path):
    for name in ("a", "b"):
        for part in ("x", "y", "z"):
            (tmp_path / "mail" / name / part).mkdir(parents=True)
            for at in range(4):
                text = f"mail {name} {part} {at} " + "word " * at
                (tmp_path / "mail" / name / part / f"{at}.txt").write_text(text)
    data = "source: folder, path: mail, split: {by: group, column: parent}"
    found = prepared(tmp_path, data, TEXTS)
    assert {*found.dataset().train.metadata["parent"]} <= {f"{a}/{b}" for a in "ab" for b in "xyz"}


def test_a_missing_column_is_named(tmp_path):
    table(tmp_path / "t.jsonl")
    with pytest.raises(DataError, match="no column `wo`") as caught:
        prepared(tmp_path, "source: table, path: t.jsonl, metadata_columns: [wo]", TEXTS)
    assert "data.metadata_columns" in caught.value.where
    assert "Did you mean `who`?" in caught.value.why


def test_other_data_brings_the_columns_that_it_has(tmp_path):
    table(tmp_path / "t.jsonl")
    data = "source: table, path: t.jsonl, metadata_columns: [who, age]"
    found = prepared(tmp_path, data, TEXTS)
    (tmp_path / "new.csv").write_text("text,label,age\none more,a,3\nand one,b,4\n")
    split, *_ = labelled_split(
        tmp_path / "new.csv",
        input=found.input,
        labels=found.labels,
        observe=silent,
        like=recipe(data, TEXTS).data,
    )
    assert {name: column.tolist() for name, column in split.metadata.items()} == {"age": ["3", "4"]}
