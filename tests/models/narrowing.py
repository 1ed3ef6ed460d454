"""Narrowing by hand: some outputs of a layer are taken out, with the inputs that read them."""

from __future__ import annotations

import copy

import torch

from modelwright.models.modifications import Resize, modify

NORM = ("weight", "bias", "running_mean", "running_var")


def narrowed(network, layer, kept, *, norm=None, consumer):
    """Return a narrowed copy and its modifications; a flattened map is one channel after another.

    `kept` are the outputs of `layer` that stay.
    """
    before = network.state_dict()
    reads = before[f"{consumer}.weight"].shape[1] // before[f"{layer}.weight"].shape[0]
    # Our networks flatten a map place by place, so the channels of a place lie side by side.
    places = torch.arange(before[f"{consumer}.weight"].shape[1]).reshape(reads, -1)
    read = places[:, kept].flatten()
    changes = [
        Resize(layer=layer, out_features=len(kept)),
        *([Resize(layer=norm, out_features=len(kept))] if norm else []),
        Resize(layer=consumer, in_features=len(read)),
    ]
    small = copy.deepcopy(network)
    modify(small, changes)
    state = dict(before)
    for name in ("weight", "bias"):
        if f"{layer}.{name}" in state:
            state[f"{layer}.{name}"] = state[f"{layer}.{name}"][kept]
    for name in NORM if norm else ():
        state[f"{norm}.{name}"] = state[f"{norm}.{name}"][kept]
    state[f"{consumer}.weight"] = state[f"{consumer}.weight"][:, read]
    small.load_state_dict(state)
    return small, changes


def silenced(network, layer, kept, *, consumer):
    """Return a copy of the whole width in which the consumer doesn't read the others."""
    same = copy.deepcopy(network)
    weight = same.get_submodule(consumer).weight
    count = same.get_submodule(layer).weight.shape[0]
    others = [at for at in range(count) if at not in kept]
    places = torch.arange(weight.shape[1]).reshape(-1, count)
    with torch.no_grad():
        weight[:, places[:, others].flatten()] = 0.0
    return same
