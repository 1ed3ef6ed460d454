"""Metrics of texts, each as figures per sample that add up and a formula over their sums.

So the samples of several batches or ranks are joined by adding, and a bootstrap draws rows. BLEU's
words are those of sacrebleu, whose figures everybody prints; the rest is our own code. Scripts that
put no blanks between words are compared character by character, as the field does for want of words
that all agree on. How a model reaches its texts, and which texts are compared, isn't decided here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Doubles, Ints
from modelwright.errors import require

Sums = NDArray[np.int64] | NDArray[np.float64]

BLEU_ORDER = 4
BLEU_COLUMNS = 2 + 2 * BLEU_ORDER
"""Papineni et al. 2002, section 2.3."""
CHRF_ORDER, CHRF_BETA = 6, 2
"""chrF2 of Popović 2016, `chrF deconstructed`: recall has the weight of two precisions."""
_HAN = r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OTHER_UNSPACED = r"\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31ff\uff66-\uff9f"
"""Thai, Lao and Tibetan; Burmese; Khmer; kana and bopomofo."""
_UNSPACED = re.compile(f"[{_HAN}{_OTHER_UNSPACED}]")
"""The characters of scripts that put no blanks between words."""


# Translations

BleuWords = Literal["13a", "zh", "char"]


def bleu_words(references: Sequence[str]) -> BleuWords:
    """Return the tokenizer of sacrebleu's by which BLEU cuts texts like these references.

    `13a`, its default, where most letters belong to scripts with blanks between words; `zh`, which
    WMT uses for Chinese, where most are Han characters; else `char`, each character a word: that
    needs no dictionary of Japanese or Thai. A Chinese test set stays one with a rare の in it.

    >>> bleu_words(["A cat."]), bleu_words(["一只猫。"]), bleu_words(["ねこがいる。"])
    ('13a', 'zh', 'char')
    """
    letters = "".join(char for text in references for char in text if char.isalpha())
    unspaced = "".join(_UNSPACED.findall(letters))
    if 2 * len(unspaced) <= len(letters):
        return "13a"
    others = len(re.findall(f"[{_OTHER_UNSPACED}]", unspaced))
    return "char" if 10 * others > len(unspaced) else "zh"


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], words: BleuWords) -> Ints:
    """Return what BLEU adds up for each pair of texts, in words of one of sacrebleu's tokenizers.

    Returns:
        `[N, 10]`: the words of the hypothesis, those of the reference, the n-grams of 1 to 4 words
        that both have, and those that the hypothesis has.

    Raises:
        MissingExtraError: sacrebleu isn't installed.
    """
    sacrebleu = require("sacrebleu", extra="text", purpose="BLEU")
    # Texts shorter than four words are usual; the setting only keeps sacrebleu from saying so.
    scorer = sacrebleu.BLEU(effective_order=True, tokenize=words)
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        score = scorer.sentence_score(hypothesis, [reference])
        rows.append((score.sys_len, score.ref_len, *score.counts, *score.totals))
    return np.array(rows, dtype=np.int64).reshape(-1, BLEU_COLUMNS)


def bleu(sums: Sums) -> Doubles:
    """Return BLEU, 0 to 100, from the summed statistics `[..., 10]` of a whole test set.

    Papineni et al. 2002, section 2.3. An order without a match counts as half a match, the next as
    a quarter (Chen and Cherry 2014, smoothing 3): the default of sacrebleu. So a
    test set of which no hypothesis has four words scores 0, as there.

    >>> float(bleu(np.array([6, 6, 6, 5, 4, 3, 6, 5, 4, 3])))
    100.0
    """
    sums = np.asarray(sums, dtype=np.float64)
    matches, ngrams = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    is_missed = matches <= 0
    smoothed = np.where(is_missed, 0.5 ** np.cumsum(is_missed, axis=-1), matches)
    is_zero = is_missed.all(axis=-1) | (ngrams <= 0).any(axis=-1)
    logarithms = np.log(smoothed / np.where(ngrams > 0, ngrams, 1.0)).sum(axis=-1)
    brevity = np.minimum(0.0, 1.0 - sums[..., 1] / np.maximum(sums[..., 0], 1e-9))
    scores: Doubles = np.where(is_zero, 0.0, 100.0 * np.exp(brevity + logarithms / BLEU_ORDER))
    return scores


def chrf_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> Ints:
    """Return what chrF adds up for each pair of texts; blanks don't count.

    Returns:
        `[N, 18]`: for n-grams of 1 to 6 characters those of the hypothesis, those of the reference
        and those that both have. Where a reference is too short to have any, the hypothesis' don't
        count either.
    """
    rows = np.zeros((len(hypotheses), CHRF_ORDER, 3), dtype=np.int64)
    for row, hypothesis, reference in zip(rows, hypotheses, references, strict=True):
        generated, reference = "".join(hypothesis.split()), "".join(reference.split())
        for order, cells in enumerate(row, 1):
            if len(reference) >= order:
                counts = len(generated) - order + 1, len(reference) - order + 1
                cells[:] = max(counts[0], 0), counts[1], _shared(generated, reference, order)
    return rows.reshape(len(rows), 3 * CHRF_ORDER)


def chrf(sums: Sums) -> Doubles:
    """Return chrF2, 0 to 100, from the summed statistics `[..., 18]` of a whole test set.

    Popović 2015, section 2, with the mean over the orders that occur at all, as sacrebleu has it.

    >>> float(chrf(np.array([4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0])))
    100.0
    """
    cells = np.asarray(sums, dtype=np.float64).reshape(*np.shape(sums)[:-1], CHRF_ORDER, 3)
    generated, reference, shared = cells[..., 0], cells[..., 1], cells[..., 2]
    occurs = (generated > 0) & (reference > 0)
    orders = np.maximum(occurs.sum(axis=-1), 1)

    def mean_share(counts: Doubles) -> Doubles:
        shares = np.where(occurs, shared, 0.0) / np.where(occurs, counts, 1.0)
        mean: Doubles = shares.sum(axis=-1) / orders
        return mean

    precision, recall, weight = mean_share(generated), mean_share(reference), CHRF_BETA**2
    either = weight * precision + recall
    scores: Doubles = 100.0 * (1 + weight) * precision * recall / np.where(either > 0, either, 1.0)
    return scores


# Summaries


def rouge_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> Doubles:
    """Return the F1 of ROUGE-1, ROUGE-2 and ROUGE-L of each pair of texts.

    Lin 2004, sections 2 and 3.1 (a text is one sequence). Words are the runs of letters and digits
    in the lower-cased text, unstemmed, of a–z and 0–9 as ROUGE-1.5.5 has them; of a script without
    blanks each character is one. The figure of a test set is the mean of its samples.

    Returns:
        `[N, 3]`, 0 to 1.
    """
    rows = np.zeros((len(hypotheses), 3))
    for row, hypothesis, reference in zip(rows, hypotheses, references, strict=True):
        words, reference_words = _rouge_words(hypothesis), _rouge_words(reference)
        for order in (1, 2):
            counts = len(words) - order + 1, len(reference_words) - order + 1
            row[order - 1] = _f1(_shared(words, reference_words, order), *counts)
        shared = _common_subsequence(words, reference_words)
        row[2] = _f1(shared, len(words), len(reference_words))
    return rows


def _rouge_words(text: str) -> tuple[str, ...]:
    # Composed, so that é is one letter however it was typed.
    return tuple(unicodedata.normalize("NFC", text.lower()).translate(_GAPS).split())


class _Gaps(dict[int, str]):
    """What `str.translate` puts for each character so that words stand between blanks."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        # Vowels of Hindi, and points of Hebrew, are marks: no gaps.
        is_letter = char.isalnum() or unicodedata.category(char)[0] == "M"
        self[code] = " " if not is_letter else f" {char} " if _UNSPACED.match(char) else char
        return self[code]


_GAPS = _Gaps()


def _f1(shared: int, generated: int, reference: int) -> float:
    return 2 * shared / (generated + reference) if shared else 0.0


def _shared(generated: Sequence[Any], reference: Sequence[Any], order: int) -> int:
    """Return how many n-grams both have, each as often as in the one that has it less often."""
    first, second = (
        Counter(items[at : at + order] for at in range(len(items) - order + 1))
        for items in (generated, reference)
    )
    return (first & second).total()


def _places(items: Sequence[Hashable]) -> dict[Hashable, int]:
    """Return for each item a number whose bits are the places where it stands."""
    places: dict[Hashable, int] = {}
    for at, item in enumerate(items):
        places[item] = places.get(item, 0) | 1 << at
    return places


def _common_subsequence(generated: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence (Hyyrö 2004: a row of bits at once)."""
    places, full = _places(reference), (1 << len(reference)) - 1
    row = full
    for item in generated:
        matches = row & places.get(item, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(reference) - row.bit_count()


# Transcripts


def edit_distances(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> Ints:
    """Return the Levenshtein distance of each pair of sequences, and the reference's length.

    >>> edit_distances(["kitten", ""], ["sitting", "abc"]).tolist()
    [[3, 7], [3, 3]]
    """
    pairs = zip(hypotheses, references, strict=True)
    rows = [(_distance(generated, reference), len(reference)) for generated, reference in pairs]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _distance(generated: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Return the Levenshtein distance, a row of the table at once as the bits of two numbers.

    Hyyrö 2003, `A bit-vector algorithm for computing Levenshtein and Damerau edit distances`,
    figure 3: the bits tell where the row rises and falls by one. Python's whole numbers have as
    many bits as the reference has items, so no length needs padding.
    """
    if not reference:
        return len(generated)
    places, full = _places(reference), (1 << len(reference)) - 1
    last, distance = 1 << len(reference) - 1, len(reference)
    rises, falls = full, 0  # from one item of the reference to the next
    for item in generated:
        matches = places.get(item, 0)
        level = (((matches & rises) + rises) ^ rises) | matches | falls
        ups = falls | (full & ~(level | rises))  # from one item of the hypothesis to the next
        downs = rises & level
        distance += bool(ups & last) - bool(downs & last)
        ups, downs = ups << 1 | 1, downs << 1
        rises, falls = (downs & full) | (full & ~(level | ups)), ups & level & full
    return distance


def word_errors(hypotheses: Sequence[str], references: Sequence[str]) -> Ints:
    """Return the wrong, missing and extra words of each text, and its reference's words `[N, 2]`.

    Words are what stands between blanks, case and all.
    """
    return edit_distances([text.split() for text in hypotheses], [t.split() for t in references])


def character_errors(hypotheses: Sequence[str], references: Sequence[str]) -> Ints:
    """Return as `word_errors`, in characters; a run of blanks is one, those at the ends none."""
    texts = ([" ".join(text.split()) for text in side] for side in (hypotheses, references))
    return edit_distances(*texts)


def error_rate(sums: Sums) -> Doubles:
    """Return errors per item of the reference, from the sums `[..., 2]` of `edit_distances`.

    It may be above 1. Where the references are empty altogether, each insertion counts as a whole
    error, so that nothing is divided by zero and saying nothing is still the best.

    >>> error_rate(np.array([[3, 12], [2, 0], [0, 0]])).tolist()
    [0.25, 2.0, 0.0]
    """
    sums = np.asarray(sums, dtype=np.float64)
    rates: Doubles = sums[..., 0] / np.maximum(sums[..., 1], 1.0)
    return rates


# Language models


def perplexity(nll_nats: Sums, tokens: Sums) -> Doubles:
    """Return the perplexity per token, from the loss of all; infinite where it is too large."""
    with np.errstate(over="ignore"):
        values: Doubles = np.exp(_mean(nll_nats, tokens))
    return values


def bits_per_byte(nll_nats: Sums, size_bytes: Sums) -> Doubles:
    """Return the bits that a byte of the text's UTF-8 takes: the same whatever the tokenizer."""
    return _mean(nll_nats, size_bytes) / math.log(2)


def _mean(nll_nats: Sums, counts: Sums) -> Doubles:
    mean: Doubles = np.asarray(nll_nats, np.float64) / np.maximum(counts, 1.0)
    return mean
