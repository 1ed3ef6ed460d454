"""Tokens of an identity provider: JWT (RFC 7519) as OpenID Connect issues them.

Issuer, audience and algorithms are pinned, and only signatures with public keys are taken: there is
no secret here that could be confused with a public key. The provider's keys (JWKS, RFC 7517) come
from a file or by https.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from modelwright.errors import RequestError, require
from modelwright.recipe.spec import FromList, Spec
from modelwright.security.roles import ROLES, AccessError, Grant, Principal, grant_of

if TYPE_CHECKING:
    import jwt
else:
    jwt = require("jwt", extra="serve", purpose="tokens")

LONGEST = 8192
REFRESH_S = 60.0
"""The provider is asked for its keys at most so often, whatever the tokens name."""
_FETCH_S, _LARGEST_JWKS = 5.0, 1 << 20
_REMEMBERED, _REMEMBERED_S = 10_000, 60.0
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError, KeyError, AttributeError)
"""What a token or a set of keys of strange shape makes the libraries raise."""
_OPTIONS: Any = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"
]  # fmt: skip


class TokenConfig(Spec):
    """Whose tokens are taken, and how they are read."""

    issuer: Annotated[str, Field(min_length=1)]
    """The `iss` of each token, exactly."""
    audience: Annotated[str, Field(min_length=1)]
    """The `aud` of each token, or one of several."""
    jwks: str
    """The provider's public keys: a file, or an https URL."""
    algorithms: Annotated[tuple[Algorithm, ...], FromList, Field(min_length=1)] = ("RS256",)
    """The only algorithms that are taken, all of them with public keys."""
    role_claim: str = "role"
    """The claim that holds one of our roles, or a list with exactly one of ours."""
    models_claim: str = "models"
    """The claim that holds the models: a list of names, or names separated by blanks."""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 60.0
    """So far clocks may be apart."""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """How many requests each server takes of one subject."""
    daily_cost: Annotated[float, Field(gt=0)] | None = None
    """What the requests of one subject in a day may cost."""

    @field_validator("jwks")
    @classmethod
    def _check_jwks(cls, value: str) -> str:
        url = urlsplit(value)
        is_near = url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")
        if "://" in value and url.scheme != "https" and not is_near:
            raise ValueError("keys come from a file, or by https")
        return value


class Tokens:
    """Checks tokens. It may be used by several threads."""

    def __init__(self, config: TokenConfig) -> None:
        self.config = config
        self._keys: dict[str, dict[str, Any]] = {}
        self._asked = -REFRESH_S
        self._lock = threading.Lock()
        self._remembered: dict[bytes, tuple[Principal, float]] = {}

    def remembered(self, token: str, now: float) -> Principal | None:
        """Return whose token this is, if it was found valid within the last minute."""
        found = self._remembered.get(_digest(token))
        return found[0] if found and found[1] - _REMEMBERED_S <= now < found[1] else None

    def principal(self, token: str, now: float) -> Principal:
        """Return whose token this is.

        It waits up to 5 s for the provider's keys where a token names a key that isn't known, at
        most once a minute: call it in a thread.

        Raises:
            AccessError: 401, it isn't valid; 503, there are no keys yet to check it with.
        """
        if (known := self.remembered(token, now)) is not None:
            return known
        if len(token) > LONGEST:
            raise _refused("it is too long")
        try:
            claims = self._claims(token)
            subject, expires = claims["sub"], float(claims["exp"])
        except jwt.PyJWTError as error:
            raise _refused(str(error)) from error
        except _UNREADABLE as error:
            raise _refused("it can't be read") from error
        if not subject.isprintable() or not 0 < len(subject) <= 200:
            raise _refused("its subject isn't 1 to 200 printable characters")
        config, grant = self.config, self._grant(claims)
        limits = (config.requests_per_minute, config.daily_cost)
        found = Principal(f"jwt:{subject}", grant, *limits)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        until = min(now + _REMEMBERED_S, expires + config.leeway_s)
        self._remembered[_digest(token)] = (found, until)
        return found

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.config.algorithms:
            raise _refused("its algorithm isn't taken")
        if not isinstance(kid, str) or "crit" in header:
            raise _refused("it names no key, or an extension")
        jwk = self._key(kid)
        if jwk.get("alg", algorithm) != algorithm:
            raise _refused("its key is for another algorithm")
        config, key = self.config, jwt.PyJWK(jwk, algorithm)
        pinned = {"algorithms": [algorithm], "audience": config.audience, "issuer": config.issuer}
        return jwt.decode(token, key, **pinned, leeway=config.leeway_s, options=_OPTIONS)  # type: ignore[arg-type]

    def _grant(self, claims: dict[str, Any]) -> Grant:
        roles, models = claims.get(self.config.role_claim), claims.get(self.config.models_claim)
        roles = [roles] if isinstance(roles, str) else roles
        models = models.split() if isinstance(models, str) else models
        if isinstance(roles, list) and isinstance(models, list):
            ours = [role for role in roles if isinstance(role, str) and role in ROLES]
            with contextlib.suppress(RequestError):
                if len(ours) == 1:
                    return grant_of(ours[0], [name for name in models if isinstance(name, str)])
        raise AccessError("the token grants no role, or several, or no models", status=403)

    def _key(self, kid: str) -> dict[str, Any]:
        """Return the key of a name; where it isn't known, the provider is asked once a minute."""
        if kid not in self._keys:
            with self._lock:
                if kid not in self._keys and time.monotonic() - self._asked >= REFRESH_S:
                    self._asked = time.monotonic()
                    # Where that fails the old keys stay in use.
                    with contextlib.suppress(OSError, *_UNREADABLE):
                        self._keys = _fetch(self.config.jwks) or self._keys
        if not self._keys:
            raise AccessError("the keys for tokens can't be had", status=503, retry_after=REFRESH_S)
        if kid not in self._keys:
            raise _refused("its key isn't known")
        return self._keys[kid]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _refused(why: str) -> AccessError:
    return AccessError(f"the token isn't valid: {why}", status=401)


def _fetch(place: str) -> dict[str, dict[str, Any]]:
    """Return the provider's public keys by name."""
    if "://" not in place:
        with Path(place).open("rb") as stream:
            data = stream.read(_LARGEST_JWKS)
    else:
        from urllib.request import HTTPRedirectHandler, build_opener

        no_redirects = type("_", (HTTPRedirectHandler,), {"redirect_request": lambda *_: None})
        with build_opener(no_redirects).open(place, timeout=_FETCH_S) as answer:
            data = answer.read(_LARGEST_JWKS)
    keys = [key for key in json.loads(data)["keys"] if key["kty"] != "oct" and "kid" in key]
    return {str(key["kid"]): key for key in keys if key.get("use", "sig") == "sig"}
