"""A network layer by layer: shapes, parameters, multiply-adds; for any network, of any input."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from modelwright.arrays import Array
from modelwright.files import JsonObject
from modelwright.models.lora import LoraLinear
from modelwright.models.rnn import Recurrent


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as one sample goes through it."""

    name: str
    kind: str
    output: tuple[int, ...]
    """The shape of its output without N; images as `[C, H, W]`."""
    parameters: int
    multiply_adds: int
    """Of convolutions, products and recurrent layers; all else is small beside them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The layers of a network in the order of their work, and the totals."""

    layers: tuple[Layer, ...]
    parameters: int
    """All of them, fixed ones too; statistics of norms aren't counted."""
    trainable: int

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one sample."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """Numbers that the layers put out for one sample."""
        return sum(_count(layer.output) for layer in self.layers if layer.output)

    def to_json(self) -> JsonObject:
        """Return the summary as plain JSON values."""
        return {
            "layers": [{**asdict(layer), "output": list(layer.output)} for layer in self.layers],
            "parameters": self.parameters,
            "trainable": self.trainable,
            "multiply_adds": self.multiply_adds,
            "activations": self.activations,
        }

    def to_text(self) -> str:
        """Return the summary as a table."""
        rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
        rows += [
            (
                layer.name,
                layer.kind,
                " × ".join(str(side) for side in layer.output),
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
            )
            for layer in self.layers
        ]
        rows.append(("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _count(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def summary(
    network: nn.Module, *shapes: Sequence[int], dtype: torch.dtype = torch.uint8
) -> Summary:
    """Describe a network layer by layer, without computing anything.

    Args:
        network: any network; it isn't changed.
        shapes: the shape of one sample of each input, without N: `(H, W, C)` for pixels.
        dtype: the inputs' number format.

    >>> summary(nn.Linear(3, 2), (3,), dtype=torch.float32).multiply_adds
    6
    """
    shadow = copy.deepcopy(network).to("meta")
    empty = (torch.empty(1, *shape, dtype=dtype, device="meta") for shape in shapes)
    return _described(network, shadow, *empty)


def summarise_sample(network: nn.Module, sample: Array) -> Summary:
    """Describe a network layer by layer, as one sample of its inputs goes through it.

    Args:
        network: any network; it isn't changed.
        sample: one record, whose fields are the network's inputs in their order.
    """
    inputs = (torch.from_numpy(sample[name].copy()) for name in sample.dtype.names or ())
    return _described(network, copy.deepcopy(network), *inputs)


def _described(network: nn.Module, shadow: nn.Module, *inputs: Tensor) -> Summary:
    """Pass inputs through a copy of a network, and return what each of its layers put out."""
    shadow.eval()
    layers: list[Layer] = []

    def note(name: str, module: nn.Module, _: tuple[Tensor, ...], output: Any) -> None:
        while isinstance(output, tuple):
            output = output[0]
        layers.append(_layer(name, module, output))

    for name, module in shadow.named_modules():
        is_leaf = next(module.children(), None) is None
        has_own = next(module.parameters(recurse=False), None) is not None
        is_layer = is_leaf or has_own or isinstance(module, Recurrent)
        if is_layer and not isinstance(module, nn.Identity | nn.Dropout):
            module.register_forward_hook(partial(note, name))
    rest = multiply_adds(shadow, *inputs) - sum(layer.multiply_adds for layer in layers)
    if rest > 0:  # Of weights that several layers share, of spectrograms, of attention.
        layers.append(Layer("(others)", "products of no single layer", (), 0, rest))
    return Summary(
        layers=tuple(layers),
        parameters=sum(item.numel() for item in network.parameters()),
        trainable=sum(item.numel() for item in network.parameters() if item.requires_grad),
    )


def multiply_adds(network: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply-adds of products and convolutions for inputs, by what is computed.

    Attention that a kernel computes as a whole isn't counted.
    """
    counter = FlopCounterMode(display=False)
    before, missed = 0, 0

    # Of recurrent layers the counter sees nothing or more than is exported, as their kernel is.
    def begin(module: nn.Module, _: object) -> None:
        nonlocal before
        before = counter.get_total_flops()

    def end(module: nn.Module, _: object, outputs: tuple[Tensor, object]) -> None:
        nonlocal missed
        assert isinstance(module, Recurrent)
        counted = counter.get_total_flops() - before
        missed += 2 * module.multiply_adds(outputs[0].shape[1]) - counted

    hooks: list[RemovableHandle] = []
    for module in network.modules():
        if isinstance(module, Recurrent):
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        with torch.no_grad(), counter:
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return int(counter.get_total_flops() + missed) // 2


def _layer(name: str, module: nn.Module, output: Tensor) -> Layer:
    shape = tuple(output.shape[1:])
    products = 0
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        products = _count(shape[1:]) * module.weight.numel()
    elif isinstance(module, nn.Linear | LoraLinear):
        products = _count(shape[:-1]) * module.weight.numel()
    elif isinstance(module, Recurrent):
        products = module.multiply_adds(shape[0])
    return Layer(
        name=name.removeprefix("body."),
        kind=type(module).__name__,
        output=shape,
        parameters=sum(
            item.numel() for item in module.parameters(recurse=isinstance(module, Recurrent))
        ),
        multiply_adds=products,
    )
