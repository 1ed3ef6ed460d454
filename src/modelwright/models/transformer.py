"""Self-attention over word vectors: an encoder of pre-norm layers, and a classifier on it.

Multi-head attention and sinusoidal positions after Vaswani et al. 2017 (sections 3.2 and 3.5); each
layer normalises first (Xiong et al. 2020, figure 1b), so that it trains without a long warm-up.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.network import SequenceNetwork, TextFrame
from modelwright.models.padding import mask, masked_mean
from modelwright.recipe.networks import TransformerModel

_LONGEST_WAVE = 10000.0  # Vaswani et al. 2017, section 3.5
_FEED_FORWARD = 4
"""The width inside a feed-forward part, in widths of the model (Vaswani et al. 2017, table 3)."""


def feed_forward(width: int) -> nn.Sequential:
    """Return two linear layers with a GELU between, from `[…, D]` to `[…, D]`."""
    inner = _FEED_FORWARD * width
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class SelfAttention(nn.Module):
    """Scaled dot-product attention of every position to every real one, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.projection = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        """Return `[N, T, D]` for inputs `[N, T, D]`, of which `is_real` `[N, T]` are no padding."""
        split = self.projection(x).view(*x.shape[:2], 3, self.heads, self.head_width)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_real[:, None, None])
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class TransformerLayer(nn.Module):
    """Norm, attention, sum; norm, feed-forward with GELU, sum; dropout of what is added."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = feed_forward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, is_real: Tensor) -> Tensor:
        """Return `[N, T, D]` for inputs `[N, T, D]`, of which `is_real` `[N, T]` are no padding."""
        x = x + self.dropout(self.attention(self.attention_norm(x), is_real))
        out: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return out


class TransformerEncoder(nn.Module):
    """Layers of self-attention and a last norm; it knows no order but that of `x` itself.

    Args:
        width: D, a multiple of `heads`.
        layers: one above the other.
        heads: of each attention.
        dropout: of what each part adds.
    """

    def __init__(self, width: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Return `[N, T, D]` for inputs `[N, T, D]` of which `length` `[N]`, at least 1, are real.

        What stands at padding means nothing.
        """
        is_real = mask(length, x.shape[1])
        for layer in self.layers:
            x = layer(x, is_real)
        out: Tensor = self.norm(x)
        return out


class Positions(nn.Module):
    """A vector learned for each of `max_length` places."""

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, width).normal_(std=width**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, T, D]` for word vectors `[N, T, D]`; T is at most `max_length`."""
        return x + self.weight[: x.shape[1]]


def sines(steps: int, width: int, device: torch.device) -> Tensor:
    """Return the sinusoidal positions `[T, D]` (Vaswani et al. 2017, section 3.5)."""
    even = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    rate = torch.exp(even * (-math.log(_LONGEST_WAVE) / width))
    angle = torch.arange(steps, device=device, dtype=torch.float32)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]


class TransformerClassifier(SequenceNetwork):
    """Word vectors with positions, an encoder, the mean over real places, and a linear `head`.

    Dropout is on the word vectors and on what each part of a layer adds.
    """

    def __init__(self, spec: TransformerModel, frame: TextFrame) -> None:
        super().__init__()
        self.embedding = nn.Embedding(frame.vocabulary, spec.width, padding_idx=0)
        nn.init.normal_(self.embedding.weight[1:], std=spec.width**-0.5)
        self.positions = Positions(frame.max_length, spec.width)
        self.dropout = nn.Dropout(spec.dropout)
        self.encoder = TransformerEncoder(
            spec.width, layers=spec.layers, heads=spec.heads, dropout=spec.dropout
        )
        self.head = nn.Linear(spec.width, frame.num_outputs)

    def features(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        x = self.encoder(self.dropout(self.positions(self.embedding(tokens))), length)
        return masked_mean(x, length)
