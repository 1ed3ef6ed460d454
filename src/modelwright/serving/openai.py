"""`/v1/completions` and `/v1/chat/completions` as OpenAI's clients ask them, with streaming.

A model here continues or turns a text; it knows no roles, so the contents of messages are put
together with line breaks between them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from modelwright.errors import ModelwrightError
from modelwright.files import Json, JsonObject
from modelwright.serving.bodies import HttpError, json_object, read_body
from modelwright.serving.calls import Call, problem
from modelwright.serving.pool import Job, pieces

_NUMBERS: dict[str, tuple[type, float, float]] = {
    "max_tokens": (int, 1, 1 << 20),
    "max_completion_tokens": (int, 1, 1 << 20),
    "temperature": (float, 0, 2),
    "top_p": (float, 1e-9, 1),
    "seed": (int, 0, (1 << 63) - 1),
}
_DEFAULT_TOKENS = {"completions": 16, "chat": 256}
_TOKENS_A_COST = 100
"""So many tokens cost as much as one input of another model."""
_IGNORED = ("user",)
"""What only says who asks, which the key does here."""


async def completions(call: Call) -> Response:
    """Continue a prompt, or several."""
    asked = json_object(await read_body(call.request, call.state.config))
    prompt = asked.pop("prompt", None)
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not _are_texts(prompts):
        raise HttpError(400, "`prompt` must be a text, or a list of texts")
    return await _write(call, asked, prompts, "completions")


async def chat_completions(call: Call) -> Response:
    """Go on with a conversation."""
    asked = json_object(await read_body(call.request, call.state.config))
    messages = asked.pop("messages", None)
    if not isinstance(messages, list) or not messages:
        raise HttpError(400, "`messages` must be a list of messages")
    contents = [_content(message) for message in messages]
    return await _write(call, asked, ["\n".join(contents)], "chat")


def _are_texts(values: list[Json]) -> bool:
    return all(isinstance(value, str) and _is_text(value) for value in values)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # Half a character.
        return False
    return True


def _content(message: Json) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str) or not _is_text(content):
        raise HttpError(400, "each message has a `role` and a `content` of text")
    return content


def _config(asked: JsonObject, kind: str) -> JsonObject:
    """Return how tokens are drawn."""
    config: JsonObject = {"max_new_tokens": _DEFAULT_TOKENS[kind]}
    for name, (number, low, high) in _NUMBERS.items():
        value = asked.pop(name, None)
        if value is None:
            continue
        is_number = isinstance(value, int | number) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise HttpError(400, f"`{name}` must be from {low:g} to {high:g}")
        config["max_new_tokens" if name.startswith("max_") else name] = value
    stop = asked.pop("stop", None)
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not _are_texts(stops) or not all(stops) or len(stops) > 4:
            raise HttpError(400, "`stop` must be a text, or a list of at most 4")
        config["stop"] = stops
    return config


async def _write(call: Call, asked: JsonObject, prompts: list[str], kind: str) -> Response:
    name = asked.pop("model", None)
    if not isinstance(name, str):
        raise HttpError(400, "`model` must be the name of a model")
    call.ask_for(name, "predict")
    pool = call.pool()
    if not pool.info["is_writing"]:
        raise HttpError(400, f"the model `{name[:80]}` doesn't write texts")
    streams = asked.pop("stream", False) is True
    options = asked.pop("stream_options", None) or {}
    known = isinstance(options, dict) and set(options) <= {"include_usage"}
    if not known or (options and not streams):
        raise HttpError(400, "`stream_options` is `include_usage` alone, of a stream")
    config = _config(asked, kind)
    if asked.pop("n", 1) not in (1, None):
        raise HttpError(400, "`n` above 1 isn't offered; give the prompt several times")
    unknown = sorted(set(asked) - set(_IGNORED))
    if unknown:
        raise HttpError(400, f"`{unknown[0][:80]}` isn't offered here")
    if len(prompts) > call.state.config.max_inputs:
        raise HttpError(400, f"at most {call.state.config.max_inputs:,} prompts at once")
    call.spend(len(prompts) * max(1.0, config["max_new_tokens"] / _TOKENS_A_COST))
    config.setdefault("seed", secrets.randbits(62))
    header = {"op": "generate", "config": config}
    job = pool.submit(header, [prompt.encode() for prompt in prompts], streams=True)
    form = _Form(kind, name)
    if streams:
        first = await _first(call, job)
        told = _events(call, job, form, first, with_usage=options.get("include_usage") is True)
        return StreamingResponse(told, media_type="text/event-stream")
    texts, finishes = [""] * len(prompts), ["length"] * len(prompts)
    ((usage, _),) = await call.wait([job])
    assert job.pieces is not None
    while not job.pieces.empty():
        piece, (text,) = job.pieces.get_nowait()
        texts[piece["piece"]] += text.decode()
        finishes[piece["piece"]] = piece["finish"] or finishes[piece["piece"]]
    choices = [
        form.choice(row, text, "length" if finish == "length" else "stop", whole=True)
        for row, (text, finish) in enumerate(zip(texts, finishes, strict=True))
    ]
    body = {**form.answer(choices, whole=True), "usage": _usage(usage)}
    return Response(json.dumps(body), media_type="application/json")


def _usage(header: JsonObject) -> JsonObject:
    counts = header["usage"]
    return {**counts, "total_tokens": sum(counts.values())}


async def _first(call: Call, job: Job) -> Any:
    """Wait for the first piece, so that what is refused is still answered with its status."""
    assert job.pieces is not None
    take = asyncio.ensure_future(job.pieces.get())
    gone = asyncio.ensure_future(call.request.receive())
    awaited: set[asyncio.Future[Any]] = {take, gone, job.answer}
    done, _ = await asyncio.wait(
        awaited,
        timeout=call.state.config.timeout_s,
        return_when=asyncio.FIRST_COMPLETED,
    )
    gone.cancel()
    if take in done:
        return take.result()
    take.cancel()
    if job.answer not in done:
        job.answer.cancel()
        raise HttpError(503, "the answer didn't come in time", headers={"retry-after": "1"})
    job.answer.result()
    return None


async def _events(
    call: Call, job: Job, form: _Form, first: Any, *, with_usage: bool
) -> AsyncIterator[str]:
    """Yield server-sent events, until the text ends or the client leaves."""

    def event(message: Any) -> str:
        piece, (text,) = message
        finish = piece["finish"]
        told = finish and ("length" if finish == "length" else "stop")
        choice = form.choice(piece["piece"], text.decode(), told, whole=False)
        return f"data: {json.dumps(form.answer([choice], whole=False))}\n\n"

    try:
        if first is not None:
            yield event(first)
        async for message in pieces(job):
            yield event(message)
        if with_usage:
            told = {**form.answer([], whole=False), "usage": _usage(job.answer.result()[0])}
            yield f"data: {json.dumps(told)}\n\n"
        yield "data: [DONE]\n\n"
    except ModelwrightError as error:
        yield f"data: {bytes(problem(error, call).body).decode()}\n\n"
    finally:
        job.answer.cancel()  # The worker stops at its next token.


class _Form:
    """How answers of one kind of request are written."""

    def __init__(self, kind: str, model: str) -> None:
        self._is_chat, self._model = kind == "chat", model
        self._id = f"{'chatcmpl' if self._is_chat else 'cmpl'}-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def choice(self, row: int, text: str, finish: str | None, *, whole: bool) -> JsonObject:
        """Return one text, or a piece of it."""
        told: JsonObject = {"index": row, "finish_reason": finish, "logprobs": None}
        if not self._is_chat:
            return {**told, "text": text}
        content = {"role": "assistant", "content": text}
        return {**told, "message" if whole else "delta": content}

    def answer(self, choices: list[JsonObject], *, whole: bool) -> JsonObject:
        """Return a body with texts, or an event with pieces."""
        chat = "chat.completion" if whole else "chat.completion.chunk"
        return {
            "id": self._id,
            "object": chat if self._is_chat else "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
