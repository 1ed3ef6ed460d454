"""The routes of a server, each with its policy, as an ASGI application.

`ROUTES` is the whole of it: the application and its OpenAPI document are made of this table.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from modelwright.errors import ModelwrightError
from modelwright.files import Json, JsonObject
from modelwright.security.roles import allows
from modelwright.serving import inference_protocol
from modelwright.serving.bodies import HttpError
from modelwright.serving.calls import Call, Handler, RoutePolicy, State, answer, problem
from modelwright.serving.openai import chat_completions, completions
from modelwright.serving.predicting import predict
from modelwright.version import __version__


def _json(value: Json) -> Response:
    return Response(json.dumps(value), media_type="application/json")


async def _page(call: Call) -> Response:
    page = resources.files("modelwright.serving").joinpath("page.html").read_bytes()
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    policy += "connect-src 'self'; img-src blob:; media-src blob:; frame-ancestors 'none'; "
    headers = {
        "content-security-policy": policy + "base-uri 'none'; form-action 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return Response(page, 200, headers, "text/html")


async def _document(call: Call) -> Response:
    return _json(openapi_document())


async def _alive(call: Call) -> Response:
    return _json({"status": "ok"})


async def _ready(call: Call) -> Response:
    if call.state.is_draining or not call.state.hosting.is_ready:
        raise HttpError(503, "not ready")
    return _json({"status": "ok"})


async def _metrics(call: Call) -> Response:
    text = call.state.telemetry.exposition(call.state.hosting)
    return Response(text, media_type="text/plain; version=0.0.4")


async def _models(call: Call) -> Response:
    hosting = call.state.hosting
    names = [name for name in hosting.pools if allows(call.principal.grant, "predict", name)]
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "modelwright"} for name in names
    ]
    return _json({"object": "list", "data": data})


async def _model(call: Call) -> Response:
    return _json(call.state.hosting.card(call.name, call.pool()))


async def _reload(call: Call) -> Response:
    call.pool()
    try:
        loaded = await call.state.hosting.reload_changed(call.name)
    except ModelwrightError as error:
        raise HttpError(409, error.what, fix=error.fix) from error
    return _json({"loaded": loaded})


async def _v2_server(call: Call) -> Response:
    return _json(inference_protocol.server_metadata())


async def _v2_live(call: Call) -> Response:
    return _json({"live": True})


async def _v2_ready(call: Call) -> Response:
    await _ready(call)
    return _json({"ready": True})


async def _v2_model(call: Call) -> Response:
    pool = call.pool(call.request.path_params.get("version"))
    versions = list(call.state.hosting.pools[call.name])
    return _json(inference_protocol.model_metadata(call.name, versions, pool))


async def _v2_model_ready(call: Call) -> Response:
    pool = call.pool(call.request.path_params.get("version"))
    if not pool.is_ready:
        raise HttpError(503, "not ready")
    return _json({"name": call.name, "ready": True})


@dataclass(frozen=True, slots=True)
class Route:
    """One address, what it asks of who asks, and what it does."""

    method: str
    path: str
    policy: RoutePolicy
    handler: Handler
    sentence: str
    body: tuple[tuple[str, JsonObject], ...] = ()
    """What it takes: types of content with their JSON Schemas."""


_TEXT: JsonObject = {"type": "string"}
_INPUT: JsonObject = {
    "type": "object",
    "properties": {"input": {}, "inputs": {"type": "array"}, "top": {"type": "integer"}},
}
_FORM: JsonObject = {
    "type": "object",
    "properties": {"input": {"type": "string", "format": "binary"}, "top": {"type": "integer"}},
    "required": ["input"],
}
_TENSORS: JsonObject = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "inputs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": _TEXT,
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": _TEXT,
                    "data": {"type": "array"},
                },
                "required": ["name", "shape", "datatype"],
            },
        },
    },
    "required": ["inputs"],
}


def _writing(prompt: JsonObject) -> JsonObject:
    numbers = {"max_tokens": "integer", "temperature": "number", "top_p": "number"}
    figures: JsonObject = {name: {"type": kind} for name, kind in numbers.items()}
    more = {"model": _TEXT, "stop": _TEXT, "stream": {"type": "boolean"}, **prompt}
    return {"type": "object", "properties": {**figures, **more}, "required": ["model", *prompt]}


_PROMPT = _writing({"prompt": _TEXT})
_MESSAGE: JsonObject = {"type": "object", "properties": {"role": _TEXT, "content": _TEXT}}
_MESSAGES = _writing({"messages": {"type": "array", "items": _MESSAGE}})
_BYTES: JsonObject = {"type": "string", "format": "binary"}
_PREDICT = (
    ("application/json", _INPUT),
    ("multipart/form-data", _FORM),
    ("application/octet-stream", _BYTES),
    ("text/plain", _TEXT),
)
_V2 = "/v2/models/{name}"
_V2_VERSION = _V2 + "/versions/{version}"
_OF_TENSORS = (("application/json", _TENSORS),)

ROUTES = (
    Route("POST", "/v1/models/{name}:predict", "predict", predict, "Predictions.", _PREDICT),
    *(
        Route(method, base + path, "predict", handler, sentence, body)
        for base in (_V2, _V2_VERSION)
        for method, path, handler, sentence, body in (
            ("GET", "", _v2_model, "What a model takes and gives.", ()),
            ("GET", "/ready", _v2_model_ready, "Whether a model answers.", ()),
            ("POST", "/infer", inference_protocol.infer, "Tensors for tensors.", _OF_TENSORS),
        )
    ),
    Route("GET", "/", "public", _page, "A page to try the models in a browser."),
    Route("GET", "/openapi.json", "public", _document, "This document."),
    Route("GET", "/healthz", "public", _alive, "Whether the server lives."),
    Route("GET", "/readyz", "public", _ready, "Whether every model answers."),
    Route("GET", "/metrics", "metrics", _metrics, "Figures for Prometheus."),
    Route("GET", "/v1/models", "any", _models, "The models that may be asked."),
    Route("GET", "/v1/models/{name}", "predict", _model, "A model with its evidence."),
    Route("POST", "/v1/models/{name}:reload", "admin", _reload, "Load a changed file anew."),
    Route(
        "POST",
        "/v1/completions",
        "any",  # The model stands in the body, and is looked at there.
        completions,
        "Continue texts, as OpenAI's clients ask for it.",
        (("application/json", _PROMPT),),
    ),
    Route(
        "POST",
        "/v1/chat/completions",
        "any",
        chat_completions,
        "Go on with a conversation, as OpenAI's clients ask for it.",
        (("application/json", _MESSAGES),),
    ),
    Route("GET", "/v2", "public", _v2_server, "Open Inference Protocol: the server."),
    Route("GET", "/v2/health/live", "public", _v2_live, "Whether the server lives."),
    Route("GET", "/v2/health/ready", "public", _v2_ready, "Whether every model answers."),
)
"""Every address of a server; the first are found soonest."""
_CODES = {400: "bad request", 401: "no valid key", 403: "not allowed", 404: "not served here"}
_CODES |= {413: "too long", 415: "not taken", 422: "not an input", 429: "quota", 503: "busy"}


def build_app(state: State) -> FastAPI:
    """Return the application, which loads its models when it starts, and drains them at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await load_all(state)
        watching = asyncio.ensure_future(state.hosting.watch(state.config.reload_s))
        yield
        watching.cancel()
        await state.hosting.drain()
        state.access.close()
        if state.audit is not None:
            state.audit.close()

    app = FastAPI(
        title="modelwright",
        version=__version__,
        redirect_slashes=False,
        openapi_url=None,  # It is one of our routes.
        lifespan=lifespan,
    )
    for route in ROUTES:
        # Of FastAPI's own routes nothing would be used but their time.
        app.add_route(route.path, _endpoint(state, route), methods=[route.method])

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = HttpError(error.status_code, str(error.detail), headers=dict(error.headers or {}))
        return problem(found)

    app.add_exception_handler(HTTPException, refused)
    return app


def _endpoint(state: State, route: Route) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        return await answer(request, state, route.path, route.policy, route.handler)

    return endpoint


def openapi_document() -> JsonObject:
    """Return what OpenAPI 3.1 says of the routes."""
    paths: JsonObject = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _described(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "modelwright", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _described(route: Route) -> JsonObject:
    refusal = {"content": {"application/problem+json": {"schema": {"type": "object"}}}}
    codes = {str(code): {"description": why, **refusal} for code, why in _CODES.items()}
    told: JsonObject = {
        "summary": route.sentence,
        "operationId": re.sub("[^a-z0-9]+", "_", f"{route.method} {route.path}".lower()).strip("_"),
        "responses": {"200": {"description": "done"}, **codes},
    }
    if route.policy != "public":
        told["security"] = [{"bearer": []}]
    if route.body:
        content = {kind: {"schema": schema} for kind, schema in route.body}
        told["requestBody"] = {"required": True, "content": content}
    names = re.findall("{([a-z]+)}", route.path)
    if names:
        told["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names
        ]
    return told


async def load_all(state: State) -> None:
    """Load the models of the configuration, unless they are loaded.

    Raises:
        ModelwrightError: one can't be loaded.
    """
    if state.hosting.pools:
        return
    try:
        for spec in state.config.models:
            await state.hosting.load(spec)
    except ModelwrightError:
        await asyncio.gather(*(pool.stop() for pool in state.hosting.all()))
        raise
