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

from modelwright.errors import RequestError

CODED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
"""Layers that may have such weights."""
_ATTRIBUTE = "coded"
_MOST_INT16 = 1 << 15


class Codebook(nn.Module):
    """Weights of a shape `[O, …]`, as codes and codebooks: calling it gives the weights.

    The weights of an output stand in a row of I, which is cut into blocks. A block is the sum of
    one entry of each codebook.

    Args:
        shape: the weights' shape; I is the product of all sizes but the first.
        block_size: how many weights share a code.
        blocks: how many blocks a row has.
        codebook_size: how many entries a codebook has.
        codebooks: how many of them there are.
        ordered: whether the weights of a row stand in another order in the blocks, or leave places
            free.
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
        blocks: int,
        codebook_size: int,
        codebooks: int,
        ordered: bool,
    ) -> None:
        super().__init__()
        self.shape = shape
        codes = torch.empty(codebooks, shape[0], blocks, dtype=torch.uint8)
        entries = torch.empty(codebooks, codebook_size, block_size, dtype=torch.float16)
        places = torch.int16 if blocks * block_size <= _MOST_INT16 else torch.int32
        order = torch.empty(math.prod(shape[1:]), dtype=places) if ordered else None
        self.register_buffer("codes", codes)
        self.register_buffer("codebook", entries)
        self.register_buffer("order", order)
        self._has_zero = False
        """Whether the first entry of each codebook stays 0 while it learns."""

    @property
    def stored_parameters(self) -> int:
        """How many weights the codes stand for."""
        return math.prod(self.shape)

    def forward(self) -> Tensor:
        """Return the weights, in fp32."""
        entries = self.codebook
        if self._has_zero:
            entries = torch.cat([torch.zeros_like(entries[:, :1]), entries[:, 1:]], 1)
        rows = decoded(self.codes, entries).flatten(1)
        if self.order is not None:
            rows = rows.index_select(1, self.order.int())
        return rows.reshape(self.shape)

    def learn(self, *, has_zero: bool) -> None:
        """Make the codebooks parameters; with `has_zero` the first entry of each stays 0."""
        self._has_zero = has_zero
        entries = nn.Parameter(self.codebook.float())
        del self.codebook
        self.codebook = entries

    def settle(self) -> None:
        """Make the codebooks what the file holds: in fp16, and no parameters any more."""
        entries = self.codebook.detach().half()
        if self._has_zero:
            entries[:, 0] = 0
        self._has_zero = False
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
        return f"{self.shape}, {entries}, ordered={self.order is not None}"


def decoded(codes: Tensor, codebook: Tensor) -> Tensor:
    """Return the blocks `[O, blocks, block]` that codes `[S, O, blocks]` stand for, in fp32."""
    number, size, _ = codebook.shape
    places, entries = codes.int(), codebook.float()
    if number == 1:
        return F.embedding(places, entries.squeeze(0)).squeeze(0)
    first = size * torch.arange(number, dtype=torch.int32, device=codes.device)
    return F.embedding(places + first[:, None, None], entries.flatten(0, 1)).sum(0)


def use_codes(
    layer: nn.Module,
    *,
    block_size: int,
    blocks: int,
    codebook_size: int,
    codebooks: int,
    ordered: bool,
) -> None:
    """Take a layer's weight from codebooks, which are empty yet, from now on."""
    weight = layer.get_parameter("weight")
    coded = Codebook(
        tuple(weight.shape),
        block_size=block_size,
        blocks=blocks,
        codebook_size=codebook_size,
        codebooks=codebooks,
        ordered=ordered,
    ).to(weight.device)
    if isinstance(layer, nn.Embedding):
        layer.sparse = False  # Gradients are those of codebooks.
    kind = type(layer)
    del layer.weight
    looked_up = property(lambda self: getattr(self, _ATTRIBUTE)())
    # The layer computes as before, whatever its class does with its weight.
    layer.__class__ = type(f"Coded{kind.__name__}", (kind,), {"weight": looked_up})
    setattr(layer, _ATTRIBUTE, coded)


def codebooks_of(network: nn.Module) -> list[Codebook]:
    """Return the codebooks of a network."""
    return [module for module in network.modules() if isinstance(module, Codebook)]


def refuse_codebooks(network: nn.Module) -> None:
    """Refuse a network of which weights are looked up in codebooks.

    Raises:
        RequestError: it is one.
    """
    if codebooks_of(network):
        raise RequestError(
            "the weights of this network are looked up in codebooks, which no step changes",
            where="compress",
            fix="Start from the model file that it was made of, with one of these steps",
        )
