"""API keys: drawn, found, rotated, ended; an attacker learns nothing from how they are refused."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import RequestError
from modelwright.security import api_keys
from modelwright.security.roles import grant_of
from modelwright.security.store import Store, StoredKey, keyed_hash

GRANT = grant_of("predictor", ["digits"])
PEPPER = bytes(range(32))


@pytest.fixture
def store(tmp_path):
    with_store = Store(str(tmp_path / "keys.db"))
    yield with_store
    with_store.close()


def by_prefix(store):
    return {key.prefix: key for key in store.all_keys()}


def test_a_key_is_256_random_bits_behind_a_public_prefix(store):
    made = [api_keys.create(store, GRANT, now=1.0) for _ in range(20)]
    for text, stored in made:
        head, prefix, secret = text.split("_", 2)
        assert (head, prefix, len(secret)) == ("mw", stored.prefix, 43)
        assert api_keys.find(by_prefix(store), store.pepper, text) == stored
    assert len({text for text, _ in made}) == len({key.prefix for _, key in made}) == 20


def test_a_list_shows_no_secret_and_no_hash(store):
    text, stored = api_keys.create(store, GRANT, now=1.0, expires_s=10, name="web")
    shown = api_keys.to_json(stored, 2.0)
    assert text.rpartition("_")[2] not in str(shown)
    assert stored.hash not in str(shown)
    assert shown["state"] == "valid"
    assert api_keys.to_json(stored, 11.0)["state"] == "expired"


@pytest.fixture
def counted(monkeypatch):
    """Count hashes and comparisons, with the lengths that they are over."""
    done = []

    def hashed(pepper, text):
        done.append(("hash", len(text)))
        return keyed_hash(pepper, text)

    compare = hmac.compare_digest

    def compared(one, other):
        done.append(("compare", len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(api_keys, "keyed_hash", hashed)
    monkeypatch.setattr(api_keys.hmac, "compare_digest", compared)
    return done


def test_a_wrong_secret_and_an_unknown_prefix_take_the_same_work(store, counted):
    text, _ = api_keys.create(store, GRANT, now=1.0)
    keys = by_prefix(store)
    guesses = {
        "right": text,
        "wrong secret": text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB"),
        "first character wrong": text[:16] + ("A" if text[16] != "A" else "B") + text[17:],
        "unknown prefix": "mw_" + "a" * 12 + text[15:],
    }
    work = {}
    for name, guess in guesses.items():
        counted.clear()
        found = api_keys.find(keys, store.pepper, guess)
        assert (found is not None) == (name == "right")
        work[name] = list(counted)
    assert set(map(tuple, work.values())) == {(("hash", len(text)), ("compare", 64, 64))}


@given(st.text(max_size=80))
def test_no_other_text_is_a_key(guess):
    key = f"mw_abcdefghjkmn_{'x' * 43}"
    stored = StoredKey("abcdefghjkmn", keyed_hash(PEPPER, key), "", GRANT, 0.0)
    assert api_keys.find({"abcdefghjkmn": stored}, PEPPER, guess) is None
    assert api_keys.find({"abcdefghjkmn": stored}, PEPPER, key + guess) in (None, stored)
    assert (api_keys.find({"abcdefghjkmn": stored}, PEPPER, key + guess) is stored) == (not guess)


def test_no_text_is_nobody(store):
    nobody = api_keys._NOBODY
    for text in ("", "mw_", "mw__", nobody.hash, "mw_" + " " * 12):
        assert api_keys.find({}, store.pepper, text) is None


def test_a_hash_tells_nothing_without_its_pepper():
    assert keyed_hash(PEPPER, "a") != keyed_hash(bytes(32), "a")
    assert len(keyed_hash(PEPPER, "\udcff")) == 64


def test_a_rotated_key_lasts_for_its_grace_and_no_longer_than_before(store):
    _, old = api_keys.create(store, GRANT, now=0.0, expires_s=100, requests_per_minute=3)
    text, new = api_keys.rotate(store, old.prefix, now=10.0, grace_s=20)
    keys = by_prefix(store)
    assert keys[old.prefix].expires == 30.0
    assert (new.grant, new.expires, new.requests_per_minute) == (GRANT, 100.0, 3)
    assert api_keys.find(keys, store.pepper, text) == new
    api_keys.rotate(store, new.prefix, now=90.0, grace_s=1000)
    assert by_prefix(store)[new.prefix].expires == 100.0


def test_a_key_that_never_ends_ends_when_it_is_rotated(store):
    _, old = api_keys.create(store, GRANT, now=0.0)
    _, new = api_keys.rotate(store, old.prefix, now=10.0)
    keys = by_prefix(store)
    assert api_keys.state(keys[old.prefix], 10.0) == "expired"
    assert keys[new.prefix].expires is None


@pytest.mark.parametrize("prefix", ["", "nobody", "'; drop table modelwright_api_keys"])
def test_what_is_not_in_use_is_neither_rotated_nor_revoked(store, prefix):
    _, dead = api_keys.create(store, GRANT, now=0.0, expires_s=5)
    _, gone = api_keys.create(store, GRANT, now=0.0)
    store.revoke(gone.prefix, now=1.0)
    before = store.all_keys()
    for name in (prefix, dead.prefix, gone.prefix):
        with pytest.raises(RequestError, match="in use"):
            api_keys.rotate(store, name, now=6.0)
    for name in (prefix, gone.prefix):
        with pytest.raises(RequestError, match="in use"):
            store.revoke(name, now=6.0)
    assert store.all_keys() == before


@pytest.mark.parametrize(
    "options",
    [
        {"expires_s": 0},
        {"expires_s": float("nan")},
        {"requests_per_minute": -1},
        {"daily_cost": float("inf")},
        {"name": "a\nb"},
        {"name": "\x1b[31m"},
        {"name": "a" * 201},
        {"name": "\x00"},
    ],
)
def test_senseless_limits_and_names_are_refused(store, options):
    with pytest.raises(RequestError):
        api_keys.create(store, GRANT, now=0.0, **options)
    assert store.all_keys() == []
