"""Vectors of tokens, learnt from texts without labels: tokens in like company lie near each other.

The positive pointwise mutual information of tokens that stand near each other, in few dimensions by
a singular value decomposition (Levy, Goldberg and Dagan 2015, sections 2 and 3). Beside word2vec it
needs neither epochs nor a rate, and the same texts give the same vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import require
from modelwright.transforms.tokenizing import SPECIALS, Ids

FEWEST = 5
"""What occurs more rarely has kept too little company to be placed by it."""
_SMOOTHING = 0.75
"""The power of a neighbour's frequency (section 3.2): rare neighbours don't decide."""
_AT_ONCE = 1 << 21
"""Tokens that are counted in one go."""


def learn_vectors(
    texts: Iterable[Ids], *, size: int, width: int, window: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Learn a vector of length 1 for each token that occurs often enough.

    Tokens that stand k apart in a text, at most `window`, count 1/k. Special tokens keep their
    place, and nobody company.

    Args:
        texts: token ids `[T]`, read once.
        size: how many tokens there are, V.
        width: of a vector, D.
        window: how far apart tokens are counted.

    Returns:
        The vectors `[V, D]`, zero where a token has none, and which tokens have one `[V]`.

    Raises:
        MissingExtraError: scikit-learn isn't installed.
    """
    sparse = require("scipy.sparse", extra="train", purpose="learning vectors of words")
    extmath = require("sklearn.utils.extmath", extra="train", purpose="learning vectors of words")
    near = sparse.csr_matrix((size, size), dtype=np.float32)
    occurs = np.zeros(size, dtype=np.int64)
    for ids in _stretches(texts, gap=window):
        occurs += np.bincount(ids[ids >= 0], minlength=size)
        near += _neighbours(sparse, ids, size, window)
    information = _information(sparse, near + near.T, occurs >= FEWEST)
    vectors = np.zeros((size, width), dtype=np.float32)
    if information.nnz:
        dimensions = min(width, size)
        left, values, _ = extmath.randomized_svd(
            information, n_components=dimensions, n_iter=4, random_state=0
        )
        # The root of the values: all of them would leave the largest to decide (section 3.3).
        vectors[:, :dimensions] = left * np.sqrt(values)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = (np.asarray(information.getnnz(axis=1)) > 0) & (length[:, 0] > 0)
    return np.where(known[:, None], vectors / np.maximum(length, 1e-12), 0).astype(
        np.float32
    ), known


def _stretches(texts: Iterable[Ids], *, gap: int) -> Iterable[NDArray[np.int64]]:
    """Yield texts in a row, with −1 for special tokens, and `gap` times after each text."""
    held: list[NDArray[np.int64]] = []
    count, after = 0, np.full(gap, -1, dtype=np.int64)
    for ids in texts:
        held += [np.where(ids >= len(SPECIALS), ids, -1).astype(np.int64), after]
        count += len(ids) + gap
        if count >= _AT_ONCE:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)


def _neighbours(sparse: Any, ids: NDArray[np.int64], size: int, window: int) -> Any:
    """Count which tokens `[V, V]` follow which, a pair that is k apart as 1/k."""
    found = sparse.csr_matrix((size, size), dtype=np.float32)
    for apart in range(1, window + 1):
        first, second = ids[:-apart], ids[apart:]
        both = (first >= 0) & (second >= 0)
        count = np.full(int(both.sum()), 1.0 / apart, dtype=np.float32)
        found += sparse.coo_matrix((count, (first[both], second[both])), shape=(size, size)).tocsr()
    return found


def _information(sparse: Any, near: Any, often: NDArray[np.bool_]) -> Any:
    """Return the positive pointwise mutual information of tokens that occur often, `[V, V]`."""
    near = near.tocoo()
    kept = often[near.row] & often[near.col]
    row, column, count = near.row[kept], near.col[kept], near.data[kept].astype(np.float64)
    total = np.bincount(row, weights=count, minlength=len(often))
    likely = total**_SMOOTHING
    share = likely / max(likely.sum(), 1e-12)
    information = np.log(count / (total[row] * share[column]))
    above = information > 0
    return sparse.csr_matrix(
        (information[above].astype(np.float32), (row[above], column[above])),
        shape=(len(often), len(often)),
    )
