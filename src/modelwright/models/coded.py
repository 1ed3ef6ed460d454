"""Layers whose weights are looked up: each short block of them is a sum of entries of codebooks.

The file holds the codes of the blocks and the codebooks, a small part of the weights' bytes. The
layer keeps its class and all else that it does; its weight is put together when it is asked for,
and onnxruntime does that once, at load.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CODED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
"""Layers that may have such weights."""
_ATTRIBUTE = "coded"
_MOST_INT16 = 1 << 15


class Codebook(nn.Module):
    """Weights of a shape `[O, …]`, as codes and codebooks: calling it gives the weights.

    The weights of an output stand in a row of I, which is cut into blocks; the last one is filled
    up. A block is the sum of one entry of each codebook.

    Args:
        shape: the weights' shape; I is the product of all sizes but the first.
        block_size: how many weights share a code.
        codebook_size: how many entries a codebook has.
        codebooks: how many of them there are.
        ordered: whether the weights of a row stand in another order in the blocks: those of one
            place of the kernel together, and each place filled up to whole blocks.
        zero: the output whose weights are 0 whatever its codes are: that of padding.
    """

    codes: Tensor
    """uint8 `[codebooks, O, blocks]`"""
    codebook: Tensor
    """`[codebooks, entries, block]`: fp16 in a finished network, and fp32 while it learns."""
    order: Tensor | None
    """int16 or int32 `[I]`: where each weight of a row stands in the blocks."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        block_size: int,
        codebook_size: int,
        codebooks: int,
        ordered: bool,
        zero: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.zero = shape, zero
        blocks = blocks_of(shape, block_size, ordered=ordered)
        codes = torch.empty(codebooks, shape[0], blocks, dtype=torch.uint8)
        entries = torch.empty(codebooks, codebook_size, block_size, dtype=torch.float16)
        places = torch.int16 if blocks * block_size <= _MOST_INT16 else torch.int32
        order = torch.empty(math.prod(shape[1:]), dtype=places) if ordered else None
        self.register_buffer("codes", codes)
        self.register_buffer("codebook", entries)
        self.register_buffer("order", order)

    def forward(self) -> Tensor:
        """Return the weights, in fp32."""
        rows = decoded(self.codes, self.codebook).flatten(1)
        if self.order is not None:
            rows = rows.index_select(1, self.order.int())
        weight = rows[:, : math.prod(self.shape[1:])].reshape(self.shape)
        if self.zero is not None:
            rest = torch.arange(self.shape[0], device=weight.device) != self.zero
            weight = weight * rest.float()[:, None]
        return weight

    def learn(self) -> None:
        """Make the codebooks parameters."""
        entries = nn.Parameter(self.codebook.float())
        del self.codebook
        self.codebook = entries

    def settle(self) -> None:
        """Make the codebooks what the file holds: in fp16, and no parameters any more."""
        entries = self.codebook.detach().half()
        del self.codebook
        self.register_buffer("codebook", entries)

    def is_valid(self) -> bool:
        """Say whether all codes have an entry, and all weights a place."""
        _, entries, size = self.codebook.shape
        order = self.order
        most = self.codes.shape[2] * size
        in_order = order is None or bool(((order >= 0) & (order < most)).all())
        return int(self.codes.max()) < entries and in_order

    def extra_repr(self) -> str:
        """Return what tells two of them apart, for the form of the network."""
        entries = tuple(self.codebook.shape)
        return f"{self.shape}, {entries}, ordered={self.order is not None}, zero={self.zero}"


def decoded(codes: Tensor, codebook: Tensor) -> Tensor:
    """Return the blocks `[O, blocks, block]` that codes `[S, O, blocks]` stand for, in fp32."""
    parts = [
        F.embedding(code.int(), entries.float())
        for code, entries in zip(codes.unbind(), codebook.unbind(), strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def blocks_of(shape: tuple[int, ...], block_size: int, *, ordered: bool) -> int:
    """Return how many blocks the weights of an output have."""
    if not ordered:
        return -(-math.prod(shape[1:]) // block_size)
    return math.prod(shape[2:]) * -(-shape[1] // block_size)


def use_codes(
    layer: nn.Module, *, block_size: int, codebook_size: int, codebooks: int, ordered: bool
) -> Codebook:
    """Take a layer's weight from a codebook, which is empty yet, from now on; return that."""
    weight = layer.get_parameter("weight")
    coded = Codebook(
        tuple(weight.shape),
        block_size=block_size,
        codebook_size=codebook_size,
        codebooks=codebooks,
        ordered=ordered,
        zero=layer.padding_idx if isinstance(layer, nn.Embedding) else None,
    ).to(weight.device)
    kind = type(layer)
    del layer.weight
    looked_up = property(lambda self: getattr(self, _ATTRIBUTE)())
    # The layer computes as before, whatever its class does with its weight.
    layer.__class__ = type(f"Coded{kind.__name__}", (kind,), {"weight": looked_up})
    setattr(layer, _ATTRIBUTE, coded)
    return coded


def codebooks_of(network: nn.Module) -> list[Codebook]:
    """Return the codebooks of a network."""
    return [module for module in network.modules() if isinstance(module, Codebook)]
