"""The Open Inference Protocol, version 2: KServe's contract, with its binary tensor extension.

Tensors are those of the graph, before decoding. An input `input` of type BYTES holds samples as
people send them, and is answered with `predictions`, as `:predict` answers.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from starlette.responses import Response

from modelwright.files import JsonObject
from modelwright.serving.bodies import HttpError, Input, json_object, read_body
from modelwright.serving.calls import Call
from modelwright.serving.pool import Pool
from modelwright.serving.predicting import predict_inputs
from modelwright.version import __version__

_TYPES = {
    "BOOL": "bool",
    **{
        f"{sign}INT{bits}": f"{sign.lower()}int{bits}"
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_MOST_AXES = 8
_MOST_LENGTH = 1 << 16
"""Of a free axis, where the model says nothing of it."""
_SAMPLES = {"name": "input", "datatype": "BYTES", "shape": [-1]}
_PREDICTIONS = {"name": "predictions", "datatype": "BYTES", "shape": [-1]}


def server_metadata() -> JsonObject:
    """Return what the server is."""
    return {"name": "modelwright", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(name: str, versions: list[str], pool: Pool) -> JsonObject:
    """Return what a model takes and gives."""

    def tensors(key: str) -> list[JsonObject]:
        return [
            {
                "name": item["name"],
                "datatype": _NAMES.get(item["dtype"], item["dtype"].upper()),
                "shape": [size if isinstance(size, int) else -1 for size in item["shape"]],
            }
            for item in pool.info["tensors"][key]
        ]

    return {
        "name": name,
        "versions": versions,
        "platform": "modelwright_onnxruntime",
        "inputs": tensors("inputs") + [_SAMPLES] * (pool.info["takes"] != "arrays"),
        "outputs": tensors("outputs") + [_PREDICTIONS] * (pool.info["takes"] != "arrays"),
    }


async def infer(call: Call) -> Response:
    """Answer tensors with tensors."""
    request, config = call.request, call.state.config
    version = request.path_params.get("version")
    call.pool(version)  # What isn't there is said before a body is read.
    body = await read_body(request, config)
    pool = call.pool(version)
    header, rest = _split(body, request.headers.get("inference-header-content-length"))
    asked = json_object(header)
    inputs = _list(asked, "inputs")
    wanted = {str(item.get("name")): item for item in _list(asked, "outputs", default=[])}
    tensors = _tensors(inputs, rest)
    if set(tensors) == {"input"} and isinstance(tensors["input"], list):
        items = [Input("-", "file", item) for item in tensors["input"]]
        if not 0 < len(items) <= config.max_inputs:
            raise HttpError(400, f"a request has 1 to {config.max_inputs:,} inputs")
        told = await predict_inputs(call, pool, items, None)
        outputs: dict[str, Any] = {"predictions": [part.decode() for part in told]}
    else:
        outputs = await _outputs(call, pool, tensors)
    unknown = set(wanted) - set(outputs)
    if unknown:
        raise HttpError(400, f"there is no output `{min(unknown)[:80]}`")
    answer: JsonObject = {"model_name": call.name, "outputs": []}
    answer["model_version"] = version or next(reversed(call.state.hosting.pools[call.name]))
    if isinstance(asked.get("id"), str):
        answer["id"] = asked["id"]
    blobs: list[bytes] = []
    all_binary = _parameters(asked).get("binary_data_output") is True
    for name, value in outputs.items():
        if wanted and name not in wanted:
            continue
        is_binary = _parameters(wanted.get(name, {})).get("binary_data", all_binary) is True
        answer["outputs"].append(_output(name, value, blobs if is_binary else None))
    text = json.dumps(answer).encode()
    if not blobs:
        return Response(text, media_type="application/json")
    headers = {"inference-header-content-length": str(len(text))}
    return Response(b"".join([text, *blobs]), 200, headers, "application/octet-stream")


def _split(body: bytes, length: str | None) -> tuple[bytes, memoryview]:
    if length is None:
        return body, memoryview(b"")
    is_number = length.isascii() and length.isdigit() and len(length) < 12
    if not is_number or int(length) > len(body):
        raise HttpError(400, "`Inference-Header-Content-Length` doesn't fit the body")
    return body[: int(length)], memoryview(body)[int(length) :]


def _list(value: JsonObject, key: str, default: list[Any] | None = None) -> list[JsonObject]:
    found = value.get(key, default)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise HttpError(400, f"`{key}` must be a list of tensors")
    return found


def _parameters(value: JsonObject) -> JsonObject:
    found = value.get("parameters")
    return found if isinstance(found, dict) else {}


def _tensors(inputs: Sequence[JsonObject], rest: memoryview) -> dict[str, Any]:
    """Return arrays by name, and lists of bytes where the type is BYTES."""
    found: dict[str, Any] = {}
    for item in inputs:
        name, shape, kind = item.get("name"), item.get("shape"), item.get("datatype")
        if not isinstance(name, str) or not _is_shape(shape) or kind not in (*_TYPES, "BYTES"):
            raise HttpError(400, "a tensor has a `name`, a `shape` and a known `datatype`")
        count, data = math.prod(shape), item.get("data")
        size = _parameters(item).get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(rest):
                raise HttpError(400, f"`binary_data_size` of `{name[:80]}` doesn't fit the body")
            data, rest = rest[:size], rest[size:]
        try:
            if kind == "BYTES":
                value: Any = _strings(data)
                fits = len(value) == count
            else:
                value = _numbers(data, np.dtype(_TYPES[kind]))
                fits = value.size == count
                value = value.reshape(shape) if fits else value
        except (ValueError, TypeError, OverflowError, MemoryError, binascii.Error) as error:
            raise HttpError(400, f"the data of `{name[:80]}` isn't {kind}") from error
        if not fits:
            raise HttpError(400, f"the data of `{name[:80]}` doesn't fit its shape")
        found[name] = value
    if len(found) != len(inputs) or not found:
        raise HttpError(400, "give each input once")
    return found


def _is_shape(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_AXES
        and all(
            isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 31
            for size in value
        )
    )


def _numbers(data: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(data, memoryview):
        return np.frombuffer(data, dtype)
    array = np.asarray(_flat(data))
    if array.size and array.dtype.kind not in "biuf":
        raise ValueError
    converted = array.astype(dtype)
    if dtype.kind in "biu" and not np.array_equal(converted, array):
        raise ValueError
    return converted.ravel()


def _flat(data: Any) -> list[Any]:
    """Return the numbers of lists in lists; anything else among them would cost much memory."""
    for _ in range(_MOST_AXES):
        kinds = set(map(type, data)) if isinstance(data, list) else {str}
        if kinds <= {int, float, bool}:
            return list(data)
        if kinds != {list}:
            break
        data = list(itertools.chain.from_iterable(data))
    raise ValueError


def _strings(data: Any) -> list[bytes]:
    if isinstance(data, memoryview):  # Each with its length before it.
        found, at = [], 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "little")
            found.append(bytes(data[at + 4 : at + 4 + size]))
            if len(found[-1]) != size:
                raise ValueError
            at += 4 + size
        return found
    if not isinstance(data, list):
        raise ValueError
    return [_string(item) for item in data]


def _string(item: Any) -> bytes:
    if isinstance(item, dict) and isinstance(item.get("b64"), str):
        return base64.b64decode(item["b64"], validate=True)
    if not isinstance(item, str):
        raise ValueError
    return item.encode()


async def _outputs(call: Call, pool: Pool, tensors: dict[str, Any]) -> dict[str, Any]:
    if not pool.spec.answers.is_whole:
        raise HttpError(403, "this model's outputs are told rounded, as `predictions` alone")
    known = {item["name"]: item for item in pool.info["tensors"]["inputs"]}
    if set(tensors) != set(known):
        raise HttpError(400, f"the model takes {', '.join(f'`{name}`' for name in known)}")
    for name, array in tensors.items():
        if isinstance(array, list) or str(array.dtype) != known[name]["dtype"]:
            wanted = _NAMES.get(known[name]["dtype"], known[name]["dtype"])
            raise HttpError(400, f"`{name}` must be of the type {wanted}")
        most = pool.info["max_length"] or _MOST_LENGTH
        free = zip(array.shape[1:], known[name]["shape"][1:], strict=False)
        if any(size > most for size, declared in free if isinstance(declared, str)):
            raise HttpError(422, f"`{name}` is longer than the {most:,} that the model takes")
    first = next(iter(tensors.values()))
    count = len(first) if first.ndim else 1
    if count > call.state.config.max_inputs:
        raise HttpError(400, f"a request has at most {call.state.config.max_inputs:,} inputs")
    call.spend(float(max(1, count)))
    described = [
        {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in tensors.items()
    ]
    parts = [np.ascontiguousarray(array).tobytes() for array in tensors.values()]
    rows = {array.shape[:1] for array in tensors.values()}
    # Rows of one batch must not become another's: all tensors have as many, and some.
    can_join = len(rows) == 1 and min(rows) and min(min(rows)) > 0
    kind = tuple((item["name"], *item["shape"][1:]) for item in described) if can_join else None
    job = pool.submit({"op": "infer", "tensors": described}, parts, kind=kind)
    ((header, blobs),) = await call.wait([job])
    return {
        item["name"]: np.frombuffer(blob, np.dtype(item["dtype"])).reshape(item["shape"])
        for item, blob in zip(header["tensors"], blobs, strict=True)
    }


def _output(name: str, value: Any, blobs: list[bytes] | None) -> JsonObject:
    """Return one output, with its data in place or among the blobs behind the JSON."""
    is_text = isinstance(value, list)
    shape = [len(value)] if is_text else list(value.shape)
    datatype = "BYTES" if is_text else _NAMES[str(value.dtype)]
    told: JsonObject = {"name": name, "shape": shape, "datatype": datatype}
    if blobs is None:
        told["data"] = value if is_text else value.ravel().tolist()
        return told
    if is_text:
        items = [item.encode() for item in value]
        data = b"".join(len(item).to_bytes(4, "little") + item for item in items)
    else:
        data = value.tobytes()
    blobs.append(data)
    told["parameters"] = {"binary_data_size": len(data)}
    return told
