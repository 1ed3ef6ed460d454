"""What a graph asks for, read from its bytes: the weights by name, and nothing from the disk.

ONNX lets a graph name files that hold its numbers, and a runtime would read them. Ours may only
name the weights member; this walk over the protocol buffer (the field numbers are those of
`onnx.proto` of ONNX 1.23) refuses all else, without the library `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelwright.errors import ModelFileError
from modelwright.modelfile.operators import GraphNode, GraphTensor, check_operators

WEIGHTS_LOCATION = "weights.safetensors"
ORT_FORMAT = b"ORTM"
"""By these bytes 4 to 7 onnxruntime takes a graph for a FlatBuffers file of its own format."""
_KEY_BOUND = 1 << 32
"""A reader in C++ cuts longer keys down to 32 bits, and so sees a field where we would see none."""
_EXTERNAL = 1
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # ModelProto
_NODE, _INITIALIZER, _INPUT, _SPARSE_INITIALIZER = 1, 5, 11, 15  # GraphProto
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7  # NodeProto
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS = 1, 3, 8  # AttributeProto
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT32, _TENSOR_INT64, _TENSOR_RAW = 1, 2, 5, 7, 9  # TensorProto
_TENSOR_NAME, _TENSOR_ENTRIES, _TENSOR_LOCATION = 8, 13, 14
_INTEGER_BYTES, _UNSIGNED = {2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 12: 4, 13: 8}, (2, 4, 12, 13)
"""The sizes of ONNX's types of integers, and those without a sign."""
_MOST_VALUES = 4096
"""Longer constants of integers aren't read."""

Field = tuple[int, int | memoryview]


def external_weights(graph: bytes) -> list[str]:
    """Return the names of the weights that a graph wants from outside, in its order."""
    if graph[4:8] == ORT_FORMAT:
        raise _broken("is also a file in onnxruntime's own format, which could hide another graph")
    names: list[str] = []
    graphs = 0
    for number, value in _fields(memoryview(graph)):
        if number in (_TRAINING, _FUNCTIONS):
            raise _broken("holds more than one graph")
        if number == _GRAPH:
            graphs += 1
            names += _walk_graph(_message(value))
    if graphs != 1 or len(set(names)) != len(names):
        raise _broken("isn't one graph with each weight once")
    return names


def _walk_graph(graph: memoryview) -> list[str]:
    names: list[str] = []
    nodes: list[GraphNode] = []
    tensors: dict[str, GraphTensor] = {}
    inputs: list[tuple[str, int]] = []
    for number, value in _fields(graph):
        if number == _NODE:
            nodes.append(_node(_message(value)))
        elif number == _INITIALIZER:
            name, tensor = _tensor(_message(value))
            if name in tensors:
                raise _broken("gives a weight twice")
            tensors[name] = tensor
            external = _external_name(_message(value))
            names += [external] if external is not None else []
        elif number == _INPUT:
            inputs.append(_input(_message(value)))
        elif number == _SPARSE_INITIALIZER:
            raise _broken("holds sparse weights")
    # A weight that is an input as well may be given another value. A session is given no empty
    # integers; of a state there may be nothing at first.
    given = {
        name: GraphTensor(kind, is_filled=kind in _INTEGER_BYTES and name not in tensors)
        for name, kind in inputs
    }
    check_operators(nodes, tensors | given)
    return names


def _node(message: memoryview) -> GraphNode:
    node = GraphNode()
    texts: dict[int, str] = {}
    for number, value in _fields(message):
        if number in (_OPERATOR, _DOMAIN):
            # Given twice, a reader may take the one or the other.
            if number in texts:
                raise _broken("names an operator twice")
            texts[number] = _text(value)
        elif number == _NODE_INPUT:
            node.inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(_text(value))
        elif number == _ATTRIBUTE:
            _read_attribute(node, _message(value))
    node.operator, node.domain = texts.get(_OPERATOR, ""), texts.get(_DOMAIN, "")
    return node


def _read_attribute(node: GraphNode, attribute: memoryview) -> None:
    """Keep an attribute of an operation, as far as types and constants follow from it."""
    name, integers, tensors = "", [], []
    kinds = []
    for number, value in _fields(attribute):
        if number == _ATTRIBUTE_NAME:
            name = _text(value)
        elif number in (_ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS):
            integers += _integers(value)
            kinds.append(number)
        elif number in _ATTRIBUTE_TENSORS:
            if _external_name(_message(value)) is not None:
                raise _broken("names weights within a node")
            tensors.append(_tensor(_message(value))[1])
        elif number in _ATTRIBUTE_GRAPHS:
            raise _broken("holds graphs within a node")
        elif number in _ATTRIBUTE_SPARSE:
            raise _broken("holds sparse weights")
    is_twice = _ATTRIBUTE_INTEGER in kinds and len(kinds) > 1
    known = (*node.numbers, *node.lists, *node.tensors)
    if is_twice or name in known or len(tensors) > 1:
        raise _broken("gives an attribute twice")
    if tensors:
        node.tensors[name] = tensors[0]
    elif name.startswith("value_int"):
        node.tensors[name] = GraphTensor(7, tuple(integers), is_filled=bool(integers))
    elif _ATTRIBUTE_INTEGER in kinds:
        node.numbers[name] = integers[0]
    else:
        node.lists[name] = tuple(integers)


def _input(value: memoryview) -> tuple[str, int]:
    """Return the name of a graph's input, and the number of its type."""
    name, kinds = "", []
    for number, inner in _fields(value):
        if number == 1:
            name = _text(inner)
        elif number == 2:
            tensors = [_message(item) for at, item in _fields(_message(inner)) if at == 1]
            kinds += [item for tensor in tensors for at, item in _fields(tensor) if at == 1]
    # Of several, a reader may take any.
    return name, kinds[0] if len(kinds) == 1 and isinstance(kinds[0], int) else 0


def _tensor(tensor: memoryview) -> tuple[str, GraphTensor]:
    """Return a tensor's name, its type, and its numbers where they are few integers."""
    name, kinds, dims, values = "", [], [], []
    raw: memoryview | None = None
    for number, value in _fields(tensor):
        if number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_DIMS:
            dims += _integers(value)
        elif number == _TENSOR_TYPE:
            kinds.append(value)
        elif number in (_TENSOR_INT32, _TENSOR_INT64):
            values += _integers(value)
        elif number == _TENSOR_RAW:
            raw = _message(value)
    if len(kinds) != 1 or not isinstance(kinds[0], int):
        raise _broken("doesn't say the type of a weight once")
    kind = kinds[0]
    size = _INTEGER_BYTES.get(kind)
    if raw is not None and values:
        raise _broken("gives a weight twice")
    if raw is not None and size is not None and len(raw) <= size * _MOST_VALUES:
        whole = (raw[at : at + size] for at in range(0, len(raw), size))
        values = [int.from_bytes(part, "little") for part in whole]
    is_filled = 0 not in dims
    if size is None or not values:
        return name, GraphTensor(kind, is_filled=is_filled)
    wrapped = tuple(_wrapped(number, size, kind) for number in values)
    return name, GraphTensor(kind, wrapped, is_filled=is_filled)


def _wrapped(number: int, size: int, kind: int) -> int:
    """Return an integer as its type holds it: 4,294,967,295 is -1 in 32 bits with a sign."""
    data = (number % (1 << 8 * size)).to_bytes(size, "little")
    return int.from_bytes(data, "little", signed=kind not in _UNSIGNED)


def _integers(value: int | memoryview) -> list[int]:
    """Return integers, one or packed, as signed ones of 64 bits."""
    found = []
    if isinstance(value, int):
        found.append(value)
    else:
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return [number - (1 << 64) if number >= 1 << 63 else number for number in found]


def _external_name(tensor: memoryview) -> str | None:
    """Return the tensor's name where its numbers stand outside the graph."""
    name, entries, location = "", [], 0
    for number, value in _fields(tensor):
        if number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_ENTRIES:
            entries.append({inner: _text(text) for inner, text in _fields(_message(value))})
        elif number == _TENSOR_LOCATION:
            location = value if isinstance(value, int) else -1
    if location == 0 and not entries:
        return None
    if location != _EXTERNAL or entries != [{1: "location", 2: WEIGHTS_LOCATION}] or not name:
        raise _broken("names a file beside the weights")
    return name


def _fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message: number, and value as an integer or as bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        if key >= _KEY_BOUND:
            raise _broken("isn't an ONNX graph")
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _broken("isn't an ONNX graph")
        if at + size > end:
            raise _broken("isn't an ONNX graph")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _broken("isn't an ONNX graph")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _broken("isn't an ONNX graph")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_message(value)).decode()
    except UnicodeDecodeError as error:
        raise _broken("isn't an ONNX graph") from error


def _broken(why: str) -> ModelFileError:
    return ModelFileError(f"a graph of the model file {why}")
