from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.errors import RecipeError
from modelwright.models.bow import MOST_BUCKETS, Bow, fit_buckets
from modelwright.models.network import TextFrame
from modelwright.recipe.networks import BowModel

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])


VOCABULARY, BUCKETS = 12, 64


def fresh(**settings):
    torch.manual_seed(0)
    spec = BowModel(name="bow", width=4, **{"buckets": BUCKETS, **settings})
    return Bow(spec, TextFrame(VOCABULARY, max_length=12, num_outputs=3))


def built(**settings):
    network = fresh(**{"ngrams": 3, "buckets": BUCKETS, **settings})
    with torch.no_grad():
        network.embedding.weight[1:].normal_()  # fresh ones are too near zero to tell apart
    return network


def by_hand(network, tokens):
    """Return the outputs for one text, with Python's integers."""
    rows = list(tokens)
    for size in range(2, network.ngrams + 1):
        for at in range(len(tokens) - size + 1):
            code = tokens[at]
            for number in range(1, size):
                code = (code * 1_540_483_477 + tokens[at + number] * 668_265_263 + number + 1) % (
                    2**31 - 1
                )
            rows.append(VOCABULARY + code % BUCKETS)
    total = network.embedding.weight[rows].sum(0)
    return network.head(total / len(rows) ** 0.5)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=6), min_size=1),
    ngrams=st.integers(1, 4),
    is_training=st.booleans(),
)
def test_outputs_are_those_of_plain_integers(texts, ngrams, is_training):
    network = built(ngrams=ngrams).train(is_training)
    length = torch.tensor([len(text) for text in texts])
    tokens = torch.zeros(len(texts), int(length.max()), dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    with torch.no_grad():
        expected = torch.stack([by_hand(network, text) for text in texts])
        torch.testing.assert_close(network(tokens, length), expected, rtol=0, atol=SAME)


def test_fresh_vectors_are_near_zero_and_padding_has_none():
    weight = fresh(ngrams=2, buckets=1000).embedding.weight
    assert weight.shape == (VOCABULARY + 1000, 4)
    assert (weight[0] == 0).all()
    assert 0.005 < weight.std() < 0.02


def test_without_runs_there_are_no_buckets():
    assert fresh(ngrams=1).embedding.weight.shape == (VOCABULARY, 4)


@pytest.mark.parametrize(
    ("kinds", "buckets"), [(1, 256), (10, 256), (30, 2048), (100, 1 << 15), (1000, 1 << 18)]
)
def test_buckets_follow_the_runs_that_there_are(kinds, buckets):
    first, second = torch.meshgrid(torch.arange(kinds), torch.arange(kinds), indexing="ij")
    pairs = torch.stack([first.flatten(), second.flatten()], 1) + 4
    texts = ((part, torch.full((len(part),), 2)) for part in pairs.split(50_000))
    found = fit_buckets(texts, ngrams=2)
    assert found == buckets
    assert found == MOST_BUCKETS or kinds**2 * 2 <= found


def test_padding_is_no_run_and_longer_runs_count_too():
    tokens = torch.arange(600).view(1, -1) + 4
    assert fit_buckets([(tokens, torch.tensor([100]))], ngrams=2) == 256
    assert fit_buckets([(tokens, torch.tensor([600]))], ngrams=2) == 2048
    assert fit_buckets([(tokens, torch.tensor([600]))], ngrams=4) == 4096


def test_without_a_number_of_buckets_nothing_is_built():
    with pytest.raises(RecipeError, match="isn't known yet"):
        fresh(buckets="auto")


def test_order_matters_to_runs_alone():
    one, other = torch.tensor([[5, 6, 7]]), torch.tensor([[7, 5, 6]])
    length = torch.tensor([3])
    for ngrams, is_same in ((1, True), (2, False)):
        network = built(ngrams=ngrams).eval()
        assert torch.allclose(network(one, length), network(other, length)) == is_same


def test_runs_scatter_over_the_buckets():
    network = built(ngrams=2, buckets=1 << 14)
    first, second = torch.meshgrid(torch.arange(4, 104), torch.arange(4, 104), indexing="ij")
    pairs = torch.stack([first.flatten(), second.flatten()], 1)
    rows = network.rows(pairs, torch.full((10_000,), 2))[:, 2]
    # Thrown at random, 10,000 pairs take 16,384·(1 − e^(−10,000/16,384)) = 7,485 buckets.
    assert abs(rows.unique().numel() - 7485) < 300


def test_dropout_leaves_out_words_in_training_alone():
    network = built(dropout=0.5, ngrams=1)
    tokens, length = torch.full((2000, 1), 5), torch.ones(2000, dtype=torch.int64)
    with torch.no_grad():
        outputs = network(tokens, length)
        is_bare = (outputs - network.head.bias).abs().amax(1) < SAME
        assert 0.45 < is_bare.float().mean() < 0.55
        assert network.eval()(tokens, length).unique(dim=0).shape[0] == 1
