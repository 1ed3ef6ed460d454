"""The metrics of texts against sacrebleu, rouge_score, hand-worked values and their own laws."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.metrics.text import (
    bits_per_byte,
    bleu,
    bleu_statistics,
    bleu_words,
    character_errors,
    chrf,
    chrf_statistics,
    edit_distances,
    error_rate,
    perplexity,
    rouge_statistics,
    word_errors,
)

CLOSE = 1e-9  # both sides compute in float64

HYPOTHESES = [
    "The cat sat on the mat.",
    "A man, in 3.5 hours, rode well-known horses &amp; mules.",
    "",
    "the the the the the the the",
    "Zwei junge Männer sind im Freien.",
    "no overlap here",
]
REFERENCES = [
    "The cat is on the mat.",
    'A man rode the well-known horse for 3,500 hours & "mules".',
    "Something was said.",
    "the cat is on the mat",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "",
]

words = st.lists(st.sampled_from(["a", "the", "cat", "Cat,", "3.5", "x-y", "ü", "."]), max_size=9)
texts = words.map(" ".join)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)
latin = st.text("aB3 x-_'.,\n&", max_size=30)
sequences = st.lists(st.integers(0, 3), max_size=70)  # longer than a machine word


def sides(pairs):
    return [found for found, _ in pairs], [wanted for _, wanted in pairs]


# Translations


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_bleu_is_sacrebleus(pairs):
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, references = sides(pairs)
    sums = bleu_statistics(hypotheses, references, "13a").sum(axis=0)
    wanted = sacrebleu.corpus_bleu(hypotheses, [references], force=True)
    assert sums.tolist() == [wanted.sys_len, wanted.ref_len, *wanted.counts, *wanted.totals]
    assert bleu(sums) == pytest.approx(wanted.score, abs=CLOSE)


@pytest.mark.parametrize(("formula", "columns"), [(bleu, 10), (chrf, 18)])
def test_figures_of_many_draws_are_those_of_each(formula, columns):
    sums = np.random.default_rng(0).integers(0, 9, (2, 5, columns)).cumsum(axis=-1)
    each = [[formula(row) for row in draw] for draw in sums]
    np.testing.assert_allclose(formula(sums), each, rtol=CLOSE)
    assert len(np.unique(each)) == 10


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_chrf_is_sacrebleus(pairs):
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, references = sides(pairs)
    wanted = sacrebleu.corpus_chrf(hypotheses, [references]).score
    found = chrf(chrf_statistics(hypotheses, references).sum(axis=0))
    assert found == pytest.approx(wanted, abs=CLOSE)


def test_real_sentences_score_as_in_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    found = bleu(bleu_statistics(HYPOTHESES, REFERENCES, "13a").sum(axis=0))
    wanted = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], force=True).score
    assert 0 < found < 100
    assert found == pytest.approx(wanted, abs=CLOSE)
    found = chrf(chrf_statistics(HYPOTHESES, REFERENCES).sum(axis=0))
    assert found == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score, abs=CLOSE)


CHINESE = ["猫坐在垫子上。", "他买了3.5公斤苹果，很便宜", "OK", "今天 is Monday"]
CHINESE_WANTED = ["猫在垫子上坐着。", "他买了3.5公斤的苹果，非常便宜。", "好", "今天是 Monday"]
JAPANESE = ["猫がマットの上に座った。", "りんごを買った"]
JAPANESE_WANTED = ["猫はマットの上に座っている。", "りんごを3個買った。"]


@pytest.mark.parametrize(
    ("hypotheses", "references", "tokenizer"),
    [(CHINESE, CHINESE_WANTED, "zh"), (JAPANESE, JAPANESE_WANTED, "char")],
)
def test_texts_without_blanks_score_as_in_sacrebleu(hypotheses, references, tokenizer):
    sacrebleu = pytest.importorskip("sacrebleu")
    words = bleu_words(references)
    assert words == tokenizer
    found = bleu(bleu_statistics(hypotheses, references, words).sum(axis=0))
    wanted = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer, force=True).score
    assert found == pytest.approx(wanted, abs=CLOSE)
    assert found > 20  # Cut at blanks alone, these score next to nothing.


def test_the_words_of_bleu_follow_the_script_of_the_references():
    assert bleu_words([]) == bleu_words(["3.5"]) == bleu_words(REFERENCES) == "13a"
    assert bleu_words(["고양이가 매트 위에 앉았다."]) == "13a"  # Korean puts blanks.
    assert bleu_words(["The word 猫 means cat."]) == "13a"
    assert bleu_words(["แมวนั่งบนเสื่อ"]) == "char"
    assert bleu_words([*CHINESE_WANTED, "《の》是日文"]) == "zh"


def test_texts_shorter_than_four_words_score_as_in_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    for more in ([], ["one two three four"]):
        hypotheses, references = ["a cat", *more], ["a cat", *more]
        wanted = sacrebleu.corpus_bleu(hypotheses, [references], force=True).score
        found = bleu(bleu_statistics(hypotheses, references, "13a").sum(axis=0))
        assert found == pytest.approx(wanted, abs=CLOSE)
        assert found == (100 if more else 0)  # No n-grams of four words: undefined, and called 0.


def test_bleu_by_hand():
    # 3 of 4, 2 of 3, 1 of 2 and none of 1, taken as a half; the reference is longer by one word.
    sums = np.array([4, 5, 3, 2, 1, 0, 4, 3, 2, 1])
    wanted = 100 * math.exp(1 - 5 / 4) * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
    assert bleu(sums) == pytest.approx(wanted, abs=CLOSE)


def test_nothing_said_scores_nothing():
    assert bleu(np.zeros(10)) == 0.0
    assert chrf(np.zeros(18)) == 0.0
    assert chrf(chrf_statistics([""], ["a"]).sum(axis=0)) == 0.0
    assert bleu_statistics([], [], "13a").shape == (0, 10)
    assert chrf_statistics([], []).shape == (0, 18)


# Summaries


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(latin, latin), min_size=1, max_size=6))
def test_rouge_is_that_of_rouge_score(pairs):
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    names = ["rouge1", "rouge2", "rougeL"]
    reference = scorer.RougeScorer(names, use_stemmer=False)
    hypotheses, references = sides(pairs)
    for row, found, wanted in zip(
        rouge_statistics(hypotheses, references), hypotheses, references, strict=True
    ):
        scores = reference.score(wanted, found)
        assert row.tolist() == pytest.approx([scores[n].fmeasure for n in names], abs=CLOSE)


def test_rouge_by_hand():
    # Lin 2004, section 3.1: of `police killed the gunman` three words are in order in the first
    # sentence, two in the second.
    found = rouge_statistics(
        ["Police kill the gunman", "the gunman kill police", "", "语言"],
        ["police killed the gunman", "police killed the gunman", "police", "语言"],
    )
    np.testing.assert_allclose(found[0], [3 / 4, 1 / 3, 3 / 4])
    np.testing.assert_allclose(found[1], [3 / 4, 1 / 3, 2 / 4])
    assert found[2:].tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("found", "wanted", "shared", "total"),
    [
        ("Der Käse schmeckt", "DER KÄSE, SCHMECKT!", 3, 6),
        ("ka\u0308se", "käse", 1, 2),  # Typed as two characters.
        ("кошка спит", "кошка не спит", 2, 5),
        ("हिन्दी भाषा", "हिन्दी", 1, 3),  # Its vowels are marks, not gaps.
        ("kase", "käse", 0, 2),
        ("猫坐着", "猫 坐下", 2, 6),
        ("iPhone很贵", "iphone 很好", 2, 6),
        ("ねこ", "いぬ", 0, 4),
    ],
)
def test_rouge_knows_words_of_any_script(found, wanted, shared, total):
    row = rouge_statistics([found], [wanted])[0]
    assert row[0] == pytest.approx(2 * shared / total)


@given(sequences, sequences)
def test_rouge_l_is_the_longest_common_subsequence(found, wanted):
    table = np.zeros((len(found) + 1, len(wanted) + 1), dtype=int)
    for i, a in enumerate(found):
        for j, b in enumerate(wanted):
            best = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else best
    row = rouge_statistics([" ".join(map(str, found))], [" ".join(map(str, wanted))])[0]
    total = len(found) + len(wanted)
    assert row[2] == pytest.approx(2 * table[-1, -1] / total if table[-1, -1] else 0.0)


# Transcripts


def plain_distance(found, wanted):
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(found, 1):
        above, row = row, [i]
        for j, b in enumerate(wanted, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(sequences, sequences)
def test_distances_are_those_of_the_plain_table(found, wanted):
    assert edit_distances([found], [wanted]).tolist() == [
        [plain_distance(found, wanted), len(wanted)]
    ]


@given(sequences, sequences, sequences)
def test_distances_are_a_metric(a, b, c):
    ab, bc, ac, ba, aa = edit_distances([a, b, a, b, a], [b, c, c, a, a])[:, 0]
    assert ac <= ab + bc
    assert ab == ba
    assert aa == 0
    assert abs(len(a) - len(b)) <= ab <= max(len(a), len(b))
    assert (ab == 0) == (a == b)


def test_any_items_can_be_compared():
    assert edit_distances([("a", 1, None)], [(1, None, "b")]).tolist() == [[2, 3]]
    assert edit_distances([], []).shape == (0, 2)


def test_word_and_character_errors_by_hand():
    found = ["one  two three", "", "extra"]
    wanted = ["one too three four", "two words", ""]
    assert word_errors(found, wanted).tolist() == [[2, 4], [2, 2], [1, 0]]
    assert error_rate(word_errors(found, wanted).sum(axis=0)) == pytest.approx(5 / 6)
    assert character_errors(["ab  c "], [" ab d"]).tolist() == [[1, 4]]
    assert error_rate(word_errors(["two words"], [""]).sum(axis=0)) == 2.0
    assert error_rate(word_errors([""], [""]).sum(axis=0)) == 0.0


words = st.lists(st.sampled_from(["a", "bc", "the", "ß", "猫"]), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(words, words.filter(bool)), min_size=1, max_size=5))
def test_error_rates_are_those_of_jiwer(pairs):
    jiwer = pytest.importorskip("jiwer")
    found, wanted = (list(map(" ".join, side)) for side in sides(pairs))
    rate = error_rate(word_errors(found, wanted).sum(axis=0))
    assert rate == pytest.approx(jiwer.wer(wanted, found))
    rate = error_rate(character_errors(found, wanted).sum(axis=0))
    assert rate == pytest.approx(jiwer.cer(wanted, found))


# Laws of all


@pytest.mark.parametrize(
    "statistics",
    [
        partial(bleu_statistics, words="13a"),
        chrf_statistics,
        rouge_statistics,
        word_errors,
        character_errors,
    ],
)
def test_the_sums_of_parts_are_the_sum_of_the_whole(statistics):
    if isinstance(statistics, partial):
        pytest.importorskip("sacrebleu")
    whole = statistics(HYPOTHESES, REFERENCES)
    for at in range(len(HYPOTHESES) + 1):
        parts = [
            statistics(HYPOTHESES[:at], REFERENCES[:at]),
            statistics(HYPOTHESES[at:], REFERENCES[at:]),
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        total = sum(part.sum(axis=0) for part in parts)
        np.testing.assert_allclose(total, whole.sum(axis=0), rtol=1e-12)
    with pytest.raises(ValueError, match="zip"):
        statistics(HYPOTHESES, REFERENCES[1:])


@given(texts.filter(lambda text: len(text.split()) > 3))
def test_a_perfect_text_has_the_best_score(text):
    assert chrf(chrf_statistics([text], [text])[0]) == pytest.approx(100)
    assert error_rate(word_errors([text], [text])[0]) == 0
    assert error_rate(character_errors([text], [text])[0]) == 0


# Language models


def test_perplexity_and_bits_by_hand():
    assert perplexity(4 * math.log(8), 4) == pytest.approx(8)
    assert bits_per_byte(6 * math.log(2), 3) == pytest.approx(2)
    assert perplexity(1e9, 1) == math.inf
    assert perplexity(0.0, 5) == 1.0
