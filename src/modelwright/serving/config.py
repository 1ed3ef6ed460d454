"""The settings of a server, read as strictly as a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from modelwright.errors import RequestError
from modelwright.recipe.reading import load_settings
from modelwright.recipe.spec import FromList, Spec
from modelwright.run import model_name, usable_cores
from modelwright.security.tokens import TokenConfig


class Answers(Spec):
    """What of an answer is told."""

    digits: Annotated[int, Field(ge=0, le=6)] | None = None
    """Probabilities are rounded to so many digits."""
    top: Annotated[int, Field(ge=1)] | None = None
    """At most so many labels are told."""

    @property
    def is_whole(self) -> bool:
        """Whether all of an answer is told."""
        return self.digits is None and self.top is None


class ModelSpec(Spec):
    """One model."""

    path: str
    """The model file."""
    name: Annotated[str, Field(pattern=r"^[^/:?#]*$")] = ""
    """What it is called in addresses; by default its run's name, or that of the file."""
    version: str = ""
    """Several files may have one name: the last one listed answers where no version is asked for.
    By default the beginning of the model's digest."""
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    """Processes that answer; `auto`: the cores divided by `threads`."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processor threads of each."""
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """The most requests that are answered at once."""
    max_wait_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """How long a batch that isn't full waits for more."""
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """The most requests that wait; further ones are answered with 503."""
    batch_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """A worker that takes longer for a batch is ended."""
    answers: Answers = Answers()
    """What of an answer is told, against copying the model by asking it."""

    @property
    def count(self) -> int:
        """The number of workers."""
        if self.workers == "auto":
            return max(1, usable_cores() // self.threads)
        return self.workers


class Tls(Spec):
    """Certificates."""

    certificate: str
    """The certificate with its chain, PEM."""
    key: str
    """Its private key, PEM."""
    client_ca: str | None = None
    """Clients must have a certificate of one of these authorities (mutual TLS), PEM."""


class Audit(Spec):
    """The log of requests."""

    path: str
    """The log, to which a line is added for each request."""
    key: str
    """The file of the Ed25519 key that signs its checkpoints (`identity create --signing`)."""
    required: bool = True
    """Whether a request that can't be logged is answered with 503."""


class ServeConfig(Spec):
    """All settings of a server."""

    models: Annotated[tuple[ModelSpec, ...], FromList] = ()
    """The models that are served."""
    host: str = "127.0.0.1"
    """The address to listen at; other ones than this machine's own need keys."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port."""
    auth: bool = True
    """Whether keys are asked for once the store holds one; `false` only on this machine itself."""
    store: str | None = None
    """Where keys and quotas are: a file for SQLite, or an address such as postgresql://…"""
    tokens: TokenConfig | None = None
    """The issuer of signed tokens (JWT, OpenID Connect) that are taken beside keys."""
    audit: Audit | None = None
    """A log of who asked which model when, that shows each change made to it."""
    tls: Tls | None = None
    """TLS, and mutual TLS."""
    max_body_bytes: Annotated[int, Field(ge=1, le=1 << 32)] = 32 << 20
    """The longest body of a request; longer ones are refused before they are read."""
    max_inputs: Annotated[int, Field(ge=1, le=100_000)] = 256
    """The most inputs of one request."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """How long a request may take, waiting included; then it is answered with 503."""
    read_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 20.0
    """How long a client may take to send a request."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """After SIGTERM new requests are still answered for so long, while `/readyz` says no."""
    reload_s: Annotated[float, Field(ge=0, le=86_400)] = 2.0
    """How often files are looked at; one that has changed is loaded anew. 0 turns it off."""
    log_requests: bool = True
    """Whether a line of JSON is written for each request, without what was asked."""


def configured(
    path: Path | None,
    models: Sequence[str],
    changes: Mapping[str, Any],
    each: Mapping[str, Any],
) -> ServeConfig:
    """Return the settings of a file, with those of the command line laid over them.

    Args:
        path: the file, if there is one; paths in it are relative to its folder.
        models: further model files.
        changes: settings of the server; `None` changes nothing.
        each: settings of every model.

    Raises:
        RequestError: a setting makes no sense.
    """
    config = ServeConfig() if path is None else load_settings(path, ServeConfig)
    base = Path() if path is None else path.parent
    listed = [spec.model_copy(update={"path": str(base / spec.path)}) for spec in config.models]
    listed += [ModelSpec(path=name) for name in models]
    given = {key: value for key, value in each.items() if value is not None}
    settings = {key: value for key, value in changes.items() if value is not None}
    try:
        specs = [ModelSpec.model_validate({**spec.model_dump(), **given}) for spec in listed]
        return ServeConfig.model_validate({**config.model_dump(), **settings, "models": specs})
    except ValidationError as error:
        detail = error.errors()[0]
        option = next(word for word in reversed(detail["loc"]) if word in (*changes, *each))
        raise RequestError(f"--{option}: {detail['msg']}; got {detail['input']!r}") from error


def as_replica(config: ServeConfig) -> ServeConfig:
    """Return the settings of one of several servers, which clients reach from elsewhere.

    Raises:
        RequestError: a setting names a file of this machine, or no key would be asked for.
    """
    is_file = config.tokens is not None and "://" not in config.tokens.jwks
    local = {"tls": config.tls, "audit": config.audit, "tokens.jwks": is_file or None}
    for setting in (key for key, value in local.items() if value is not None):
        what = f"`{setting}` names files of this machine, which a server elsewhere hasn't"
        raise RequestError(what, fix="Leave it out, and add it where such files are mounted")
    if not config.auth:
        raise RequestError("`--no-auth` works on this machine alone")
    if not config.models:
        raise RequestError("no model is named", fix="Name model files: modelwright serve MODEL.mw")
    models = []
    for spec in config.models:
        # A container sees all cores of its machine, whatever its share of them is.
        workers = 1 if spec.workers == "auto" else spec.workers
        name = spec.name or model_name(Path(spec.path))
        models.append(spec.model_copy(update={"name": name, "workers": workers}))
    return config.model_copy(update={"models": tuple(models), "host": "0.0.0.0"})
