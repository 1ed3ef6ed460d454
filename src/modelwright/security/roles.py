"""Who may do what: roles, grants, and the error of a request that is turned away.

What isn't granted is denied: what no role names, a model that a grant doesn't name, and what
concerns the whole server where a grant names single models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from modelwright.errors import ModelwrightError, RequestError, nearest

Action = Literal["predict", "explain", "metrics", "admin"]
ROLES: dict[str, frozenset[Action]] = {
    "predictor": frozenset({"predict"}),
    "explainer": frozenset({"predict", "explain"}),
    "monitor": frozenset({"metrics"}),
    "admin": frozenset(get_args(Action)),
}
Status = Literal[401, 403, 429, 503]


class AccessError(ModelwrightError):
    """A request that is turned away, with its HTTP status.

    Who asks isn't known (401), may not (403), has had enough (429), or it can't be told at present
    (503); after `retry_after` seconds it may be asked again.
    """

    def __init__(
        self, what: str, *, status: Status, retry_after: float | None = None, fix: str = ""
    ) -> None:
        super().__init__(what, fix=fix)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, and the models that it is held for.

    Raises:
        RequestError: there is no such role, or no model is named.
    """

    role: str
    models: tuple[str, ...] | Literal["*"]
    """Names of models without versions; `*` is every model, and the server as a whole."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RequestError(f"there is no role `{self.role}`", fix=nearest(self.role, ROLES))
        if not self.models or not all(0 < len(name) <= 200 for name in self.models):
            raise RequestError("a grant names models", fix="Or `*` for all of them")


def grant_of(role: str, models: Sequence[str]) -> Grant:
    """Return a grant of a list of names, in which `*` stands for all models."""
    return Grant(role, "*" if "*" in models else tuple(dict.fromkeys(models)))


def allows(grant: Grant, action: Action, model: str | None) -> bool:
    """Say whether a grant covers an action on a model, or with `None` on the server as a whole."""
    return action in ROLES[grant.role] and (grant.models == "*" or model in grant.models)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as far as a key or a token shows it."""

    id: str
    """The public prefix of the key, or `jwt:` and the token's subject."""
    grant: Grant
    requests_per_minute: int | None
    daily_cost: float | None
    """What all requests of a day (UTC) may cost together."""
