"""How a token is drawn from a network's logits: temperature, top-k, top-p, repetition penalty.

A token is drawn from its own random figure, a function of (seed, sample, position), so what a
sample gets doesn't depend on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Bools, Floats, Ints
from modelwright.errors import ModelwrightError, RequestError

Float = TypeVar("Float", bound=np.floating[Any])

END = 3
"""The id that ends a text."""
BARRED = (0, 1, 2)
"""Ids that are never generated: padding, unknown, begin."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How tokens are drawn.

    Raises:
        RequestError: a figure is out of its range.
    """

    max_new_tokens: int = 256
    """The most new tokens."""
    temperature: float = 1.0
    """What the logits are divided by; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Draw among this many likeliest tokens (Fan et al. 2018, section 5.1)."""
    top_p: float | None = None
    """Draw among the fewest tokens that have this probability (Holtzman et al. 2020, eq. 2)."""
    repetition_penalty: float = 1.0
    """What the logits of tokens that occurred are divided by (Keskar et al. 2019, section 4.1)."""
    stop_ids: tuple[int, ...] = (END,)
    """Ids that end a text; they aren't part of it."""
    stop: tuple[str, ...] = ()
    """Strings that end a text; they aren't part of it."""
    barred: tuple[int, ...] = BARRED
    """Ids that are never generated."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_figure("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        check_figure("temperature", self.temperature, 0 <= self.temperature < np.inf, "0 or more")
        check_figure("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more")
        check_figure(
            "top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0, at most 1"
        )
        penalty = self.repetition_penalty
        check_figure("repetition_penalty", penalty, 0 < penalty < np.inf, "above 0")
        check_figure("stop", self.stop, all(self.stop), "strings that aren't empty")
        check_figure("seed", self.seed, 0 <= self.seed < 1 << 64, "0 or more, below 2⁶⁴")


def check_figure(name: str, value: object, is_valid: bool, expected: str) -> None:
    """Refuse a figure of a configuration that is out of its range."""
    if not is_valid:
        raise RequestError(f"`{name}` is {value!r}", fix=f"Use {expected}")


def draw(logits: Floats, seen: Bools, config: SamplingConfig, figures: Sequence[float]) -> Ints:
    """Return a token for each text `[N]`, from its random figure in [0, 1).

    `logits` are `[N, V]`, `figures` `[N]`; `seen` `[N, V]` says which ids occurred in each text.

    Raises:
        ModelwrightError: the logits aren't numbers.
    """
    exact = checked_logits(logits, config.barred).astype(np.float64)
    scores = penalised(exact, seen, config.repetition_penalty)
    if config.temperature == 0:
        best: Ints = scores.argmax(1)
        return best
    # The largest first becomes 0: a tiny temperature would make two of them infinite.
    scores = (scores - scores.max(1, keepdims=True)) / config.temperature
    if config.top_k is not None:
        scores = top_k(scores, config.top_k)
    shares = np.exp(scores)
    shares /= shares.sum(1, keepdims=True)
    if config.top_p is not None:
        shares = top_p(shares, config.top_p)
    bounds = shares.cumsum(1)
    # Just below the sum, so that rounding can't pass the last token that has a share.
    targets = np.minimum(np.array(figures) * bounds[:, -1], np.nextafter(bounds[:, -1], 0))
    return np.array(
        [np.searchsorted(row, target, "right") for row, target in zip(bounds, targets, strict=True)]
    )


def checked_logits(logits: Floats, barred: Sequence[int]) -> Floats:
    """Return a copy of the logits, −∞ for barred ids.

    Raises:
        ModelwrightError: the logits aren't numbers.
    """
    scores = logits.copy()
    scores[:, [token for token in barred if token < scores.shape[1]]] = -np.inf
    if not np.isfinite(scores.max(1)).all():
        raise ModelwrightError(
            "the network's answer isn't numbers",
            why="Its training diverged, or its weights are damaged",
            fix="Use an earlier model",
        )
    return scores


def log_softmax(logits: NDArray[Float]) -> NDArray[Float]:
    """Return the logarithms of the probabilities that logits stand for, along the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)
    log_probs: NDArray[Float] = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return log_probs


def penalised(logits: Floats, seen: Bools, penalty: float) -> Floats:
    """Make tokens that occurred less likely, for a `penalty` above 1.

    Keskar et al. 2019 divide their logits (section 4.1). Where one is below 0 that would raise it,
    so it is multiplied there, as in transformers. `logits` and `seen` are `[N, V]`.
    """
    changed = np.where(logits > 0, logits / penalty, logits * penalty)
    return np.where(seen, changed, logits)


def top_k(logits: Floats, k: int) -> Floats:
    """Return the k largest logits of each row of `[N, V]`, and −∞ for the others.

    All that equal the kth stay: nothing speaks for one of them.
    """
    size = logits.shape[1]
    if k >= size:
        return logits
    kth = np.partition(logits, size - k, axis=1)[:, size - k, None]
    return np.where(logits >= kth, logits, -np.inf)


def top_p(shares: Floats, p: float) -> Floats:
    """Return the fewest largest shares of each row of `[N, V]` that sum to p, and 0 for the others.

    What stays isn't divided by its sum, so that doing it twice is doing it once. Among equal ones
    the lower ids stay.
    """
    if p >= 1:
        return shares
    order = np.argsort(-shares, axis=1, kind="stable")
    sums = np.take_along_axis(shares, order, 1).cumsum(1)
    # A token stays if those before it don't reach p yet.
    stays = np.concatenate([np.ones_like(sums[:, :1], bool), sums[:, :-1] < p], axis=1)
    kept = np.empty_like(stays)
    np.put_along_axis(kept, order, stays, axis=1)
    return np.where(kept, shares, 0.0)


def uniform(seed: int, sample: int, position: int) -> float:
    """Return the random figure in [0, 1) of a sample's token.

    The generator is Philox 4×64 (Salmon et al. 2011), keyed by seed and sample; its raw bits are
    the same in every version of NumPy.
    """
    philox = np.random.Philox(
        key=np.array([seed, sample], np.uint64), counter=np.array([0, position, 0, 0], np.uint64)
    )
    return float(int(philox.random_raw()) >> 11) * 2.0**-53
