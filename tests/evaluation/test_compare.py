"""Two models on the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.errors import DataError
from modelwright.evaluation import DIFFERENCE, answer, compare
from modelwright.ledger import Evidence, Ledger


def right(*shares: tuple[bool, int]) -> np.ndarray:
    return np.concatenate([np.full(count, value) for value, count in shares])


def test_a_clear_difference() -> None:
    found = compare(right((True, 90), (False, 10)), right((True, 60), (False, 40)))
    assert found.difference == pytest.approx(0.3)
    assert (found.only_first, found.only_second, found.n) == (30, 0, 100)
    assert found.low > 0
    assert found.p == pytest.approx(2 * 0.5**30)


def test_swapping_turns_it_round() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(50) < 0.8, random.random(50) < 0.6
    one, two = compare(first, second), compare(second, first)
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-two.difference, -two.high, -two.low)
    )
    assert one.p == two.p


def test_equal_models_are_not_told_apart() -> None:
    found = compare(right((True, 5), (False, 5)), right((True, 5), (False, 5)))
    assert found.low < 0 < found.high
    assert found.p == 1.0


def test_other_samples_are_refused() -> None:
    with pytest.raises(DataError, match="on the same samples"):
        compare(right((True, 2)), right((True, 3)))
    with pytest.raises(DataError, match="on the same samples"):
        compare(np.zeros(0, bool), np.zeros(0, bool))


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (0.1, 0.2, 0.3, "The network beats the strongest simple method, hog, by 20.0 percentage"),
        (-0.3, -0.2, -0.1, "A simple method, hog, beats the network by 20.0 percentage points"),
        (
            -0.1,
            0.1,
            0.2,
            "These samples don't tell whether the network is better than the strongest simple",
        ),
    ],
)
def test_the_answer_in_words(low: float, value: float, high: float, said: str) -> None:
    def record(subject: str, by: float) -> Evidence:
        return Evidence(
            metric=DIFFERENCE,
            value=value + by,
            low=low + by,
            high=high + by,
            n=1000,
            method="",
            subject=subject,
        )

    ledger = Ledger([record("baseline:majority", 0.5), record("baseline:hog", 0.0)])
    assert answer(ledger).startswith(said)
    assert "same 1,000 samples" in answer(ledger)


def test_no_baseline_no_answer() -> None:
    assert answer(Ledger()) == ""
