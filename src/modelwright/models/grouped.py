"""Fully connected layers and embeddings with weights of 8 or 4 bits, a scale for each small group.

The weights of an output are cut into groups along the inputs; those of a group share a scale. They
stand in the file packed, and onnxruntime computes with them so (its operators MatMulNBits and
GatherBlockQuantized); what such a layer is given is rounded to 8 bits too, group by group.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROUNDED_INPUTS = 4
"""What MatMulNBits calls the accuracy level at which it rounds its inputs to 8 bits."""


class GroupedLinear(nn.Module):
    """A fully connected layer whose weights `[O, I]` have 8 or 4 bits.

    Args:
        inputs: I.
        outputs: O.
        bits: 8 or 4.
        group: so many weights share a scale.
        bias: whether there is one, in fp32.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, *, bits: int, group: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits, self.group = inputs, outputs, bits, group
        self.groups = -(-inputs // group)
        packed = torch.empty(outputs, self.groups, group * bits // 8, dtype=torch.uint8)
        self.register_buffer("weight", packed)
        self.register_buffer("weight_scale", torch.empty(outputs, self.groups))
        self.register_buffer("bias", torch.empty(outputs) if bias else None)

    @property
    def stored_parameters(self) -> int:
        """How many parameters the layer had in fp32."""
        own = self.in_features * self.out_features
        return own + (0 if self.bias is None else self.bias.numel())

    def forward(self, x: Tensor) -> Tensor:
        """Return `[…, O]` for `[…, I]`."""
        products = grouped_product(
            x, self.weight, self.weight_scale, bits=self.bits, inputs=self.in_features
        )
        return products if self.bias is None else products + self.bias

    def extra_repr(self) -> str:
        """Return what tells two of them apart, for the form of the network."""
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, group={self.group}"


class GroupedEmbedding(nn.Module):
    """An embedding `[V, D]` whose vectors have 8 or 4 bits a number; D is a multiple of the group.

    Args:
        vocabulary: V.
        width: D.
        bits: 8 or 4.
        group: so many numbers of a vector share a scale.
        scale: a factor on the vectors, which the logits don't have.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(
        self, vocabulary: int, width: int, *, bits: int, group: int, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = vocabulary, width
        self.bits, self.group, self.scale = bits, group, scale
        packed = torch.empty(vocabulary, width // group, group * bits // 8, dtype=torch.uint8)
        self.register_buffer("weight", packed)
        self.register_buffer("weight_scale", torch.empty(vocabulary, width // group))

    @property
    def stored_parameters(self) -> int:
        """How many parameters the embedding had in fp32."""
        return self.num_embeddings * self.embedding_dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors `[…, D]` of tokens `[…]`."""
        if self.bits == 4 and torch.onnx.is_in_onnx_export():
            rows, groups = self.weight_scale.shape
            # The middle level, twice in a byte; without it the lowest level would be 0.
            zeros = torch.full((rows, -(-groups // 2)), 0x88, dtype=torch.uint8)
            vectors: Tensor = torch.onnx.ops.symbolic(
                "com.microsoft::GatherBlockQuantized",
                (self.weight.flatten(1), tokens, self.weight_scale, zeros),
                {"bits": 4, "block_size": self.group, "gather_axis": 0, "quantize_axis": 1},
                dtype=torch.float32,
                shape=(*tokens.shape, self.embedding_dim),
                version=1,
            )
        else:
            # As embeddings, so that the graph gathers rows and nothing more.
            packed = F.embedding(tokens, self.weight.flatten(1))
            levels = unpack(packed.reshape(*tokens.shape, *self.weight.shape[1:]), self.bits)
            scales = F.embedding(tokens, self.weight_scale)
            vectors = (levels * scales[..., None]).flatten(-2)
        return vectors if self.scale == 1.0 else vectors * self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Return the products with each vector `[…, V]` for vectors `[…, D]`."""
        return grouped_product(
            x, self.weight, self.weight_scale, bits=self.bits, inputs=self.embedding_dim
        )

    def extra_repr(self) -> str:
        """Return what tells two of them apart, for the form of the network."""
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        return f"{sizes}, bits={self.bits}, group={self.group}, scale={self.scale}"


def grouped_product(x: Tensor, packed: Tensor, scale: Tensor, *, bits: int, inputs: int) -> Tensor:
    """Return `x` `[…, I]`, rounded to 8 bits, times packed weights `[O, groups, bytes]`: `[…, O]`.

    Rounding is that of onnxruntime: each group of an input by its own largest value.
    """
    outputs, groups, width = packed.shape
    group = width * 8 // bits
    if torch.onnx.is_in_onnx_export():
        found: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (x, packed, scale),
            {
                "K": inputs,
                "N": outputs,
                "bits": bits,
                "block_size": group,
                "accuracy_level": _ROUNDED_INPUTS,
            },
            dtype=torch.float32,
            shape=(*x.shape[:-1], outputs),
            version=1,
        )
        return found
    parts = F.pad(x, (0, groups * group - inputs)).reshape(*x.shape[:-1], groups, group)
    steps = parts.abs().amax(-1, keepdim=True) / 127
    levels = torch.where(steps > 0, (parts / steps).round(), torch.zeros_like(parts))
    rounded = (levels * steps).flatten(-2)
    weight = (unpack(packed, bits) * scale[..., None]).flatten(1)
    return F.linear(rounded, weight)


def pack(levels: Tensor, bits: int) -> Tensor:
    """Return levels from 0 on, uint8 `[…, n]`, packed: two of 4 bits a byte, the first low."""
    if bits == 8:
        return levels
    return levels[..., 0::2] | (levels[..., 1::2] << 4)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Return what packed levels `[…, bytes]` stand for, in steps: the middle level is 0."""
    if bits == 8:
        return packed.float() - 128
    return torch.stack([packed & 15, packed >> 4], -1).flatten(-2).float() - 8


def tied_logits(embedding: nn.Module, x: Tensor) -> Tensor:
    """Return the logits `[…, V]` of vectors `[…, D]` by an embedding's own vectors."""
    if isinstance(embedding, GroupedEmbedding):
        return embedding.logits(x)
    assert isinstance(embedding, nn.Embedding)
    return F.linear(x, embedding.weight)
