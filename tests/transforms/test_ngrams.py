"""TF-IDF of n-grams, against scikit-learn's; files of it that were tampered with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union

from modelwright.errors import ModelFileError
from modelwright.transforms.ngrams import (
    CHAR_RANGE,
    UNSPACED_RANGE,
    VOCABULARY,
    WORD_RANGE,
    NgramInput,
    fit_ngrams,
)

SINGLE = 1e-6
"""Weights are kept in single precision."""
ENGLISH = (
    "The film was good, really good!",
    "A bad film.\n\n I didn't like   it.",
    "good good GOOD",
    "It's a film about Zürich – in ß and ÀÉ.",
    "naïve 4 2 42 a",
)
CHINESE = ("房间很大，床有2M宽", "整体感觉经济实惠不错!", "酒店很好 房间很好", "很 不 好")
UNSEEN = ("good film, unseen words: 房间很大 Ω", "zzz", "  film\tfilm  ", "房")


def matrix(encoder: NgramInput, texts: tuple[str, ...]) -> csr_matrix:
    rows = encoder.encode(texts)
    ends = np.cumsum([0, *map(len, rows)])
    joined = np.concatenate(rows)
    return csr_matrix((joined["f1"], joined["f0"], ends), shape=(len(texts), encoder.size))


def of_sklearn(kind: str, sizes: tuple[int, int]) -> TfidfVectorizer:
    if kind == "word":
        return TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=sizes, sublinear_tf=True)
    return TfidfVectorizer(analyzer="char", ngram_range=sizes, sublinear_tf=True)


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        (ENGLISH, [("word", WORD_RANGE), ("char", CHAR_RANGE)]),
        (CHINESE, [("char", UNSPACED_RANGE)]),
    ],
)
def test_weights_are_those_of_scikit_learn(texts, kinds) -> None:
    encoder = fit_ngrams(texts)
    assert [(kind.analyzer, (kind.shortest, kind.longest)) for kind in encoder.kinds] == kinds
    reference = make_union(*(of_sklearn(*kind) for kind in kinds))
    # Blanks are folded to one on both sides.
    reference.fit([" ".join(text.split()) for text in texts])
    names = [
        name for _, each in reference.transformer_list for name in each.get_feature_names_out()
    ]
    assert sorted(map(encoder.text, range(encoder.size))) == sorted(names)
    starts = np.cumsum([0, *(len(kind.codes) for kind in encoder.kinds)])
    column, first = np.empty(encoder.size, np.int64), 0
    for kind, start, (_, each) in zip(
        encoder.kinds, starts.tolist(), reference.transformer_list, strict=False
    ):
        for at in range(len(kind.codes)):
            column[start + at] = first + each.vocabulary_[kind.text(at)]
        first += len(each.vocabulary_)
    for asked in (texts, UNSEEN):
        expected = reference.transform([" ".join(text.split()) for text in asked]).toarray()
        found = matrix(encoder, asked).toarray()
        np.testing.assert_allclose(found, expected[:, column], atol=SINGLE)


def test_many_texts_are_counted_as_few() -> None:
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(random.choice(words, size=8)) for _ in range(700)]
    encoder = fit_ngrams(texts)
    reference = of_sklearn("word", WORD_RANGE).fit(texts)
    kind = encoder.kinds[0]
    for at in range(0, len(kind.codes), 97):
        assert kind.idf[at] == pytest.approx(
            reference.idf_[reference.vocabulary_[kind.text(at)]], abs=1e-5
        )
    alone = [encoder.encode([text])[0] for text in texts[250:262]]
    for one, among in zip(alone, encoder.encode(texts)[250:262], strict=True):
        np.testing.assert_array_equal(one, among)


def test_what_a_single_one_of_many_texts_has_is_left_out() -> None:
    texts = ["always the same"] * 999 + ["always the other"]
    assert not any("other" in fit_ngrams(texts).text(at) for at in range(fit_ngrams(texts).size))
    few = fit_ngrams(texts[-10:])
    assert any(few.text(at) == "the other" for at in range(few.size))


def test_texts_that_are_all_different_keep_their_n_grams() -> None:
    assert fit_ngrams([chr(0x4E00 + at) for at in range(1200)]).size == 1200


def test_the_most_frequent_n_grams_are_kept() -> None:
    encoder = fit_ngrams(["a b"] * 3 + ["a c"] * 2 + ["d e"], most=3)
    kept = encoder.kinds[0]
    assert sorted(map(kept.text, range(3))) == ["a", "a b", "b"]


def test_it_is_read_as_it_was_written() -> None:
    encoder = fit_ngrams(ENGLISH)
    again = NgramInput.from_json(encoder.to_json(), encoder.assets())
    assert again.assets() == encoder.assets()
    assert again.to_json() == encoder.to_json()
    for one, other in zip(encoder.encode(UNSEEN), again.encode(UNSEEN), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_lone_half_of_a_character_is_no_fault() -> None:
    encoder = fit_ngrams(["a \ud83d b", "a b"])
    assert len(encoder.encode(["\ud83d"])) == 1
    NgramInput.from_json(encoder.to_json(), encoder.assets())


def changed(encoder: NgramInput, at: slice, value: bytes) -> tuple[dict, dict]:
    """Return the declaration and assets with some bytes replaced, and the digest made to fit."""
    from modelwright.files import digest

    data = bytearray(encoder.assets()[VOCABULARY])
    data[at] = value
    return encoder.to_json() | {"vocabulary": digest(bytes(data))}, {VOCABULARY: bytes(data)}


def test_tampered_n_grams_are_refused() -> None:
    encoder = fit_ngrams(["b a", "a b c"])
    whole = len(encoder.assets()[VOCABULARY])
    tokens = 8 + int.from_bytes(encoder.assets()[VOCABULARY][:8], "little")
    cases = [
        changed(encoder, slice(0, 8), (1 << 62).to_bytes(8, "little")),
        changed(encoder, slice(8, 9), b"{"),
        changed(encoder, slice(10, 11), b"z"),  # The words are no longer in order.
        changed(encoder, slice(tokens, tokens + 8), (4).to_bytes(8, "little")),  # A digit of 0.
        changed(encoder, slice(tokens, tokens + 8), (-1).to_bytes(8, "little", signed=True)),
        changed(encoder, slice(whole - 4, whole), np.float32(np.nan).tobytes()),
        changed(encoder, slice(whole, whole), b"more"),
        changed(encoder, slice(whole - 4, whole), b""),
    ]
    declared = encoder.to_json()
    for more in ({"weights": "counts"}, {"kinds": []}, {"other": 1}, {"vocabulary": "sha256:0"}):
        cases.append((declared | more, encoder.assets()))
    first = declared["kinds"][0]
    for more in (
        {"range": [1, 40]},
        {"range": [2, 1]},
        {"tokens": 9},
        {"ngrams": 1 << 60},
        {"x": 0},
    ):
        cases.append(
            (declared | {"kinds": [first | more, *declared["kinds"][1:]]}, encoder.assets())
        )
    cases.append((declared, {}))
    for value, assets in cases:
        with pytest.raises(ModelFileError):
            NgramInput.from_json(value, assets)
