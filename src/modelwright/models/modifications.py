"""How a network differs from what its section `model` builds: a list that building replays.

A stage that changes the shape of layers (pruning, for one) says so here, and the model file keeps
it in the architecture; so the network can be built again and trained further. A modification is
about shapes alone: the weights come from the file, or from the stage that made the change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from modelwright.errors import ModelFileError, RequestError
from modelwright.files import Json, JsonObject
from modelwright.models.coded import CODED_LAYERS, use_codes
from modelwright.models.grouped import GroupedEmbedding, GroupedLinear
from modelwright.models.transformer import SelfAttention
from modelwright.recipe.spec import FromList, Spec

S = TypeVar("S", bound=Spec)
LARGEST = 1 << 24
"""No width may be larger."""
HEADED = SelfAttention
"""Attention that may have fewer heads than its network's section says."""


class Resize(Spec):
    """A layer with other widths: fully connected, a convolution, a norm, or an embedding."""

    kind: Literal["resize"] = "resize"
    layer: str = Field(min_length=1)
    """Its name in the network: `body.hidden.0`."""
    in_features: int | None = Field(default=None, ge=1, le=LARGEST)
    """How many features or channels it takes; `None` as before. Norms and embeddings have
    `out_features` alone; a convolution of each channel by itself has both, and they are the same.
    """
    out_features: int | None = Field(default=None, ge=1, le=LARGEST)
    """How many it gives; `None` as before."""


class Integers(Spec):
    """Convolutions and fully connected layers in int8, between rounded activations."""

    kind: Literal["int8"] = "int8"
    kept: Annotated[tuple[str, ...], FromList] = ()
    """The layers that stayed in fp32."""


class Group(Spec):
    """A fully connected layer or an embedding with weights of few bits, in groups with a scale."""

    kind: Literal["group"] = "group"
    layer: str = Field(min_length=1)
    """Its name in the network: `encoder.layers.0.attention.qkv`."""
    bits: Literal[4, 8]
    group: int = Field(ge=16, le=1024)
    """So many weights share a scale."""


class Heads(Spec):
    """Attention with fewer heads, each as wide as before."""

    kind: Literal["heads"] = "heads"
    layer: str = Field(min_length=1)
    """Its name in the network: `encoder.layers.0.attention`."""
    heads: int = Field(ge=1, le=LARGEST)
    """How many are left."""


class Drop(Spec):
    """A layer of a list of layers that gives what it is given: it is left out."""

    kind: Literal["drop"] = "drop"
    layer: str = Field(min_length=1)
    """Its name in the network: `body.stages.0.1`."""

    @staticmethod
    def fits(network: nn.Module, name: str) -> bool:
        """Say whether a layer may be left out, as far as that shows without running it.

        It stands in a list, has parts with weights, and nothing but its `forward` is called.
        """
        layer, owner = network.get_submodule(name), network.get_submodule(name.rpartition(".")[0])
        is_part = name != "" and isinstance(owner, nn.Sequential | nn.ModuleList)
        has_parts = next(layer.children(), None) is not None and not hasattr(layer, "step")
        is_list = isinstance(layer, nn.Sequential | nn.ModuleList)
        has_weights = next(layer.parameters(), None) is not None
        return is_part and has_parts and has_weights and not is_list


class Code(Spec):
    """A layer whose weights are looked up in codebooks, block by block."""

    kind: Literal["code"] = "code"
    layer: str = Field(min_length=1)
    """Its name in the network: `body.stages.0.conv1`."""
    block_size: int = Field(ge=1, le=256)
    """So many weights share a code."""
    blocks: int = Field(ge=1, le=LARGEST)
    """So many codes an output has."""
    codebook_size: int = Field(ge=2, le=256)
    codebooks: int = Field(ge=1, le=8)
    """A block is the sum of an entry of each."""
    ordered: bool
    """Whether an output's weights stand in another order in the blocks, or leave places free."""


Modification = Resize | Integers | Group | Heads | Drop | Code
"""Any one of them."""


def resize(network: nn.Module, change: Resize) -> None:
    """Give a layer its new widths; its weights are empty then.

    Raises:
        RequestError: there is no such layer, or it can't have these widths.
    """
    layer = _layer(network, change)
    if isinstance(layer, nn.Linear):
        inputs, outputs = _widths(change, layer.in_features, layer.out_features)
        layer.in_features, layer.out_features = inputs, outputs
        _empty(layer, {"weight": (outputs, inputs), "bias": (outputs,)})
    elif isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1:
        inputs, outputs = _widths(change, layer.in_channels, layer.out_channels)
        layer.in_channels, layer.out_channels = inputs, outputs
        _empty(layer, {"weight": (outputs, inputs, *layer.kernel_size), "bias": (outputs,)})
    elif isinstance(layer, nn.Conv1d | nn.Conv2d) and (
        layer.groups == layer.in_channels == layer.out_channels
        and change.in_features == change.out_features
    ):
        _, width = _widths(change, layer.in_channels, layer.out_channels)
        layer.in_channels = layer.out_channels = layer.groups = width
        _empty(layer, {"weight": (width, 1, *layer.kernel_size), "bias": (width,)})
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and change.in_features is None:
        _, layer.num_features = _widths(change, layer.num_features, layer.num_features)
        names = ("weight", "bias", "running_mean", "running_var")
        _empty(layer, dict.fromkeys(names, (layer.num_features,)))
    elif isinstance(layer, nn.LayerNorm) and (
        len(layer.normalized_shape) == 1 and change.in_features is None
    ):
        _, width = _widths(change, *layer.normalized_shape, *layer.normalized_shape)
        layer.normalized_shape = (width,)
        _empty(layer, {"weight": (width,), "bias": (width,)})
    elif isinstance(layer, nn.Embedding) and change.in_features is None:
        _, layer.embedding_dim = _widths(change, layer.embedding_dim, layer.embedding_dim)
        _empty(layer, {"weight": (layer.num_embeddings, layer.embedding_dim)})
    else:
        raise RequestError(
            f"the layer `{change.layer}` can't be resized so",
            why="Fully connected layers can, convolutions of one group or of one channel a group, "
            "and the outputs of norms and embeddings",
        )


def _set_heads(network: nn.Module, change: Heads) -> None:
    attention = _found(network, change.layer)
    if not isinstance(attention, HEADED) or change.heads >= attention.heads:
        raise RequestError(
            f"the layer `{change.layer}` can't have {change.heads} heads of attention",
            why="Attention of a text to itself can have fewer heads than it has",
        )
    attention.heads, width = change.heads, change.heads * attention.head_width
    resize(network, Resize(layer=f"{change.layer}.projection", out_features=3 * width))
    resize(network, Resize(layer=f"{change.layer}.out", in_features=width))


class Skip(nn.Module):
    """Stands where a layer was left out: it gives the first of what it is given."""

    def forward(self, x: Tensor, *others: object, **more: object) -> Tensor:
        """Return `x`."""
        return x


def _drop(network: nn.Module, change: Drop) -> None:
    _found(network, change.layer)
    if not Drop.fits(network, change.layer):
        raise RequestError(f"the layer `{change.layer}` is none of a list, so it can't be left out")
    owner, _, name = change.layer.rpartition(".")
    setattr(network.get_submodule(owner), name, Skip())


def _to_integers(network: nn.Module, change: Integers) -> None:
    raise RequestError(
        "its layers are int8, which can't be trained or changed further",
        fix="Start from the model file that it was made of",
    )


def group_weights(network: nn.Module, change: Group) -> None:
    """Put a layer of few bits a weight in place of a layer; its weights are empty then.

    Raises:
        RequestError: there is no such layer, or it can't have such weights.
    """
    layer = _found(network, change.layer)
    new: nn.Module
    if type(layer) is nn.Linear:
        new = GroupedLinear(
            layer.in_features,
            layer.out_features,
            bits=change.bits,
            group=change.group,
            bias=layer.bias is not None,
        )
    elif isinstance(layer, nn.Embedding) and layer.embedding_dim % change.group == 0:
        new = GroupedEmbedding(
            layer.num_embeddings,
            layer.embedding_dim,
            bits=change.bits,
            group=change.group,
            scale=float(getattr(layer, "scale", 1.0)),
        )
    else:
        raise RequestError(
            f"the layer `{change.layer}` can't have weights in groups of {change.group}",
            why="Fully connected layers can, and embeddings whose width is a multiple of it",
        )
    owner, _, name = change.layer.rpartition(".")
    setattr(network.get_submodule(owner), name, new)


def code_weights(network: nn.Module, change: Code) -> None:
    """Take a layer's weights from codebooks, which are empty then.

    Raises:
        RequestError: there is no such layer, or its weights can't be looked up.
    """
    layer = _found(network, change.layer)
    weight = layer._parameters.get("weight")
    uses = sum(item is weight for _, item in network.named_parameters(remove_duplicate=False))
    if not isinstance(layer, CODED_LAYERS) or weight is None or uses > 1:
        raise RequestError(
            f"the weights of the layer `{change.layer:.80}` can't be looked up in codebooks",
            why="Those of fully connected layers, convolutions and embeddings can, once, and where "
            "no other layer has the same",
        )
    places, inputs = change.blocks * change.block_size, weight[0].numel()
    is_fitting = change.blocks <= inputs <= places
    if not is_fitting or (places > inputs and not change.ordered):
        raise RequestError(
            f"the layer `{change.layer:.80}` has {inputs:,} weights an output, and its blocks hold "
            f"{places:,}"
        )
    use_codes(
        layer,
        block_size=change.block_size,
        blocks=change.blocks,
        codebook_size=change.codebook_size,
        codebooks=change.codebooks,
        ordered=change.ordered,
    )


KINDS: dict[str, tuple[type[Modification], Callable[[nn.Module, Any], None]]] = {
    "resize": (Resize, resize),
    "int8": (Integers, _to_integers),
    "group": (Group, group_weights),
    "heads": (Heads, _set_heads),
    "drop": (Drop, _drop),
    "code": (Code, code_weights),
}
"""The kinds of modification: what each declares, and how it is done to a network."""


def modify(network: nn.Module, modifications: Sequence[Modification]) -> None:
    """Do modifications to a network, in order; the weights of the layers concerned are empty then.

    Raises:
        RequestError: one of them doesn't fit the network.
    """
    for change in modifications:
        _, apply = KINDS[change.kind]
        apply(network, change)


def modified(architecture: Mapping[str, Json], *modifications: Modification) -> JsonObject:
    """Return an architecture with further modifications behind those that it has."""
    added = [change.model_dump(mode="json") for change in modifications]
    return {**architecture, "modifications": [*architecture.get("modifications", ()), *added]}


def with_new_head(architecture: Mapping[str, Json]) -> JsonObject:
    """Return an architecture whose last layer was replaced, and so isn't looked up in codebooks."""
    changes = architecture.get("modifications", ())
    left = [item for item in changes if item["kind"] != "code" or not _is_head(item["layer"])]
    kept = {key: value for key, value in architecture.items() if key != "modifications"}
    return {**kept, "modifications": left} if left else kept


def check_unrounded(architecture: Mapping[str, Json]) -> None:
    """Refuse a network of whose weights some were rounded to few bits.

    Raises:
        RequestError: there are such weights.
    """
    kinds = {item["kind"] for item in architecture.get("modifications", ())}
    if kinds & {"int8", "group"}:
        raise RequestError(
            "this network's weights have few bits already, and aren't trained or rounded again",
            where="compress",
            fix="Start from the model file that it was made of; `dtype: float16` may still follow",
        )


def read_modifications(value: Json) -> tuple[Modification, ...]:
    """Read what a model file says of modifications, strictly.

    Raises:
        ModelFileError: it isn't a list of modifications that are known here, each in full.
    """
    if not isinstance(value, list) or not value:
        raise ModelFileError("the architecture's `modifications` aren't a list, or it is empty")
    return tuple(_read(item) for item in value)


def _read(item: Json) -> Modification:
    kind = item.get("kind") if isinstance(item, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelFileError(
            f"the architecture's modification `{kind!s:.40}` is unknown",
            fix="A newer version of modelwright may know it",
        )
    return read_section(KINDS[kind][0], item, f"the architecture's `{kind}`")


def read_section(kind: type[S], section: Mapping[str, Json], name: str) -> S:
    """Read a section of a model file's architecture, strictly.

    Raises:
        ModelFileError: a setting is missing, unknown or of another type.
    """
    try:
        spec = kind.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(f"{name}, `{place}`: {first['msg']}") from error
    if set(spec.model_dump()) != set(section):
        raise ModelFileError(f"{name} isn't written out in full")
    return spec


def _layer(network: nn.Module, change: Resize) -> nn.Module:
    """Return the layer, where it may have other widths."""
    layer = _found(network, change.layer)
    if change.out_features is not None and _is_head(change.layer):
        raise RequestError("the outputs of the last layer are those of the labels")
    uses = Counter(id(item) for _, item in network.named_parameters(remove_duplicate=False))
    if any(uses[id(item)] > 1 for item in layer.parameters()):
        raise RequestError(f"the layer `{change.layer}` shares its weights with another one")
    return layer


def _is_head(layer: str) -> bool:
    return layer.removeprefix("body.") == "head"


def _found(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        raise RequestError(f"the network has no layer `{name:.80}`") from error


def _widths(change: Resize, inputs: int, outputs: int) -> tuple[int, int]:
    new = (change.in_features or inputs, change.out_features or outputs)
    if new == (inputs, outputs):
        raise RequestError(f"the layer `{change.layer}` has these widths already")
    return new


def _empty(layer: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Put empty tensors of new shapes in place of a layer's own, where it has them."""
    for name, shape in shapes.items():
        old = getattr(layer, name)
        if isinstance(old, nn.Parameter):
            new = torch.empty(shape, dtype=old.dtype, device=old.device)
            setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad))
        elif old is not None:
            setattr(layer, name, torch.empty(shape, dtype=old.dtype, device=old.device))
