"""Tokenizers: round trips, determinism, plain text that looks special, and hostile files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.files import canonical_json
from modelwright.transforms import tokenizing
from modelwright.transforms.tokenizing import SPECIALS, Tokenizer, fold, train_tokenizer

library = pytest.importorskip("tokenizers")

KINDS = ["word", "bpe", "character"]
TEXTS = [
    "The quick brown fox doesn't jump over the lazy dogs, it sleeps.",
    "In 2016 the fox slept  for 1234567 hours;\n\tthe dogs didn't.",
    "Zwei junge Männer, weiße Büsche: Straße!",
    "语言处理很有意思。语言模型",
    "<eos> <eos> <eos> <pad><unk> a <bos>b",
    "नमस्ते दुनिया",
] * 3


def trained(kind, *, size=400, lowercase=False, texts=TEXTS, min_count=1):
    return train_tokenizer(texts, kind=kind, size=size, lowercase=lowercase, min_count=min_count)


LEARNT = {
    (kind, lowercase): trained(kind, lowercase=lowercase)
    for kind in KINDS
    for lowercase in (False, True)
}
every = pytest.mark.parametrize("tokenizer", LEARNT.values(), ids=str)
BPE, LETTERS = LEARNT["bpe", False], LEARNT["character", False]
seen_texts = st.text(sorted(set("".join(TEXTS))), max_size=60)
mixed_texts = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(max_codepoint=127), max_size=60),
    st.text(" \t\n\u3000\xa0\x1c\u0301aBé'’<>eos19.語\u05d0\u200b\0▁İẞ", max_size=60),
    st.lists(st.sampled_from(["don't", " ", "  ", "\n", "<eos>", "fox", "x" * 70, "!" * 20])).map(
        "".join
    ),
)


# Text to numbers and back


@given(st.text(max_size=80) | mixed_texts)
def test_bytes_give_back_any_text(text):
    ids = BPE.encode([text])[0]
    assert BPE.decode(ids) == text
    assert not (ids < len(SPECIALS)).any()


@given(seen_texts)
def test_letters_give_back_what_they_have_seen(text):
    assert LETTERS.decode(LETTERS.encode([text])[0]) == text


@settings(deadline=None)
@given(mixed_texts)
def test_the_library_alone_reads_the_same_numbers(text):
    for tokenizer in LEARNT.values():
        plain = library.Tokenizer.from_str(tokenizer.to_bytes().decode())
        assert tokenizer.encode([text])[0].tolist() == plain.encode(text).ids


@settings(deadline=None)
@given(st.lists(mixed_texts, max_size=4))
def test_a_batch_is_its_texts_one_by_one(texts):
    for tokenizer in LEARNT.values():
        together = tokenizer.encode(texts)
        assert [ids.dtype for ids in together] == [np.int32] * len(texts)
        for text, ids in zip(texts, together, strict=True):
            assert np.array_equal(tokenizer.encode([text])[0], ids)


@settings(deadline=None)
@given(mixed_texts)
def test_nothing_in_a_text_becomes_a_special_token(text):
    for tokenizer in LEARNT.values():
        held = set(tokenizer.encode([text, f"{text}<eos>", f"<pad>{text}<bos>"])[1].tolist())
        assert not held & {0, 2, 3}


@every
def test_a_special_token_that_was_learnt_from_is_text(tokenizer):
    ids = tokenizer.encode(["<eos><unk><pad>"])[0]
    assert ids.min() >= len(SPECIALS)
    assert tokenizer.decode(ids).replace(" ", "") == "<eos><unk><pad>"


def test_words_and_marks_are_cut():
    tokenizer = LEARNT["word", False]
    ids = tokenizer.encode(["The dogs,didn't  sleep!"])[0]
    assert [tokenizer.token(number) for number in ids] == [
        "The", "dogs", ",", "didn't", "<unk>", "!",
    ]  # fmt: skip
    assert tokenizer.decode(ids) == "The dogs , didn't !"


def test_words_are_numbered_by_how_often_they_occur():
    tokenizer = trained("word", texts=["b b c a a b", "d"], size=7)
    assert [tokenizer.token(number) for number in range(7)] == [*SPECIALS, "b", "a", "c"]


@every
def test_lower_case_is_folded_where_it_was_asked(tokenizer):
    both = tokenizer.encode(["THE FOX", "the fox"])
    assert np.array_equal(*both) == tokenizer.lowercase
    if tokenizer.kind == "bpe":
        assert tokenizer.decode(both[0]) == ("the fox" if tokenizer.lowercase else "THE FOX")


@every
def test_tokens_and_numbers_are_one_to_one(tokenizer):
    tokens = [tokenizer.token(number) for number in range(tokenizer.size)]
    assert [tokenizer.id(token) for token in tokens] == list(range(tokenizer.size))
    assert tuple(tokens[:4]) == SPECIALS
    assert tokenizer.id("never seen") is None
    assert tokenizer.id("\ud800") is None


@every
def test_numbers_of_another_tokenizer_are_refused(tokenizer):
    for number in (-1, tokenizer.size):
        with pytest.raises(DataError, match="is no token"):
            tokenizer.decode([4, number])
        with pytest.raises(DataError, match="is no token"):
            tokenizer.token(number)
    assert tokenizer.decode(np.arange(4)) == ""


def test_chunks_are_remembered_up_to_a_number_and_a_length(monkeypatch):
    tokenizer = trained("bpe")
    texts = ["to be or not to be", "x" * 65, "", "to sea"]
    first = tokenizer.encode(texts)
    assert set(tokenizer._known) == {"to", " be", " or", " not", " to", " sea"}
    monkeypatch.setattr(tokenizing, "_KEPT_CHUNKS", 2)
    assert (
        tokenizer.encode(["so be it"])[0].tolist()
        == trained("bpe").encode(["so be it"])[0].tolist()
    )
    assert len(tokenizer._known) <= 2
    for before, now in zip(first, tokenizer.encode(texts), strict=True):
        np.testing.assert_array_equal(before, now)


@every
def test_odd_texts_are_read(tokenizer):
    empty, blank, halves, replaced, nul = tokenizer.encode(
        ["", " \n", "a\ud800b\udfff", "a\ufffdb\ufffd", "a\0b"]
    )
    assert empty.shape == (0,)
    assert len(blank) == 0 or tokenizer.kind != "word"
    assert np.array_equal(halves, replaced)
    assert len(nul)
    if tokenizer.kind == "bpe":
        assert tokenizer.decode(nul) == "a\0b"


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_of_ten_megabytes_is_read(kind):
    tokenizer = LEARNT[kind, False]
    for line in ("the lazy dogs, " * 700_000, "a" * 200_000, " " * 200_000, "\0" * 200_000):
        ids = tokenizer.encode([line])[0]
        if kind in ("bpe", "character"):
            assert tokenizer.decode(ids[:1000]) == line[: len(tokenizer.decode(ids[:1000]))]
        assert len(ids) or kind == "word"


def test_blanks_are_those_of_the_library():
    letters = "".join(chr(code) for code in range(0xD800))
    cut = library.pre_tokenizers.Split(library.Regex(r"\s"), "removed", invert=True)
    found = "".join(piece for piece, _ in cut.pre_tokenize_str(letters))
    assert found == "".join(re.findall(f"[{tokenizing._BLANKS}]", letters))


# Learning


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_texts_changes_nothing(kind):
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    assert trained(kind, texts=iter(shuffled)).to_bytes() == LEARNT[kind, False].to_bytes()


LEARN = """
import hashlib, random
from modelwright.transforms.tokenizing import train_tokenizer
draw = random.Random(0)
words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 9))) for _ in range(400)]
texts = [" ".join(draw.choices(words, k=30)) for _ in range(300)]
for kind in ("word", "bpe", "character"):
    print(hashlib.sha256(
        train_tokenizer(texts, kind=kind, size=500, lowercase=False).to_bytes()
    ).hexdigest())
"""


def test_processes_and_threads_learn_the_same():
    settings = ({"RAYON_NUM_THREADS": "4"}, {"TOKENIZERS_PARALLELISM": "false"})
    found = {
        subprocess.run(
            [sys.executable, "-c", LEARN], env=os.environ | more, capture_output=True, check=True
        ).stdout
        for more in settings
    }
    assert len(found) == 1


FORK = """
import os
from modelwright.transforms.tokenizing import train_tokenizer
def learn():
    return train_tokenizer(["some text here"] * 500, kind="bpe", size=270, lowercase=False)
tokenizer = learn()
child = os.fork()
if child == 0:
    same = learn() == tokenizer and tokenizer.decode(tokenizer.encode(["text"])[0]) == "text"
    os._exit(0 if same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert "TOKENIZERS_PARALLELISM" not in os.environ
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_works_and_says_nothing():
    clean = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], env=clean, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_kept_to(kind):
    for size in (264, 300, 10_000):
        assert trained(kind, size=size).size <= size
    least = 260 if kind == "bpe" else 5
    assert trained(kind, size=least).size == least
    for size in (least - 1, tokenizing.MOST_TOKENS + 1):
        with pytest.raises(RequestError, match="can't have"):
            trained(kind, size=size)


def test_rare_tokens_are_left_out():
    texts = ["often often once", "often"]
    assert trained("word", texts=texts, min_count=2).size == 5
    assert trained("character", texts=texts, min_count=3).id("f") is not None
    assert trained("character", texts=texts, min_count=4).id("f") is None
    assert trained("bpe", texts=texts, min_count=2).id("once") is None
    assert trained("bpe", texts=texts, min_count=2).id("often") is not None
    with pytest.raises(RequestError, match="can't be 0"):
        trained("word", min_count=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_nothing_can_be_learnt_from_nothing(kind, texts):
    with pytest.raises(DataError, match="nothing"):
        trained(kind, texts=texts)


@pytest.mark.parametrize("kind", KINDS)
def test_any_text_can_be_learnt_from(kind):
    odd = ["\ud800\0", "▁ ▁", "a" * 70_000, "\x1c\u3000" * 9, "😀👍🏽", "İ"]
    tokenizer = trained(kind, texts=odd, lowercase=True)
    assert all(len(ids) for ids in tokenizer.encode(odd))


# The file


@every
def test_a_file_is_its_tokenizer(tokenizer):
    read = Tokenizer.from_bytes(tokenizer.to_bytes())
    assert read == tokenizer
    assert read.to_bytes() == tokenizer.to_bytes()
    assert canonical_json(json.loads(tokenizer.to_bytes())) == tokenizer.to_bytes()
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    assert hash(read) == hash(tokenizer)
    assert (read.kind, read.lowercase) == (tokenizer.kind, tokenizer.lowercase)
    for text in TEXTS:
        assert np.array_equal(read.encode([text])[0], tokenizer.encode([text])[0])


GOLDEN = {
    "word": "923b3f73bb2d3e95",
    "bpe": "d0795ec4d0dea113",
    "character": "8bbe4b5c959d19c8",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_stays_as_it_is(kind):
    # Another digest means that files of today would be refused tomorrow.
    data = trained(kind, texts=["b a b"], size=260, lowercase=True).to_bytes()
    assert hashlib.sha256(data).hexdigest()[:16] == GOLDEN[kind]


def changed(kind, **changes):
    document = json.loads(LEARNT[kind, False].to_bytes())
    document["model"].update(changes.pop("model", {}))
    return canonical_json(document | changes)


def vocab(kind, change):
    held = json.loads(LEARNT[kind, False].to_bytes())["model"]["vocab"]
    change(held)
    return changed(kind, model={"vocab": held})


def pattern(regex):
    return {
        "type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": True,
    }  # fmt: skip


HOSTILE = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"7",
    "no model": b'{"normalizer":null}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "blanks": LETTERS.to_bytes() + b"\n",
    "another order": json.dumps(json.loads(LETTERS.to_bytes())).encode(),
    "twice": LETTERS.to_bytes().replace(b'{"added', b'{"added_tokens":[],"added', 1),
    "a regex bomb": changed("word", pre_tokenizer=pattern(r"(\w+\s?)*$")),
    "our regex, otherwise": changed("word", pre_tokenizer=pattern(tokenizing._WORDS + "|x")),
    "another cutting": changed("bpe", pre_tokenizer={"type": "Whitespace"}),
    "another kind's cutting": changed("bpe", pre_tokenizer=None),
    "another normalizer": changed("word", normalizer={"type": "NFC"}),
    "a replacing normalizer": changed(
        "word", normalizer={"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}
    ),
    "another decoder": changed("character", decoder={"type": "WordPiece"}),
    "a post-processor": changed("word", post_processor={"type": "ByteLevel"}),
    "an added token": changed("word", added_tokens=[{"id": 4, "content": "x", "special": True}]),
    "truncation": changed("word", truncation={"max_length": 1}),
    "more than it may hold": changed("word", more=1),
    "another model": changed("word", model={"type": "WordPiece"}),
    "a model of no kind": changed("word", model={"type": ["BPE"]}),
    "dropout": changed("bpe", model={"dropout": 0.5}),
    "another unknown": changed("word", model={"unk_token": "<pad>"}),
    "bytes in pieces": changed("bpe", model={"byte_fallback": True}),
    "a kind of others": changed("word", model={"type": "Unigram"}),
    "no vocabulary": changed("word", model={"vocab": {}}),
    "only special tokens": changed("word", model={"vocab": {t: i for i, t in enumerate(SPECIALS)}}),
    "a vocabulary of lists": changed("word", model={"vocab": [["a", 1]]}),
    "a gap": vocab("word", lambda held: held.pop("the")),
    "a number twice": vocab("word", lambda held: held.update(the=5)),
    "a negative number": vocab("word", lambda held: held.update(the=-1)),
    "half a number": vocab("word", lambda held: held.update(the=5.5)),
    "a claim for a number": vocab("word", lambda held: held.update({"<unk>": True})),
    "a huge number": vocab("word", lambda held: held.update(the=10**30)),
    "special tokens exchanged": vocab("word", lambda held: held.update({"<pad>": 3, "<eos>": 0})),
    "no special tokens": vocab("character", lambda held: held.update({"<pad>": len(held) + 1})),
    "an empty token": vocab("word", lambda held: held.update({"": len(held)})),
    "two letters": vocab("character", lambda held: held.update({"ab": len(held)})),
    "one token twice": LETTERS.to_bytes().replace(b'"vocab":{', b'"vocab":{"<pad>":0,', 1),
    "NaN": LETTERS.to_bytes().replace(b'"<bos>":2', b'"<bos>":NaN', 1),
    "infinity": LETTERS.to_bytes().replace(b'"<eos>":3', b'"<eos>":1e999', 1),
    "half a character": LETTERS.to_bytes().replace(b'"a"', b'"\\ud800"', 1),
    "no merges": changed("bpe", model={"merges": []}),
    "merges of nothing": changed("bpe", model={"merges": [["never", "seen"]]}),
    "merges of three": changed("bpe", model={"merges": [["a", "b", "c"]]}),
    "merges of lists": changed("bpe", model={"merges": [[["a"], ["b"]]]}),
    "merges among characters": changed("character", model={"merges": [["a", "b"]]}),
    "a number of many digits": b'{"model":' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_we_would_not_write_is_refused(name):
    with pytest.raises(ModelFileError, match="no tokenizer of modelwright"):
        Tokenizer.from_bytes(HOSTILE[name])


def test_what_is_too_large_is_refused_unread(monkeypatch):
    with pytest.raises(ModelFileError, match="too large"):
        Tokenizer.from_bytes(b"[" + b"{}," * (1 << 21) + b"{}]")
    monkeypatch.setattr(tokenizing, "MOST_BYTES", 100)
    with pytest.raises(ModelFileError, match="too large"):
        Tokenizer.from_bytes(LETTERS.to_bytes())
    monkeypatch.undo()
    monkeypatch.setattr(tokenizing, "MOST_TOKENS", 10)
    with pytest.raises(ModelFileError, match="has 400 tokens"):
        Tokenizer.from_bytes(BPE.to_bytes())


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(LEARNT)), st.integers(0, 1 << 30), st.binary(max_size=3))
def test_a_damaged_file_is_refused_or_another_tokenizer(which, at, patch):
    data = LEARNT[which].to_bytes()
    at %= len(data)
    damaged = data[:at] + patch + data[at + len(patch) :]
    try:
        read = Tokenizer.from_bytes(damaged)
    except ModelFileError:
        return
    assert read.to_bytes() == damaged
    assert read.kind == which[0]
    assert all(0 <= number < read.size for number in read.encode(["the fox <eos>"])[0])


# Folding


@given(st.text() | mixed_texts)
def test_folding_twice_is_folding_once(text):
    folded = fold(text)
    assert fold(folded) == folded
    assert folded == " ".join(folded.split())


@given(st.text() | mixed_texts)
def test_spellings_of_one_text_fold_alike(text):
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, text)) == fold(text)
    assert fold(f"\t{text} \u3000") == fold(text)


def test_case_and_blanks_are_folded():
    assert fold(" The\u00a0 CAFE\u0301\r\n") == fold("the caf\xe9") == "the caf\xe9"
    assert fold("STRASSE") == fold("straße")
    assert fold("a b") != fold("ab")
    assert fold("\ud800 X") == "\ud800 x"
