from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data.splits import draw_splits, limited, root
from modelwright.errors import DataError
from modelwright.recipe.data import SplitSpec


def keys(count, salt=""):
    digests = [hashlib.sha256(f"{salt}{n}".encode()).digest()[:16] for n in range(count)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(count, 16)


def drawn(labels, given_=None, extras=None, groups=None, **changes):
    count = len(labels)
    return draw_splits(
        SplitSpec(**changes),
        rows=np.arange(count),
        source_splits=given_ or [""] * count,
        labels=labels,
        extras=extras or [""] * count,
        keys=keys(count),
        groups=np.arange(count) if groups is None else np.array(groups),
    )


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=8, max_size=120),
    val=st.sampled_from([0, 0.1, 0.3, 2]),
    test=st.sampled_from([0, 0.2, 3]),
    seed=st.integers(0, 5),
)
def test_every_sample_stands_in_one_split_and_every_label_is_trained(labels, val, test, seed):
    found = drawn(labels, val=val, test=test, seed=seed)
    together = np.concatenate(list(found.values()))
    assert sorted(together.tolist()) == list(range(len(labels)))
    assert {labels[row] for row in found["train"].tolist()} == set(labels)
    again = drawn(labels, val=val, test=test, seed=seed)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_each_label_keeps_its_share():
    labels = ["a"] * 1000 + ["b"] * 100
    found = drawn(labels, val=0.1, test=0.2)
    counts = Counter(labels[row] for row in found["test"].tolist())
    assert counts == {"a": 200, "b": 20}


def test_what_is_left_goes_to_the_largest_remainders():
    # Of 5 of 10 the shares are 2, 1.5 and 1.5; of 4 of 9 they are 1.78, 1.33 and 0.89.
    found = drawn([*"aaaabbbccc"], val=0, test=5)
    counts = Counter("aaaabbbccc"[row] for row in found["test"].tolist())
    assert (counts["a"], sorted((counts["b"], counts["c"]))) == (2, [1, 2])
    found = drawn([*"aaaabbbcc"], val=0, test=4)
    counts = Counter("aaaabbbcc"[row] for row in found["test"].tolist())
    assert counts == {"a": 2, "b": 1, "c": 1}


def test_the_order_of_files_changes_nothing():
    labels = ["a", "b"] * 30
    held = keys(60)
    spec = SplitSpec()
    whole = {"source_splits": [""] * 60, "extras": [""] * 60, "groups": np.arange(60)}
    one = draw_splits(spec, rows=np.arange(60), labels=labels, keys=held, **whole)
    turned = np.random.default_rng(0).permutation(60)
    other = draw_splits(
        spec, rows=np.arange(60), labels=[labels[n] for n in turned], keys=held[turned], **whole
    )
    for name in one:
        assert sorted(turned[other[name]].tolist()) == one[name].tolist()


def test_given_splits_are_kept():
    given_ = ["train"] * 20 + ["test"] * 5
    found = drawn(["a", "b"] * 12 + ["a"], given_=given_, val=0.2)
    assert found["test"].tolist() == [20, 21, 22, 23, 24]
    assert len(found["validation"]) == 4
    assert not set(found["validation"].tolist()) & set(found["test"].tolist())


def test_what_is_given_for_training_is_never_tested_on():
    given_ = ["train"] * 16 + ["validation"] * 4
    assert len(drawn(["a", "b"] * 10, given_=given_, val=0)["test"]) == 0
    assert len(drawn(["a", "b"] * 10, given_=["train"] * 20, val=0)["test"]) == 4
    found = drawn(["a", "b"] * 10, given_=[*given_[:12], *[""] * 4, *given_[16:]], test=2)
    assert set(found["test"].tolist()) < {12, 13, 14, 15}


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=20), seed=st.integers(0, 5))
def test_a_group_stands_on_one_side(sizes, seed):
    extras = [f"g{n}" for n, size in enumerate(sizes) for _ in range(size)]
    labels = ["ab"[n % 2] for n in range(len(extras))]
    found = drawn(labels, extras=extras, by="group", column="g", val=0.2, test=0.2, seed=seed)
    sides = [{extras[row] for row in rows.tolist()} for rows in found.values()]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert sides[0]


@pytest.mark.parametrize(
    "times", [[str(n) for n in range(30)], [f"2024-01-{n + 1:02d}" for n in range(30)]]
)
def test_the_latest_are_for_the_test(times):
    found = drawn(["a", "b"] * 15, extras=times, by="time", column="t", val=0.2, test=0.2)
    assert found["test"].tolist() == list(range(24, 30))
    assert max(found["train"]) < min(found["validation"]) < min(found["test"])


@pytest.mark.parametrize(
    ("odd", "words"),
    [("", "1 of 30 samples have no time"), ("nan", "such as `nan`"), ("later", "such as `later`")],
)
def test_times_that_cant_be_sorted_are_refused(odd, words):
    times = [str(n) for n in range(30)]
    times[3] = odd
    with pytest.raises(DataError, match=words):
        drawn(["a", "b"] * 15, extras=times, by="time", column="t", val=0.2, test=0.2)


def test_too_large_a_split_is_refused():
    with pytest.raises(DataError, match="100 samples are requested"):
        drawn(["a", "b"] * 5, test=100)


def test_a_limit_takes_the_same_samples_whatever_their_order():
    held = keys(50)
    some = limited(np.arange(50), 10, seed=3, keys=held)
    assert len(some) == 10
    turned = np.random.default_rng(1).permutation(50)
    other = limited(np.arange(50), 10, seed=3, keys=held[turned])
    assert sorted(turned[other].tolist()) == some.tolist()


def test_the_root_of_a_set_ignores_order_and_sees_every_change():
    held, labels = keys(20), ["a", "b"] * 10
    whole = root(held, labels)
    turned = np.arange(20)[::-1]
    assert root(held[turned], [labels[n] for n in turned]) == whole
    assert root(held[:19], labels[:19]) != whole
    assert root(held, ["b", *labels[1:]]) != whole


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=30, max_size=90),
    seed=st.integers(0, 9),
)
def test_samples_that_are_alike_are_never_separated(groups, seed):
    labels = ["ab"[group % 2] for group in groups]
    found = drawn(labels, groups=groups, seed=seed)
    sides = [{groups[row] for row in rows.tolist()} for rows in found.values()]
    assert sum(map(len, sides)) == len(set(groups))
    assert sum(map(len, found.values())) == len(groups)


def test_a_group_is_drawn_only_where_it_fits():
    groups = [0] * 50 + list(range(1, 51))
    found = drawn(["a"] * 100, groups=groups, val=0.1, test=0.2)
    assert len(found["test"]) == 20
    assert set(range(50)) <= set(found["train"].tolist())


def test_groups_are_left_for_the_splits_that_are_drawn_later():
    extras = [name for name in "abc" for _ in range(4)]
    found = drawn(["x"] * 12, extras=extras, by="group", column="g", val=0.3, test=0.9)
    assert all(len(rows) == 4 for rows in found.values())
