"""A convolutional network over word vectors (Kim 2014, section 2, trained from random vectors)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.network import SequenceNetwork, TextFrame
from modelwright.models.padding import mask
from modelwright.recipe.networks import TextCnnModel

SPREAD = 0.25
"""Fresh word vectors are drawn from −0.25…0.25 (Kim 2014, section 3.1): of torch's, with deviation
1, a few epochs hardly change the direction."""


class TextCnn(SequenceNetwork):
    """Parallel convolutions, the largest output of each filter, and a linear `head`.

    Dropout is on the word vectors and before the head.
    """

    def __init__(self, spec: TextCnnModel, frame: TextFrame) -> None:
        super().__init__()
        self.kernels = spec.kernels
        self.embedding = nn.Embedding(frame.vocabulary, spec.width, padding_idx=0)
        nn.init.uniform_(self.embedding.weight[1:], -SPREAD, SPREAD)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(spec.width, spec.filters, size) for size in spec.kernels
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(spec.filters * len(spec.kernels), frame.num_outputs)

    def features(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        is_padding = ~mask(length, tokens.shape[1])[:, None]
        x = self.dropout(self.embedding(tokens)).transpose(1, 2)
        x = x.masked_fill(is_padding, 0.0)
        pooled = []
        for size, convolution in zip(self.kernels, self.convolutions, strict=True):
            # One window about each word, as if zeros stood around the text: there is always one.
            before = (size - 1) // 2
            answers = convolution(F.pad(x, (before, size - 1 - before)))
            # Not `amax`: see `Speednet.features`.
            pooled.append(answers.masked_fill(is_padding, -math.inf).max(2).values)
        features: Tensor = self.dropout(F.relu(torch.cat(pooled, dim=1)))
        return features
