"""The layers of a network by the names of its parameters: which are new, and how deep each stands.

Training a pretrained network further treats its layers differently by these.
"""

from __future__ import annotations

from torch import nn

from modelwright.models.detector import Detector
from modelwright.models.network import ImageNetwork


def new_parameters(network: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that no pretrained weights are for.

    They are those of the last layer, `head`; of a detector, all but those of its backbone.
    """
    prefix = "body." if isinstance(network, ImageNetwork) else ""
    is_detector = isinstance(_body(network), Detector)
    names = [name for name, _ in network.named_parameters()]
    if is_detector:
        return frozenset(name for name in names if not name.startswith(f"{prefix}backbone."))
    return frozenset(name for name in names if name.startswith(f"{prefix}head."))


def layer_depths(network: nn.Module) -> dict[str, int]:
    """Return how many layers stand between each parameter and the outputs, 0 for the last layer.

    Layers come in the order in which the network has them. One is an entry of a list of modules
    (a block of a transformer, of a residual network), or a module by a name that no list is in.
    What is new of a detector is one layer.
    """
    new = new_parameters(network) if isinstance(_body(network), Detector) else frozenset[str]()
    layers = {
        name: "" if name in new else _layer(name.removeprefix("body."))
        for name, _ in network.named_parameters()
    }
    order = {layer: number for number, layer in enumerate(dict.fromkeys(layers.values()))}
    return {name: len(order) - 1 - order[layer] for name, layer in layers.items()}


def _layer(name: str) -> str:
    """Return the layer that a parameter is of: `encoder.encoder.layer.3`, `trunk.stem`, `head`."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-2] or parts[:1])


def _body(network: nn.Module) -> nn.Module:
    return network.body if isinstance(network, ImageNetwork) else network
