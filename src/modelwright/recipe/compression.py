"""The section `compress`: what makes a trained network smaller and faster, step by step."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelwright.recipe.spec import Rare, Spec

_OF_ALL = ("name", "dtype", "weights", "max_drop")
_OF_KIND = {
    "dtype: int8": ("ranges", "samples", "reduce_range", "qat", "epochs"),
    "weights": ("group_size", "samples"),
}
"""The settings of `quantize` that only some of its kinds have."""


class QuantizeStep(Spec):
    """Numbers of fewer bits: of weights and activations (`dtype`), or of weights alone."""

    name: Literal["quantize"]
    dtype: Literal["int8", "float16", "bfloat16"] | None = None
    """`int8`: convolutions and fully connected layers compute in 8-bit integers, with the ranges of
    activations taken from training samples (static). `float16`, `bfloat16`: weights are stored in
    16 bits, and computed with in fp32; the file has half the size, answers come no faster."""
    weights: Literal["int8", "int4"] | None = None
    """What fully connected layers and embeddings are stored in, by groups that share a scale; what
    4 bits lose in one weight, those that aren't rounded yet make up for (Frantar et al. 2023)."""
    ranges: Literal["mse", "percentile", "min-max"] = "mse"
    """Of `dtype: int8`, how the range of each activation is chosen: so that the mean squared error
    of rounding is least, from the 0.01 to the 99.99 percentile, or from the lowest to the highest.
    """
    group_size: Annotated[Literal[16, 32, 64, 128], Rare()] = 32
    """Of `weights`, how many share a scale."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Of `dtype: int8` and `weights`, how many training samples tell what activations are like."""
    max_drop: Annotated[float, Field(ge=0)] = 0.005
    """By how much the main metric may get worse on the validation split: of shares the difference
    (0.005 is half a point), of others as a share of it. Where it would by more, the layers that
    hurt most stay in fp32; those of 16 bits are refused."""
    qat: bool = False
    """Of `dtype: int8`, train on with all rounded as it will be (quantization-aware training),
    before layers are chosen that stay in fp32; where that is worse on validation than rounding
    alone, it is left out."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Of `qat`, passes over the training split, at a tenth of the rate of `train.optimizer`;
    `auto`: a quarter of `train.epochs`, at least 1."""
    reduce_range: Annotated[Literal["auto", True, False], Rare()] = "auto"
    """Of `dtype: int8`, use 7 of the 8 bits of each weight, as processors without VNNI need;
    `auto`: where this one has none."""

    @property
    def is_16_bits(self) -> bool:
        """Whether weights are stored in 16 bits, and nothing else changes."""
        return self.dtype in ("float16", "bfloat16")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.dtype is None) == (self.weights is None):
            raise ValueError("give one of `dtype` and `weights`: `dtype: int8`, or `weights: int4`")
        kind = f"dtype: {self.dtype}" if self.dtype else "weights"
        for name, field in type(self).model_fields.items():
            if name in _OF_ALL or getattr(self, name) == field.default:
                continue
            if name not in _OF_KIND.get(kind, ()):
                raise ValueError(f"`{name}` has no effect with `{kind}`")
        if self.epochs != "auto" and not self.qat:
            raise ValueError("`epochs` has no effect without `qat: true`")
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


CompressionStep = Annotated[QuantizeStep | PruneStep, Field(discriminator="name")]
