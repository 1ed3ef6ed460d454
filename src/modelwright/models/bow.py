"""A bag of words and hashed n-grams, the fastText kind (Joulin et al. 2017, sections 2 and 2.2).

Words and n-grams share one table of vectors, the n-grams by hashing. The numbers of the n-grams are
computed inside the network, so that a model file's graph takes plain tokens. One thing differs from
fastText: the sum of the vectors is divided by the root of their count instead of the count, so that
long texts are the surer ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.models.network import SequenceNetwork, TextFrame
from modelwright.recipe.networks import BowModel

_PRIME = (1 << 31) - 1
"""Sums are taken modulo this before the buckets (Carter and Wegman 1979): neighbours scatter."""
_OLD, _NEW = 1_540_483_477, 668_265_263
"""Factors below the prime; a product of two numbers below 2³¹ fits int64."""
_DEVIATION = 0.01
"""Of fresh vectors: near zero, so that n-grams that aren't trained have no effect."""
FEWEST_BUCKETS, MOST_BUCKETS = 1 << 8, 1 << 18
"""What `buckets: auto` may come to."""


class Bow(SequenceNetwork):
    """The scaled sum of the vectors of words and n-grams, and a linear `head`.

    Dropout leaves out whole words and n-grams.
    """

    def __init__(self, spec: BowModel, frame: TextFrame) -> None:
        super().__init__()
        if spec.buckets == "auto":
            raise RecipeError(
                "the number of `buckets` isn't known yet",
                where="model.buckets",
                fix="Ask `fit_buckets` for it, or write a number",
            )
        self.vocabulary, self.dropout = frame.vocabulary, spec.dropout
        self.ngrams, self.buckets = spec.ngrams, spec.buckets
        rows = self.vocabulary + (self.buckets if self.ngrams > 1 else 0)
        # A step moves the rows of its batch alone: `training.row_sparse`.
        self.embedding = nn.Embedding(rows, spec.width, padding_idx=0, sparse=True)
        nn.init.normal_(self.embedding.weight[1:], std=_DEVIATION)
        self.head = nn.Linear(spec.width, frame.num_outputs)

    def features(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        rows = self.rows(tokens, length)
        if self.training and self.dropout:
            rows = rows * (torch.rand(rows.shape, device=rows.device) >= self.dropout)
        count = (rows != 0).sum(1, keepdim=True).clamp(min=1)
        if self.training:  # One pass without the vectors of each word in memory.
            # The compiler knows dense gradients alone.
            is_sparse = self.embedding.sparse and not torch.compiler.is_compiling()
            total = F.embedding_bag(
                rows, self.embedding.weight, mode="sum", padding_idx=0, sparse=is_sparse
            )
        else:
            total = self.embedding(rows).sum(1)
        scaled: Tensor = total / count.to(total.dtype).sqrt()
        return scaled

    def rows(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return the rows of the table `[N, ngrams·T]` for tokens `[N, T]`; 0 where there is none.

        First stand the words, then the runs of 2 words from each on, of 3, and so on; a run that
        padding reaches into is none.
        """
        rows = [tokens]
        for code, is_real in _runs(tokens, length, self.ngrams):
            rows.append((self.vocabulary + code % self.buckets) * is_real)
        return torch.cat(rows, dim=1)


def _runs(tokens: Tensor, length: Tensor, ngrams: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the numbers of all runs of 2 tokens, of 3, …, and which of them are real `[N, T]`."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    code = tokens
    for size in range(2, ngrams + 1):
        last = F.pad(tokens, (0, size - 1))[:, size - 1 :]
        code = (code * _OLD + last * _NEW + size) % _PRIME
        yield code, places + size <= length[:, None]


def fit_buckets(texts: Iterable[tuple[Tensor, ...]], ngrams: int) -> int:
    """Return how many buckets suit the runs of words in training texts: a power of two.

    It is twice as many as there are different runs, or more, so that few share a vector; but
    `MOST_BUCKETS` at most.

    Args:
        texts: tokens `[N, T]` and lengths `[N]` of some texts at a time; it reads no further than
            it has to.
        ngrams: the longest run.
    """
    is_taken = torch.zeros(MOST_BUCKETS, dtype=torch.bool)
    for tokens, length in texts:
        for code, is_real in _runs(tokens, length, ngrams):
            is_taken[code[is_real] % MOST_BUCKETS] = True
        if 2 * int(is_taken.sum()) > MOST_BUCKETS // 2:
            return MOST_BUCKETS
    needed = max(2 * int(is_taken.sum()), FEWEST_BUCKETS)
    return 1 << (needed - 1).bit_length()
