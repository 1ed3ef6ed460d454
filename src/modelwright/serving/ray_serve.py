"""The server as a deployment of Ray Serve: replicas on many machines, as many as the load needs.

Each replica opens the store and starts its workers itself; port and TLS are those of Ray's proxies.

    serve run modelwright.serving.ray_serve:application config=serve.yaml max_replicas=8
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelwright.errors import RequestError, nearest, require
from modelwright.serving.config import ServeConfig, as_replica, configured

_NUMBERS = ("min_replicas", "max_replicas")


def deployment(config: ServeConfig, *, min_replicas: int = 1, max_replicas: int = 4) -> Any:
    """Return the server as an application of Ray Serve, which `ray.serve.run` runs.

    Files of models have the same path on every machine. The machines share a store in PostgreSQL
    and its pepper; `MODELWRIGHT_STORE` and `MODELWRIGHT_PEPPER` count where a replica runs.

    A replica has one worker of a model where none are counted, and so many cores as its workers.

    Raises:
        RequestError: a setting makes no sense there.
        MissingExtraError: Ray isn't installed.
    """
    config = as_replica(config)
    if not 1 <= min_replicas <= max_replicas:
        raise RequestError("there are at least 1 and at most `max_replicas` replicas")
    serve = require("ray.serve", extra="ray", purpose="a deployment of Ray Serve")

    def build() -> Any:
        from modelwright.serving.app import build_app
        from modelwright.serving.server import make_state

        return build_app(make_state(config))

    at_once = sum(spec.count * spec.max_batch for spec in config.models)
    return serve.deployment(
        serve.ingress(build)(),
        name="modelwright",
        max_ongoing_requests=at_once + sum(spec.queue for spec in config.models),
        autoscaling_config={
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_ongoing_requests": at_once,
        },
        ray_actor_options={"num_cpus": sum(spec.count * spec.threads for spec in config.models)},
        graceful_shutdown_timeout_s=config.drain_s + config.timeout_s,
    ).bind()


def application(arguments: Mapping[str, str]) -> Any:
    """Return the application as `serve run` asks for it: `config=FILE`, and numbers of replicas.

    Raises:
        ModelwrightError: an argument makes no sense, or the file can't be read.
    """
    numbers = {name: text for name, text in arguments.items() if name != "config"}
    for name, text in numbers.items():
        if name not in _NUMBERS or not text.isdecimal():
            raise RequestError(f"`{name}={text}` makes no sense here", fix=nearest(name, _NUMBERS))
    config = configured(Path(arguments.get("config", "serve.yaml")), (), {}, {})
    return deployment(config, **{name: int(text) for name, text in numbers.items()})
