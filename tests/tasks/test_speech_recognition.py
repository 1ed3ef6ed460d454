"""Speech recognition: from outputs to texts, and their word and letter errors."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.tasks import TASKS, concatenate, take
from modelwright.tasks.speech_recognition import CharacterLM, texts_of, with_language_model

TASK = TASKS["speech-recognition", OutputKind.CTC]
LETTERS = (" ", "a", "b")


def frames(*paths):
    """Return sure outputs for paths such as `a-ab`, `-` being the blank, and their steps."""
    max_length = max(map(len, paths))
    found = np.zeros((len(paths), max_length, 4), dtype=np.float32)
    for row, path in enumerate(paths):
        for step, sign in enumerate(path):
            found[row, step, ("-", *LETTERS).index(sign)] = 20.0
    return found, np.array([len(path) for path in paths], dtype=np.int64)


def wanted(*texts):
    """Return targets as batches give them."""
    found = np.zeros((len(texts), 8), dtype=np.int64)
    for row, text in enumerate(texts):
        found[row, : len(text)] = [LETTERS.index(letter) + 1 for letter in text]
    return {"letters": found, "count": np.array([len(text) for text in texts])}


def test_targets_are_texts_again():
    targets = wanted("ab", "", "b a")
    assert texts_of(targets["letters"], targets["count"], LETTERS) == ["ab", "", "b a"]


def test_right_texts_have_no_errors():
    scores = TASK.scores(frames("aab", "a-a", "b a"), wanted("ab", "aa", "b a"), LETTERS)
    assert scores == {"wer": 0.0, "cer": 0.0}


def test_errors_are_counted_over_all_words_and_letters():
    # One of three words, and one of six letters, is wrong.
    outputs = frames("ab b", "aa-b")
    scores = TASK.scores(outputs, wanted("ab a", "ab"), LETTERS)
    assert scores["wer"] == pytest.approx(1 / 3)
    assert scores["cer"] == pytest.approx(1 / 6)


def test_tallies_of_batches_are_joined_and_drawn():
    parts = [
        TASK.sample_stats(frames("a"), wanted("a"), LETTERS),
        TASK.sample_stats(frames("b", "ab"), wanted("a", "ab"), LETTERS),
    ]
    whole = concatenate(parts)
    assert TASK.compute(whole)["wer"] == pytest.approx(1 / 3)
    assert TASK.compute(take(whole, np.array([0, 2])))["wer"] == 0.0


def test_steps_behind_a_sound_say_nothing():
    outputs, steps = frames("ab", "abab")
    outputs[0, 2:, 2] = 20.0
    assert TASK.decode((outputs, steps), LETTERS, 1)[0][0]["text"] == "ab"


def test_answers_are_ranked_and_their_probabilities_at_most_one():
    random = np.random.default_rng(0)
    outputs = random.normal(size=(4, 6, 4)).astype(np.float32)
    steps = np.array([6, 5, 1, 3])
    for answers in TASK.decode((outputs, steps), LETTERS, 5):
        shares = [answer["probability"] for answer in answers]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1 + 1e-6
        assert len({answer["text"] for answer in answers}) == len(answers) <= 5


def test_texts_that_differ_in_blanks_alone_are_one():
    outputs, steps = frames(" a b ", "a  -b")
    outputs /= 10.0  # Unsure, so that each step may also be another.
    for answers in TASK.decode((outputs, steps), LETTERS, 16):
        texts = [answer["text"] for answer in answers]
        assert "a b" in texts
        assert all(text == " ".join(text.split()) for text in texts)
        assert len(set(texts)) == len(texts)


def test_what_is_measured_is_what_is_answered():
    random = np.random.default_rng(1)
    outputs = random.normal(size=(16, 8, 4)).astype(np.float32) * 2
    steps = np.full(16, 8)
    answers = [found[0]["text"] for found in TASK.decode((outputs, steps), LETTERS, 1)]
    scores = TASK.scores((outputs, steps), wanted(*answers), LETTERS)
    assert scores == {"wer": 0.0, "cer": 0.0}


def test_a_spelling_mends_what_was_heard():
    outputs, steps = frames("ab", "aa")
    # Heard is `a`, twice; a little less likely is the `b` that always follows.
    outputs[1, 1, 3] = outputs[1, 1, 2] - 1.0
    assert TASK.decode((outputs, steps), LETTERS, 1)[1][0]["text"] == "a"
    language_model = CharacterLM.fit(["ab"] * 20, LETTERS, order=3, weight=1.0)
    task = with_language_model(language_model)
    for answers in task.decode((outputs, steps), LETTERS, 3):
        assert answers[0]["text"] == "ab"
        assert sum(answer["probability"] for answer in answers) <= 1 + 1e-6
    assert task.scores((outputs, steps), wanted("ab", "ab"), LETTERS)["wer"] == 0.0
    assert TASK.scores((outputs, steps), wanted("ab", "ab"), LETTERS)["wer"] == 0.5


def test_a_spelling_comes_back_from_json():
    language_model = CharacterLM.fit(["ab", "b a"], LETTERS, order=2, weight=0.5)
    again = CharacterLM.from_json(language_model.to_json())
    assert again.weight == 0.5
    assert again.model.log_prob("ab") == language_model.model.log_prob("ab")
    for broken in (
        None,
        {"model": language_model.model.to_json()},
        {**language_model.to_json(), "weight": -1.0},
        {**language_model.to_json(), "weight": "1"},
        {**language_model.to_json(), "more": 1},
    ):
        with pytest.raises(ModelFileError):
            CharacterLM.from_json(broken)
