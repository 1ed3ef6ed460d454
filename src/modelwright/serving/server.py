"""Running the application: sockets, TLS, signals, and what is opened and closed around it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright.errors import ModelwrightError, RequestError, ResourceError, require
from modelwright.serving.config import ServeConfig

if TYPE_CHECKING:
    from modelwright.serving.calls import State


def make_state(config: ServeConfig) -> State:
    """Open what a server needs but the models: the store of keys, the audit log.

    Raises:
        ModelwrightError: something of it can't be opened, or the address needs keys.
    """
    require("fastapi", extra="serve", purpose="`modelwright serve`")
    from modelwright.security.access import AccessControl
    from modelwright.security.audit_log import AuditLog
    from modelwright.security.store import Store
    from modelwright.security.tokens import Tokens
    from modelwright.serving.calls import State, is_loopback
    from modelwright.serving.hosting import Hosting
    from modelwright.serving.telemetry import Telemetry

    if not config.models:
        raise RequestError("no model is named", fix="Run: modelwright serve MODEL.mw")
    tokens = None if config.tokens is None else Tokens(config.tokens)
    access = AccessControl(Store(config.store), tokens=tokens)
    if not is_loopback(config.host):
        if not config.auth:
            raise RequestError(
                f"`--no-auth` works on this machine alone, and {config.host} can be reached from "
                "elsewhere"
            )
        if config.tokens is None and access.is_empty():
            raise RequestError(
                f"{config.host} can be reached from elsewhere, and there is no key yet",
                fix="Make one: modelwright keys create --role predictor --model NAME",
            )
    telemetry = Telemetry()
    hosting = Hosting(telemetry.event, telemetry.batch)
    audit = None
    if config.audit is not None:
        audit = AuditLog(Path(config.audit.path), Path(config.audit.key))
    return State(config, hosting, telemetry, access, audit)


_KEEP_ALIVE_S = 30
_LINGER_S = 0.3
"""So long a connection that was just made has to send its request while the server ends."""


def serve(config: ServeConfig, *, say: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT; then what was accepted is answered first.

    Args:
        config: what, and where.
        say: called with lines for people.

    Raises:
        ModelwrightError: a model can't be loaded, or the port is taken.
    """
    state = make_state(config)
    import uvicorn

    from modelwright.serving.app import build_app, load_all
    from modelwright.serving.protocol import BoundedProtocol

    loop: Any = None

    class Server(uvicorn.Server):
        """Answers new requests for a while after the signal, so that none is lost."""

        _since: dict[Any, float] = {}  # noqa: RUF012 (it is replaced, never changed)
        """Since when a connection has been without a request."""

        def handle_exit(self, sig: int, frame: Any) -> None:
            if state.is_draining:
                self.should_exit = True
                return
            state.is_draining = True
            loop.call_soon_threadsafe(loop.call_later, config.drain_s, self._leave)

        def _leave(self) -> None:
            self.should_exit = True

        async def on_tick(self, counter: int) -> bool:
            # uvicorn waits for ever for the head of a request.
            now, connections = time.monotonic(), list[Any](self.server_state.connections)
            waiting = [
                each for each in connections if each.cycle is None or each.cycle.response_complete
            ]
            since = {each: self._since.get(each, now) for each in waiting}
            for each, begun in since.items():
                patience = config.read_timeout_s + (_KEEP_ALIVE_S if each.cycle else 0)
                if now - begun > patience:
                    each.transport.close()
            self._since = since
            return await super().on_tick(counter)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Whoever was connected by the system, but not by us yet, is answered too.
            for listening in sockets or ():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection, _ = listening.accept()
                        await loop.connect_accepted_socket(
                            lambda: own.http_protocol_class(  # type: ignore[call-arg]
                                own, self.server_state, self.lifespan.state
                            ),
                            connection,
                            ssl=own.ssl,
                        )
            for each in self.servers:
                each.close()
            await asyncio.sleep(_LINGER_S)
            await super().shutdown(sockets)

    settings: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": round(config.timeout_s) + 1,
        "ws": "none",
        "http": BoundedProtocol,
        "lifespan": "on",
    }
    if config.tls is not None:
        context = _context(config)
        settings["ssl_context_factory"] = lambda *_: context
    for library in ("uvicorn", "python_multipart"):
        logger = logging.getLogger(library)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False  # What they say of a request may hold parts of it.
    own = uvicorn.Config(build_app(state), **settings)
    server = Server(own)

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        await load_all(state)
        for line in _introduction(state, sock.getsockname()[1]):
            say(line)
        with contextlib.suppress(AttributeError, ValueError):  # Not on Windows.
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(_reload(state)))
        await server.serve(sockets=[sock])

    sock = _bind(config)
    with (
        contextlib.closing(sock),
        asyncio.Runner(loop_factory=own.get_loop_factory()) as runner,
    ):
        runner.run(main())


def _bind(config: ServeConfig) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        sock = socket.create_server((config.host, config.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"port {config.port} of {config.host} can't be used ({error})",
            fix="Choose another one with --port",
        ) from error
    return sock


async def _reload(state: State) -> None:
    try:
        await state.hosting.reload_changed()
    except ModelwrightError as error:
        state.telemetry.event("reload_refused", why=error.what, where=error.where)


def _context(config: ServeConfig) -> ssl.SSLContext:
    tls = config.tls
    assert tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # `ssl.SSLError` is one.
        raise RequestError(
            f"the certificates can't be used ({error.strerror or error})", where="tls"
        ) from error
    return context


def _introduction(state: State, port: int) -> list[str]:
    """Return what is said when a server begins."""
    config = state.config
    scheme = "https" if config.tls else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    lines = [f"Serving at {scheme}://{host}:{port} (process {os.getpid()})"]
    for name, versions in state.hosting.pools.items():
        for version, pool in versions.items():
            megabytes = (
                sum(item.resident_bytes() for item in pool.workers) / len(pool.workers) / 1e6
            )
            lines.append(
                f"  {name} ({Path(pool.spec.path)}), version {version}: {len(pool.workers)} "
                f"workers of {megabytes:,.0f} MB"
            )
    if not config.auth:
        lines.append("No key is asked for (--no-auth): everybody on this machine may ask.")
    elif state.access.is_empty() and config.tokens is None:
        lines.append(
            "The store holds no key yet, so everybody on this machine may ask. With the first key "
            "(modelwright keys create) requests need one."
        )
    else:
        lines.append("Requests need a key: Authorization: Bearer KEY")
    return lines
