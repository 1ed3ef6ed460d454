"""Adapters of low rank: a network is fine-tuned by small matrices beside its own, which stay.

Hu et al. 2021, section 4.1: a layer W·x becomes W·x + α/r · B·A·x with A `[r, in]` and B
`[out, r]`. B starts at zero, so that the network starts as it was. Before a network is shipped the
products are added to W, so that nothing of them is left to compute.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.models.network import matching


class LoraLinear(nn.Module):
    """A fully connected layer that stands still, with an adapter that learns.

    The layer is torch's `Linear`, W `[out, in]`, or `Conv1D` of transformers' GPT-2, W `[in, out]`.
    Its weights are taken and not copied, and keep their names, so that patterns match as before.

    Args:
        layer: the layer.
        rank: r.
        alpha: α, by which the adapter's share is α/r.
    """

    def __init__(self, layer: nn.Module, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer_type = type(layer)
        self.weight = nn.Parameter(layer.get_parameter("weight").detach(), requires_grad=False)
        bias = cast("nn.Parameter | None", layer.bias)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        outputs, inputs = self._oriented(self.weight).shape
        self.scale = alpha / rank
        # A·x is as large as x, whatever the width.
        drawn = torch.randn(rank, inputs) * inputs**-0.5
        self.lora_a = nn.Parameter(drawn.to(self.weight))
        self.lora_b = nn.Parameter(self.weight.new_zeros(outputs, rank))

    def _oriented(self, weight: Tensor) -> Tensor:
        """Return the layer's weight as `[out, in]`, or a matrix `[out, in]` as the layer's."""
        return weight if self.layer_type is nn.Linear else weight.T

    def forward(self, input: Tensor) -> Tensor:
        """Return `[…, out]` for `[…, in]`."""
        added = F.linear(F.linear(input, self.lora_a), self.lora_b)
        return F.linear(input, self._oriented(self.weight), self.bias) + self.scale * added

    def merged(self) -> nn.Module:
        """Return the plain layer that computes the same."""
        outputs, inputs = self._oriented(self.weight).shape
        with torch.device("meta"):
            if self.layer_type is nn.Linear:
                plain: nn.Module = nn.Linear(inputs, outputs, bias=self.bias is not None)
            else:
                plain = self.layer_type(outputs, inputs)
        # In doubles, so that the sum is rounded once.
        product = self.lora_b.detach().double() @ self.lora_a.detach().double()
        whole = self.weight.detach().double() + self.scale * self._oriented(product)
        plain.weight = nn.Parameter(whole.to(self.weight.dtype))
        if self.bias is not None:
            plain.bias = nn.Parameter(self.bias.detach().clone())
        return plain.train(self.training)


def _is_connected(layer: nn.Module) -> bool:
    # By its exact type: one of another type may use its weights in another way.
    kind = type(layer)
    return kind is nn.Linear or (kind.__module__, kind.__name__) == _CONV1D


_CONV1D = ("transformers.pytorch_utils", "Conv1D")


@dataclass(frozen=True, slots=True)
class Adapted:
    """What became of a network."""

    layers: tuple[str, ...]
    """The layers that have an adapter."""
    trained: int
    """Parameters that learn."""
    parameters: int
    """All of them."""


def adapt(
    network: nn.Module, *, rank: int, alpha: float, match: Sequence[str], head: bool
) -> Adapted:
    """Give fully connected layers of a network adapters; all else stands still.

    Its last layer, `head`, gets none. A is drawn from torch's generator.

    Args:
        network: any network, changed in place.
        rank: r.
        alpha: α.
        match: patterns of layers' names, `*` for all.
        head: whether the last layer learns, whole.

    Raises:
        RecipeError: a pattern matches no fully connected layer.
    """
    names = Counter(id(item) for _, item in network.named_parameters(remove_duplicate=False))
    layers = {
        name: module
        for name, module in network.named_modules()
        # Weights that are shared, with an embedding for one, can't be changed in one layer alone.
        if _is_connected(module) and not _is_head(name) and names[id(module.weight)] == 1
    }
    chosen = matching(
        list(layers), match, kind="fully connected layer", where="model.adapters.match"
    )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(head and _is_head(name))
    for name in chosen:
        network.set_submodule(name, LoraLinear(layers[name], rank=rank, alpha=alpha))
    parameters = list(network.parameters())
    return Adapted(
        tuple(chosen),
        sum(item.numel() for item in parameters if item.requires_grad),
        sum(item.numel() for item in parameters),
    )


def merged(network: nn.Module) -> nn.Module:
    """Return a network without adapters and with the same outputs; one that has none as it is."""
    names = [name for name, item in network.named_modules() if isinstance(item, LoraLinear)]
    if not names:
        return network
    plain = copy.deepcopy(network)
    for name in names:
        layer = plain.get_submodule(name)
        assert isinstance(layer, LoraLinear)
        plain.set_submodule(name, layer.merged())
    return plain


def _is_head(name: str) -> bool:
    """Tell whether a layer or a parameter is the last: our `head`, or the library's `lm_head`."""
    name = f"{name}."
    return name.removeprefix("body.").startswith(("head.", "network.lm_head."))
