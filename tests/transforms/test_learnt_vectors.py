from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.transforms import learnt_vectors
from modelwright.transforms.learnt_vectors import FEWEST, learn_vectors

FIRST = 4  # Before it stand the special tokens.


def slowly(texts, *, size, width, window):
    """Count pair by pair, and decompose the whole matrix."""
    near, occurs = np.zeros((size, size)), np.zeros(size)
    for text in texts:
        for at, token in enumerate(text):
            if token < FIRST:
                continue
            occurs[token] += 1
            for other in range(max(at - window, 0), min(at + window + 1, len(text))):
                if other != at and text[other] >= FIRST:
                    near[token, text[other]] += 1 / abs(other - at)
    often = occurs >= FEWEST
    near = near * often * often[:, None]
    share = near.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(near / near.sum(1, keepdims=True) / (share / share.sum()))
    information = np.where(np.isfinite(information), np.maximum(information, 0), 0)
    left, values, _ = np.linalg.svd(information)
    vectors = left[:, :width] * np.sqrt(values[:width])
    return vectors, information.any(1)


def drawn(seed, *, texts=60, size=24, length=30):
    """Texts of three topics, whose tokens keep each other's company."""
    generator = np.random.default_rng(seed)
    topics = np.array_split(np.arange(1, size), 3)
    return [
        generator.choice(topics[at % 3], size=generator.integers(0, length)).astype(np.int32)
        for at in range(texts)
    ]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), window=st.integers(1, 5))
def test_the_vectors_are_those_of_a_whole_decomposition(seed, window):
    texts = drawn(seed)
    found, known = learn_vectors(iter(texts), size=24, width=24, window=window)
    expected, is_known = slowly(texts, size=24, width=24, window=window)
    assert np.array_equal(known, is_known)
    np.testing.assert_allclose(np.linalg.norm(found[known], axis=1), 1, atol=1e-5)
    expected = expected[known] / np.linalg.norm(expected[known], axis=1, keepdims=True)
    # Angles, as the signs of singular vectors and turns among equal values are free.
    np.testing.assert_allclose(found[known] @ found[known].T, expected @ expected.T, atol=2e-3)


def test_like_company_means_like_vectors():
    found, known = learn_vectors(iter(drawn(0, texts=400)), size=24, width=3, window=4)
    topics = np.array_split(np.arange(1, 24), 3)
    near = found @ found.T
    for topic in topics:
        own = topic[known[topic]]
        others = np.setdiff1d(np.flatnonzero(known), own)
        assert near[np.ix_(own, own)].min() > near[np.ix_(own, others)].max()


def test_the_same_texts_give_the_same_vectors_in_parts_or_whole(monkeypatch):
    texts = drawn(3)
    whole, known = learn_vectors(iter(texts), size=24, width=4, window=3)
    again, _ = learn_vectors(iter(texts), size=24, width=4, window=3)
    assert np.array_equal(whole, again)
    monkeypatch.setattr(learnt_vectors, "_AT_ONCE", 16)
    parts, is_known = learn_vectors(iter(texts), size=24, width=4, window=3)
    assert np.array_equal(known, is_known)
    np.testing.assert_allclose(whole, parts, atol=1e-4)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [np.zeros(0, np.int32)],
        [np.array([1, 0, 2, 3] * 9, np.int32)],  # special tokens alone
        [np.array([5, 6], np.int32)],  # too rare
        [np.array([7], np.int32)] * 9,  # alone
    ],
)
def test_without_company_there_are_no_vectors(texts):
    vectors, known = learn_vectors(iter(texts), size=9, width=4, window=4)
    assert not known.any()
    assert not vectors.any()


def test_more_numbers_than_tokens():
    vectors, known = learn_vectors(iter(drawn(1)), size=24, width=40, window=2)
    assert vectors.shape == (24, 40)
    np.testing.assert_allclose(np.linalg.norm(vectors[known], axis=1), 1, atol=1e-5)
