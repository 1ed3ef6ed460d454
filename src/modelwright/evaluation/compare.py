"""Two models on the same samples: which one is right more often, and whether that is significant.

Pairing removes the variance that both models share, so that fewer samples are needed. Source of
the bounds: Bonett and Price 2012; of the test: McNemar 1947, exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError
from modelwright.evaluation.intervals import mcnemar, paired_bounds
from modelwright.evaluation.measurement import Record
from modelwright.ledger import Evidence, Ledger

DIFFERENCE = "accuracy_difference"
"""The metric's name in the ledger: the model's accuracy minus that of the record's subject."""


def accuracy_difference(
    model_hits: NDArray[np.bool_], other_hits: NDArray[np.bool_], record: Record, *, model: str
) -> Evidence:
    """Return the model's accuracy minus another's, from which samples each had right `[N]`.

    The record is one about the other one; `model` is the model digest.

    Raises:
        DataError: there are no samples, or the lengths differ.
    """
    if model_hits.shape != other_hits.shape or model_hits.ndim != 1 or len(model_hits) == 0:
        raise DataError(
            f"two models are compared on the same samples, one at least, not on "
            f"{list(model_hits.shape)} and {list(other_hits.shape)}"
        )
    only_model = int((model_hits & ~other_hits).sum())
    only_other = int((other_hits & ~model_hits).sum())
    count = len(model_hits)
    difference = (only_model - only_other) / count
    ends = (difference, *paired_bounds(only_model, only_other, count))
    p = mcnemar(only_model, only_other)
    return record(
        DIFFERENCE,
        difference,
        (min(ends), max(ends)),
        n=count,
        method="the model's accuracy minus this baseline's on the same samples; paired interval of "
        "Bonett and Price; exact McNemar test p " + (f"= {p:.2g}" if p >= 1e-12 else "< 1e-12"),
        model=model,
    )


def answer(ledger: Ledger, *, words: Mapping[str, str] | None = None) -> str:
    """Return a sentence on whether the model beats the strongest baseline; empty without one.

    A baseline that was measured on a part of the samples is compared on that part. `words` holds
    descriptions of baselines by name; by default their names are used.
    """
    newest = {
        record.subject: record
        for record in ledger
        if record.metric == DIFFERENCE and record.subject.startswith("baseline:")
    }
    closest = min(newest.values(), key=lambda record: record.value, default=None)
    if closest is None:
        return ""
    name = closest.subject.partition(":")[2]
    name = (words or {}).get(name, name)
    points = f"{abs(closest.value) * 100:.1f} percentage points"
    bounds = f"{closest.low * 100:+.1f} to {closest.high * 100:+.1f}"
    sure = f"(95 %: {bounds}, same {closest.n:,} samples)"
    if closest.low > 0:
        return f"The network beats the strongest simple method, {name}, by {points} {sure}."
    if closest.high < 0:
        return (
            f"A simple method, {name}, beats the network by {points} {sure}: use it instead, or "
            "train longer."
        )
    return (
        f"On these samples the network isn't significantly better than the strongest simple "
        f"method, {name} {sure}."
    )
