"""A convolutional network over word vectors (Kim 2014, section 2, trained from random vectors)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.padding import mask

SPREAD = 0.25
"""Fresh word vectors are drawn from −0.25…0.25 (Kim 2014, section 3.1): of torch's, with deviation
1, a few epochs hardly change the direction."""


class TextCnn(nn.Module):
    """Parallel convolutions, the largest answer of each filter, and a linear `head`.

    Args:
        vocabulary: V.
        num_outputs: K.
        width: of a word's vector, D.
        filters: of each length.
        kernels: the lengths of the filters, in words.
        dropout: of word vectors, and before the head.
    """

    def __init__(
        self,
        vocabulary: int,
        num_outputs: int,
        *,
        width: int,
        filters: int,
        kernels: tuple[int, ...] = (3, 4, 5),
        dropout: float,
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        nn.init.uniform_(self.embedding.weight[1:], -SPREAD, SPREAD)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size) for size in kernels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(kernels), num_outputs)

    def features(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        is_padding = ~mask(length, tokens.shape[1])[:, None]
        x = self.dropout(self.embedding(tokens)).transpose(1, 2)
        x = x.masked_fill(is_padding, 0.0)
        found = []
        for size, convolution in zip(self.kernels, self.convolutions, strict=True):
            # One window about each word, as if zeros stood around the text: there is always one.
            before = (size - 1) // 2
            answers = convolution(F.pad(x, (before, size - 1 - before)))
            # Not `amax`: see `Speednet.features`.
            found.append(answers.masked_fill(is_padding, -math.inf).max(2).values)
        features: Tensor = self.dropout(F.relu(torch.cat(found, dim=1)))
        return features

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return the outputs `[N, K]` for tokens `[N, T]` of which `length` `[N]` are real."""
        outputs: Tensor = self.head(self.features(tokens, length))
        return outputs
