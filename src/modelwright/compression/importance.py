"""What each channel, head or layer matters for what a network answers, from training samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.arrays import Doubles
from modelwright.compression.coupling import Width
from modelwright.data.batches import Batch

Importance = tuple[list[Doubles], list[float]]
"""Of each width what each unit matters, and of each layer that may be left out."""


def by_taylor(
    network: nn.Module,
    widths: Sequence[Width],
    blocks: Sequence[str],
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
) -> Importance:
    """Return the squares of how the loss would change without each unit, summed over batches.

    That nothing reads a unit is a change of the readers' weights, so that it is their product with
    their gradient to the first order (Molchanov et al. 2019, equation 8). Without a whole layer the
    loss is computed.
    """
    names = sorted({layer for width in widths for layer, end in width.axes if end == "in"})
    weights = [network.get_submodule(name).get_parameter("weight") for name in names]
    for weight in weights:
        weight.requires_grad_(True)
    units = [np.zeros(len(width.units)) for width in widths]
    layers = np.zeros(len(blocks))
    for batch in batches:
        value = loss(network, batch)
        gradients = torch.autograd.grad(value, weights)
        by_layer = {
            name: (weight * gradient).detach().transpose(0, 1).flatten(1).sum(1).cpu().numpy()
            for name, weight, gradient in zip(names, weights, gradients, strict=True)
        }
        for scores, width in zip(units, widths, strict=True):
            scores += _of_units(width, by_layer) ** 2
        with torch.no_grad():
            for at, name in enumerate(blocks):
                skip = network.get_submodule(name).register_forward_hook(lambda _, x, y: x[0])
                layers[at] += max(float(loss(network, batch) - value), 0.0) ** 2
                skip.remove()
    return units, list(layers)


@torch.no_grad()
def by_activations(
    network: nn.Module, widths: Sequence[Width], blocks: Sequence[str], batches: Iterable[Batch]
) -> Importance:
    """Return the share of each unit in the magnitudes of its width, as its readers are given them.

    Of a layer that may be left out it is the share of what it changes in what it gives.
    """
    sums: dict[str, Any] = {}

    def read(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        values = given[0].abs().movedim(-1 if isinstance(module, nn.Linear) else 1, 0)
        sums[name] = sums.get(name, 0) + values.flatten(1).mean(1).double().cpu().numpy()

    def change(name: str, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        pair = [(output - given[0]).abs().mean(), output.abs().mean()]
        sums[name] = sums.get(name, 0) + torch.stack(pair).double().cpu().numpy()

    for name in {layer for width in widths for layer, end in width.axes if end == "in"}:
        network.get_submodule(name).register_forward_pre_hook(partial(read, name))
    for name in blocks:
        network.get_submodule(name).register_forward_hook(partial(change, name))
    for batch in batches:
        network(*batch.inputs)
    units = [_of_units(width, sums) for width in widths]
    shares = [found / max(float(found.sum()), 1e-12) for found in units]
    return shares, [float(sums[name][0] / max(sums[name][1], 1e-12)) for name in blocks]


def _of_units(width: Width, by_layer: dict[str, Doubles]) -> Doubles:
    """Return the sums over the channels that readers are given of each unit."""
    total = np.zeros(len(width.units))
    for layer, end in width.axes:
        if end == "in":
            places = np.array([unit[layer, end] for unit in width.units])
            total += by_layer[layer][places].sum(1)
    return total
