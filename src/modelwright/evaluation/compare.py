"""Two models on the same samples: which one is right more often, and how sure that is.

Pairing takes out what both find easy or hard, so a small difference shows on few samples. Source of
the bounds: Bonett and Price 2012; of the test: McNemar 1947, exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError
from modelwright.evaluation.intervals import mcnemar, paired_bounds
from modelwright.ledger import Ledger

DIFFERENCE = "accuracy_difference"
"""The metric's name in the ledger: the model's accuracy minus that of the record's subject."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The accuracy of a first model minus that of a second, on the same samples."""

    difference: float
    low: float
    high: float
    n: int
    only_first: int
    """Samples that the first alone had right."""
    only_second: int
    p: float
    """How likely so uneven a count is, were both right equally often."""


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Comparison:
    """Compare two models by whether each had each sample right, `[N]`.

    Raises:
        DataError: there are no samples, or the lengths differ.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise DataError(
            f"two models are compared on the same samples, one at least, not on "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    count = len(first)
    difference = (only_first - only_second) / count
    low, high = paired_bounds(only_first, only_second, count)
    return Comparison(
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        n=count,
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(only_first, only_second),
    )


def answer(ledger: Ledger, *, words: Mapping[str, str] | None = None) -> str:
    """Say whether the model beats the strongest baseline; empty where none was measured.

    A baseline that was measured on a part of the samples is compared on that part.

    Args:
        ledger: the evidence.
        words: what baselines are called, by name; by that name where not said.
    """
    newest = {
        record.subject: record
        for record in ledger
        if record.metric == DIFFERENCE and record.subject.startswith("baseline:")
    }
    found = min(newest.values(), key=lambda record: record.value, default=None)
    if found is None:
        return ""
    name = found.subject.partition(":")[2]
    name = (words or {}).get(name, name)
    points = f"{abs(found.value) * 100:.1f} percentage points"
    sure = f"(95 %: {found.low * 100:+.1f} to {found.high * 100:+.1f}, same {found.n:,} samples)"
    if found.low > 0:
        return f"The network beats the strongest simple method, {name}, by {points} {sure}."
    if found.high < 0:
        return (
            f"A simple method, {name}, beats the network by {points} {sure}: use it instead, or "
            "train longer."
        )
    return (
        f"These samples don't tell whether the network is better than the strongest simple method, "
        f"{name} {sure}."
    )
