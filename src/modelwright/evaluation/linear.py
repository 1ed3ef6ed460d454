"""Linear classifiers without iterations: nearest centroid, and ridge regression on indicators.

Both are fitted from sums over chunks of samples, so features never stand in memory whole. Source of
the ridge: Hastie, Tibshirani and Friedman 2009, `The Elements of Statistical Learning`, sections
3.4.1 and 4.2; how strong it is, is chosen on a tenth of the training samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelwright.metrics import Doubles, Ints

Features = NDArray[np.float32]
Chunks = Callable[[], Iterable[tuple[Features, Ints]]]
"""Yields features `[n, D]` and class numbers `[n]`, the same at every call."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge strengths tried, as parts of the features' mean second moment."""
_FEWEST_TO_CHOOSE = 50
_USUAL_STRENGTH = 1e-2
_HELD_OUT = 10  # one sample in so many


@dataclass(frozen=True, slots=True)
class Linear:
    """Scores `features @ weights + offset`, the largest wins."""

    weights: Features
    """`[D, K]`."""
    offset: Features
    """`[K]`."""

    def answer(self, features: Features) -> Ints:
        """Return the class `[n]` of each sample."""
        classes: Ints = (features @ self.weights + self.offset).argmax(axis=1).astype(np.int64)
        return classes


def nearest_centroid(chunks: Chunks, *, num_classes: int) -> Linear:
    """Return the classifier that answers with the class whose mean is nearest."""
    sums: Doubles | None = None
    counts = np.zeros(num_classes)
    for features, classes in chunks():
        if sums is None:
            sums = np.zeros((num_classes, features.shape[1]))
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[present] += np.add.reduceat(features[order], starts, axis=0, dtype=np.float64)
        counts += np.bincount(classes, minlength=num_classes)
    assert sums is not None
    means = sums / np.maximum(counts, 1)[:, None]
    # |x − c|² = |x|² − 2 x·c + |c|², and |x|² is the same for all classes
    offset = np.where(counts > 0, -(means**2).sum(axis=1) / 2, -np.inf)
    return Linear(means.T.astype(np.float32), offset.astype(np.float32))


@dataclass(slots=True)
class _Moments:
    """Sums from which a ridge regression follows."""

    count: int
    features: Doubles
    classes: Doubles
    products: Doubles
    crossed: Doubles

    @staticmethod
    def empty(size: int, num_classes: int) -> _Moments:
        return _Moments(
            0,
            np.zeros(size),
            np.zeros(num_classes),
            np.zeros((size, size)),
            np.zeros((size, num_classes)),
        )

    def add(self, features: Features, classes: Ints) -> None:
        if len(features) == 0:
            return
        wanted = np.zeros((len(classes), len(self.classes)), dtype=np.float32)
        wanted[np.arange(len(classes)), classes] = 1
        self.count += len(features)
        self.features += features.sum(axis=0, dtype=np.float64)
        self.classes += wanted.sum(axis=0, dtype=np.float64)
        self.products += features.T @ features
        self.crossed += features.T @ wanted

    def fit(self, strength: float) -> Linear:
        mean, share = self.features / self.count, self.classes / self.count
        inner = self.products - self.count * np.outer(mean, mean)
        # Flat features have no second moment; a least strength keeps the system solvable.
        penalty = max(strength * float(np.trace(inner)) / len(mean), 1e-9 * self.count)
        inner[np.diag_indices_from(inner)] += penalty
        weights = np.linalg.solve(inner, self.crossed - self.count * np.outer(mean, share))
        return Linear(weights.astype(np.float32), (share - mean @ weights).astype(np.float32))


def ridge(chunks: Chunks, *, num_classes: int) -> Linear:
    """Return the linear classifier that fits the class indicators with least squares, penalised."""
    fitted: _Moments | None = None
    held: _Moments | None = None
    aside: list[tuple[Features, Ints]] = []
    seen = 0
    for features, classes in chunks():
        if fitted is None or held is None:
            fitted = _Moments.empty(features.shape[1], num_classes)
            held = _Moments.empty(features.shape[1], num_classes)
        kept_aside = (seen + np.arange(len(features))) % _HELD_OUT == 0
        seen += len(features)
        fitted.add(features[~kept_aside], classes[~kept_aside])
        held.add(features[kept_aside], classes[kept_aside])
        aside.append((features[kept_aside], classes[kept_aside]))
    assert fitted is not None
    assert held is not None
    strength = _USUAL_STRENGTH if seen < _FEWEST_TO_CHOOSE else _best_strength(fitted, aside)
    for name in ("features", "classes", "products", "crossed"):
        setattr(fitted, name, getattr(fitted, name) + getattr(held, name))
    fitted.count += held.count
    return fitted.fit(strength)


def _best_strength(fitted: _Moments, aside: list[tuple[Features, Ints]]) -> float:
    """Return the strength with the most hits on the samples held out; the strongest of equals."""
    hits = {}
    for strength in reversed(STRENGTHS):
        classifier = fitted.fit(strength)
        hits[strength] = sum(
            int((classifier.answer(features) == classes).sum()) for features, classes in aside
        )
    return max(hits, key=lambda strength: hits[strength])
