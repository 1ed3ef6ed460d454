"""What a task is to the rest of the code: a name, metrics, and how outputs become answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Prediction = dict[str, Any]
"""One answer: `{"label": …, "probability": …}` of a classification, `{"value": …}` of a number."""


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of prediction.

    `scores` compares raw network outputs `[N, …]` with targets `[N, …]` and returns metrics by
    name; training selects by `select_by` of them. `decode` turns raw outputs into answers, best
    first, at most `top` each.
    """

    name: str
    select_by: str
    higher_is_better: bool
    scores: Callable[[Floats, NDArray[Any]], Mapping[str, float]]
    decode: Callable[[Floats, Sequence[str], int], list[list[Prediction]]]
    ties_by: str | None = None
    """A score that is better when lower, which decides where `select_by` ties."""
    input: Literal["image", "text", "sound"] = "image"
    """What the samples are."""
    scores_are_means: bool = False
    """Whether every score is a mean over samples, so that very wide outputs are scored in parts."""
