"""Tokenizers of other programs."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from modelwright.errors import DataError, ModelFileError
from modelwright.transforms.hf_tokenizer import HFTokenizer, TokenIdMap, read_foreign
from modelwright.transforms.text import TextInput

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.whole.folders import word_pieces

TEXTS = ["the soup was good", "", "  très\tdull\n", "a\ud800b", "[SEP] \x00 [MASK]", "x" * 5000]


def byte_level():
    """Return a tokenizer of RoBERTa's kind."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "Ġt", "he", "Ġthe"]
    numbers = {token: number for number, token in enumerate(tokens)}
    found = Tokenizer(models.BPE(numbers, [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    found.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return found


def pieces():
    """Return a tokenizer of T5's kind: sentencepiece's unigram, and `</s>` after a text."""
    tokens = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -2.5)]
    tokens += [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    found = Tokenizer(models.Unigram(tokens, unk_id=2, byte_fallback=False))
    found.normalizer = normalizers.Replace(" {2,}", " ")
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    found.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    found.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return found


KINDS = {"words": word_pieces, "bytes": byte_level, "pieces": pieces}


def taken(made):
    return read_foreign(made.to_str().encode(), None)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_it_reads_texts_as_the_library_does(make):
    made, found = make(), taken(make())
    made.no_truncation()
    # What isn't a special token is read alike, and between the same tokens.
    for text in [text for text in TEXTS if "[" not in text and "\ud800" not in text]:
        (own,), _ = TextInput(found, 6000).encode([text])
        assert own.tolist() == made.encode(text).ids
        assert found.decode(own) == made.decode(made.encode(text).ids)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_its_bytes_say_it_all(make):
    found = taken(make())
    again = HFTokenizer.from_bytes(found.to_bytes(), None)
    assert again == found
    assert [ids.tolist() for ids in again.encode(TEXTS)] == [
        ids.tolist() for ids in found.encode(TEXTS)
    ]
    spec = TextInput(found, 10)
    assert TextInput.from_json(spec.to_json(), spec.assets()) == spec
    assert spec.to_json()["token_ids"] is None


def test_what_stands_around_a_text_stays_where_it_is_cut():
    found = taken(word_pieces())
    rows, sizes = TextInput(found, 5).encode(["the soup was very good", "tea", ""])
    assert sizes == [5, 1, 0]
    assert [row[0] for row in rows] == [3, 3, 3]
    assert [row[-1] for row in rows] == [2, 2, 2]
    assert [len(row) for row in rows] == [5, 3, 2]


def test_a_text_is_never_a_command():
    found = taken(word_pieces())
    (ids,) = found.encode(["[SEP] [CLS]"])
    assert not {2, 3} & set(ids.tolist())
    (ids,) = taken(byte_level()).encode(["</s>"])
    assert 2 not in ids.tolist()


def test_a_file_that_we_did_not_write_is_refused_as_one_of_ours():
    with pytest.raises(ModelFileError):
        HFTokenizer.from_bytes(word_pieces().to_str(pretty=True).encode(), None)


def changed(**changes):
    return json.dumps({**json.loads(byte_level().to_str()), **changes}).encode()


SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 10_000,
        changed(model={"type": "Script"}),
        changed(model=None),
        changed(normalizer={"type": "Sequence", "normalizers": [{"type": "Mystery"}]}),
        changed(normalizer={"type": "Sequence", "normalizers": [None]}),
        changed(pre_tokenizer={"type": ["Split"]}),
        changed(pre_tokenizer={**SPLIT, "pattern": {"Regex": ["a"]}}),
        changed(pre_tokenizer={**SPLIT, "pattern": {"Regex": "(a|a)*$"}}),
        changed(
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [{**SPLIT, "pattern": {"Regex": "(a|a)*$"}}],
            }
        ),
        changed(post_processor={"type": "RobertaProcessing", "sep": ["x", 10**9], "cls": ["y", 0]}),
        changed(post_processor={"type": "TemplateProcessing", "single": []}),
        changed(decoder={"type": "CTC"}),
        changed(strange=1),
        changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        changed(model={**json.loads(byte_level().to_str())["model"], "dropout": 0.5}),
    ],
)
def test_what_is_not_known_is_refused(data):
    with pytest.raises(ModelFileError):
        read_foreign(data, None)


def replacing(content, pattern, count=1):
    """Return a tokenizer that replaces a text, so many times one after the other."""
    part = {"type": "Replace", "pattern": {"String": pattern}, "content": content}
    return changed(normalizer={"type": "Sequence", "normalizers": [part] * count})


def nested(depth):
    part = {"type": "Lowercase"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return changed(normalizer=part)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (replacing("e" * 10, "e", 12), "times as long"),
        (replacing("a" * 1000, "a"), "puts 1,000 letters"),
        (replacing("x", ""), "between letters"),
        (changed(normalizer={"type": "Prepend", "prepend": "x" * 100_000}), "puts 100,000 letters"),
        (replacing("a", "a", 100_000), "more than 64 parts"),
        (nested(100), "more than 64 parts"),
        (nested(400), "more than 64 parts"),
    ],
)
def test_a_tokenizer_that_makes_texts_much_longer_is_refused(data, why):
    with pytest.raises(ModelFileError, match=why):
        read_foreign(data, None)


def charsmap(*, leaf=98, offset=97 ^ 98, start=0, text=b"e\0", size=1024):
    """Return a table of characters in which the text stands for `a`, or a broken one."""
    units = np.zeros(256, "<u4")
    units[97] = offset << 10 | 1 << 8 | 97
    units[leaf] = 1 << 31 | start
    return size.to_bytes(4, "little") + units.tobytes() + text


def precompiled(table):
    text = base64.b64encode(table).decode()
    return changed(normalizer={"type": "Precompiled", "precompiled_charsmap": text})


def test_a_table_of_characters_is_taken():
    plain, mapped = (read_foreign(data, None) for data in (changed(), precompiled(charsmap())))
    assert [ids.tolist() for ids in mapped.encode(["that"])] == [
        ids.tolist() for ids in plain.encode(["thet"])
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1 << 30},
        {"size": 1000},
        {"size": 0},
        {"offset": 1 << 10},
        {"start": 2},
        {"start": 1, "text": "é\0".encode()},
        {"text": b"\xff\0"},
        {"text": b"e"},
        {"text": b""},
    ],
)
def test_a_broken_table_of_characters_is_refused(change):
    with pytest.raises(ModelFileError, match="table of characters"):
        read_foreign(precompiled(charsmap(**change)), None)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "é"}), "is broken"),
        (changed(normalizer={"type": "Prepend", "prepend": ""}), "puts nothing before"),
        (changed(decoder={"type": "Strip", "content": "a", "start": 0, "stop": 1}), "off the ends"),
        (
            changed(
                model={
                    **json.loads(byte_level().to_str())["model"],
                    "continuing_subword_prefix": "####",
                }
            ),
            "begin with a prefix",
        ),
    ],
)
def test_what_the_library_would_fail_at_is_refused_before(data, why, capfd):
    """The library is written in Rust: it tells the terminal, or ends the process."""
    with pytest.raises(ModelFileError, match=why):
        read_foreign(data, None)
    assert "panicked" not in capfd.readouterr().err


def merging(*merges, tokens=("a", "b", "ab", "日本")):
    model = {"type": "BPE", "vocab": {token: at for at, token in enumerate(tokens)}}
    return changed(model={**model, "merges": [*merges]}, added_tokens=[], post_processor=None)


LONG = precompiled(charsmap(text=b"e" * 65 + b"\0"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (merging("ab ab"), "makes a token"),
        (merging(["a", "日本"]), "makes a token"),
        (merging("a"), "makes a token"),
        (merging(5), "makes a token"),
        (changed(model={"type": "BPE", "vocab": [], "merges": []}), "aren't a list"),
        (LONG, "65 times as long"),
    ],
)
def test_merges_and_tables_that_make_what_is_not_there_are_refused(data, why, capfd):
    with pytest.raises(ModelFileError, match=why):
        read_foreign(data, None)
    assert "panicked" not in capfd.readouterr().err


def test_usual_merges_are_taken():
    found = read_foreign(merging("#version: 0.2", "a b"), None)
    assert found.encode(["ab"])[0].tolist() == [2]


def test_words_are_taken_apart_up_to_a_length():
    """Longer ones take a time that grows with the square of their length, or worse."""
    document = json.loads(word_pieces().to_str())
    for longest in (256, 100):
        document["model"]["max_input_chars_per_word"] = longest
        (ids,) = read_foreign(json.dumps(document).encode(), None).encode(["b" * longest])
        assert len(ids) == longest
    for longest in (257, 1 << 40, None, "9"):
        document["model"]["max_input_chars_per_word"] = longest
        with pytest.raises(ModelFileError, match="more than 256 letters"):
            read_foreign(json.dumps(document).encode(), None)


def test_usual_replacements_are_taken():
    assert read_foreign(replacing("_", " ", 3), None).encode(["a b"])
    assert read_foreign(replacing("''", '"'), None).encode(['say "a"'])
    assert read_foreign(nested(10), None).encode(["a b"])


NUMBERS = {"padding": 0, "unknown": 2, "begin": 0, "end": 1, "size": 40}


def test_tokens_of_a_network_that_writes_have_the_numbers_of_ours():
    token_ids = TokenIdMap.from_json(NUMBERS)
    plain = taken(pieces())
    found = read_foreign(pieces().to_str().encode(), token_ids)
    assert (found.size, found.unknown, found.before, found.after) == (41, 1, (), (3,))
    assert token_ids.theirs()[:6].tolist() == [0, 2, 0, 1, 3, 4]
    assert np.array_equal(token_ids.theirs()[token_ids.ours()], np.arange(40))
    (theirs,), (ours,) = plain.encode(["the cat Ω"]), found.encode(["the cat Ω"])
    assert token_ids.theirs()[ours].tolist() == theirs.tolist()
    assert found.decode([2, *ours.tolist(), 3, 0]) == plain.decode(theirs)
    assert HFTokenizer.from_bytes(found.to_bytes(), token_ids) == found != plain
    spec = TextInput(found, 10, "source")
    assert TextInput.from_json(spec.to_json(), spec.assets()) == spec


def test_a_numbering_that_cannot_be_is_refused():
    for change in ({"end": 0}, {"padding": 40}, {"begin": -1}, {"size": 1 << 40}, {"end": 1.0}):
        with pytest.raises(ModelFileError):
            TokenIdMap.from_json({**NUMBERS, **change})
    for value in ({}, 3, [], {**NUMBERS, "more": 1}):
        with pytest.raises(ModelFileError):
            TokenIdMap.from_json(value)
    with pytest.raises(ModelFileError, match="can't be used"):
        read_foreign(pieces().to_str().encode(), TokenIdMap.from_json({**NUMBERS, "size": 20}))


def test_a_number_below_zero_is_no_token():
    for number in (-1, 10**6):
        with pytest.raises(DataError):
            taken(byte_level()).decode([number])
