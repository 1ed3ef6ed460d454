"""Padding in a batch of sequences: which places belong to a sample, as booleans or as a bias."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mask(length: Tensor, size: int) -> Tensor:
    """Return which of `size` places lie before the padding, `[N, size]`, for lengths `[N]`."""
    return torch.arange(size, device=length.device) < length[:, None]


def padding_bias(length: Tensor, size: int) -> Tensor:
    """Return what is added to attention scores, `[N, size]`: −∞ at padding, else 0."""
    is_padding = ~mask(length, size)
    return torch.zeros(is_padding.shape, device=length.device).masked_fill(is_padding, -math.inf)


def text_length(tokens: Tensor) -> Tensor:
    """Return the length `[N]` of texts `[N, T]` that are padded with 0 at the end; 1 at least."""
    return (tokens != 0).sum(1).clamp(min=1)


def masked_mean(x: Tensor, length: Tensor) -> Tensor:
    """Return the mean `[N, D]` over the first `length` `[N]` places of `[N, T, D]`."""
    is_padding = ~mask(length, x.shape[1])[..., None]
    return x.masked_fill(is_padding, 0.0).sum(1) / length[:, None].to(x.dtype)
