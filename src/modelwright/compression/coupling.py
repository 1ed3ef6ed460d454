"""Which channels of a network can be taken out together: found in its graph, and tried.

Every channel that a layer puts out or takes in has a number. Numbers go through the graph as values
do: what moves values moves them, what adds or multiplies values couples them, and what meets an
operation that isn't known here stays. So a unit, channels that go together, may be a filter with
its norm and its readers, a channel of all blocks of a stage, or a head of attention. Each width is
then tried: narrower, the network must answer as it does where nothing reads the unit.
"""

from __future__ import annotations

import contextlib
import copy
import math
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from modelwright.errors import RequestError
from modelwright.modelfile.layer_costs import is_depthwise
from modelwright.modelfile.tracing import (
    CONVOLUTIONS,
    LAYERS,
    argument,
    aten,
    exported,
    is_call,
    owner_of,
    synthetic_inputs,
)
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import HEADED, Drop, Heads, Modification, Resize, modify

Axis = tuple[str, str]
"""A layer's name, and `in` or `out`."""
Unit = Mapping[Axis, Sequence[int]]
"""Channels that go together, by their places along each axis."""
MULTIPLE = 8
"""Of so many units is a width that is narrowed, where it had twice as many or more."""
LEAST = 1 / 8
"""The part of a width that stays at least."""
_SAME = 1e-3
"""How much outputs may differ, in parts of the largest one, as sums go in another order."""
_UNFIT = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, RequestError)
"""What a network may raise that can't be built or called so."""
_FIXED = 1
"""The number of what stays; 0 is that of what no layer here puts out."""
_NONE = torch.zeros(1, dtype=torch.int64)
"""The numbers of a value that has none."""
_VIEWS = (aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int)
_MOVES = {
    *_VIEWS,
    *(aten.permute.default, aten.movedim.int, aten.expand.default, aten.alias.default),
    *(aten.transpose.int, aten.mT.default, aten.t.default, aten.unsqueeze.default),
    *(aten.squeeze.dim, aten.select.int, aten.slice.Tensor, aten.unbind.int, aten.chunk.default),
    *(aten.split.Tensor, aten.split_with_sizes.default, aten.cat.default, aten.stack.default),
}
_POINTWISE = {aten.to.dtype, aten.to.device, aten.clone.default, aten.contiguous.default}
_OF_MAPS = {
    *(aten.max_pool1d.default, aten.max_pool2d.default, aten.avg_pool1d.default),
    *(aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default),
    *(aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec),
}
"""Operations on each channel of a map by itself."""
_ALONG = {
    *(aten.mean.dim, aten.sum.dim_IntList, aten.max.dim, aten.amax.default),
    *(aten.softmax.int, aten.log_softmax.int),
}
"""Operations along axes; channels may lie on others."""


@dataclass(frozen=True, slots=True)
class Width:
    """A number of like units, of which any may be taken out."""

    axes: tuple[Axis, ...]
    units: tuple[Unit, ...]
    whole: int
    """How many units there were before the first was taken out."""

    @property
    def least(self) -> int:
        """How many units stay at least."""
        multiple = 1 if self.whole < 2 * MULTIPLE else MULTIPLE
        return max(math.ceil(self.whole * LEAST / multiple), 1) * multiple

    def step(self, left: int) -> int:
        """Return how many of the units that are left go at once; 0 where none may."""
        size = 1 if self.whole < 2 * MULTIPLE else (left - 1) % MULTIPLE + 1
        return size if left - size >= self.least else 0


def find_widths(candidate: Candidate, before: Sequence[Width] | None = None) -> list[Width]:
    """Return the widths of a network that can be narrowed, in the order of its layers.

    Args:
        candidate: the network.
        before: the widths before it was narrowed; they aren't tried again.

    Raises:
        RequestError: torch can't trace the network.
    """
    network, inputs = candidate.network, synthetic_inputs(candidate)
    numbering = _Numbering(exported(candidate), network)
    numbering.run(*inputs)
    found: dict[tuple[tuple[Axis, int], ...], list[Unit]] = defaultdict(list)
    for unit in numbering.units():
        found[tuple((axis, len(places)) for axis, places in unit.items())].append(unit)
    wholes = {width.axes[0]: width.whole for width in before or ()}
    widths = []
    for kind, units in found.items():
        axes = tuple(axis for axis, _ in kind)
        width = Width(axes, tuple(units), wholes.get(axes[0], len(units)))
        does_hold = _holds(network, width, inputs) if before is None else axes[0] in wholes
        if does_hold and width.step(len(units)):
            widths.append(width)
    return widths


def find_blocks(candidate: Candidate) -> list[str]:
    """Return the layers of lists of layers without which the network still works, by name."""
    fits: dict[str, bool] = {}

    def note(name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        both = isinstance(output, Tensor) and bool(given) and isinstance(given[0], Tensor)
        fits[name] = both and given[0].shape == output.shape

    network = copy.deepcopy(candidate.network)
    for name, module in network.named_modules():
        if Drop.fits(network, name):
            module.register_forward_hook(partial(note, name))
    inputs = synthetic_inputs(candidate)

    def answers_without(name: str) -> bool:
        narrow = copy.deepcopy(candidate.network)
        modify(narrow, [Drop(layer=name)])
        with contextlib.suppress(*_UNFIT):
            return narrow(*inputs) is not None
        return False

    with torch.no_grad():
        network(*inputs)
        return [name for name, does_fit in fits.items() if does_fit and answers_without(name)]


def joined(units: Iterable[Unit]) -> dict[Axis, list[int]]:
    """Return the places of some units together."""
    places: dict[Axis, set[int]] = defaultdict(set)
    for unit in units:
        for axis, of_unit in unit.items():
            places[axis].update(of_unit)
    return {axis: sorted(of_axis) for axis, of_axis in places.items()}


def cut(network: nn.Module, gone: Unit) -> tuple[nn.Module, list[Modification]]:
    """Return a network without some channels, and the modifications that build it."""
    kept: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for (layer, end), places in gone.items():
        stays = torch.ones(_size(network.get_submodule(layer), end), dtype=torch.bool)
        stays[list(places)] = False
        kept[layer][end] = stays.nonzero().flatten()
    changes: list[Modification] = []
    state = {name: item.detach() for name, item in network.state_dict().items()}
    for layer, ends in kept.items():
        module = network.get_submodule(layer)
        for name, item in module.state_dict().items():
            if "out" in ends and item.ndim:
                item = item.index_select(int(isinstance(module, nn.Embedding)), ends["out"])
            if "in" in ends and name == "weight":
                item = item.index_select(1, ends["in"])
            state[f"{layer}.{name}"] = item
        sizes = {end: len(places) for end, places in ends.items()}
        owner, _, name = layer.rpartition(".")
        holder = network.get_submodule(owner)
        if isinstance(holder, HEADED):  # Its heads are counted, and change both of its layers.
            left = sizes.pop({"projection": "out", "out": "in"}[name], None)
            if left is not None and name == "out":
                changes.append(Heads(layer=owner, heads=left // holder.head_width))
        if sizes:
            inputs = sizes.get("out" if is_depthwise(module) else "in")
            changes += [Resize(layer=layer, in_features=inputs, out_features=sizes.get("out"))]
    narrow = copy.deepcopy(network)
    modify(narrow, changes)
    narrow.load_state_dict(state)
    return narrow, changes


def silenced(network: nn.Module, gone: Unit) -> nn.Module:
    """Return a network of the whole width in which nothing reads some channels."""
    quiet = copy.deepcopy(network)
    with torch.no_grad():
        for (layer, end), places in gone.items():
            module = quiet.get_submodule(layer)
            if end == "in":
                module.get_parameter("weight")[:, list(places)] = 0.0
            elif isinstance(module, nn.LayerNorm):  # Its statistics are of the others alone.
                module.register_forward_hook(partial(_norm_others, list(places)))
    return quiet


def _norm_others(gone: list[int], norm: nn.LayerNorm, given: tuple[Tensor], _: Tensor) -> Tensor:
    (x,) = given
    stays = torch.ones(x.shape[-1], dtype=torch.bool)
    stays[gone] = False
    weight, bias = (None if item is None else item[stays] for item in (norm.weight, norm.bias))
    out = torch.zeros_like(x)
    out[..., stays] = F.layer_norm(x[..., stays], (int(stays.sum()),), weight, bias, norm.eps)
    return out


@torch.no_grad()
def _holds(network: nn.Module, width: Width, inputs: tuple[Tensor, ...]) -> bool:
    """Say whether a network that is narrower by a step answers as if nothing read the units."""
    gone = joined(width.units[: width.step(len(width.units))])
    if not gone:
        return False
    try:
        answer = cut(network, gone)[0].eval()(*inputs)
    except _UNFIT:
        return False  # It has the width elsewhere too, as a number, or can't be built so again.
    expected = silenced(network, gone).eval()(*inputs)
    one, other = (item if isinstance(item, tuple) else (item,) for item in (answer, expected))
    return all(
        found.shape == right.shape
        and bool(((found - right).abs() <= _SAME * right.abs().amax().clamp(min=1e-6)).all())
        for found, right in zip(one, other, strict=True)
    )


def _size(layer: nn.Module, end: str) -> int:
    """Return how many channels a layer has at an end."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):  # A norm without scales.
        weight = layer.get_buffer("running_mean")
    return weight.shape[int((end == "in") != isinstance(layer, nn.Embedding))]


class _Numbering(Interpreter):
    """Runs a graph, and sends the numbers of channels along.

    The numbers of a value are a tensor with its axes, of size 1 where they don't vary along one; of
    a call that returns several values a tuple.
    """

    def __init__(self, graph: GraphModule, network: nn.Module) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self._network, self._graph = network, graph.graph
        self._numbers: dict[Any, Any] = {}
        self._taken: dict[Axis, range] = {}
        self._parent = [0, _FIXED]
        self._known: set[tuple[Node, Node]] = set()
        """Weights and calls of theirs that can be narrowed."""

    def units(self) -> list[Unit]:
        """Return the units, once the graph was run."""
        named = self._network.named_parameters(remove_duplicate=False)
        uses = Counter(id(item) for _, item in named)
        others = {
            owner_of(node)
            for node in self._graph.nodes
            if any((node, user) not in self._known for user in node.users)
        }
        for layer, end in self._taken:
            weights = self._network.get_submodule(layer).parameters()
            if layer in others or any(uses[id(item)] > 1 for item in weights):
                self._fix(self._take(layer, end))
        found: dict[int, dict[Axis, list[int]]] = defaultdict(dict)
        for axis, numbers in self._taken.items():
            for place, number in enumerate(numbers):
                found[self._root(number)].setdefault(axis, []).append(place)
        found.pop(self._root(_FIXED), None)
        return list(found.values())

    def run_node(self, n: Node) -> Any:
        """Run one operation."""
        value = super().run_node(n)
        numbers = self._send(n, value) if n.op == "call_function" else _NONE
        if numbers is NotImplemented or n.op == "output":
            for item in n.all_input_nodes:
                of_item = self._numbers[item]
                for part in of_item if isinstance(of_item, tuple) else (of_item,):
                    self._fix(part)
            numbers = _NONE
        self._numbers[n] = numbers
        return value

    def _send(self, node: Node, value: Any) -> Any:
        """Return the numbers of what an operation returns; `NotImplemented` where it isn't known.

        What reaches such an operation stays.
        """
        target, inputs = node.target, node.all_input_nodes
        if is_call(node, *LAYERS):
            return self._layer(node)
        if is_call(node, aten.embedding.default):
            return self._embedding(node, value)
        if all(self._numbers[item] is _NONE for item in inputs):
            return _NONE
        if target is operator.getitem:
            return self._numbers[node.args[0]][node.args[1]]
        if is_call(node, aten.batch_norm.default, aten.layer_norm.default):
            return self._norm(node)
        if is_call(node, aten.matmul.default, aten.scaled_dot_product_attention.default):
            return self._products(node, value)
        if target in _MOVES:
            return self._moved(node)
        if target is aten.pad.default and argument(node, 2) in (None, "constant"):
            return self._padded(node)
        if torch.Tag.pointwise in getattr(target, "tags", ()) or target in _POINTWISE:
            values = [x for x in inputs if isinstance(self.env[x], Tensor)]
            return reduce(self._met, [(self._numbers[x], self.env[x].shape) for x in values])[0]
        numbers = self._numbers[inputs[0]]
        if target in _ALONG:
            axes = argument(node, 1)
        elif target in _OF_MAPS and numbers is not _NONE:
            axes = range(2, numbers.ndim)
        else:
            return NotImplemented
        axes = [axes] if isinstance(axes, int) else list(axes)
        if len(inputs) > 1 or any(numbers.shape[axis] > 1 for axis in axes):
            return NotImplemented
        result = value[0] if isinstance(value, tuple) else value
        numbers = numbers if result.ndim == numbers.ndim else numbers.squeeze(axes)
        return (numbers, _NONE) if isinstance(value, tuple) else numbers

    # -- numbers -----------------------------------------------------------------------------------

    def _of(self, node: Any) -> Tensor:
        """Return a value's numbers, one for each of its entries."""
        numbers: Tensor = self._numbers[node]
        return numbers.expand(self.env[node].shape)

    def _take(self, layer: str, end: str) -> Tensor:
        """Return the numbers of a layer's channels `[C]`, new ones at first."""
        if (layer, end) not in self._taken:
            start, size = len(self._parent), _size(self._network.get_submodule(layer), end)
            self._taken[layer, end] = range(start, start + size)
            self._parent.extend(self._taken[layer, end])
        return torch.tensor(self._taken[layer, end])

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def _couple(self, one: Tensor, other: Tensor) -> None:
        """Couple numbers in pairs; what meets no number stays."""
        pairs = torch.stack([one.expand_as(other), other]).flatten(1).clamp(min=_FIXED)
        for first, second in torch.unique(pairs, dim=1).T.tolist():
            self._parent[self._root(first)] = self._root(second)

    def _fix(self, numbers: Tensor) -> None:
        self._couple(torch.tensor(_FIXED), numbers)

    # -- operations --------------------------------------------------------------------------------

    def _channels(self, node: Any, axis: int) -> Tensor:
        """Return the numbers along one axis; those at the same place along it are coupled."""
        numbers = self._of(node).movedim(axis, -1)
        whole = numbers[(0,) * (numbers.ndim - 1)]
        if not bool((numbers == whole).all()):
            self._couple(whole, numbers)
        return whole

    def _module(self, node: Node, held: object, kinds: Any) -> str:
        """Return the name of a call's module; empty where it isn't known how to narrow it."""
        name = owner_of(held)
        if not name or not isinstance(self._network.get_submodule(name), kinds):
            return ""
        read = (item for item in node.args if isinstance(item, Node))
        self._known.update((item, node) for item in read if owner_of(item) == name)
        return name

    def _layer(self, node: Node) -> Any:
        name = self._module(node, node.args[1], (nn.Linear, nn.Conv1d, nn.Conv2d))
        groups = getattr(self._network.get_submodule(name), "groups", 1)
        if not name or groups not in (1, _size(self._network.get_submodule(name), "out")):
            return NotImplemented
        axis = 1 if is_call(node, *CONVOLUTIONS) else -1
        outputs = self._take(name, "out")
        inputs = outputs if groups > 1 else self._take(name, "in")
        self._couple(self._channels(node.args[0], axis), inputs)
        return _along(outputs, axis, self.env[node.all_input_nodes[0]].ndim)

    def _embedding(self, node: Node, value: Tensor) -> Any:
        name = self._module(node, node.args[0], nn.Embedding)
        return _along(self._take(name, "out"), -1, value.ndim) if name else _NONE

    def _norm(self, node: Node) -> Any:
        of_batch = is_call(node, aten.batch_norm.default)
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d) if of_batch else nn.LayerNorm
        name = self._module(node, argument(node, 3 if of_batch else 2), kinds)
        if not name or not (of_batch or len(node.args[1]) == 1):  # type: ignore[arg-type]
            return NotImplemented
        channels = self._channels(node.args[0], 1 if of_batch else -1)
        self._couple(channels, self._take(name, "out"))
        return self._numbers[node.args[0]]

    def _padded(self, node: Node) -> Tensor:
        """Pad numbers along the axes on which they vary: padding of a map is every channel's."""
        numbers: Tensor = self._numbers[node.args[0]]
        sizes: Any = node.args[1]
        for at in range(0, len(sizes), 2):
            if numbers.shape[-1 - at // 2] > 1:
                numbers = F.pad(numbers, [0] * at + list(sizes[at : at + 2]))
        return numbers

    def _moved(self, node: Node) -> Any:
        """Move numbers as an operation moves values."""

        def given(item: Node) -> Any:
            if not isinstance(self.env[item], Tensor):
                return self.env[item]
            return self._of(item).contiguous() if node.target in _VIEWS else self._of(item)

        found: Any = node.target(*map_arg(node.args, given))  # type: ignore[operator]
        return tuple(map(_compact, found)) if isinstance(found, tuple | list) else _compact(found)

    def _met(
        self, one: tuple[Tensor, torch.Size], other: tuple[Tensor, torch.Size]
    ) -> tuple[Tensor, torch.Size]:
        """Couple the numbers of two values that are added or multiplied, entry by entry."""
        shape = torch.Size(torch.broadcast_shapes(one[1], other[1]))  # type: ignore[no-untyped-call]
        whole = torch.zeros([1] * len(shape), dtype=torch.int64)
        left, right, _ = torch.broadcast_tensors(one[0], other[0], whole)  # type: ignore[no-untyped-call]
        for numbers, others, size in ((left, right, one[1]), (right, left, other[1])):
            padded = [1] * (len(shape) - len(size)) + list(size)
            # A value with one entry for all channels doesn't hold them.
            if any(a > 1 and b > 1 for a, b in zip(padded, others.shape, strict=True)):
                self._fix(_compact(torch.where(numbers == 0, others, 0)))
        is_met = (left > 0) & (right > 0)
        if bool(is_met.any()):
            self._couple(left[is_met], right[is_met])
        return _compact(torch.where(left > 0, left, right)), shape

    def _products(self, node: Node, value: Tensor) -> Any:
        """Couple what products of matrices sum over, and what they multiply."""
        tensors = [self._of(item) for item in node.args[:3]]
        if any(item.ndim != tensors[0].ndim or item.ndim < 3 for item in tensors):
            return NotImplemented
        if len(tensors) == 2:
            return self._product(tensors[0], tensors[1], value.shape)
        query, key, values = tensors
        if query.shape[:-2] != key.shape[:-2]:
            return NotImplemented
        between = torch.Size([*query.shape[:-1], key.shape[-2]])
        scores = self._product(query, key.mT, between)
        return self._product(scores.expand(between), values, value.shape)

    def _product(self, left: Tensor, right: Tensor, shape: torch.Size) -> Tensor:
        for numbers, axis in ((left, -1), (right, -2)):
            if bool(numbers.any()):
                self._couple(numbers.narrow(axis, 0, 1), numbers)
        row, column = _compact(left.narrow(-1, 0, 1)), _compact(right.narrow(-2, 0, 1))
        return self._met((row, shape), (column, shape))[0]


def _along(numbers: Tensor, axis: int, ndim: int) -> Tensor:
    """Return numbers `[C]` along an axis of a value."""
    shape = [1] * ndim
    shape[axis] = len(numbers)
    return numbers.reshape(shape)


def _compact(numbers: Tensor) -> Tensor:
    """Return numbers with size 1 along the axes on which they don't vary."""
    for axis, size in enumerate(numbers.shape):
        first = numbers.narrow(axis, 0, 1)
        if size > 1 and (numbers.stride(axis) == 0 or bool((numbers == first).all())):
            numbers = first
    return numbers if bool(numbers.any()) else _NONE
