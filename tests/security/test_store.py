"""The store: several at once, hostile words, what it refuses, and what it holds."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from modelwright.errors import RequestError
from modelwright.security import api_keys
from modelwright.security.roles import grant_of
from modelwright.security.store import Store, StoreError

GRANT = grant_of("predictor", ["digits"])
DAY = "2026-11-30"


@pytest.fixture
def store(tmp_path):
    with_store = Store(str(tmp_path / "keys.db"))
    yield with_store
    with_store.close()


def test_what_is_kept_comes_back(store):
    _, made = api_keys.create(
        store, grant_of("admin", ["*"]), now=5.0, name="é", expires_s=9, daily_cost=2.5
    )
    _, other = api_keys.create(store, GRANT, now=6.0, requests_per_minute=7)
    assert store.all_keys() == [made, other]


@pytest.mark.parametrize(
    "word", ["'; drop table modelwright_api_keys; --", '"', "\\", "%s :name {x}", "é 中 🙂", "null"]
)
def test_words_of_sql_are_only_words(store, word):
    _, made = api_keys.create(store, grant_of("predictor", [word]), now=1.0, name=word)
    store.spend({(word, DAY): 1.0})
    assert store.all_keys() == [made]
    assert store.spent(DAY) == {(word, DAY): 1.0}
    with pytest.raises(RequestError, match="in use"):
        store.revoke(word, now=2.0)
    assert [key.revoked for key in store.all_keys()] == [None]


def test_the_secret_is_nowhere_in_the_folder(store, tmp_path):
    key, made = api_keys.create(store, GRANT, now=1.0)
    store.close()
    secret = key.removeprefix(f"mw_{made.prefix}_")
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.prefix.encode() in held
    assert secret.encode() not in held
    assert key.encode() not in held


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_nobody_else_may_read_store_or_pepper(store, tmp_path):
    api_keys.create(store, GRANT, now=1.0)
    for name in ("keys.db", "keys.db.pepper"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    (tmp_path / "keys.db.pepper").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        Store(str(tmp_path / "keys.db"))


def test_a_store_with_another_pepper_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PEPPER", "ab" * 32)
    with pytest.raises(StoreError, match="pepper"):
        Store(str(tmp_path / "keys.db"), pepper="env:PEPPER")
    Store(str(tmp_path / "new.db"), pepper="env:PEPPER").close()
    assert not (tmp_path / "new.db.pepper").exists()
    (tmp_path / "pepper").write_text("ab" * 32 + "\n")
    (tmp_path / "pepper").chmod(0o600)
    Store(str(tmp_path / "new.db"), pepper=f"file:{tmp_path / 'pepper'}").close()


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "ab" * 31, "ab" * 33, "ab" * 15 + "é" * 4])
def test_a_short_or_strange_pepper_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.setenv("MODELWRIGHT_PEPPER", "env:PEPPER")
    monkeypatch.setenv("PEPPER", text)
    with pytest.raises(RequestError, match="openssl"):
        Store(str(tmp_path / "keys.db"))
    monkeypatch.delenv("PEPPER")
    with pytest.raises(RequestError, match="env:NAME"):
        Store(str(tmp_path / "keys.db"))


def test_another_version_is_refused(store, tmp_path):
    with sqlite3.connect(tmp_path / "keys.db") as raw:
        raw.execute("update modelwright_meta set value = '2' where name = 'schema'")
    raw.close()
    with pytest.raises(StoreError, match="version 2"):
        Store(str(tmp_path / "keys.db"))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:hidden@b/c",
        "sqlite://",
        "sqlite:///a?mode=memory",
        "://",
        "postgresql://a:hid den@[::",
    ],
)
def test_a_strange_url_is_refused_without_its_password(url):
    with pytest.raises(RequestError) as refused:
        Store(url)
    assert "hid" not in str(refused.value)


def test_what_is_no_database_is_an_error_in_words(tmp_path):
    (tmp_path / "keys.db").write_bytes(b"this is a text, and no database\n" * 200)
    with pytest.raises(StoreError, match="not a database"):
        Store(str(tmp_path / "keys.db"))


def test_a_damaged_key_is_an_error_in_words(store, tmp_path):
    api_keys.create(store, GRANT, now=1.0)
    with sqlite3.connect(tmp_path / "keys.db") as raw:
        raw.execute("update modelwright_api_keys set role = 'emperor'")
    raw.close()
    with pytest.raises(StoreError, match="emperor"):
        store.all_keys()


def test_the_place_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_STORE", f"sqlite:///{tmp_path / 'there.db'}")
    Store().close()
    assert (tmp_path / "there.db").exists()
    monkeypatch.delenv("MODELWRIGHT_STORE")
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "state"))
    Store().close()
    assert (tmp_path / "state" / "keys.db").exists()


def test_a_change_shows_in_another_store(store, tmp_path):
    other = Store(str(tmp_path / "keys.db"))
    words = [other.change()]
    _, made = api_keys.create(store, GRANT, now=1.0)
    words.append(other.change())
    api_keys.rotate(store, made.prefix, now=2.0)
    words.append(other.change())
    store.revoke(made.prefix, now=3.0)
    words.append(other.change())
    assert len(set(words)) == 4
    other.close()


def test_threads_and_processes_add_up_what_is_spent(store, tmp_path):
    place = str(tmp_path / "keys.db")
    code = (
        "import sys; from modelwright.security.store import Store\n"
        "store = Store(sys.argv[1])\n"
        f"for _ in range(25): store.spend({{('a', '{DAY}'): 1.0, ('b', '{DAY}'): 0.5}})"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, place]) for _ in range(2)]

    def spend():
        for _ in range(25):
            store.spend({("b", DAY): 0.5, ("a", DAY): 1.0})

    threads = [threading.Thread(target=spend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    assert store.spent(DAY) == {("a", DAY): 100.0, ("b", DAY): 50.0}
    assert store.spent("2026-12-01") == {}


def test_stores_that_begin_at_the_same_time_share_one_pepper(tmp_path):
    code = (
        "import sys; from modelwright.security.store import Store\n"
        "print(Store(sys.argv[1]).pepper.hex())"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "keys.db")]
    begun = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate()[0] for process in begun}
    assert [process.returncode for process in begun] == [0, 0, 0]
    assert len(found) == 1


def test_a_file_that_is_gone_is_an_error_and_not_an_empty_store(store, tmp_path):
    api_keys.create(store, GRANT, now=1.0)
    kept = (tmp_path / "keys.db").rename(tmp_path / "aside.db")
    with pytest.raises(StoreError):
        store.all_keys()
    assert not (tmp_path / "keys.db").exists()
    kept.rename(tmp_path / "keys.db")
    assert len(store.all_keys()) == 1
