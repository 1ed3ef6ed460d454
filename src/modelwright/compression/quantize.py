"""Static quantization: convolutions and fully connected layers in int8, the rest in fp32.

The network becomes a graph (`tracing`), in which activations are rounded where an integer kernel
reads or writes them. A layer's output is rounded behind the nonlinearity that follows it, and of a
sum both parts and the result are, so that onnxruntime fuses them.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from modelwright.compression.calibration import RANGES, Range, observe
from modelwright.compression.qat import check_trainable, train_rounded
from modelwright.compression.sensitivity import BATCH, choose_kept, sample_inputs, say_untouched
from modelwright.data import Dataset, Split
from modelwright.errors import RequestError
from modelwright.modelfile.tracing import (
    CONVOLUTIONS,
    LAYERS,
    argument,
    aten,
    is_call,
    layer_of,
    only_user,
    tensor_of,
    trace,
)
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import Integers, modified
from modelwright.models.quantized import ActivationQuantizer, FakeQuantizedLayer
from modelwright.recipe import Recipe
from modelwright.recipe.compression import QuantizeStep
from modelwright.run import Progress, Run
from modelwright.tasks import Task

TOLERANCE = 0.05
"""The largest difference of a probability between the network and onnxruntime's integer kernels,
which round now and then otherwise where a number lies between two levels."""
_CUTS = (aten.relu.default, aten.relu_.default, aten.hardtanh.default, aten.hardtanh_.default)
"""Nonlinearities that only cut: rounding to levels from 0 on, or to 6, does it too."""
_LEAST_WEIGHTS = 1024
"""Fully connected layers with fewer weights stay in fp32: scales would cost what is saved."""
_PADDINGS = (aten.constant_pad_nd.default, aten.pad.default)
_POOLS = (aten.max_pool2d.default,)
_SUMS = (aten.add.Tensor, aten.add_.Tensor)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which layers of a graph become int8, and which values are rounded."""

    layers: tuple[Node, ...]
    rounded: tuple[Node, ...]
    """In the order of the graph."""
    like: Mapping[Node, Node]
    """Values that take their range from another one: pooled ones from what they are chosen from."""


def quantize(
    candidate: Candidate, step: QuantizeStep, recipe: Recipe, data: Dataset, run: Run, task: Task
) -> tuple[Candidate, dict[str, Any]]:
    """Return a candidate whose convolutions and fully connected layers are int8, and the facts.

    Layers stay in fp32, those that hurt most first, until the main metric is within
    `step.max_drop` of what it was on validation; with `qat` after training in int8.

    Raises:
        RequestError: the network has no such layers.
        CompressionError: too many of them would have to stay.
    """
    graph, names = _traced(candidate)
    say_untouched(graph, names, run)
    reduce_range = not run.has_vnni if step.reduce_range == "auto" else step.reduce_range
    reduce_range = bool(run.decisions.decide("reduce_range", lambda: reduce_range))
    bits = 7 if reduce_range else 8
    rounded = partial(build, ranges=_ranges(graph, step, data.train, run), bits=bits)
    trained: dict[str, Any] = {}
    if step.qat:
        learning = partial(rounded, kept=())
        graph, trained = train_rounded(candidate, graph, learning, step, recipe, data, run, task)

    def attempt(kept: Collection[str]) -> Candidate:
        built = rounded(graph, kept=kept)
        return replace(
            candidate,
            network=built,
            architecture=modified(candidate.architecture, Integers(kept=tuple(kept))),
            tolerance=TOLERANCE,
        )

    kept, drop = choose_kept(attempt, candidate, names, step.max_drop, data, run, task)
    facts = {
        "dtype": step.dtype,
        "ranges": step.ranges,
        "samples": min(step.samples, len(data.train)),
        "weight_bits": bits,
        "layers": len(names),
        "kept": list(kept),
        "validation_drop": drop,
        **trained,
    }
    return attempt(kept), facts


def check_quantize(candidate: Candidate, step: QuantizeStep) -> None:
    """Refuse a network that has no layer for int8, or generates texts."""
    if step.qat:
        check_trainable(candidate)
    _traced(candidate)


def _traced(candidate: Candidate) -> tuple[GraphModule, list[str]]:
    """Return a network as a graph, and the layers that may become int8."""
    if candidate.output_kind.is_generative:
        raise RequestError(
            "a network that generates texts can't be `quantize`d with `dtype: int8`",
            where="compress",
            why="Its steps are graphs of their own, over a growing cache",
            fix="Write `weights: int8` or `weights: int4` in place of `dtype`",
        )
    graph = trace(candidate)
    names = [layer_of(node) for node in plan(graph).layers]
    if not names:
        raise RequestError(
            "this network has no convolution or large fully connected layer for int8",
            where="compress",
            why=f"Fully connected layers of fewer than {_LEAST_WEIGHTS:,} weights stay in fp32, as "
            "do embeddings and recurrent layers",
            fix="Write `weights: int8` in place of `dtype`, or leave the step out",
        )
    return graph, names


def plan(graph: GraphModule, kept: Collection[str] = ()) -> Plan:
    """Decide which layers become int8 (all but those kept), and which values are rounded."""
    nodes = list(graph.graph.nodes)
    layers = [
        node
        for node in nodes
        if is_call(node, *LAYERS) and layer_of(node) not in kept and _is_whole(graph, node)
    ]
    # The last convolutions, such as those that give boxes: their outputs are the answer.
    layers = [node for node in layers if not is_call(node, *CONVOLUTIONS) or _feeds(node)]
    rounded: set[Node] = set()
    for node in layers:
        rounded.add(_source(node))
        # onnxruntime joins a product and the cut behind it to one operator in fp32 otherwise.
        if is_call(node, *CONVOLUTIONS) or _visible(node) is not node:
            rounded.add(_visible(node))
    own = {_visible(node) for node in layers if is_call(node, *CONVOLUTIONS)}
    for node in nodes:
        parts = [part for part in node.args[:2] if isinstance(part, Node)]
        if not is_call(node, *_SUMS) or len(parts) < 2 or own.isdisjoint(parts):
            continue
        if all(part in rounded or part in own for part in parts):
            rounded |= {*parts, _visible(node)}
            own.add(_visible(node))
    pools = ((node, node.all_input_nodes[0]) for node in nodes if is_call(node, *_POOLS))
    like = {node: pooled for node, pooled in pools if pooled in rounded}
    rounded |= set(like)
    return Plan(tuple(layers), tuple(node for node in nodes if node in rounded), like)


def build(
    graph: GraphModule,
    ranges: Mapping[str, Range],
    *,
    kept: Collection[str],
    bits: int,
    learns: bool = False,
) -> GraphModule:
    """Return a copy of a graph with int8 layers, given the range of each rounded value by name.

    Where it `learns`, the layers hold weights in fp32 that are rounded at each call.
    """
    built = copy.deepcopy(graph)
    chosen = plan(built, kept)
    quantizers: dict[Node, ActivationQuantizer] = {}
    for node in chosen.rounded:
        quantizer = ActivationQuantizer(*ranges[node.name])
        name = f"activations.{node.name}"
        built.add_submodule(name, quantizer)
        with built.graph.inserting_after(node):
            call = built.graph.call_module(name, (node,))
        node.replace_all_uses_with(call, delete_user_cb=partial(operator.is_not, call))
        quantizers[call] = quantizer
    for node in chosen.layers:
        quantizer = quantizers[_source(node)]
        name, weight = layer_of(node), tensor_of(built, node.args[1])
        assert weight is not None
        arguments = node.args[3:] if is_call(node, *CONVOLUTIONS) else None
        bias = tensor_of(built, argument(node, 2))
        layer = FakeQuantizedLayer(weight, bias, quantizer.scale, arguments, bits=bits)
        owner, _, leaf = name.rpartition(".")
        setattr(built.get_submodule(owner), leaf, layer if learns else layer.to_integers())
        with built.graph.inserting_before(node):
            call = built.graph.call_module(name, (node.args[0],))
        node.replace_all_uses_with(call)
        built.graph.erase_node(node)
    built.graph.eliminate_dead_code()
    built.recompile()
    return built


def _is_whole(graph: GraphModule, node: Node) -> bool:
    """Say whether a layer's weights are fp32, and those of a module with nothing else in it."""
    name = layer_of(node)
    weight = tensor_of(graph, node.args[1])
    if not name or weight is None or weight.dtype != torch.float32:
        return False
    if weight.ndim == 2 and weight.numel() < _LEAST_WEIGHTS:
        return False
    module = graph.get_submodule(name)
    held = {key for key, _ in (*module.named_parameters(), *module.named_buffers())}
    bias = argument(node, 2)
    is_own = bias is None or (isinstance(bias, Node) and str(bias.target) == f"{name}.bias")
    return held <= {"weight", "bias"} and is_own


def _feeds(node: Node) -> bool:
    """Say whether anything behind a node is a layer."""
    seen, waiting = set[Node](), list(node.users)
    while waiting:
        user = waiting.pop()
        if is_call(user, *LAYERS):
            return True
        if user not in seen:
            seen.add(user)
            waiting += user.users
    return False


def _source(node: Node) -> Node:
    """Return the value whose rounded form a layer takes, padding apart."""
    source = node.args[0]
    while isinstance(source, Node) and is_call(source, *_PADDINGS) and only_user(source):
        source = source.args[0]
    assert isinstance(source, Node)
    return source


def _visible(node: Node) -> Node:
    """Return the node at which an operation's output is rounded: the cut behind it, if any."""
    user = only_user(node)
    return user if user is not None and is_call(user, *_CUTS) else node


def _ranges(graph: GraphModule, step: QuantizeStep, train: Split, run: Run) -> dict[str, Range]:
    """Return the range of each value that may be rounded, by the names of its nodes."""
    chosen, count = plan(graph), min(step.samples, len(train))
    batches = math.ceil(count / BATCH)

    def shown() -> Iterator[tuple[Tensor, ...]]:
        for at, inputs in enumerate(sample_inputs(train, count)):
            run.observe(Progress("calibrate", at, batches))
            yield inputs

    seen = observe(graph, chosen.rounded, shown(), batches)
    run.observe(Progress("calibrate", batches, batches))
    constant = [node.name for node, values in seen.items() if values.low == values.high]
    if constant:
        run.say(
            f"{len(constant)} activations have one value for all {count:,} samples that ranges are "
            "taken from: look at the samples, or raise `compress.quantize.samples`"
        )
    ranges = {node.name: RANGES[step.ranges](values) for node, values in seen.items()}
    for node, other in chosen.like.items():
        ranges[node.name] = ranges[other.name]
    return ranges
