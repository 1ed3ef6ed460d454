"""Two models on the same samples."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest

from modelwright.errors import DataError
from modelwright.evaluation.labels import accuracy_difference
from modelwright.evaluation.measurement import sampled

RECORD = partial(sampled, subject="baseline:hog", split="test", data="data")


def right(*shares: tuple[bool, int]) -> np.ndarray:
    return np.concatenate([np.full(count, value) for value, count in shares])


def test_a_clear_difference() -> None:
    # The model alone is right on 30 of 100 samples, the other one on none.
    found = accuracy_difference(
        right((True, 90), (False, 10)), right((True, 60), (False, 40)), RECORD, model="m"
    )
    assert found.value == pytest.approx(0.3)
    # Bonett and Price 2012, equation 3
    only, neither = 31 / 102, 1 / 102
    reach = 1.96 * ((only + neither - (only - neither) ** 2) / 102) ** 0.5
    assert (found.low, found.high) == pytest.approx(
        (only - neither - reach, only - neither + reach), abs=1e-5
    )
    assert (found.n, found.model, found.subject) == (100, "m", "baseline:hog")
    assert found.method.endswith(f"exact McNemar test p = {2 * 0.5**30:.2g}")


def test_the_exact_test_is_scipys() -> None:
    for only_model, only_other in ((7, 2), (1, 9), (4, 4), (200, 1)):
        found = accuracy_difference(
            right((True, only_model), (False, only_other)),
            right((False, only_model), (True, only_other)),
            RECORD,
            model="m",
        )
        p = binomtest(only_model, only_model + only_other).pvalue
        said = f"p = {p:.2g}" if p >= 1e-12 else "p < 1e-12"
        assert found.method.endswith(said)


def test_swapping_turns_it_round() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(50) < 0.8, random.random(50) < 0.6
    one = accuracy_difference(first, second, RECORD, model="m")
    two = accuracy_difference(second, first, RECORD, model="m")
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    assert one.method == two.method


def test_equal_models_are_not_told_apart() -> None:
    half = right((True, 5), (False, 5))
    found = accuracy_difference(half, half, RECORD, model="m")
    assert found.low < 0 < found.high
    assert found.method.endswith("p = 1")


def test_other_samples_are_refused() -> None:
    for first, second in ((np.ones(2, bool), np.ones(3, bool)), (np.zeros(0, bool),) * 2):
        with pytest.raises(DataError, match="on the same samples"):
            accuracy_difference(first, second, RECORD, model="m")
