"""Sources of texts that are written: documents, pairs of files; and what is asked of them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from modelwright.data import labelled_split, prepare
from modelwright.data.documents import PASSAGE
from modelwright.data.text_targets import character_targets, fit_characters
from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.recipe import parse_recipe
from modelwright.run import silent
from modelwright.transforms.text import BEGIN, END

TALES = [f"The fox number {n} ran to the lake and found {n * 7} stones." for n in range(40)]


def prepared(text, base):
    return prepare(parse_recipe(text, where="recipe.yaml"), base=base, observe=silent)


def write_pairs(folder, count=40):
    (folder / "a.en").write_text("\n".join(f"bring {n} lamps" for n in range(count)) + "\n")
    (folder / "a.xx").write_text("\n".join(f"bawa lampu {n}" for n in range(count)) + "\n")


PAIRS = """\
version: 1
task: translation
data: {source: parallel_text, path: a.en, target: a.xx}
text: {vocab_size: 300, max_length: 16}
"""


def test_documents_come_in_stretches_that_cover_every_token(tmp_path):
    (tmp_path / "tales").mkdir()
    for number, tale in enumerate(TALES):
        (tmp_path / "tales" / f"{number}.txt").write_text(tale)
    found = prepared(
        "version: 1\ntask: language-modeling\ndata: {source: documents, path: tales}\n"
        "text: {tokenizer: character, max_length: 16}",
        tmp_path,
    )
    train = found.split("train")
    held, asked = train.gather(), train.targets[:]
    assert held.dtype.names == ("tokens",)
    assert asked.dtype.names == ("next", "bytes")
    # What follows each token is the next one's; a text begins with its mark and ends with it.
    inside = asked["next"][:, :-1] != 0
    assert (held["tokens"][:, 1:][inside & (held["tokens"][:, 1:] != 0)] > 0).all()
    assert (held["tokens"] == BEGIN).sum() == len(found.rows["train"])
    assert (asked["next"] == END).sum() == len(found.rows["train"])
    characters = sum(len(TALES[int(o.split(".")[0])]) for o in origins_of(found, "train"))
    assert (asked["next"] > END).sum() == characters
    assert asked["bytes"].sum() == characters


def origins_of(found, name):
    held = found.store.strings("origin")
    return [held[row] for row in found.rows[name].tolist()]


def test_a_long_file_is_cut_into_passages_and_split_in_order(tmp_path):
    text = "".join(f"Line {n} of a long tale.\n" for n in range(3000))
    with gzip.open(tmp_path / "long.txt.gz", "wt") as stream:
        stream.write(text)
    found = prepared(
        "version: 1\ntask: language-modeling\n"
        "data: {source: documents, path: long.txt.gz, split: {by: time, column: order, val: 0.1, "
        "test: 0.1}}\ntext: {tokenizer: character}",
        tmp_path,
    )
    assert len(found.store) == -(-len(text) // PASSAGE)
    assert max(found.rows["train"]) < min(found.rows["validation"]) < min(found.rows["test"])
    assert set(found.test().texts.tolist()) == {0}
    whole = "".join(found.store.original(row).decode() for row in range(len(found.store)))
    assert whole == text


def test_stretches_know_their_text(tmp_path):
    (tmp_path / "tales").mkdir()
    for at, size in enumerate((2 * PASSAGE + 5, 100, PASSAGE + 5)):
        (tmp_path / "tales" / f"{at}.txt").write_text(
            "".join(f"{at} {n}\n" for n in range(size))[:size]
        )
    found = prepared(
        "version: 1\ntask: language-modeling\ndata: {source: documents, path: tales, "
        "split: {val: 0.2, test: 0.2}}\ntext: {tokenizer: character, max_length: 512}",
        tmp_path,
    )
    assert len(found.store) == 3 + 1 + 2
    for name, rows in found.rows.items():
        split = found.split(name)
        own = np.array([0, 0, 0, 1, 2, 2])[rows]
        assert set(split.texts.tolist()) == set(own.tolist())
        assert len(split.texts) == len(split)


def test_the_vocabulary_comes_from_the_training_split_alone(tmp_path):
    for name, words in (("train", "apples and pears"), ("val", "žluťoučký kůň")):
        (tmp_path / f"{name}.txt").write_text(f"{words} {words}")
    found = prepared(
        "version: 1\ntask: language-modeling\n"
        "data: {source: documents, path: train.txt, val: val.txt, split: {test: 0}}\n"
        "text: {tokenizer: character}",
        tmp_path,
    )
    tokenizer = found.input.tokenizer
    assert tokenizer.id("p") is not None
    assert tokenizer.id("ž") is None


def test_pairs_are_given_shifted_by_one(tmp_path):
    write_pairs(tmp_path)
    found = prepared(PAIRS, tmp_path)
    train = found.split("train")
    held, asked = train.gather(), train.targets[:]
    assert held.dtype.names == ("source", "source_length", "target")
    assert (held["target"][:, 0] == BEGIN).all()
    assert (
        held["target"][:, 1:][asked["next"][:, 1:] != 0]
        == asked["next"][:, :-1][asked["next"][:, 1:] != 0]
    ).all()
    assert ((asked["next"] == END).sum(axis=1) == 1).all()
    given, wanted = train.pairs()
    assert found.input.tokenizer.decode(asked["next"][0]) == wanted[0]
    assert found.input.tokenizer.decode(held["source"][0]) == given[0]


def test_pairs_of_unequal_length_are_refused_with_both_counts(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "a.xx").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"a\.en has 40 lines and a\.xx 2"):
        prepared(PAIRS, tmp_path)


def test_empty_and_broken_targets_are_listed_and_the_rest_goes_on(tmp_path):
    write_pairs(tmp_path)
    lines = (tmp_path / "a.xx").read_bytes().split(b"\n")
    lines[3], lines[7] = b"", b"\xff\xfe"
    (tmp_path / "a.xx").write_bytes(b"\n".join(lines))
    found = prepared(PAIRS, tmp_path)
    assert set(found.store.errors()) == {3, 7}
    assert sum(len(rows) for rows in found.rows.values()) == 38


def test_texts_that_are_too_long_are_counted(tmp_path):
    write_pairs(tmp_path)
    lines = (tmp_path / "a.xx").read_text().split("\n")
    lines[0] = "bawa " * 50
    (tmp_path / "a.xx").write_text("\n".join(lines))
    said = []
    prepare(
        parse_recipe(PAIRS, where="recipe.yaml"),
        base=tmp_path,
        observe=lambda progress: said.append(progress.note),
    )
    assert any("target texts" in note and "1 of" in note for note in said if note)


def test_other_pairs_are_measured_by_the_same_tokens(tmp_path):
    write_pairs(tmp_path)
    first = prepared(PAIRS, tmp_path)
    (tmp_path / "b.en").write_text("bring 3 lamps\n")
    (tmp_path / "b.xx").write_text("bawa lampu 3\n")
    like = parse_recipe(PAIRS, where="recipe.yaml").data
    split, *_ = labelled_split(
        tmp_path / "b.en",
        input=first.input,
        labels=(),
        observe=silent,
        like=like,
        output_kind=OutputKind.SEQ2SEQ,
    )
    assert split.pairs() == (["bring 3 lamps"], ["bawa lampu 3"])
    with pytest.raises(DataError, match="no file of target texts beside it"):
        labelled_split(
            tmp_path / "b.en",
            input=first.input,
            labels=(),
            observe=silent,
            output_kind=OutputKind.SEQ2SEQ,
        )


def test_letters_come_from_the_training_split_alone():
    held = ["Ab", "ba", "xyz"]
    letters = fit_characters(held[:2])
    assert letters == ("a", "b")
    targets, unknown = character_targets(held, letters)
    assert unknown == 3
    assert targets[np.array([0, 2])]["count"].tolist() == [2, 3]
