"""What a graph asks for, read from its bytes: the weights by name, and nothing from the disk.

ONNX lets a graph name files that hold its numbers, and a runtime would read them. Ours may only
name the weights member; this walk over the protocol buffer (the field numbers are those of
`onnx.proto` of ONNX 1.23) refuses all else, without the library `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelwright.errors import ModelFileError

WEIGHTS_LOCATION = "weights.safetensors"
ORT_FORMAT = b"ORTM"
"""By these bytes 4 to 7 onnxruntime takes a graph for a FlatBuffers file of its own format."""
_DEEPEST = 16
_KEY_BOUND = 1 << 32
"""A reader in C++ cuts longer keys down to 32 bits, and so sees a field where we would see none."""
_EXTERNAL = 1
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # ModelProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # GraphProto
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # NodeProto
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MICROSOFT, FROM_MICROSOFT = "com.microsoft", ("MatMulNBits", "GatherBlockQuantized")
"""What is taken of the operators that only onnxruntime has: weights of a few bits. Others of that
domain read files, such as EPContext."""
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_NAME, _TENSOR_ENTRIES, _TENSOR_LOCATION = 8, 13, 14

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
            names += _walk_graph(_message(value), depth=0)
    if graphs != 1 or len(set(names)) != len(names):
        raise _broken("isn't one graph with each weight once")
    return names


def _walk_graph(graph: memoryview, *, depth: int) -> list[str]:
    if depth > _DEEPEST:
        raise _broken("is nested too deep")
    names = []
    for number, value in _fields(graph):
        if number == _NODE:
            _walk_node(_message(value), depth=depth)
        elif number == _INITIALIZER:
            name = _external_name(_message(value))
            if name is not None and depth:
                raise _broken("names weights within a branch")
            names += [name] if name is not None else []
        elif number == _SPARSE_INITIALIZER:
            _walk_sparse(_message(value))
    return names


def _walk_node(node: memoryview, *, depth: int) -> None:
    texts: dict[int, str] = {}
    for number, attribute in _fields(node):
        if number in (_OPERATOR, _DOMAIN):
            # Given twice, a reader may take the one or the other.
            if number in texts:
                raise _broken("names an operator twice")
            texts[number] = _text(attribute)
        if number != _ATTRIBUTE:
            continue
        for inner, value in _fields(_message(attribute)):
            if inner in _ATTRIBUTE_TENSORS:
                _refuse_external(_message(value))
            elif inner in _ATTRIBUTE_GRAPHS:
                _walk_graph(_message(value), depth=depth + 1)
            elif inner in _ATTRIBUTE_SPARSE:
                _walk_sparse(_message(value))
    operator, domain = texts.get(_OPERATOR, ""), texts.get(_DOMAIN, "")
    if domain not in _DOMAINS and (domain != MICROSOFT or operator not in FROM_MICROSOFT):
        raise _broken(
            f"uses the operator {operator[:40]!r} of {domain[:40]!r}, which isn't ONNX's own"
        )


def _walk_sparse(sparse: memoryview) -> None:
    for number, value in _fields(sparse):
        if number in (1, 2):
            _refuse_external(_message(value))


def _refuse_external(tensor: memoryview) -> None:
    if _external_name(tensor) is not None:
        raise _broken("names weights within a node")


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
