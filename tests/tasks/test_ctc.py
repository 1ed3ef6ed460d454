"""Decoding: against all paths, one by one, and a character model against sums by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.tasks.ctc import NgramModel, beam_search

CHARACTERS = ("a", "b")


def draws(count, steps, seed=0):
    return np.random.default_rng(seed).normal(size=(count, steps, 3)).astype(np.float32) * 2


def read(path):
    """Return the text that a path of classes reads as."""
    return "".join(CHARACTERS[item - 1] for item, _ in itertools.groupby(path) if item)


def all_texts(logits):
    """Return the probability of each text, summed over all its paths."""
    logs = logits.astype(np.float64)
    shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    found = {}
    for path in itertools.product(range(3), repeat=len(logits)):
        share = math.prod(shares[step, item] for step, item in enumerate(path))
        found[read(path)] = found.get(read(path), 0.0) + share
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_every_text_with_its_probability(seed):
    logits = draws(3, 5, seed)
    steps = np.array([5, 3, 1])
    for row, count, found in zip(
        logits, steps, beam_search(logits, steps, CHARACTERS, beam=200, top=200), strict=True
    ):
        expected = all_texts(row[:count])
        assert {item.text for item in found} == set(expected)
        for item in found:
            assert math.exp(item.score) == pytest.approx(expected[item.text], rel=1e-6)
        assert found[0].score == max(item.score for item in found)


def test_a_beam_of_one_begins_as_the_best_path_does():
    logits = np.zeros((1, 3, 3), np.float32)
    logits[0, [0, 1, 2], [1, 0, 2]] = 9.0
    (found,) = beam_search(logits, np.array([3]), CHARACTERS, beam=1)
    assert [item.text for item in found] == ["ab"] == [read(logits[0].argmax(axis=1).tolist())]


def test_the_sum_over_paths_beats_the_best_path():
    # Blanks are likeliest at each step, yet most paths have an `a` somewhere.
    logits = np.log(np.array([[[0.6, 0.4, 1e-9], [0.6, 0.4, 1e-9]]]))
    steps = np.array([2])
    assert read(logits[0].argmax(axis=1).tolist()) == ""
    assert beam_search(logits, steps, CHARACTERS, beam=4)[0][0].text == "a"


def test_a_batch_is_searched_as_its_samples_alone():
    logits, steps = draws(5, 7), np.array([7, 6, 4, 2, 1])
    together = beam_search(logits, steps, CHARACTERS, beam=3, top=3)
    for row, count, found in zip(logits, steps, together, strict=True):
        assert beam_search(row[None], count[None], CHARACTERS, beam=3, top=3) == [found]


def log_prob(model, text):
    """Return the logarithm of a text's probability by a character model, its end included."""
    state, total = model.start, 0.0
    for character in text:
        column = model.characters.index(character) + 1
        total += float(model.log_probs[state, column])
        state = model.following[state, column]
    return total + float(model.log_probs[state, 0])


def smoothed(texts, order, history, character):
    """Return a character's probability after a history, by the recursion of Witten and Bell.

    Before a text stands the end of another; a history that no text has is the next shorter one.
    """
    ends, share = "\0" * (order - 1), 1 / 3
    whole = (ends + history)[len(history) :]
    for size in range(order):
        after, suffix = [], whole[len(whole) - size :]
        for text in texts:
            padded = ends + text + "\0"
            places = range(order - 1, len(padded))
            after += [padded[at] for at in places if padded[at - size : at] == suffix]
        if after:
            kinds = len(set(after))
            share = (after.count(character) + kinds * share) / (len(after) + kinds)
    return share


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_character_model_is_witten_and_bells_of_any_order(order):
    texts = ["ab", "abab", "ba", "aaab", ""]
    model = NgramModel.fit(texts, order, characters=CHARACTERS)
    for length in range(5):
        for characters in itertools.product("ab", repeat=length):
            text = "".join(characters)
            expected = sum(
                math.log(smoothed(texts, order, text[:at], following))
                for at, following in enumerate(text + "\0")
            )
            assert log_prob(model, text) == pytest.approx(expected, rel=1e-5)


def test_a_character_model_changes_the_ranks_as_it_says():
    model = NgramModel.fit(["ab", "abab", "ba"], 2, characters=CHARACTERS)
    logits, steps = draws(2, 4, 3), np.array([4, 3])
    found = beam_search(logits, steps, CHARACTERS, beam=200, model=model, weight=0.7, top=200)
    for row, count, items in zip(logits, steps, found, strict=True):
        expected = {
            text: math.log(share) + 0.7 * log_prob(model, text)
            for text, share in all_texts(row[:count]).items()
        }
        assert {item.text: item.score for item in items} == pytest.approx(expected, rel=1e-5)


def test_a_character_model_is_smoothed_as_written():
    model = NgramModel.fit(["ab", "aa"], 1, characters=CHARACTERS)
    # Three `a`, one `b`, two ends: six outcomes of three kinds.
    for text, count in (("a", 3), ("b", 1)):
        character = (count + 3 * (1 / 3)) / (6 + 3)
        end = (2 + 3 * (1 / 3)) / (6 + 3)
        assert log_prob(model, text) == pytest.approx(math.log(character * end), rel=1e-5)


def test_what_follows_sums_to_one():
    model = NgramModel.fit(["abba", "b", ""], 3, characters=CHARACTERS)
    np.testing.assert_allclose(np.exp(model.log_probs).sum(axis=1), 1.0, rtol=1e-5)


def test_a_character_model_comes_back_from_json():
    model = NgramModel.fit(["abba", "b", ""], 3, characters=CHARACTERS)
    again = NgramModel.from_json(model.to_json())
    for text in ("", "a", "bab", "abba"):
        assert log_prob(again, text) == log_prob(model, text)
    for broken in (None, {}, {**model.to_json(), "order": 2}, {**model.to_json(), "more": 1}):
        with pytest.raises(ModelFileError):
            NgramModel.from_json(broken)


def test_what_does_not_fit_is_refused():
    logits, steps = draws(1, 3), np.array([3])
    with pytest.raises(RequestError, match="don't fit 3 characters"):
        beam_search(logits, steps, "abc", beam=2)
    model = NgramModel.fit(["x"], 1, characters="xy")
    with pytest.raises(RequestError, match="other characters"):
        beam_search(logits, steps, CHARACTERS, beam=2, model=model)
    with pytest.raises(DataError, match="holds 'c'"):
        NgramModel.fit(["abc"], 2, characters=CHARACTERS)
    with pytest.raises(DataError, match="no texts"):
        NgramModel.fit([], 2, characters=CHARACTERS)
    with pytest.raises(RequestError, match="order 0"):
        NgramModel.fit(["a"], 0, characters=CHARACTERS)
