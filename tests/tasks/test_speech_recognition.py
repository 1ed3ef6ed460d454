"""Speech recognition: from outputs to texts, and their word and character errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.tasks import TASKS, concatenate, take
from modelwright.tasks.speech_recognition import CharacterLM, texts_of, with_language_model

TASK = TASKS["speech-recognition", OutputKind.CTC]
CHARACTERS = (" ", "a", "b")


def frames(*paths):
    """Return confident logits for paths such as `a-ab`, `-` being the blank, and their lengths."""
    steps = max(map(len, paths))
    logits = np.zeros((len(paths), steps, 4), dtype=np.float32)
    for row, path in enumerate(paths):
        for step, character in enumerate(path):
            logits[row, step, ("-", *CHARACTERS).index(character)] = 20.0
    return logits, np.array([len(path) for path in paths], dtype=np.int64)


def references(*texts):
    """Return targets as batches give them."""
    ids = np.zeros((len(texts), 8), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = [CHARACTERS.index(character) + 1 for character in text]
    return {"characters": ids, "count": np.array([len(text) for text in texts])}


def test_targets_are_texts_again():
    targets = references("ab", "", "b a")
    assert texts_of(targets["characters"], targets["count"], CHARACTERS) == ["ab", "", "b a"]


def test_right_texts_have_no_errors():
    scores = TASK.scores(frames("aab", "a-a", "b a"), references("ab", "aa", "b a"), CHARACTERS)
    assert scores == {"wer": 0.0, "cer": 0.0}


def test_errors_are_counted_over_all_words_and_characters():
    # One of three words, and one of six characters, is wrong.
    outputs = frames("ab b", "aa-b")
    scores = TASK.scores(outputs, references("ab a", "ab"), CHARACTERS)
    assert scores["wer"] == pytest.approx(1 / 3)
    assert scores["cer"] == pytest.approx(1 / 6)


def test_statistics_of_batches_are_concatenated_and_resampled():
    parts = [
        TASK.sample_stats(frames("a"), references("a"), CHARACTERS),
        TASK.sample_stats(frames("b", "ab"), references("a", "ab"), CHARACTERS),
    ]
    whole = concatenate(parts)
    assert TASK.compute(whole)["wer"] == pytest.approx(1 / 3)
    assert TASK.compute(take(whole, np.array([0, 2])))["wer"] == 0.0


def test_steps_after_the_end_of_a_recording_are_ignored():
    outputs, steps = frames("ab", "abab")
    outputs[0, 2:, 2] = 20.0
    assert TASK.decode((outputs, steps), CHARACTERS, 1)[0][0]["text"] == "ab"


def test_answers_are_ranked_and_their_probabilities_at_most_one():
    random = np.random.default_rng(0)
    outputs = random.normal(size=(4, 6, 4)).astype(np.float32)
    steps = np.array([6, 5, 1, 3])
    for answers in TASK.decode((outputs, steps), CHARACTERS, 5):
        shares = [answer["probability"] for answer in answers]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1 + 1e-6
        assert len({answer["text"] for answer in answers}) == len(answers) <= 5


def test_every_text_of_a_few_steps_is_answered_with_its_probability():
    outputs = np.random.default_rng(0).normal(size=(1, 3, 4))
    shares = np.exp(outputs[0]) / np.exp(outputs[0]).sum(axis=1, keepdims=True)
    expected: dict[str, float] = {}
    for path in itertools.product(range(4), repeat=3):
        read = [at for at, _ in itertools.groupby(path) if at]
        text = " ".join("".join(CHARACTERS[at - 1] for at in read).split())
        share = math.prod(shares[step, at] for step, at in enumerate(path))
        expected[text] = expected.get(text, 0.0) + share
    (answers,) = TASK.decode((outputs, np.array([3])), CHARACTERS, 99)
    assert {item["text"]: item["probability"] for item in answers} == pytest.approx(expected)


def test_texts_that_differ_in_spaces_alone_are_merged():
    outputs, steps = frames(" a b ", "a  -b")
    outputs /= 10.0  # Unsure, so that each step may also be another.
    for answers in TASK.decode((outputs, steps), CHARACTERS, 16):
        texts = [answer["text"] for answer in answers]
        assert "a b" in texts
        assert all(text == " ".join(text.split()) for text in texts)
        assert len(set(texts)) == len(texts)


def test_measuring_and_answering_decode_alike():
    random = np.random.default_rng(1)
    outputs = random.normal(size=(16, 8, 4)).astype(np.float32) * 2
    steps = np.full(16, 8)
    answers = [best[0]["text"] for best in TASK.decode((outputs, steps), CHARACTERS, 1)]
    scores = TASK.scores((outputs, steps), references(*answers), CHARACTERS)
    assert scores == {"wer": 0.0, "cer": 0.0}


def test_a_language_model_corrects_a_transcript():
    outputs, steps = frames("ab", "aa")
    # `a` twice is the most probable path; a little less is the `b` that always follows.
    outputs[1, 1, 3] = outputs[1, 1, 2] - 1.0
    assert TASK.decode((outputs, steps), CHARACTERS, 1)[1][0]["text"] == "a"
    language_model = CharacterLM.fit(["ab"] * 20, CHARACTERS, order=3, weight=1.0)
    task = with_language_model(language_model)
    for answers in task.decode((outputs, steps), CHARACTERS, 3):
        assert answers[0]["text"] == "ab"
        assert sum(answer["probability"] for answer in answers) <= 1 + 1e-6
    assert task.scores((outputs, steps), references("ab", "ab"), CHARACTERS)["wer"] == 0.0
    assert TASK.scores((outputs, steps), references("ab", "ab"), CHARACTERS)["wer"] == 0.5


def test_a_language_model_comes_back_from_json():
    language_model = CharacterLM.fit(["ab", "b a"], CHARACTERS, order=2, weight=0.5)
    again = CharacterLM.from_json(language_model.to_json())
    assert again.weight == 0.5
    assert again.model.start == language_model.model.start
    assert np.array_equal(again.model.log_probs, language_model.model.log_probs)
    assert np.array_equal(again.model.following, language_model.model.following)
    for broken in (
        None,
        {"model": language_model.model.to_json()},
        {**language_model.to_json(), "weight": -1.0},
        {**language_model.to_json(), "weight": "1"},
        {**language_model.to_json(), "more": 1},
    ):
        with pytest.raises(ModelFileError):
            CharacterLM.from_json(broken)
