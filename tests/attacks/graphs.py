"""Graphs of the admitted operators, changed at random: attributes, constants, inputs, operators.

ONNX's own examples, of which each shows one form of an operator, are put into the graphs of
`models`, so that what they compute goes into the answer and yet leaves it as it was. What is
changed in them then runs.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from modelwright.modelfile.operators import FROM_MICROSOFT, MICROSOFT, OPERATORS

_INTEGERS = (-(2**63), -(2**31), -129, -2, -1, 0, 1, 2, 3, 7, 64, 2**16, 2**31 - 1, 2**31, 2**62)
_FLOATS = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-45, 0.5, 1.0, 2.5, 1e10, 3e38)
_KINDS = (1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 16)
"""The numbers of ONNX's types of numbers."""
_MOST_VALUES = 1 << 16


@dataclass(frozen=True, slots=True)
class Example:
    """A few nodes, the constants that they take, and their results."""

    nodes: Sequence[NodeProto]
    constants: Sequence[TensorProto]
    outputs: Sequence[str]
    opset: int


@functools.cache
def examples() -> dict[str, list[Example]]:
    """Return examples by the operator of their first node."""
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = sorted(collect_testcases(None), key=lambda case: case.name)
    found: dict[str, list[Example]] = defaultdict(list)
    for case in cases:
        graph, (opset, *others) = case.model.graph, case.model.opset_import
        arrays = case.data_sets[0][0]
        is_admitted = not others and all(node.op_type in OPERATORS for node in graph.node)
        if not is_admitted or any(isinstance(array, list | type(None)) for array in arrays):
            continue
        given = [_tensor(array, item.name) for array, item in zip(arrays, graph.input, strict=True)]
        found[graph.node[0].op_type].append(
            Example(
                graph.node,
                [*given, *graph.initializer],
                [item.name for item in graph.output],
                opset.version,
            )
        )
    for example in _microsoft():
        found[example.nodes[0].op_type].append(example)
    return dict(found)


def _tensor(array: Any, name: str) -> TensorProto:
    tensor = TensorProto()
    tensor.CopyFrom(array if isinstance(array, TensorProto) else numpy_helper.from_array(array))
    tensor.name = name
    return tensor


def _microsoft() -> list[Example]:
    """Return examples of the operators that only onnxruntime has."""
    assert set(FROM_MICROSOFT) == {"MatMulNBits", "GatherBlockQuantized"}
    found = []
    for bits in (4, 8):
        packed = np.arange(8 * 2 * 2 * bits, dtype=np.uint8)
        constants = {
            "a": np.ones((3, 32), np.float32),
            "b": packed.reshape(8, 2, 2 * bits),
            "s": np.ones((8, 2), np.float32),
            "i": np.array([0, 7, 1], np.int64),
            "t": packed.reshape(8, -1),
        }
        sizes = {"bits": bits, "block_size": 16}
        for name, inputs, more in (
            ("MatMulNBits", "abs", {"K": 32, "N": 8}),
            ("GatherBlockQuantized", "tis", {"quantize_axis": 1}),
        ):
            node = helper.make_node(name, list(inputs), ["y"], domain=MICROSOFT, **sizes, **more)
            tensors = [_tensor(constants[at], at) for at in inputs]
            found.append(Example([node], tensors, ["y"], 21))
    return found


# -- putting examples into a graph -------------------------------------------------------------


def with_examples(data: bytes, draw: random.Random) -> ModelProto:
    """Return a graph with one or two examples, whose results go into its first output."""
    model = ModelProto.FromString(data)
    by_operator = examples()
    chosen = [
        draw.choice(by_operator[draw.choice(sorted(by_operator))])
        for _ in range(draw.choice((1, 1, 2)))
    ]
    first = model.graph.input[0].name
    own = list(model.graph.node)
    del model.graph.node[:]
    add = model.graph.node.append
    # A zero that is known only when the graph runs, so that not all is computed beforehand.
    add(helper.make_node("Cast", [first], ["x_cast"], to=TensorProto.INT64))
    add(helper.make_node("ReduceMin", ["x_cast"], ["x_least"], keepdims=0))
    add(helper.make_node("Sub", ["x_least", "x_least"], ["x_zero"]))
    results = [_add_example(model, example, f"x{at}_", draw) for at, example in enumerate(chosen)]
    for opset in model.opset_import:
        opset.version = max([20, *(example.opset for example in chosen)])
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    model.graph.node.extend(own)
    _tie(model, [name for names in results for name in names])
    return model


def _add_example(
    model: ModelProto, example: Example, prefix: str, draw: random.Random
) -> list[str]:
    is_known = draw.random() < 0.3
    for tensor in example.constants:
        held = model.graph.initializer.add()
        held.CopyFrom(tensor)
        held.name = prefix + tensor.name
        if not is_known and draw.random() < 0.7:
            held.name += "_held"
            held.dims.insert(0, 1)
            inputs = [held.name, "x_zero"]
            model.graph.node.append(
                helper.make_node("Gather", inputs, [prefix + tensor.name], axis=0)
            )
    for item in example.nodes:
        node = model.graph.node.add()
        node.CopyFrom(item)
        for names in (node.input, node.output):
            names[:] = [name and prefix + name for name in names]
    return [prefix + name for name in example.outputs if name]


def _tie(model: ModelProto, results: Sequence[str]) -> None:
    """Let the first output depend on results, and be what it was."""
    answer, add = model.graph.output[0].name, model.graph.node.append
    for node in model.graph.node:
        for names in (node.output, node.input):
            names[:] = ["z_answer" if name == answer else name for name in names]
    sums = []
    for at, name in enumerate(results):
        add(helper.make_node("Cast", [name], [f"z{at}_cast"], to=TensorProto.FLOAT))
        add(helper.make_node("ReduceSum", [f"z{at}_cast"], [f"z{at}_sum"], keepdims=0))
        sums.append(f"z{at}_sum")
    add(helper.make_node("Sum", sums, ["z_sum"]))
    add(helper.make_node("Cast", ["z_sum"], ["z_is"], to=TensorProto.BOOL))
    add(helper.make_node("Where", ["z_is", "z_answer", "z_answer"], [answer]))


# -- changing ----------------------------------------------------------------------------------


def mutated_graph(model: ModelProto, draw: random.Random) -> bytes:
    """Return a graph in which one to three things were changed."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        node = _drawn([node for node in model.graph.node if node.output], "output", draw)
        match draw.randrange(8):
            case 0 | 1:
                _change_attribute(node, draw)
            case 2 | 3 if model.graph.initializer:
                _change_tensor(_drawn(model.graph.initializer, "name", draw), draw)
            case 4 | 5:
                _change_inputs(model, node, draw)
            case 6:
                _exchange_operator(node, draw)
            case _:
                _change_ends(model, node, draw)
    return bytes(model.SerializeToString())


def _drawn(items: Sequence[Any], field: str, draw: random.Random) -> Any:
    """Return one item, most often one of an example."""
    own = [item for item in items if "".join(getattr(item, field)).startswith(("x0_", "x1_"))]
    return draw.choice(own if own and draw.random() < 0.85 else items)


@functools.cache
def _known_attributes() -> dict[str, list[AttributeProto]]:
    found: dict[str, list[AttributeProto]] = defaultdict(list)
    for operator, known in examples().items():
        for example in known:
            for node in example.nodes:
                found[operator] += node.attribute
    return dict(found)


def _change_attribute(node: NodeProto, draw: random.Random) -> None:
    known = _known_attributes().get(node.op_type, [])
    if not node.attribute or draw.random() < 0.2:
        if known:
            added = draw.choice(known)
            kept = [item for item in node.attribute if item.name != added.name]
            del node.attribute[:]
            node.attribute.extend([*kept, added])
        return
    attribute = draw.choice(node.attribute)
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = _integer(attribute.i, draw)
        case AttributeProto.FLOAT:
            attribute.f = draw.choice(_FLOATS)
        case AttributeProto.INTS:
            attribute.ints[:] = _changed_list(list(attribute.ints), draw)
        case AttributeProto.TENSOR:
            _change_tensor(attribute.t, draw)
        case AttributeProto.STRING:
            attribute.s = draw.choice([item.s for item in known if item.s] or [b"x"])
        case _:
            node.attribute.remove(attribute)


def _integer(value: int, draw: random.Random) -> int:
    near = value + draw.choice((-1, 1, 2))
    return draw.choice((draw.choice(_INTEGERS), near if abs(near) < 2**62 else 0))


def _changed_list(values: list[int], draw: random.Random) -> list[int]:
    at = draw.randrange(len(values) + 1)
    match draw.randrange(5):
        case 0:
            return values[:at]
        case 1:
            return [*values, draw.choice(_INTEGERS)]
        case 2:
            return values[::-1]
        case _:
            return [_integer(value, draw) if at == n else value for n, value in enumerate(values)]


def _change_tensor(tensor: TensorProto, draw: random.Random) -> None:
    name = tensor.name
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (TypeError, ValueError):  # Its dims were changed before.
        return
    match draw.randrange(4):
        case 0:
            tensor.CopyFrom(numpy_helper.from_array(_reshaped(array, draw)))
        case 1 if array.dtype.kind in "iufb":
            kind = draw.choice(_KINDS)
            with np.errstate(all="ignore"):
                made = helper.make_tensor("", kind, array.shape, np.abs(array).ravel() % 100)
            tensor.CopyFrom(made)
        case _ if array.size and array.dtype.kind in "iufb":
            flat = array.ravel().copy()
            for _ in range(draw.choice((1, 1, len(flat)))):
                at = draw.randrange(len(flat))
                flat[at] = _value(flat[at], array.dtype, draw)
            tensor.CopyFrom(numpy_helper.from_array(flat.reshape(array.shape)))
        case _:
            tensor.dims[:] = _changed_list(list(tensor.dims), draw)
    tensor.name = name


def _value(value: Any, dtype: np.dtype[Any], draw: random.Random) -> Any:
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            return np.array(draw.choice(_FLOATS)).astype(dtype)
    if dtype.kind == "b":
        return not value
    bounds = np.iinfo(dtype)
    number = draw.choice((_integer(int(value), draw), int(bounds.min), int(bounds.max)))
    return min(max(number, int(bounds.min)), int(bounds.max))


def _reshaped(array: np.ndarray, draw: random.Random) -> np.ndarray:
    """Return an array of other dims."""
    match draw.randrange(6):
        case 0:
            return array.reshape(-1)
        case 1:
            return array[None]
        case 2:
            return array.T
        case 3 if array.ndim:
            return array[:0]
        case 4 if array.ndim and len(array):
            return array[:1].reshape(array.shape[1:])
        case _:
            return np.concatenate([array.reshape(-1)] * 2)[: max(1, array.size - 1)]


def _change_inputs(model: ModelProto, node: NodeProto, draw: random.Random) -> None:
    known = [item.name for item in (*model.graph.input, *model.graph.initializer)]
    for other in model.graph.node:
        if other is node or other == node:
            break
        known += other.output
    inputs = list(node.input)
    at = draw.randrange(len(inputs) + 1)
    match draw.randrange(5):
        case 0:
            inputs = inputs[:at]
        case 1:
            inputs.insert(at, draw.choice(known))
        case 2:
            inputs[at : at + 1] = [""]
        case _:
            inputs[at : at + 1] = [draw.choice(known)]
    node.input[:] = inputs


def _exchange_operator(node: NodeProto, draw: random.Random) -> None:
    """Let a node be of another operator that takes as many inputs."""
    alike = [
        item
        for known in examples().values()
        for example in known
        for item in example.nodes
        if len(item.input) == len(node.input) and item.op_type != node.op_type
    ]
    if alike:
        other = draw.choice(alike)
        node.op_type, node.domain = other.op_type, other.domain
        if draw.random() < 0.7:
            del node.attribute[:]
            node.attribute.extend(other.attribute)


def _change_ends(model: ModelProto, node: NodeProto, draw: random.Random) -> None:
    """Change what is declared of an input, how many results a node has, or the version of ONNX."""
    if draw.random() < 0.2:
        model.opset_import[0].version = draw.randint(1, 28)
        return
    if draw.random() < 0.5:
        dims = draw.choice(model.graph.input).type.tensor_type.shape.dim
        if dims:
            draw.choice(dims).dim_value = draw.choice(_INTEGERS)
    elif draw.random() < 0.5:
        node.output.append(f"{node.output[0]}_more")
    else:
        del node.output[-1]
