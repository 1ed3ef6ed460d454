"""API keys: `mw_PREFIX_SECRET` with 256 random bits, of which the store holds a keyed hash.

A key is shown once, when it is made. Its prefix is public: lists, logs and quotas name the key by
it. Such keys need no slow hash as passwords do, because nobody can guess 256 bits.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace

from modelwright.errors import RequestError
from modelwright.files import JsonObject
from modelwright.security.roles import Grant
from modelwright.security.store import Store, StoredKey, keyed_hash

_PREFIX_LENGTH = 12
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_NOBODY = StoredKey("", "0" * 64, "", Grant("monitor", ("-",)), 0.0)


def create(
    store: Store,
    grant: Grant,
    *,
    now: float,
    name: str = "",
    expires_s: float | None = None,
    requests_per_minute: int | None = None,
    daily_cost: float | None = None,
) -> tuple[str, StoredKey]:
    """Make a key, and return it (nothing can show it again) with what the store holds of it.

    It ends `expires_s` after `now`, or never. Each server process takes `requests_per_minute` of
    it, all servers together `daily_cost` in a day (UTC).

    Raises:
        RequestError: a limit isn't above 0, or the name isn't printable.
    """
    for limit in (expires_s, requests_per_minute, daily_cost):
        if limit is not None and not 0 < limit < 1e12:
            raise RequestError(f"a limit of a key is above 0, not {limit}")
    if len(name) > 200 or not name.isprintable():
        raise RequestError("the name of a key is one line of at most 200 characters")
    expires = None if expires_s is None else now + expires_s
    limits = (requests_per_minute, daily_cost)
    key, stored = _drawn(store, StoredKey("", "", name, grant, now, expires, None, *limits))
    store.add(stored)
    return key, stored


def rotate(store: Store, prefix: str, *, now: float, grace_s: float = 0) -> tuple[str, StoredKey]:
    """Make a key in place of another, which stays valid for `grace_s` and no longer than it was.

    The new one has the same grant, limits and end; its quota of the day is its own.

    Raises:
        RequestError: no key of this prefix is in use.
    """
    if not 0 <= grace_s < 1e12:
        raise RequestError(f"a grace period is at least 0, not {grace_s}")
    old = {key.prefix: key for key in store.all_keys()}.get(prefix, _NOBODY)
    key, stored = _drawn(store, replace(old, created=now))
    store.add(stored, in_place_of=prefix, grace_s=grace_s)
    return key, stored


def _drawn(store: Store, key: StoredKey) -> tuple[str, StoredKey]:
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX_LENGTH))
    text = f"mw_{prefix}_{secrets.token_urlsafe(32)}"
    return text, replace(key, prefix=prefix, hash=keyed_hash(store.pepper, text))


def state(key: StoredKey, now: float) -> str:
    """Return `valid`, `expired` or `revoked`."""
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires is not None and key.expires <= now else "valid"


def find(keys: Mapping[str, StoredKey], pepper: bytes, text: str) -> StoredKey | None:
    """Return the key that a text is, or nothing.

    It takes one hash and one comparison in constant time, whether the prefix is known or not.
    """
    known = keys.get(text[3 : 3 + _PREFIX_LENGTH], _NOBODY)
    is_same = hmac.compare_digest(keyed_hash(pepper, text), known.hash)
    return known if is_same and known is not _NOBODY else None


def to_json(key: StoredKey, now: float) -> JsonObject:
    """Return what may be shown of a key: never the secret, nor its hash."""
    shown = ("prefix", "name", "created", "expires", "requests_per_minute", "daily_cost")
    grant = {"role": key.grant.role, "models": list(key.grant.models), "state": state(key, now)}
    return {**{name: getattr(key, name) for name in shown}, **grant}
