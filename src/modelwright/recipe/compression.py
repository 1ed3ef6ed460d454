"""The section `compress`: what makes a trained network smaller and faster, step by step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelwright.recipe.spec import Rare, Spec


class QuantizeStep(Spec):
    """Weights and activations as 8-bit integers, with scales from training samples (static)."""

    name: Literal["quantize"]
    dtype: Literal["int8"] = "int8"
    """What convolutions and fully connected layers compute in."""
    ranges: Literal["mse", "percentile", "min-max"] = "mse"
    """How the range of each activation is chosen: so that the mean squared error of rounding is
    least, from the 0.01 to the 99.99 percentile, or from the lowest to the highest value."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 512
    """How many training samples the ranges are taken from."""
    max_drop: Annotated[float, Field(ge=0)] = 0.005
    """By how much the main metric may get worse on the validation split, in its own unit. Where it
    would by more, the layers that hurt most stay in fp32."""
    reduce_range: Annotated[Literal["auto", True, False], Rare()] = "auto"
    """Use 7 of the 8 bits of each weight, as processors without VNNI need; `auto`: where this one
    has none."""


CompressionStep = QuantizeStep
