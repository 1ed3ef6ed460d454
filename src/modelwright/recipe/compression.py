"""The section `compress`: what makes a trained network smaller and faster, step by step."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelwright.recipe.spec import Rare, Spec


class QuantizeStep(Spec):
    """Numbers of fewer bits: of weights and activations (`dtype`), or of weights alone."""

    name: Literal["quantize"]
    dtype: Literal["int8"] | None = None
    """What convolutions and fully connected layers compute in: 8-bit integers, with the ranges of
    activations taken from training samples (static)."""
    weights: Literal["int8", "int4"] | None = None
    """What fully connected layers and embeddings are stored in, by groups that share a scale; what
    4 bits lose in one weight, those that aren't rounded yet make up for (Frantar et al. 2023)."""
    ranges: Literal["mse", "percentile", "min-max"] = "mse"
    """Of `dtype`, how the range of each activation is chosen: so that the mean squared error of
    rounding is least, from the 0.01 to the 99.99 percentile, or from the lowest to the highest."""
    group_size: Annotated[Literal[16, 32, 64, 128], Rare()] = 32
    """Of `weights`, how many share a scale."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 512
    """How many training samples tell what activations are like."""
    max_drop: Annotated[float, Field(ge=0)] = 0.005
    """By how much the main metric may get worse on the validation split: of shares the difference
    (0.005 is half a point), of others as a share of it. Where it would by more, the layers that
    hurt most stay in fp32."""
    reduce_range: Annotated[Literal["auto", True, False], Rare()] = "auto"
    """Of `dtype`, use 7 of the 8 bits of each weight, as processors without VNNI need; `auto`:
    where this one has none."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.dtype is None) == (self.weights is None):
            raise ValueError("give one of `dtype` and `weights`: `dtype: int8`, or `weights: int4`")
        only = {"dtype": ("ranges", "reduce_range"), "weights": ("group_size",)}
        kind, other = ("dtype", "weights") if self.dtype else ("weights", "dtype")
        for name in only[other]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` has no effect with `{kind}`: it is of `{other}`")
        return self


class PruneStep(Spec):
    """Weights set to zero, those of the least magnitude over all layers, while it trains on."""

    name: Literal["prune"]
    kind: Literal["unstructured"] = "unstructured"
    """`unstructured`: single weights. The file is smaller, as zeros are stored in less; answers
    come no faster."""
    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The share of the weights of convolutions, fully connected layers and embeddings that become
    zero."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Passes over the training split while weights become zero, with the rates of `train`; `auto`:
    half of `train.epochs`."""
    max_drop: Annotated[float, Field(ge=0)] = 0.01
    """By how much the main metric may get worse on the validation split; where it does by more, the
    step is refused."""


class VectorQuantizeStep(Spec):
    """Weights looked up in codebooks: short blocks of them share a code, and the codebooks train on
    with the network before as their teacher."""

    name: Literal["vector-quantize"]
    ratio: Annotated[float, Field(gt=1, le=100)] = 20.0
    """How many times smaller the weights shall be, all layers together: the blocks are as long as
    that needs, longer in large layers than in small ones."""
    block_size: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    """How many weights share a code, in every layer; `auto`: as `ratio` says."""
    codebook_size: Literal[16, 32, 64, 128, 256] = 256
    """How many entries a codebook has at most: fewer where it would be as large as its layer, and
    with `ratio` where the bytes are better spent on codes."""
    codebooks: Annotated[int, Field(ge=1, le=4), Rare()] = 1
    """How many codebooks a layer has: a block is the sum of an entry of each."""
    permute: Annotated[bool, Rare()] = True
    """Let the input channels of a layer change places in the blocks, where that makes these more
    alike."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 512
    """How many training samples tell which inputs of a layer are large, where errors weigh more."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Passes over the training split in which codebooks, biases and norms learn; `auto`: half of
    `train.epochs`."""
    lr: Annotated[float, Field(gt=0, le=1), Rare()] = 0.002
    """The peak learning rate of AdamW in these passes."""
    max_drop: Annotated[float, Field(ge=0)] = 0.02
    """By how much the main metric may get worse on the validation split; where it does by more, the
    step is refused."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.block_size != "auto" and self.ratio != type(self).model_fields["ratio"].default:
            raise ValueError("`ratio` has no effect with `block_size`: give one of them")
        return self


CompressionStep = Annotated[
    QuantizeStep | PruneStep | VectorQuantizeStep, Field(discriminator="name")
]
