"""Access control for a server: who asks, whether they may, and how much they have had.

Requests are answered from memory. A thread looks every `cache_s` whether a key changed, and writes
what was spent once a second. A key that isn't known lets the store be read at once, at most five
times a second. While the store is away, the keys known so far go on for `OUTAGE_S`. Rates are
counted by each process alone. Make one in each process, after it was forked.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelwright.errors import require
from modelwright.security import api_keys
from modelwright.security.roles import AccessError, Action, Grant, Principal, allows
from modelwright.security.store import Store, StoredKey, StoreError, day_of
from modelwright.security.tokens import LONGEST, Tokens

if TYPE_CHECKING:
    import limits
else:
    limits = require("limits", extra="serve", purpose="limits of requests")

__all__ = ["AccessControl", "AccessError", "Action", "Grant", "Principal"]

OUTAGE_S, FLUSH_S, RETRY_S = 60.0, 1.0, 0.2
_DAY_S = 86_400


class AccessControl:
    """Knows the keys of a store, and takes tokens if it is told whose. It is safe for threads.

    It raises `StoreError` where the store is away at the beginning. Of the calls, `close` waits for
    the store, and `authenticate` may (see `may_block`); the others never do.

    Args:
        store: the keys and the daily use; it is closed with this.
        tokens: how tokens are checked; by default none is taken.
        clock: the time in seconds since 1970.
        cache_s: so often the store is looked at.
    """

    def __init__(
        self,
        store: Store,
        *,
        tokens: Tokens | None = None,
        clock: Callable[[], float] = time.time,
        cache_s: float = 2.0,
    ) -> None:
        self._store, self._tokens, self._clock, self._cache_s = store, tokens, clock, cache_s
        self._keys: dict[str, StoredKey] = {}
        self._word: str | None = None
        self._had_keys = self._failed = False
        self._read_at = self._tried_at = self._flushed_at = -math.inf
        self._spent: dict[tuple[str, str], float] = {}
        self._pending: dict[tuple[str, str], float] = {}
        memory = limits.storage.MemoryStorage()
        self._limiter = limits.strategies.SlidingWindowCounterRateLimiter(memory)
        self._lock, self._store_lock = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._refresh()
        self._thread = threading.Thread(target=self._work, name="access-control", daemon=True)
        self._thread.start()

    def is_empty(self) -> bool:
        """Say whether the store never held a key; one that is revoked counts too.

        Raises:
            AccessError: 503, the store is away.
        """
        if not self._had_keys:
            self._check_outage()
        return not self._had_keys

    def may_block(self, authorization: str | None) -> bool:
        """Say whether `authenticate` may wait for the store or for a provider, in a thread then."""
        secret = _secret(authorization)
        if self._tokens is not None and not secret.startswith("mw_"):
            return self._tokens.remembered(secret, self._clock()) is None
        return self._may_retry() and self._found(secret) is None

    def authenticate(self, authorization: str | None) -> Principal:
        """Return who sends a header `Authorization: Bearer KEY`.

        Raises:
            AccessError: 401, it isn't valid; 503, the store has been away for too long, or there
                are no keys yet to check tokens with.
        """
        secret = _secret(authorization)
        if not secret:
            raise _unauthorized("a key is missing")
        if self._tokens is not None and not secret.startswith("mw_"):
            return self._tokens.principal(secret, self._clock())
        self._check_outage()
        key = self._found(secret)
        if key is None and self._may_retry() and self._store_lock.acquire(blocking=False):
            self._store_lock.release()
            self._refresh()
            key = self._found(secret)
        if key is None:
            raise _unauthorized("the key isn't valid")
        if (state := api_keys.state(key, self._clock())) != "valid":
            raise _unauthorized(f"the key is {state}")
        return Principal(key.prefix, key.grant, key.requests_per_minute, key.daily_cost)

    def authorize(self, principal: Principal, action: Action, model: str | None) -> None:
        """Let an action on a model pass, or with `None` on the server as a whole.

        Raises:
            AccessError: 403, the grant doesn't cover it.
        """
        if not allows(principal.grant, action, model):
            what = "this server" if model is None else "this model"
            raise AccessError(f"this key doesn't allow `{action}` on {what}", status=403)

    def spend(self, principal: Principal, cost: float) -> None:
        """Count a request and its cost, unless a limit is reached.

        Raises:
            AccessError: 429, with the seconds until it may be tried again.
        """
        if not 0 <= cost < math.inf:
            raise ValueError(f"a cost is a finite number from 0, not {cost}")
        now, quota, rate = self._clock(), principal.daily_cost, principal.requests_per_minute
        use = (principal.id, day_of(now))
        with self._lock:
            spent = self._spent.get(use, 0.0) + self._pending.get(use, 0.0)
            if quota is not None and spent + cost > quota:
                wait = _DAY_S - now % _DAY_S
                raise AccessError("the quota of the day is used up", status=429, retry_after=wait)
            if rate is not None:
                item = limits.RateLimitItemPerMinute(rate)
                if not self._limiter.hit(item, principal.id):
                    ends = self._limiter.get_window_stats(item, principal.id).reset_time
                    wait = min(max(1.0, ends - time.time()), 60.0)
                    raise AccessError("too many requests", status=429, retry_after=wait)
            if quota is not None and cost:
                self._pending[use] = self._pending.get(use, 0.0) + cost

    def close(self) -> None:
        """Write what was spent, and let go of the store; raise `StoreError` where it is away."""
        self._closing.set()
        self._thread.join()
        with contextlib.closing(self._store):
            self._flush()

    def _found(self, secret: str) -> StoredKey | None:
        return api_keys.find(self._keys, self._store.pepper, secret)

    def _may_retry(self) -> bool:
        return not self._failed and time.monotonic() - self._tried_at >= RETRY_S

    def _check_outage(self) -> None:
        if time.monotonic() - self._read_at > OUTAGE_S:
            raise AccessError("the store of keys is away", status=503, retry_after=self._cache_s)

    def _work(self) -> None:
        while not self._closing.wait(min(FLUSH_S, self._cache_s) / 2):
            now = time.monotonic()
            if now - self._flushed_at >= FLUSH_S:
                self._flushed_at = now
                with contextlib.suppress(StoreError):  # It is kept, and tried again.
                    self._flush()
            if now - self._tried_at >= self._cache_s / 2:
                self._refresh()

    def _refresh(self) -> None:
        """Read the keys if one changed, and what all servers spent."""
        with self._store_lock:
            began = self._tried_at = time.monotonic()
            try:
                word = self._store.change()  # before the keys, which may be newer but never older
                if word != self._word:
                    self._keys = {key.prefix: key for key in self._store.all_keys()}
                    self._word = word
                    self._had_keys = self._had_keys or bool(self._keys)
                spent = self._store.spent(day_of(self._clock()))
                with self._lock:
                    self._spent = spent
            except StoreError:
                if self._word is None:
                    raise
                self._failed = True
            else:
                self._read_at, self._failed = began, False

    def _flush(self) -> None:
        """Add what was spent here to the store; where that fails it is kept for the next time."""
        with self._store_lock:
            with self._lock:
                taken = dict(self._pending)
            if taken:
                self._store.spend(taken)
            with self._lock:
                for use, cost in taken.items():
                    self._spent[use] = self._spent.get(use, 0.0) + cost
                    self._pending[use] -= cost
                    if self._pending[use] <= 0:
                        del self._pending[use]


def _secret(authorization: str | None) -> str:
    """Return what a header holds behind `Bearer`, or nothing."""
    scheme, _, secret = (authorization or "").partition(" ")
    secret = secret.strip()
    return secret if scheme.lower() == "bearer" and len(secret) <= LONGEST else ""


def _unauthorized(what: str) -> AccessError:
    return AccessError(what, status=401, fix="Send the header `Authorization: Bearer KEY`")
