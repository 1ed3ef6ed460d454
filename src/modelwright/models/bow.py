"""A bag of words and hashed n-grams, the fastText kind (Joulin et al. 2017, sections 2 and 2.2).

Words and n-grams share one table of vectors, the n-grams by hashing. The numbers of the n-grams are
computed inside the network, so that a model file's graph takes plain tokens. One thing differs from
fastText: the sum of the vectors is divided by the root of their count instead of the count, so that
long texts are the surer ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.network import SequenceNetwork, TextFrame
from modelwright.recipe.model import BowModel

_PRIME = (1 << 31) - 1
"""Sums are taken modulo this before the buckets (Carter and Wegman 1979): neighbours scatter."""
_OLD, _NEW = 1_540_483_477, 668_265_263
"""Factors below the prime; a product of two numbers below 2³¹ fits int64."""
_DEVIATION = 0.01
"""Of fresh vectors: near zero, so that n-grams that aren't trained have no effect."""


class Bow(SequenceNetwork):
    """The scaled sum of the vectors of words and n-grams, and a linear `head`.

    Dropout leaves out whole words and n-grams.
    """

    def __init__(self, spec: BowModel, frame: TextFrame) -> None:
        super().__init__()
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
        places = torch.arange(tokens.shape[1], device=tokens.device)
        rows, code = [tokens], tokens
        for size in range(2, self.ngrams + 1):
            last = F.pad(tokens, (0, size - 1))[:, size - 1 :]
            code = (code * _OLD + last * _NEW + size) % _PRIME
            is_real = places + size <= length[:, None]
            rows.append((self.vocabulary + code % self.buckets) * is_real)
        return torch.cat(rows, dim=1)
