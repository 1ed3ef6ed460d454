"""One request on its way: who asks, what may be answered, and what is told of it afterwards.

Every route goes through `answer`, which knows its policy, so that none can be without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from modelwright.errors import ModelwrightError, RequestError
from modelwright.files import JsonObject
from modelwright.security.access import AccessControl, AccessError
from modelwright.security.audit_log import AuditLog, AuditLogError, AuditRecord
from modelwright.security.roles import Action, Grant, Principal
from modelwright.serving.bodies import HttpError
from modelwright.serving.config import ServeConfig
from modelwright.serving.hosting import Hosting, UnknownModelError
from modelwright.serving.messages import Message
from modelwright.serving.pool import BusyError, FaultError, InputError, Job, Pool
from modelwright.serving.telemetry import Telemetry, log

RoutePolicy = Action | Literal["public", "any"]
"""What a route asks of whom: an action on a model, any key at all, or nothing."""
ANYONE = Principal("anonymous", Grant("admin", "*"), None, None)
"""Who asks where no key is needed."""
_STATUS: dict[type[ModelwrightError], int] = {
    UnknownModelError: 404,
    InputError: 422,
    BusyError: 503,
    FaultError: 500,
    RequestError: 400,
}


@dataclass(eq=False, slots=True)
class State:
    """What the routes of a server share."""

    config: ServeConfig
    hosting: Hosting
    telemetry: Telemetry
    access: AccessControl
    audit: AuditLog | None = None
    is_draining: bool = False
    confidences: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """By who asked and what: the number of answers, and their mean confidence of late."""


@dataclass(eq=False, slots=True)
class Call:
    """A request with what is known of it."""

    request: Request
    state: State
    principal: Principal
    route: str
    name: str = ""
    """The model's."""
    digest: str = ""
    action: str = ""
    """What a body asks for, where the route's policy doesn't say it."""
    cost: float = 0.0
    is_spent: bool = False

    def pool(self, version: str | None = None) -> Pool:
        """Return the workers of the model that is asked."""
        pool = self.state.hosting.find(self.name, version)
        self.digest = str(pool.info["digest"])
        return pool

    def ask_for(self, name: str, action: Action) -> None:
        """Refuse a model that who asks may not ask; for routes whose body names it."""
        self.name, self.action = name, action
        self.state.access.authorize(self.principal, action, name)

    def spend(self, cost: float) -> None:
        """Count what a request costs, before it is worked on."""
        self.cost, self.is_spent = cost, True
        self.state.access.spend(self.principal, cost)

    async def wait(self, jobs: Sequence[Job]) -> list[Message]:
        """Return the answers of a model, unless the client leaves or the time is over.

        Raises:
            ModelwrightError: there is no answer.
        """
        answers = [job.answer for job in jobs]
        loop = asyncio.get_running_loop()
        gone: asyncio.Task[None] | None = None

        def end(error: ModelwrightError) -> None:
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)

        async def listen() -> None:
            await self.request.receive()  # There is nothing more to come but the end.
            end(HttpError(499, "the client has gone"))

        def patience_ends() -> None:
            nonlocal gone
            gone = loop.create_task(listen())

        late = BusyError("the answer didn't come in time", fix="Ask again in a moment")
        timers = [
            loop.call_later(_PATIENCE_S, patience_ends),
            loop.call_later(self.state.config.timeout_s, end, late),
        ]
        try:
            return [await answer for answer in answers]
        finally:
            for timer in timers:
                timer.cancel()
            if gone is not None:
                gone.cancel()
            for answer in answers:
                if not answer.cancel() and not answer.cancelled():
                    answer.exception()  # It has been looked at.

    def watch(self, info: JsonObject, confidences: Sequence[float | None]) -> None:
        """Tell of someone whose questions the model is much less sure of than of its own data.

        A calibrated model's mean confidence is about its accuracy. Questions that are made up to
        copy it lie elsewhere.
        """
        expected = info["expected_confidence"]
        if expected is None:
            return
        key = (self.principal.id, self.name)
        count, mean = self.state.confidences.get(key, (0, 0.0))
        for confidence in confidences:
            if confidence is not None:
                count += 1
                mean += (confidence - mean) / min(count, _WINDOW)
        if count >= _WINDOW and mean < expected - _UNUSUAL:
            self.state.telemetry.event(
                "unusual_queries", principal=key[0], model=key[1], confidence=round(mean, 3)
            )
            count = 0
        if len(self.state.confidences) >= _MOST_WATCHED:
            self.state.confidences.clear()
        self.state.confidences[key] = (count, mean)


_PATIENCE_S = 0.1
"""An answer that takes longer is no longer worked on once its client has gone."""
_MOST_WATCHED = 10_000
_WINDOW, _UNUSUAL = 200, 0.2
"""Over so many answers, a mean confidence that is so much lower is told."""
Handler = Callable[[Call], Awaitable[Response]]


async def answer(
    request: Request, state: State, route: str, policy: RoutePolicy, handler: Handler
) -> Response:
    """Answer a request as its route's policy allows, count it, and log it."""
    begun = time.perf_counter()
    call = Call(request, state, ANYONE, route, name=request.path_params.get("name", ""))
    try:
        if policy != "public" or "authorization" in request.headers:
            await _admit(call, policy)
        response = await handler(call)
    except ModelwrightError as error:
        if (
            policy in ("predict", "any")
            and not call.is_spent
            and not isinstance(error, AccessError)
        ):
            try:
                call.spend(1.0)
            except AccessError as refused:
                error = refused
        response = problem(error, call)
    except Exception as error:  # noqa: BLE001 (the outermost line of the server)
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        line = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
        log("bug", error=type(error).__name__, at=line)
        response = problem(HttpError(500, "the server failed"), call)
    if policy != "public":
        response = _told(call, policy, response, time.perf_counter() - begun)
    if state.is_draining:
        response.headers["connection"] = "close"
    return response


async def _admit(call: Call, policy: RoutePolicy) -> None:
    access, header = call.state.access, call.request.headers.get("authorization")
    if header is None and _is_open(call.state):
        _refuse_other_sites(call.request)
        return
    if access.may_block(header):
        call.principal = await asyncio.to_thread(access.authenticate, header)
    else:
        call.principal = access.authenticate(header)
    if policy != "any" and policy != "public":
        access.authorize(call.principal, policy, call.name or None)


def _is_open(state: State) -> bool:
    """Say whether requests without a key are answered: only here, and while there is no key."""
    if is_loopback(state.config.host) and state.config.tokens is None:
        return not state.config.auth or state.access.is_empty()
    return False


def _refuse_other_sites(request: Request) -> None:
    """Refuse what a page of another site lets a browser on this machine ask.

    Raises:
        AccessError: the browser says so, or it was led here by another name (DNS rebinding).
    """
    host = request.url.hostname or ""
    site = request.headers.get("sec-fetch-site", "none")
    if not is_loopback(host) or site not in ("none", "same-origin"):
        raise AccessError("other sites may not ask without a key", status=403)


def is_loopback(host: str) -> bool:
    """Say whether an address leads to this machine only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def _told(call: Call, policy: str, response: Response, seconds: float) -> Response:
    """Log a request; where it must be logged and can't be, it isn't answered."""
    state, status = call.state, response.status_code
    served = call.name if call.name in state.hosting.pools else ""
    if state.audit is not None:
        try:
            verdict = "refused" if status in (401, 403, 429) else "allowed"
            state.audit.append(
                AuditRecord(
                    time=time.time(),
                    principal=call.principal.id,
                    action=call.action or policy,
                    model=served,
                    digest=call.digest,
                    verdict=verdict,
                    status=status,
                    cost=call.cost,
                )
            )
        except AuditLogError as error:
            state.telemetry.event("audit_failed", why=error.what)
            assert state.config.audit is not None
            if state.config.audit.required:
                response = problem(HttpError(503, "requests can't be logged now"), call)
                status = 503
    state.telemetry.request(call.route, served, status, seconds)
    if state.config.log_requests:
        log(
            "request",
            principal=call.principal.id,
            method=call.request.method,
            route=call.route,
            model=served,
            status=status,
            ms=round(1000 * seconds, 2),
        )
    return response


def problem(error: ModelwrightError, call: Call | None = None) -> Response:
    """Return an error as RFC 9457 writes it; `error` is where other protocols look for it."""
    status = getattr(error, "status", None) or _STATUS.get(type(error), 400)
    headers = dict(getattr(error, "headers", {}))
    retry: float | None = getattr(error, "retry_after", None)
    if isinstance(error, BusyError) and call is not None:
        with contextlib.suppress(UnknownModelError):
            retry = call.state.hosting.find(call.name).retry_after_s
    if status == 503 or retry is not None:
        headers["retry-after"] = str(max(1, round(retry or 1)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    detail = ". ".join(part.rstrip(".") for part in (error.what, error.why, error.fix) if part)
    title = HTTPStatus(status).phrase if status != 499 else "Client Closed Request"
    body: JsonObject = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    path = call.request.url.path if call is not None else ""
    if path.startswith(("/v1/completions", "/v1/chat/")):  # As OpenAI's clients read it.
        body["error"] = {"message": detail, "type": "invalid_request_error", "code": status}
    elif path.startswith("/v2"):
        body["error"] = detail
    return Response(json.dumps(body), status, headers, "application/problem+json")
