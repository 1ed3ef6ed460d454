"""Penalised least squares, by which simple methods and copies of a model are fitted in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelwright.arrays import Array, Doubles
from modelwright.errors import require
from modelwright.evaluation.features import Features, parts_of
from modelwright.transforms.ngrams import NgramInput

FEW_LABELS = 20
"""With more labels than these fewer texts are counted, for each label is fitted by itself."""
FEW_TEXTS = 4_000
"""Of so many texts all labels are fitted at once, in a few seconds however many they are."""
STRENGTHS = 10.0 ** np.arange(-4.0, 1.5, 0.5)
"""The penalties of dense features to choose from, as parts of their mean variance."""
_SPARSE_STRENGTH = 1.0
"""The penalty of TF-IDF weights."""


def least_squares(
    train: Features, targets: Array, test: Features, strengths: Doubles = STRENGTHS
) -> Doubles:
    """Fit an intercept and penalised weights to dense features; return what they predict.

    Ridge regression by principal components (Hastie, Tibshirani and Friedman 2009, section 3.4.1).
    Of several penalties the one with the least squared error is taken, where each training sample
    is predicted from all others: `(y - f) / (1 - h)`, with the fitted values f and the diagonal h
    of the matrix that gives them (section 7.10). To spare memory the features are centred in place.
    """
    mean, level = train.mean(axis=0), targets.mean(axis=0)
    train -= mean
    aims = targets - level
    is_wide = train.shape[1] > len(train)
    products = (train @ train.T if is_wide else train.T @ train).astype(np.float64)
    squares, axes = np.linalg.eigh(products)
    is_noise = squares <= _NOISE * max(squares[-1], _NOISE)
    squares, axes = squares[~is_noise], axes[:, ~is_noise]
    axes = (train.T @ (axes / np.sqrt(squares)) if is_wide else axes).astype(np.float32)
    penalties = strengths * max(float(np.trace(products)) / train.shape[1], 1e-6)
    shrunk = 1.0 / (squares[:, None] + penalties)
    moments = axes.T @ (train.T @ aims)
    errors = np.zeros(len(penalties))
    for part in parts_of(len(train)):
        components = train[part] @ axes
        left = 1.0 - 1.0 / len(train) - components**2 @ shrunk
        for at in range(len(penalties)):
            residuals = aims[part] - components @ (moments * shrunk[:, at : at + 1])
            errors[at] += ((residuals / np.maximum(left[:, at : at + 1], _NOISE)) ** 2).sum()
    best = int(errors.argmin())
    weights = axes @ (moments * shrunk[:, best : best + 1])
    predicted: Doubles = test @ weights + (level - mean @ weights)
    return predicted


_NOISE = 1e-6
"""Principal components whose variance is less than this part of the largest are rounding alone."""


def sparse_least_squares(train: Any, targets: Array, test: Any) -> Doubles:
    """Fit sparse features, by conjugate gradients for each target.

    Many targets of few samples have one solution in common, that of the samples' products.
    """
    if targets.shape[1] > FEW_LABELS and train.shape[0] <= FEW_TEXTS:
        return _by_products(train, targets, test, _SPARSE_STRENGTH)
    linear = require("sklearn.linear_model", extra="train", purpose="the linear model")
    model = linear.Ridge(alpha=_SPARSE_STRENGTH, copy_X=False).fit(train, targets)
    predicted: Doubles = model.predict(test).reshape(-1, targets.shape[1]).astype(np.float64)
    return predicted


def _by_products(train: Any, targets: Array, test: Any, strength: float) -> Doubles:
    """Return what penalised least squares predict, as weighted sums of the targets.

    Hastie, Tibshirani and Friedman 2009, equation 5.66, of centred features: the weights of
    samples `[M, N]` are the same for every target, of which most are 0. As centred samples sum to
    0, so do the weights, and what all columns of the kernel have in common needn't be taken off.
    """
    sparse = require("scipy.sparse", extra="train", purpose="the linear model")
    mean, level = np.asarray(train.mean(axis=0)).ravel(), targets.mean(axis=0, dtype=np.float64)
    offsets, square = np.asarray(train @ mean).ravel(), float(mean @ mean)
    kernel = (train @ train.T).toarray() - offsets
    kernel[np.diag_indices_from(kernel)] += strength
    across = (
        (test @ train.T).toarray() - np.asarray(test @ mean).ravel()[:, None] - offsets + square
    )
    weights = np.linalg.solve(kernel, across.T).T
    predicted: Doubles = np.asarray(weights @ sparse.csr_matrix(targets)) + level
    return predicted


def ngram_weights(encoder: NgramInput, texts: Sequence[str]) -> Any:
    """Return the weights of texts' n-grams as a sparse matrix `[N, V]`."""
    sparse = require("scipy.sparse", extra="train", purpose="counting words")
    rows = encoder.encode(texts)
    held = np.concatenate(rows)
    numbers, weights = (np.ascontiguousarray(held[name]) for name in ("f0", "f1"))
    ends = np.cumsum([0, *map(len, rows)])
    return sparse.csr_matrix((weights, numbers, ends), shape=(len(texts), encoder.size))
