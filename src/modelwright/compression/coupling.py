"""Which channels of a network can be taken out together: found in its graph, and tried.

Every channel that a layer puts out or takes in is a number. The numbers go through the graph like
the values do: what only moves values moves them too, what adds or multiplies values couples them.
What meets an operation that isn't known here stays. So a unit, coupled channels that go together,
may be a filter with its norm and its readers, channels of a whole stage of residual blocks, or a
head of attention. Each width is then tried: the narrower network must answer as the whole one does
in which nothing reads the unit. (torch-pruning guesses axes by the names of gradients: it narrows
networks that flatten maps place by place wrongly, and can't split heads.)
"""

from __future__ import annotations

import copy
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

from modelwright.compression.layer_costs import is_depthwise
from modelwright.compression.tracing import (
    CONVOLUTIONS,
    LAYERS,
    argument,
    aten,
    exported,
    is_call,
    layer_of,
)
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.torch_runtime import to_torch
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import (
    HEADED,
    Drop,
    Heads,
    Modification,
    Resize,
    modify,
)

Axis = tuple[str, str]
"""A layer's name, and `in` or `out`."""
Unit = Mapping[Axis, Sequence[int]]
"""Channels that go together, by their places along each axis."""
MULTIPLE = 8
"""Of so many channels is a width that is narrowed, where it has twice as many or more."""
LEAST = 1 / 8
"""The part of a width that stays at least."""
_SAME = 1e-3
"""How much outputs may differ, in parts of the largest one, as sums go in another order."""
_FIXED = 1
"""The number of what stays; 0 is what no layer here puts out."""
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
"""Operations along axes that channels don't lie on."""


@dataclass(frozen=True, slots=True)
class Width:
    """A number of like units, of which any may be taken out."""

    axes: tuple[Axis, ...]
    units: tuple[Unit, ...]

    @property
    def least(self) -> int:
        """How many units stay at least."""
        count = len(self.units)
        if count < 2 * MULTIPLE:
            return max(round(count * LEAST), 1)
        return max(-(-round(count * LEAST) // MULTIPLE), 1) * MULTIPLE

    def step(self, left: int) -> int:
        """Return how many of the units that are left go at once; 0 where none may."""
        size = 1 if len(self.units) < 2 * MULTIPLE else (left - 1) % MULTIPLE + 1
        return size if left - size >= self.least else 0


def find_widths(candidate: Candidate) -> list[Width]:
    """Return the widths of a network that can be narrowed, in the order of its layers.

    Raises:
        RequestError: torch can't trace the network.
    """
    numbering = _Numbering(exported(candidate), candidate.network)
    numbering.run(*example(candidate))
    found: dict[tuple[tuple[Axis, int], ...], list[Unit]] = defaultdict(list)
    for unit in numbering.units():
        found[tuple((axis, len(places)) for axis, places in unit.items())].append(unit)
    widths = [Width(tuple(axis for axis, _ in kind), tuple(units)) for kind, units in found.items()]
    return [width for width in widths if width.step(len(width.units)) and _holds(candidate, width)]


def find_blocks(candidate: Candidate) -> list[str]:
    """Return the layers of lists of layers without which the network still works, by name."""
    network, inputs = candidate.network, example(candidate)
    shapes: dict[str, bool] = {}

    def note(name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        first = given[0] if given else None
        both = isinstance(first, Tensor) and isinstance(output, Tensor)
        shapes[name] = both and first.shape == output.shape and not name.endswith("head")

    tried = copy.deepcopy(network)
    for name, module in tried.named_modules():
        if Drop.fits(tried, name):
            module.register_forward_hook(partial(note, name))
    with torch.no_grad():
        tried(*inputs)
    return [name for name, fits in shapes.items() if fits]


def example(candidate: Candidate) -> tuple[Tensor, ...]:
    """Return two samples as a network takes them."""
    reader = open_input(candidate.input.to_json(), candidate.assets)
    samples = reader.synthetic(2)
    return tuple(to_torch(samples[tensor.name]) for tensor in reader.tensors)


def joined(units: Iterable[Unit]) -> dict[Axis, list[int]]:
    """Return the places of some units together."""
    places: dict[Axis, set[int]] = defaultdict(set)
    for unit in units:
        for axis, of_unit in unit.items():
            places[axis].update(of_unit)
    return {axis: sorted(of_axis) for axis, of_axis in places.items()}


def cut(network: nn.Module, gone: Unit) -> tuple[nn.Module, list[Modification]]:
    """Return a network without some channels, and the modifications that build it."""
    kept: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for (layer, end), places in gone.items():
        size, out = _size(network.get_submodule(layer), end), set(places)
        kept[layer][end] = [place for place in range(size) if place not in out]
    changes: list[Modification] = []
    for layer, ends in kept.items():
        owner, _, name = layer.rpartition(".")
        holder = network.get_submodule(owner)
        widths = {f"{end}_features": len(places) for end, places in ends.items()}
        if isinstance(holder, HEADED):  # Its heads are counted, and change both of its layers.
            left = widths.pop({"projection": "out_features", "out": "in_features"}[name], None)
            if left is not None and name == "out":
                changes.append(Heads(layer=owner, heads=left // holder.head_width))
        if is_depthwise(network.get_submodule(layer)):
            widths["in_features"] = widths["out_features"]
        if widths:
            changes.append(Resize(layer=layer, **widths))
    state = {name: item.detach() for name, item in network.state_dict().items()}
    for layer, ends in kept.items():
        module = network.get_submodule(layer)
        for name, item in module.state_dict().items():
            if "out" in ends and item.ndim:
                item = item.index_select(
                    1 if isinstance(module, nn.Embedding) else 0, torch.tensor(ends["out"])
                )
            if "in" in ends and name == "weight":
                item = item.index_select(1, torch.tensor(ends["in"]))
            state[f"{layer}.{name}"] = item
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
                module.forward = partial(_norm_others, module, list(places))  # type: ignore[method-assign]
    return quiet


def _norm_others(norm: nn.LayerNorm, gone: list[int], x: Tensor) -> Tensor:
    is_kept = torch.ones(x.shape[-1], dtype=torch.bool)
    is_kept[gone] = False
    weight, bias = (None if item is None else item[is_kept] for item in (norm.weight, norm.bias))
    out = torch.zeros_like(x)
    out[..., is_kept] = F.layer_norm(x[..., is_kept], (int(is_kept.sum()),), weight, bias, norm.eps)
    return out


@torch.no_grad()
def _holds(candidate: Candidate, width: Width) -> bool:
    """Say whether a network that is narrower by a step answers as if nothing read the units."""
    gone = joined(width.units[: width.step(len(width.units))])
    inputs = example(candidate)
    try:
        answer = cut(candidate.network, gone)[0].eval()(*inputs)
    except (RuntimeError, ValueError, AssertionError):  # It has a width elsewhere, as a number.
        return False
    expected = silenced(candidate.network, gone).eval()(*inputs)
    pairs = zip(_tensors(answer), _tensors(expected), strict=True)
    return all(
        one.shape == other.shape
        and bool(((one - other).abs() <= _SAME * other.abs().max().clamp(min=1e-6)).all())
        for one, other in pairs
    )


def _tensors(answer: Any) -> list[Tensor]:
    return [item.double() for item in (answer if isinstance(answer, tuple) else (answer,))]


def _size(module: nn.Module, end: str) -> int:
    weight = getattr(module, "weight", None)
    if weight is None:  # A norm without scales.
        weight = module.get_buffer("running_mean")
    assert isinstance(weight, Tensor)
    is_second = (end == "in") != isinstance(module, nn.Embedding)
    return int(weight.shape[1 if is_second else 0])


class _Numbering(Interpreter):
    """Runs a graph, and sends the numbers of channels along.

    The numbers of a value `[…]` are a tensor of as many axes, of size 1 along those on which they
    don't vary; `None` where there is none.
    """

    def __init__(self, graph: GraphModule, network: nn.Module) -> None:
        super().__init__(graph)
        self._network = network
        self._numbers: dict[Node, Any] = {}
        self._shapes: dict[Node, torch.Size] = {}
        self._taken: dict[Axis, range] = {}
        self._parent = [0, _FIXED]
        self._understood: set[tuple[Node, Node]] = set()

    def units(self) -> list[Unit]:
        """Return the units, once the graph was run."""
        uses = Counter(
            id(item) for _, item in self._network.named_parameters(remove_duplicate=False)
        )
        for node in self.module.graph.nodes:  # type: ignore[union-attr]
            owner = str(node.target).rpartition(".")[0] if node.op == "get_attr" else ""
            if any((node, user) not in self._understood for user in node.users):
                self._fix_layer(owner)
        for layer in {layer for layer, _ in self._taken}:
            if any(uses[id(item)] > 1 for item in self._network.get_submodule(layer).parameters()):
                self._fix_layer(layer)
        found: dict[int, dict[Axis, list[int]]] = defaultdict(dict)
        for axis, numbers in self._taken.items():
            for place, number in enumerate(numbers):
                found[self._root(number)].setdefault(axis, []).append(place)
        found.pop(self._root(_FIXED), None)
        return list(found.values())

    def run_node(self, n: Node) -> Any:
        """Run one operation."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self._shapes[n] = value.shape
        self._numbers[n] = self._send(n, value)
        return value

    def _send(self, node: Node, value: Any) -> Any:
        """Return the numbers of what an operation returns."""
        target = node.target
        if node.op == "output":
            self._fix(node)
        if node.op != "call_function":
            return None
        if is_call(node, *LAYERS):
            return self._layer(node)
        if is_call(node, aten.embedding.default):
            return self._embedding(node)
        if target is operator.getitem:
            of_all = self._numbers[node.args[0]]  # type: ignore[index]
            return of_all[node.args[1]] if isinstance(of_all, tuple | list) else of_all
        if all(self._numbers[item] is None for item in node.all_input_nodes):
            return None
        if is_call(node, aten.batch_norm.default, aten.layer_norm.default):
            return self._norm(node)
        if is_call(node, aten.matmul.default, aten.bmm.default):
            left, right = (self._of(item) for item in node.args[:2])  # type: ignore[arg-type]
            if min(left.ndim, right.ndim) < 2:
                return self._fix(node)
            return self._product(left, right, value.shape)
        if is_call(node, aten.scaled_dot_product_attention.default):
            return self._attention(node, value)
        if target in _MOVES:
            return self._moved(node)
        if target is aten.pad.default and argument(node, 2) in (None, "constant"):
            return self._padded(node)
        if torch.Tag.pointwise in getattr(target, "tags", ()) or target in _POINTWISE:
            parts = [
                (self._numbers[item], self._shapes[item])
                for item in node.all_input_nodes
                if item in self._shapes
            ]
            return reduce(self._met, parts)[0]
        axes = None
        if target in _OF_MAPS:
            axes = range(2, len(self._shapes[node.args[0]]))  # type: ignore[index]
        elif target in _ALONG:
            axes = argument(node, 1)
        numbers = self._numbers[node.all_input_nodes[0]]
        if axes is None or numbers is None or len(node.all_input_nodes) > 1:
            return self._fix(node)
        axes = [axes] if isinstance(axes, int) else list(axes)
        if any(numbers.shape[axis] > 1 for axis in axes):
            return self._fix(node)
        if (
            target in _ALONG
            and (value[0] if isinstance(value, tuple) else value).ndim < numbers.ndim
        ):
            numbers = numbers.squeeze(axes)
        return (numbers, None) if isinstance(value, tuple) else numbers

    # -- numbers -----------------------------------------------------------------------------------

    def _of(self, node: Node) -> Tensor:
        """Return a value's numbers, one for each of its entries."""
        numbers, shape = self._numbers[node], self._shapes[node]
        if numbers is None:
            return torch.zeros(1, dtype=torch.int64).expand(shape)
        return numbers.expand(shape)  # type: ignore[no-any-return]

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
        pairs = torch.stack(torch.broadcast_tensors(one, other)).flatten(1).clamp(min=_FIXED)
        for first, second in torch.unique(pairs, dim=1).T.tolist():
            self._parent[self._root(first)] = self._root(second)

    def _fix(self, node: Node) -> None:
        """Let all channels stay that reach an operation."""
        for item in node.all_input_nodes:
            numbers = self._numbers[item]
            for part in numbers if isinstance(numbers, tuple | list) else (numbers,):
                if part is not None:
                    self._couple(part, torch.tensor(_FIXED))

    def _fix_layer(self, layer: str) -> None:
        for end in ("in", "out"):
            if (layer, end) in self._taken:
                self._couple(self._take(layer, end), torch.tensor(_FIXED))

    # -- operations --------------------------------------------------------------------------------

    def _channels(self, node: Node, axis: int) -> Tensor:
        """Return the numbers along one axis; those at the same place along it are coupled."""
        numbers = self._of(node).movedim(axis, -1)
        whole = numbers[(0,) * (numbers.ndim - 1)]
        if not bool((numbers == whole).all()):
            self._couple(numbers, whole)
        return whole

    def _module(self, node: Node, name: str, kinds: Any) -> nn.Module | None:
        """Return the module of a call, if it is known how to narrow it."""
        module = self._network.get_submodule(name) if name else None
        if not isinstance(module, kinds):
            return None
        for item in node.args[1:]:
            if isinstance(item, Node) and str(item.target).rpartition(".")[0] == name:
                self._understood.add((item, node))
        return module

    def _layer(self, node: Node) -> Tensor | None:
        name = layer_of(node)
        module = self._module(node, name, (nn.Linear, nn.Conv1d, nn.Conv2d))
        groups = getattr(module, "groups", 1)
        axis = 1 if is_call(node, *CONVOLUTIONS) else -1
        given = node.args[0]
        assert isinstance(given, Node)
        if module is None or (
            groups > 1 and not groups == module.out_channels == module.in_channels
        ):
            return self._fix(node)
        outputs = self._take(name, "out")
        self._couple(self._channels(given, axis), outputs if groups > 1 else self._take(name, "in"))
        return _along(outputs, axis, len(self._shapes[given]))

    def _embedding(self, node: Node) -> Tensor | None:
        name = str(node.args[0].target).rpartition(".")[0]  # type: ignore[union-attr]
        if not isinstance(self._network.get_submodule(name), nn.Embedding):
            return None
        self._understood.add((node.args[0], node))  # type: ignore[arg-type]
        rows = self._shapes[node.args[1]]  # type: ignore[index]
        return _along(self._take(name, "out"), -1, len(rows) + 1)

    def _norm(self, node: Node) -> Tensor | None:
        of_batch = is_call(node, aten.batch_norm.default)
        held = argument(node, 3 if of_batch else 2)
        name = str(held.target).rpartition(".")[0] if isinstance(held, Node) else ""
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d) if of_batch else nn.LayerNorm
        if self._module(node, name, kinds) is None or (not of_batch and len(node.args[1]) > 1):  # type: ignore[arg-type]
            return self._fix(node)
        given = node.args[0]
        assert isinstance(given, Node)
        self._couple(self._channels(given, 1 if of_batch else -1), self._take(name, "out"))
        numbers: Tensor = self._numbers[given]
        return numbers

    def _padded(self, node: Node) -> Tensor:
        """Pad numbers along the axes on which they vary: padding of a map is every channel's."""
        numbers: Tensor = self._numbers[node.args[0]]  # type: ignore[index]
        sizes = list(node.args[1])  # type: ignore[arg-type]
        for at in range(0, len(sizes), 2):
            axis = numbers.ndim - 1 - at // 2
            if numbers.shape[axis] > 1:
                ends = [0] * at + sizes[at : at + 2]
                numbers = F.pad(numbers, ends)
        return numbers

    def _moved(self, node: Node) -> Any:
        """Move numbers as an operation moves values."""

        def given(item: Node) -> Any:
            if item not in self._shapes:
                return self.env[item]
            return self._of(item).contiguous() if node.target in _VIEWS else self._of(item)

        found: Any = node.target(*map_arg(node.args, given))  # type: ignore[operator]
        return tuple(map(_compact, found)) if isinstance(found, tuple | list) else _compact(found)

    def _met(
        self, one: tuple[Tensor | None, torch.Size], other: tuple[Tensor | None, torch.Size]
    ) -> tuple[Tensor | None, torch.Size]:
        """Couple the numbers of two values that are added or multiplied, entry by entry."""
        shape = torch.broadcast_shapes(one[1], other[1])
        if one[0] is None and other[0] is None:
            return None, shape
        both = [
            torch.zeros([1] * len(shape), dtype=torch.int64)
            if numbers is None
            else numbers.reshape([1] * (len(shape) - numbers.ndim) + list(numbers.shape))
            for numbers, _ in (one, other)
        ]
        left, right = torch.broadcast_tensors(*both)
        for numbers, others, size in ((left, right, one[1]), (right, left, other[1])):
            size = [1] * (len(shape) - len(size)) + list(size)
            # A value of one entry for all channels doesn't hold them.
            spans = any(a > 1 and b > 1 for a, b in zip(size, others.shape, strict=True))
            is_held = (numbers == 0) & (others > 0)
            if spans and bool(is_held.any()):
                self._couple(others[is_held], torch.tensor(_FIXED))
        is_met = (left > 0) & (right > 0)
        if bool(is_met.any()):
            self._couple(left[is_met], right[is_met])
        return _compact(torch.where(left > 0, left, right)), shape

    def _product(self, left: Tensor, right: Tensor, shape: torch.Size) -> Tensor | None:
        """Couple what a product sums over, and what it multiplies."""
        left, right = self._summed(left, -1), self._summed(right, -2)
        return self._met((left, shape), (right, shape))[0]

    def _summed(self, numbers: Tensor, axis: int) -> Tensor | None:
        first = numbers.narrow(axis, 0, 1)
        if not bool(numbers.any()):
            return None
        self._couple(numbers, first)
        return _compact(first)

    def _attention(self, node: Node, value: Tensor) -> Tensor | None:
        query, key, value_ = (self._of(item) for item in node.args[:3])  # type: ignore[arg-type]
        if query.shape[:-2] != key.shape[:-2]:
            return self._fix(node)
        scores = self._product(query, key.mT, torch.Size([*query.shape[:-1], key.shape[-2]]))
        if scores is None:
            return self._fix(node)
        return self._product(scores, value_, value.shape)


def _along(numbers: Tensor, axis: int, ndim: int) -> Tensor:
    """Return numbers `[C]` along an axis of a value."""
    shape = [1] * ndim
    shape[axis] = len(numbers)
    return numbers.reshape(shape)


def _compact(numbers: Tensor) -> Tensor | None:
    """Return numbers with size 1 along the axes on which they don't vary."""
    for axis in range(numbers.ndim):
        first = numbers.narrow(axis, 0, 1)
        if numbers.shape[axis] > 1 and (
            numbers.stride(axis) == 0 or bool((numbers == first).all())
        ):
            numbers = first
    return numbers if bool(numbers.any()) else None
