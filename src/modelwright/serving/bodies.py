"""From the body of a request to inputs, however people send them: multipart, JSON, bytes, text."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from modelwright.errors import ModelwrightError
from modelwright.files import Json, JsonObject
from modelwright.serving.config import ServeConfig


class HttpError(ModelwrightError):
    """A request that isn't answered as it was asked.

    Args:
        status: the HTTP status.
        what: what is wrong.
        fix: what to do next.
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, what: str, *, fix: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(what, fix=fix)
        self.status, self.headers = status, headers or {}


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a request."""

    name: str
    """What it is called in the answer: a file's name, or a text itself."""
    kind: str
    """`file`, `text` or `json`."""
    part: bytes


async def read_body(request: Request, config: ServeConfig) -> bytes:
    """Return the body of a request.

    Raises:
        HttpError: it is too long, or takes too long to come.
    """
    declared = request.headers.get("content-length", "")
    most = config.max_body_bytes
    too_long = HttpError(
        413,
        f"the body is longer than the {most:,} bytes that are taken here",
        headers={"connection": "close"},
    )
    if declared.isdigit() and int(declared) > most:
        raise too_long
    chunks, size = [], 0
    try:
        async with asyncio.timeout(config.read_timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise too_long
                chunks.append(chunk)
    except TimeoutError as error:
        why = f"the body didn't come within {config.read_timeout_s:g} s"
        raise HttpError(408, why, headers={"connection": "close"}) from error
    except ClientDisconnect as error:
        raise HttpError(499, "the client has gone") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_json(data: bytes) -> Json:
    """Return the value of a JSON body.

    Raises:
        HttpError: it isn't JSON, or nested too deep.
    """
    try:
        return json.loads(data, parse_constant=_no_constant)
    except RecursionError as error:
        raise HttpError(400, "the JSON is nested too deep") from error
    except ValueError as error:
        raise HttpError(400, "the body isn't valid JSON") from error


def _no_constant(name: str) -> None:
    raise ValueError(name)


def json_object(data: bytes) -> JsonObject:
    """Return the object that a JSON body is.

    Raises:
        HttpError: it is something else.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        raise HttpError(400, "the body must be a JSON object")
    return value


async def read_inputs(
    request: Request, body: bytes, takes: str, config: ServeConfig
) -> tuple[list[Input], int | None]:
    """Return the inputs of a request for predictions, and how many answers of each it asks for.

    Args:
        request: with the headers that say what the body is.
        body: the whole of it.
        takes: what the model takes: `image`, `audio`, `text` or `arrays`.
        config: the limits.

    Raises:
        HttpError: the body makes no sense, or holds nothing or too much.
    """
    top: Any = request.query_params.get("top")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        inputs, asked = await _of_form(request.headers, body)
        top = asked or top
    elif kind == "application/json":
        value = json_object(body)
        top = value.pop("top", top)
        listed = value.pop("inputs", None)
        one = value.pop("input", None)
        if value or (listed is None) == (one is None):
            unknown = f"; `{next(iter(value))[:40]}` is unknown" if value else ""
            raise HttpError(400, f"give `input` or a list of `inputs`, and `top`{unknown}")
        if listed is not None and not isinstance(listed, list):
            raise HttpError(400, "`inputs` must be a list")
        inputs = [_of_json(item, takes) for item in (listed if listed is not None else [one])]
    elif takes == "arrays":
        raise HttpError(415, "this model takes numbers", fix='Send JSON: {"input": [...]}')
    else:
        name = body.decode("utf-8", "replace") if takes == "text" else "-"
        inputs = [Input(name, "file", body)]
    if not 0 < len(inputs) <= config.max_inputs:
        raise HttpError(
            400, f"a request has 1 to {config.max_inputs:,} inputs; got {len(inputs):,}"
        )
    return inputs, _top(top)


def _top(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 7:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1_000_000:
        raise HttpError(400, "`top` must be a whole number of at least 1")
    return value


def _of_json(value: Json, takes: str) -> Input:
    if takes == "arrays":
        return Input("-", "json", json.dumps(value).encode())
    if isinstance(value, dict) and set(value) == {"b64"}:
        value = value["b64"]
    elif takes == "text" and isinstance(value, str):
        try:
            return Input(value, "text", value.encode())
        except UnicodeEncodeError as error:
            raise HttpError(400, "a text holds half a character") from error
    if not isinstance(value, str):
        raise HttpError(400, 'an input must be a text, or a file\'s bytes as {"b64": "..."}')
    if value.startswith("data:"):
        value = value.partition(",")[2]
    try:
        return Input("-", "file", base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise HttpError(400, "an input isn't valid base64") from error


class _InMemory(MultiPartParser):
    """Keeps files in memory: what was sent must not be written to a disk."""

    spool_max_size = 1 << 62


async def _of_form(headers: Headers, body: bytes) -> tuple[list[Input], str | None]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    _, options = parse_options_header(headers.get("content-type", ""))
    if b"--%b--" % options.get(b"boundary", b"\0") not in body:
        raise HttpError(400, "the form isn't whole")
    try:
        parser = _InMemory(
            headers, stream(), max_files=4096, max_fields=4096, max_part_size=1 << 62
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise HttpError(400, "the body isn't a valid form") from error
    inputs, top = [], None
    for name, value in form.multi_items():
        if name == "top" and isinstance(value, str):
            top = value
        elif name not in ("input", "inputs"):
            raise HttpError(400, f"a form has the fields `input` and `top`; got `{name[:40]}`")
        elif isinstance(value, UploadFile):
            inputs.append(Input(value.filename or "-", "file", await value.read()))
        else:
            inputs.append(Input(value, "text", value.encode("utf-8", "replace")))
    return inputs, top
