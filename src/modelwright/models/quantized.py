"""Layers whose weights are integers, and what rounds activations to integers, with exact exports.

Weights are int8, symmetric, with a scale for each output channel; activations are uint8 with a
scale and a zero point. Both stand in the graph in the form that onnxruntime fuses into integer
kernels: QuantizeLinear and DequantizeLinear around the operator (its documentation calls it QDQ).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_ACTIVATION = 255
"""Activations are integers from 0 to this."""


class ActivationQuantizer(nn.Module):
    """Rounds activations to 256 levels, and returns what these stand for.

    Args:
        low: the lowest activation that has a level of its own; 0 has one always.
        high: the highest.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        low, high = min(low, 0.0), max(high, 0.0)
        scale = torch.tensor((high - low) / LARGEST_ACTIVATION, dtype=torch.float32)
        if not scale > torch.finfo(torch.float32).tiny:  # Nothing but zeros.
            scale = torch.tensor(1.0)
        zero = round(min(max(-low / float(scale), 0), LARGEST_ACTIVATION))
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.tensor(zero, dtype=torch.uint8))
        self.is_on = True
        """Whether it rounds; else it returns what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` rounded, of the same shape."""
        if not self.is_on:
            return x
        if torch.onnx.is_in_onnx_export():
            inputs = (x, self.scale, self.zero_point)
            levels = _symbolic("QuantizeLinear", inputs, {}, torch.uint8, x.shape)
            return _symbolic(
                "DequantizeLinear",
                (levels, self.scale, self.zero_point),
                {},
                torch.float32,
                x.shape,
            )
        if torch.is_grad_enabled():  # Gradients pass through the rounding, where it doesn't clip.
            return torch.fake_quantize_per_tensor_affine(
                x, self.scale, self.zero_point.int(), 0, LARGEST_ACTIVATION
            )
        zero = self.zero_point.float()
        levels = (torch.round(x / self.scale) + zero).clamp_(0, LARGEST_ACTIVATION)
        return (levels - zero) * self.scale


class QuantizedLayer(nn.Module):
    """A convolution or a fully connected layer with int8 weights and an int32 bias.

    The bias counts in steps of the product of the scales of the input and of the weights, as the
    sums of products do.

    Args:
        integers: the weights `[O, …]`, int8.
        scale: what a step of them is, for each output `[O]`.
        bias: the bias `[O]` in fp32, if there is one.
        input_scale: the scale of the activations that it takes.
        arguments: those of `conv2d` or `conv1d` behind the bias: stride, padding, dilation, groups;
            `None` for a fully connected layer.
    """

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor
    bias: Tensor | None
    bias_scale: Tensor | None

    def __init__(
        self,
        integers: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        input_scale: Tensor,
        arguments: tuple[Any, ...] | None,
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.register_buffer("weight", integers)
        self.register_buffer("weight_scale", scale)
        # Without a zero point onnxruntime leaves a fully connected layer in fp32.
        self.register_buffer("weight_zero", torch.zeros(len(scale), dtype=torch.int8))
        steps = scale * input_scale
        self.register_buffer("bias_scale", None if bias is None else steps)
        self.register_buffer("bias", None if bias is None else as_int32(bias, steps))

    @property
    def stored_parameters(self) -> int:
        """How many parameters the layer had in fp32."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer with these weights returns."""
        weight = dequantize(self.weight, self.weight_scale, self.weight_zero)
        bias = None
        if self.bias is not None and self.bias_scale is not None:
            bias = dequantize(self.bias, self.bias_scale)
        return _layer(x, weight, bias, self.arguments)

    def extra_repr(self) -> str:
        """Return what tells two of them apart, for the form of the network."""
        return f"{tuple(self.weight.shape)}, {self.arguments}"


class FakeQuantizedLayer(nn.Module):
    """A layer that computes what `QuantizedLayer` does, of weights and a bias in fp32 that learn.

    Both are rounded at each call, and gradients pass through the rounding. An output's scale is
    that of its largest weight at the time, so that no weight is cut (Jacob et al. 2018, section 3).

    Args:
        weight: the weights `[O, …]` in fp32.
        bias: the bias `[O]` in fp32, if there is one.
        input_scale: the scale of the activations that it takes.
        arguments: as for `QuantizedLayer`.
        bits: of the rounded weights, 7 or 8.
    """

    input_scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        input_scale: Tensor,
        arguments: tuple[Any, ...] | None,
        *,
        bits: int,
    ) -> None:
        super().__init__()
        self.arguments, self.bits = arguments, bits
        self.weight = nn.Parameter(weight.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.register_buffer("input_scale", input_scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return what the integer layer of these weights returns."""
        integers, scale = rounded_weights(self.weight.detach(), self.bits)
        weight = _straight_through(self.weight, dequantize(integers, scale))
        bias = None
        if self.bias is not None:
            steps = scale * self.input_scale
            whole = as_int32(self.bias.detach(), steps)
            bias = _straight_through(self.bias, dequantize(whole, steps))
        return _layer(x, weight, bias, self.arguments)

    def to_integers(self) -> QuantizedLayer:
        """Return the layer of integers that computes the same."""
        integers, scale = rounded_weights(self.weight.detach(), self.bits)
        bias = None if self.bias is None else self.bias.detach()
        return QuantizedLayer(integers, scale, bias, self.input_scale, self.arguments)


def rounded_weights(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return weights `[O, …]` as int8 of so many bits, and a scale for each output `[O]`."""
    most = 2 ** (bits - 1) - 1
    largest = weight.abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest / most, torch.ones_like(largest))
    integers = torch.round(weight / per_output(scale, weight.ndim)).clamp(-most, most)
    return integers.to(torch.int8), scale


def _straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """Return exactly what is rounded, with the gradient of what it was rounded from."""
    return rounded + (value - value.detach())


def _layer(
    x: Tensor, weight: Tensor, bias: Tensor | None, arguments: tuple[Any, ...] | None
) -> Tensor:
    if arguments is None:
        return F.linear(x, weight, bias)
    apply = F.conv2d if weight.ndim == 4 else F.conv1d
    return apply(x, weight, bias, *arguments)


def dequantize(integers: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Return integers `[O, …]` times a scale for each of the first axis `[O]`, in fp32.

    `zero` is what stands for 0, which is 0 here; the graph names it where it is given.
    """
    if torch.onnx.is_in_onnx_export():
        inputs = (integers, scale) if zero is None else (integers, scale, zero)
        return _symbolic("DequantizeLinear", inputs, {"axis": 0}, torch.float32, integers.shape)
    return integers.float() * per_output(scale, integers.ndim)


def per_output(scale: Tensor, ndim: int) -> Tensor:
    """Return a scale for each output `[O]` in a form that multiplies weights `[O, …]`."""
    return scale.reshape(-1, *[1] * (ndim - 1))


def as_int32(bias: Tensor, steps: Tensor) -> Tensor:
    """Return a bias in whole steps; what doesn't fit into 32 bits is cut."""
    most = 2**31 - 1
    return torch.round(bias.double() / steps.double()).clamp(-most, most).to(torch.int32)


def _symbolic(
    operator: str,
    inputs: tuple[Tensor, ...],
    attributes: dict[str, Any],
    dtype: torch.dtype,
    shape: Any,
) -> Tensor:
    found: Tensor = torch.onnx.ops.symbolic(operator, inputs, attributes, dtype=dtype, shape=shape)
    return found
