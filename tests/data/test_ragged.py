from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data import BucketedSampler, Sampler, Split, padding_share
from modelwright.data.batches import Batches
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import RequestError

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def ragged(sizes, name="tokens", **more):
    rows = [np.arange(1, size + 1, dtype=np.int32) + 100 * at for at, size in enumerate(sizes)]
    return Ragged.of(name, rows, "int32", **more), rows


@given(lengths, st.integers(1, 16), st.randoms())
def test_rows_come_back_padded_to_the_longest_of_them(sizes, multiple, random):
    held, rows = ragged(sizes, multiple=multiple, as_dtype="int64")
    chosen = [random.randrange(len(sizes)) for _ in range(5)]
    found = held[np.array(chosen)]
    width = found["tokens"].shape[1]
    assert width % multiple == 0
    assert width - multiple < max(max(sizes[at] for at in chosen), 1) <= width
    assert found["tokens"].dtype == np.int64
    for at, row in zip(chosen, found, strict=True):
        assert row["length"] == sizes[at]
        assert (row["tokens"][: sizes[at]] == rows[at]).all()
        assert not row["tokens"][sizes[at] :].any()


def test_some_rows_are_taken_without_a_copy():
    held, rows = ragged([3, 0, 5, 2])
    some = held.take(np.array([2, 0]))
    assert some.values is held.values
    assert some.lengths.tolist() == [5, 3]
    assert (some[np.array([0])]["tokens"][0, :5] == rows[2]).all()


def test_two_inputs_become_one_record():
    first, _ = ragged([2, 4], "source", length_name="source_length")
    second, _ = ragged([3, 1], "target", length_name="target_length")
    both = Joined((first, second))
    found = both[np.array([1, 0])]
    assert found.dtype.names == ("source", "source_length", "target", "target_length")
    assert found["source_length"].tolist() == [4, 2]
    assert found["target_length"].tolist() == [1, 3]
    assert both.lengths.tolist() == [5, 5]


def test_batches_of_rows_are_the_networks_inputs():
    held, _ = ragged([3, 9, 1], as_dtype="int64")
    split = Split("train", held, np.array([2, 1]), np.array([7, 8]))
    batch = Batches(split).at(0, np.array([1, 0]))
    tokens, length = batch.inputs
    assert tokens.shape == (2, 16)
    assert length.tolist() == [9, 1]
    assert batch.targets.tolist() == [8, 7]


@given(lengths, st.integers(1, 200), st.integers(1, 20), st.integers(0, 5))
def test_every_sample_comes_once_an_epoch_within_the_budget(sizes, budget, most, epoch):
    held = np.array(sizes, dtype=np.int64)
    sampler = BucketedSampler(held, budget, most=most, seed=3)
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    batches = [sampler.batch(step) for step in steps]
    assert {number for number, _ in batches} == {epoch}
    assert sorted(np.concatenate([rows for _, rows in batches]).tolist()) == list(range(len(held)))
    for _, rows in batches:
        assert len(rows) <= most
        # Lengths are blurred by a tenth, so a batch may be that much over.
        assert len(rows) == 1 or len(rows) * max(held[rows].max(), 1) <= 1.11 * budget + len(rows)


def test_a_batch_is_a_function_of_the_step_alone():
    held = np.random.default_rng(0).integers(1, 100, 500)
    first, second = (BucketedSampler(held, 800, most=64, seed=1) for _ in range(2))
    steps = [5, 90, 7, 300, 5]
    assert all((first.batch(step)[1] == second.batch(step)[1]).all() for step in sorted(steps))
    assert (first.batch(7)[1] == second.batch(7)[1]).all()
    other = BucketedSampler(held, 800, most=64, seed=2)
    assert any(
        sorted(first.batch(step)[1].tolist()) != sorted(other.batch(step)[1].tolist())
        for step in range(5)
    )


def test_like_lengths_need_little_padding():
    held = np.random.default_rng(0).integers(1, 200, 2000)
    assert padding_share(BucketedSampler(held, 4000, most=256, seed=0), held) < 0.12


def test_nothing_to_sample_is_refused():
    with pytest.raises(RequestError):
        BucketedSampler(np.empty(0, np.int64), 10, most=2, seed=0)


def test_the_share_of_padding_by_hand():
    held = np.array([1, 2, 3, 6])
    assert padding_share(Sampler(4, 4, 0), held) == 1 - 12 / 24
    assert padding_share(Sampler(4, 1, 0), held) == 0
