"""Access control: who asks, what they may, how much; and a store that goes away and comes back."""

from __future__ import annotations

import threading
import time

import pytest

from modelwright.security import access, api_keys
from modelwright.security.access import AccessControl, AccessError, Principal
from modelwright.security.roles import Grant, grant_of
from modelwright.security.store import Store, StoreError
from modelwright.security.tokens import Tokens
from tests.security.test_tokens import claims, config, jwks, signed  # noqa: F401 (a fixture)

GRANT = grant_of("predictor", ["digits"])
MIDDAY = 1_796_040_000.0  # 2026-11-30, 12:00 UTC


class Clock:
    """A wall clock and a monotonic one that only move when they are told to."""

    def __init__(self):
        self.wall, self.monotonic = MIDDAY, 1000.0

    def __call__(self):
        return self.wall

    def sleep(self, seconds):
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(access.time, "monotonic", lambda: made.monotonic)
    monkeypatch.setattr(AccessControl, "_work", lambda self: None)  # Its steps are called here.
    return made


@pytest.fixture
def place(tmp_path):
    return tmp_path / "keys.db"


@pytest.fixture
def opened(place, clock):
    """Return a function that makes a server's access control over the one store."""
    made = []

    def make(**options):
        made.append(AccessControl(Store(str(place)), clock=clock, **options))
        return made[-1]

    yield make
    for control in made:
        control.close()


@pytest.fixture
def admin(place):
    store = Store(str(place))
    yield store
    store.close()


def bearer(key):
    return f"Bearer {key}"


def status(call, *words):
    with pytest.raises(AccessError) as refused:
        call(*words)
    return refused.value.status


def test_a_key_is_known_and_may_do_what_its_role_says(opened, admin, clock):
    key, made = api_keys.create(admin, GRANT, now=MIDDAY, requests_per_minute=9, daily_cost=2.0)
    control = opened()
    who = control.authenticate(bearer(key))
    assert who == Principal(made.prefix, GRANT, 9, 2.0)
    assert control.authenticate(f"bearer   {key} ") == who
    control.authorize(who, "predict", "digits")
    for action, model in (("explain", "digits"), ("predict", "other"), ("metrics", None)):
        assert status(control.authorize, who, action, model) == 403


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic YTpi", "KEY", "Bearer a b", "Bearer \udcff\x00",
     "Bearer mw_", "Bearer mw__", "Bearer " + "mw_" * 5000, "Bearer x.y.z"],
)  # fmt: skip
def test_what_is_no_key_is_401(opened, admin, header):
    api_keys.create(admin, GRANT, now=MIDDAY)
    assert status(opened().authenticate, header) == 401


def test_a_wrong_secret_and_an_unknown_prefix_are_refused_in_the_same_words(opened, admin, clock):
    key, _ = api_keys.create(admin, GRANT, now=MIDDAY)
    control, said = opened(), set()
    for guess in (key[:-6] + "AAAAAA", "mw_" + "a" * 12 + key[15:]):
        clock.sleep(1)
        before = control._tried_at
        with pytest.raises(AccessError) as refused:
            control.authenticate(bearer(guess))
        said.add((str(refused.value), refused.value.retry_after, control._tried_at - before))
    assert len(said) == 1


def test_guesses_reach_the_store_five_times_a_second(opened, admin, clock, monkeypatch):
    control, asked = opened(), []
    monkeypatch.setattr(control, "_refresh", lambda: asked.append(clock.monotonic))
    for _ in range(100):
        assert status(control.authenticate, "Bearer mw_guess") == 401
        clock.sleep(0.01)
        if asked:
            control._tried_at = asked[-1]
    assert len(asked) <= 5


def test_a_guess_does_not_wait_for_a_store_that_is_slow(opened, admin, clock):
    control = opened()
    clock.sleep(1)
    assert control.may_block("Bearer mw_guess")
    with control._store_lock:  # The thread is at the store, which doesn't answer.
        assert status(control.authenticate, "Bearer mw_guess") == 401
    assert status(control.authenticate, "Bearer mw_guess") == 401
    assert not control.may_block("Bearer mw_guess")


def test_a_known_key_never_waits(opened, admin, clock, monkeypatch):
    key, made = api_keys.create(admin, GRANT, now=MIDDAY)
    control = opened()
    clock.sleep(1)
    monkeypatch.setattr(control, "_refresh", None)
    assert not control.may_block(bearer(key))
    assert control.authenticate(bearer(key)).id == made.prefix


def test_only_a_store_that_never_held_a_key_is_empty(opened, admin, clock):
    control = opened()
    assert control.is_empty()
    _, made = api_keys.create(admin, GRANT, now=MIDDAY)
    assert control.is_empty()
    control._refresh()
    assert not control.is_empty()
    admin.revoke(made.prefix, now=MIDDAY)
    control._refresh()
    assert not control.is_empty()
    assert not opened().is_empty()


def test_a_new_key_works_without_waiting_for_the_next_look(opened, admin, clock):
    control = opened()
    key, made = api_keys.create(admin, GRANT, now=MIDDAY)
    clock.sleep(0.25)
    assert control.authenticate(bearer(key)).id == made.prefix


def test_revoking_and_rotating_elsewhere_take_effect_at_the_next_look(opened, admin, clock):
    key, made = api_keys.create(admin, GRANT, now=MIDDAY)
    control = opened()
    control.authenticate(bearer(key))
    new, _ = api_keys.rotate(admin, made.prefix, now=clock(), grace_s=10)
    control._refresh()
    control.authenticate(bearer(key))
    clock.sleep(11)
    assert status(control.authenticate, bearer(key)) == 401
    other = control.authenticate(bearer(new))
    admin.revoke(other.id, now=clock())
    control._refresh()
    with pytest.raises(AccessError, match="revoked"):
        control.authenticate(bearer(new))


def test_an_expired_key_is_refused_by_the_clock_here(opened, admin, clock):
    key, _ = api_keys.create(admin, GRANT, now=MIDDAY + 7200, expires_s=60)
    control = opened()
    control.authenticate(bearer(key))  # Made by a machine whose clock is two hours ahead.
    clock.sleep(7259)
    control._refresh()
    control.authenticate(bearer(key))
    clock.sleep(1)
    with pytest.raises(AccessError, match="expired"):
        control.authenticate(bearer(key))
    clock.wall -= 7200  # A clock that is set back brings it back, and nothing else breaks.
    control.authenticate(bearer(key))


def test_the_thread_sees_changes_by_itself(place):
    control = AccessControl(Store(str(place)), cache_s=0.05)
    admin = Store(str(place))
    key, made = api_keys.create(admin, GRANT, now=time.time())
    admin.revoke(made.prefix, now=time.time())
    until, said = time.monotonic() + 30, ""
    while "revoked" not in said and time.monotonic() < until:
        time.sleep(0.01)
        try:
            control.authenticate(bearer(key))
        except AccessError as refused:
            said = str(refused)
    assert "revoked" in said
    assert not control.is_empty()
    control.close()
    admin.close()


def test_a_store_that_goes_away_is_503_after_a_minute_until_it_is_back(opened, admin, place, clock):
    key, _ = api_keys.create(admin, GRANT, now=MIDDAY, daily_cost=5.0)
    control = opened()
    who = control.authenticate(bearer(key))
    gone = place.rename(place.with_name("gone.db"))
    clock.sleep(59)
    control._refresh()
    assert control.authenticate(bearer(key)) == who
    assert status(control.authenticate, "Bearer mw_guess") == 401
    control.spend(who, 1.0)
    with pytest.raises(StoreError):
        control._flush()
    clock.sleep(2)
    control._refresh()
    assert status(control.authenticate, bearer(key)) == 503
    assert status(control.authenticate, "Bearer mw_guess") == 503
    assert not control.is_empty()
    gone.rename(place)
    control._refresh()
    assert control.authenticate(bearer(key)) == who
    control._flush()
    assert admin.spent("2026-11-30") == {(who.id, "2026-11-30"): 1.0}


def test_an_empty_store_that_goes_away_opens_nothing(opened, place, clock):
    control = opened()
    assert control.is_empty()
    gone = place.rename(place.with_name("gone.db"))
    clock.sleep(61)
    control._refresh()
    assert status(control.is_empty) == 503
    gone.rename(place)
    control._refresh()
    assert control.is_empty()


def test_a_server_does_not_begin_without_its_store(place):
    store = Store(str(place))
    place.unlink()
    with pytest.raises(StoreError):
        AccessControl(store)


def test_a_rate_is_refused_with_the_time_to_wait(opened):
    control = opened()
    who = Principal("a", GRANT, 3, None)
    for _ in range(3):
        control.spend(who, 0.0)
    with pytest.raises(AccessError) as refused:
        control.spend(who, 0.0)
    assert refused.value.status == 429
    assert 1 <= refused.value.retry_after <= 60
    control.spend(Principal("b", GRANT, 3, None), 0.0)


def test_threads_never_get_more_than_the_rate(opened):
    control = opened()
    who, passed = Principal("a", GRANT, 50, 1000.0), []

    def ask():
        for _ in range(25):
            try:
                control.spend(who, 1.0)
                passed.append(1)
            except AccessError:
                pass

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 50
    assert sum(control._pending.values()) == 50.0


def test_a_quota_counts_costs_and_ends_at_midnight(opened, clock):
    control = opened()
    who = Principal("a", GRANT, None, 2.0)
    control.spend(who, 1.5)
    with pytest.raises(AccessError) as refused:
        control.spend(who, 0.6)
    assert (refused.value.status, refused.value.retry_after) == (429, 12 * 3600)
    control.spend(who, 0.5)
    clock.sleep(12 * 3600)
    control.spend(who, 2.0)
    control._flush()
    assert control._pending == {}
    assert status(control.spend, who, 0.1) == 429


def test_servers_share_a_quota(opened, admin):
    who = Principal("a", GRANT, None, 10.0)
    one, two = opened(), opened()
    one.spend(who, 6.0)
    one._flush()
    two._refresh()
    assert status(two.spend, who, 5.0) == 429
    two.spend(who, 4.0)
    two._flush()
    one._refresh()
    assert status(one.spend, who, 0.1) == 429
    assert admin.spent("2026-11-30") == {("a", "2026-11-30"): 10.0}


def test_what_was_spent_is_written_on_close_and_by_the_thread(place):
    who = Principal("a", GRANT, None, 10.0)
    control = AccessControl(Store(str(place)))
    control.spend(who, 6.0)
    control.close()
    again = AccessControl(Store(str(place)), cache_s=0.05)
    assert status(again.spend, who, 5.0) == 429
    again.spend(who, 1.0)
    until = time.monotonic() + 30
    while again._pending and time.monotonic() < until:
        time.sleep(0.01)
    assert not again._pending
    again.close()


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_a_senseless_cost_is_our_mistake(opened, cost):
    with pytest.raises(ValueError, match="cost"):
        opened().spend(Principal("a", GRANT, None, 10.0), cost)


def test_tokens_are_taken_beside_keys(opened, admin, clock, jwks):  # noqa: F811 (the fixture)
    key, made = api_keys.create(admin, GRANT, now=MIDDAY)
    clock.wall = time.time()
    control = opened(tokens=Tokens(config(jwks)))
    token = signed(claims())
    assert control.may_block(bearer(token))
    assert control.authenticate(bearer(token)) == Principal("jwt:ann", GRANT, None, None)
    assert not control.may_block(bearer(token))
    assert not control.may_block(bearer(key))
    assert control.authenticate(bearer(key)).id == made.prefix
    assert status(control.authenticate, bearer(token[:-5])) == 401
    assert status(opened().authenticate, bearer(token)) == 401  # Nobody's tokens are taken there.


def test_a_subject_cannot_pose_as_a_key(opened, admin, jwks):  # noqa: F811 (the fixture)
    _, made = api_keys.create(admin, GRANT, now=MIDDAY)
    control = opened(tokens=Tokens(config(jwks)))
    who = control.authenticate(bearer(signed(claims(sub=made.prefix))))
    assert who.id == f"jwt:{made.prefix}"
    assert who.grant == Grant("predictor", ("digits",))
