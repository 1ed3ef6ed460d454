"""The operators that a graph of a model file may use, and why none of them ends the process.

The list holds what our exports use, and plain arithmetic beside it: nothing that loops, branches,
reads, holds text or calls another graph. An integer that is divided by zero, or the least one by
-1, ends the process in which onnxruntime divides; so integers are divided by constants, or by what
is clipped to 1 or more. Some operators end it in other forms, which are refused: where an input is
left out, where there are more outputs than parts, and where there is nothing to work on. What a
graph may still do is take memory and time, which the sandbox limits. `tests/attacks/mutating.py`
looks for further ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelwright.errors import ModelFileError

OWN_DOMAINS = ("", "ai.onnx")
MICROSOFT = "com.microsoft"
_FLOAT, _UINT8, _INT32, _INT64, _BOOL = 1, 2, 6, 7, 9
FLOATS = frozenset((1, 10, 11, 16))
"""The numbers of ONNX's types: float32, float16, float64, bfloat16."""
_AS_FIRST = """
Abs Acos Add Asin Atan AveragePool BatchNormalization Ceil Celu Clip Concat Conv
ConvTranspose Cos CumSum DepthToSpace Div Elu Erf Exp Expand Flatten Floor GRU Gather
GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool GroupNormalization
HardSigmoid HardSwish Identity InstanceNormalization LSTM LayerNormalization LeakyRelu Log
LogSoftmax MatMul Max Mean Min Mish Mod Mul Neg PRelu Pad Pow Range Reciprocal ReduceL1
ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
Resize Round ScatterElements ScatterND Selu Sigmoid Sign Sin Slice Softmax Softplus Softsign
SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze
""".split()  # noqa: SIM905 (a hundred names)
"""Operators whose outputs have the type of their first input."""
_TYPED: Mapping[str, int] = {
    "Shape": _INT64,
    "Size": _INT64,
    "ArgMax": _INT64,
    "ArgMin": _INT64,
    **dict.fromkeys(("And", "Or", "Xor", "Not", "Equal", "Less", "Greater"), _BOOL),
    **dict.fromkeys(("LessOrEqual", "GreaterOrEqual", "IsNaN", "IsInf"), _BOOL),
    "MatMulInteger": _INT32,
    "ConvInteger": _INT32,
}
_OF_INPUT: Mapping[str, int] = {
    "Where": 1,
    "CastLike": 1,
    "DequantizeLinear": 1,
    "QuantizeLinear": 2,
    "MatMulNBits": 0,
    "GatherBlockQuantized": 2,
}
"""Operators whose output has the type of another input than the first."""
OTHERS = ("Cast", "Constant", "DynamicQuantizeLinear", "MaxPool", "TopK")
"""Operators whose outputs' types their attributes or their places say."""
FROM_MICROSOFT = ("MatMulNBits", "GatherBlockQuantized")
"""What is taken of the operators that only onnxruntime has: weights of a few bits. Others of that
domain read files, such as EPContext."""
_COMPLETE = ("Concat", "LayerNormalization", "Max", "Mean", "Min", "Sum")
"""Operators of which no input may be left out by an empty name."""
_NEED_FILLED = ("GRU", "InstanceNormalization", "LSTM")
"""Operators that end the process where their first input holds no number."""
_MAY_BE_EMPTY = ("Expand", "Pad", "Range", "Resize", "Shape", "Slice", "Split", "Tile", "TopK")
"""Operators whose outputs may hold no number although their inputs do. The others say so, or give
some; `MaxPool` and `AveragePool` do where their padding is as wide as their window."""
_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze")
OPERATORS = frozenset((*_AS_FIRST, *_TYPED, *_OF_INPUT, *OTHERS)) - frozenset(FROM_MICROSOFT)


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """What a graph says of a tensor in it."""

    type: int
    values: tuple[int, ...] | None = None
    """The numbers of one of integers, where they stand in the graph."""
    is_positive: bool = False
    """Whether its integers are 1 or more, whatever goes in."""
    is_filled: bool = False
    """Whether it holds a number or more, whatever goes in."""


@dataclass(slots=True)
class GraphNode:
    """One operation of a graph."""

    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Its attributes that are an integer."""
    lists: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Its attributes that are a list of integers."""
    tensors: dict[str, GraphTensor] = field(default_factory=dict)
    """Its attributes that are tensors, or become one, as `value_int` does."""


def check_operators(nodes: Sequence[GraphNode], known: Mapping[str, GraphTensor]) -> None:
    """Refuse operators that aren't admitted, and forms of them that may end the process.

    Args:
        nodes: the operations, in the graph's order.
        known: the inputs and the weights by name.

    Raises:
        ModelFileError: there is such an operation.
    """
    tensors = dict(known)
    for node in nodes:
        is_own = node.domain in OWN_DOMAINS and node.operator in OPERATORS
        if not is_own and (node.domain != MICROSOFT or node.operator not in FROM_MICROSOFT):
            raise _refused(
                f"uses the operator {node.operator[:40]!r} of {node.domain[:40]!r}, which our "
                "exports don't"
            )
        _check_form(node, tensors)
        if node.operator in ("Div", "Mod"):
            _check_division(node, tensors)
        for at, name in enumerate(node.outputs):
            if name and name in tensors:
                raise _refused(f"gives the value {name[:40]!r} twice")
            tensors[name] = replace(_output(node, at, tensors), is_filled=_is_filled(node, tensors))


def _check_form(node: GraphNode, tensors: Mapping[str, GraphTensor]) -> None:
    """Refuse a node for which onnxruntime reads or writes beside its inputs and outputs."""
    operator, unknown = node.operator, GraphTensor(0)
    if operator in _COMPLETE and "" in node.inputs:
        raise _refused(f"leaves out an input of `{operator}`, which needs all that it has")
    parts = node.numbers.get("num_outputs", len(node.outputs))
    if operator == "Split" and parts != len(node.outputs):
        raise _refused(f"splits a value into {parts:,} parts, for {len(node.outputs)} outputs")
    if node.numbers.get("batch_dims", 0) < 0:
        raise _refused("counts dimensions of a batch below 0")
    if operator in _NEED_FILLED and not tensors.get("".join(node.inputs[:1]), unknown).is_filled:
        raise _refused(
            f"may give `{operator}` nothing to work on",
            fix="What goes into it must come of the graph's inputs without cutting or resizing",
        )


def _is_filled(node: GraphNode, tensors: Mapping[str, GraphTensor]) -> bool:
    """Say whether an operation's outputs hold a number or more, whatever goes in."""
    if node.operator == "Constant":
        return any(tensor.is_filled for tensor in node.tensors.values())
    filled = [name in tensors and tensors[name].is_filled for name in node.inputs if name]
    if node.operator in _MAY_BE_EMPTY or not filled:
        return False
    if node.operator in _RESHAPING:
        return filled[0]
    if node.operator == "Concat":
        return any(filled)
    if node.operator in ("AveragePool", "MaxPool"):
        pads, window = node.lists.get("pads", ()), node.lists.get("kernel_shape", ())
        widths = zip(window, node.lists.get("dilations", (1,) * len(window)), strict=False)
        sides = zip(pads, pads[len(window) :], widths, strict=False)
        is_wide = [first + last >= (size - 1) * gap for first, last, (size, gap) in sides]
        return filled[0] and len(is_wide) == len(window) and all(is_wide)
    return all(filled)


def _check_division(node: GraphNode, tensors: Mapping[str, GraphTensor]) -> None:
    operands = [tensors.get(name) for name in node.inputs]
    if operands and all(item is not None and item.type in FLOATS for item in operands):
        return
    divisor = operands[1] if len(operands) == 2 else None
    if divisor is not None and divisor.is_positive:
        return
    values = None if divisor is None else divisor.values
    if not values or 0 in values or -1 in values:
        raise _refused("divides integers by what may be 0 or -1")


def _output(node: GraphNode, at: int, tensors: Mapping[str, GraphTensor]) -> GraphTensor:
    """Return what is known of an operation's output."""
    operator = node.operator
    if operator == "Constant":
        return next(iter(node.tensors.values()), GraphTensor(_FLOAT))
    if operator == "Clip" and node.inputs:
        return _clipped(node, tensors)
    if operator == "Cast":
        return GraphTensor(node.numbers.get("to", 0))
    if operator in _TYPED:
        return GraphTensor(_TYPED[operator])
    if operator in ("MaxPool", "TopK") and at == 1:
        return GraphTensor(_INT64)
    if operator == "DynamicQuantizeLinear":
        return GraphTensor(_FLOAT if at == 1 else _UINT8)
    place = _OF_INPUT.get(operator, 0)
    if place >= len(node.inputs):
        return GraphTensor(_UINT8 if operator == "QuantizeLinear" else 0)
    return GraphTensor(tensors.get(node.inputs[place], GraphTensor(0)).type)


def _clipped(node: GraphNode, tensors: Mapping[str, GraphTensor]) -> GraphTensor:
    """Return what is known of the output of `Clip`: positive where all of its bounds are."""
    unknown = GraphTensor(0)
    value, *bounds = [tensors.get(name, unknown) if name else None for name in node.inputs]
    has_least = bool(bounds) and bounds[0] is not None
    are_positive = all(min(bound.values or (0,)) >= 1 for bound in bounds if bound is not None)
    return GraphTensor((value or unknown).type, is_positive=has_least and are_positive)


def _refused(why: str, *, fix: str = "") -> ModelFileError:
    return ModelFileError(f"a graph of the model file {why}", fix=fix)
