"""The store in PostgreSQL: a server of its own, which goes away and comes back."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from modelwright.security import api_keys
from modelwright.security.access import AccessControl, AccessError
from modelwright.security.roles import grant_of
from modelwright.security.store import Store, StoreError

GRANT = grant_of("predictor", ["digits"])
DAY = "2026-11-30"


def program(name):
    """Return a program of PostgreSQL's server, which Debian doesn't put on the path."""
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(places[-1]) if places else None)


def has_user():
    """Say whether there is a user to run the server as, which refuses root."""
    if os.name != "posix" or os.geteuid() != 0:
        return os.name == "posix"
    import pwd

    return "postgres" in {user.pw_name for user in pwd.getpwall()}


NEEDED = {name: program(name) for name in ("initdb", "pg_ctl")}
pytestmark = pytest.mark.skipif(
    not has_user() or None in NEEDED.values(), reason="PostgreSQL's initdb isn't installed"
)


class Server:
    """A database of its own in a folder of its own, run by a user that isn't root."""

    def __init__(self, folder):
        self.folder, self.user = folder, {}
        if os.geteuid() == 0:
            self.user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.call("initdb", "-D", "data", "-U", "tester", "--auth=trust", "--no-sync")
        self.url = f"postgresql://tester:hidden@127.0.0.1:{self.port}/postgres"

    def call(self, name, *words):
        subprocess.run(
            [NEEDED[name], *words],
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            **self.user,
        )

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self.call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self):
        self.call("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # A socket's path must be short.
        running = Server(Path(folder))
        running.start()
        yield running
        running.stop()


@pytest.fixture
def store(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PEPPER", "ab" * 32)
    monkeypatch.setenv("MODELWRIGHT_PEPPER", "env:PEPPER")
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path))
    with_store = Store(server.url)
    yield with_store
    with_store.close()


def test_keys_and_use_are_kept_and_words_are_only_words(store):
    word = "'; drop table modelwright_api_keys; -- %s :name"
    text, made = api_keys.create(
        store, GRANT, now=1.0, name=word, requests_per_minute=10**10, daily_cost=0.1
    )
    found = {key.prefix: key for key in store.all_keys()}
    assert found[made.prefix] == made
    assert api_keys.find(found, store.pepper, text) == made
    _, new = api_keys.rotate(store, made.prefix, now=2.0, grace_s=5)
    store.revoke(new.prefix, now=3.0)
    found = {key.prefix: key for key in store.all_keys()}
    assert (found[made.prefix].expires, found[new.prefix].revoked) == (7.0, 3.0)
    store.spend({(word, DAY): 0.5})
    store.spend({(word, DAY): 0.25, ("other", DAY): 1.0})
    assert store.spent(DAY)[word, DAY] == 0.75


def test_the_password_is_in_no_message(store, server):
    assert "hidden" not in store.where
    with pytest.raises(StoreError) as refused:
        Store(server.url.replace(str(server.port), "1"))
    assert "hidden" not in str(refused.value)


def test_stores_that_begin_at_the_same_time_make_the_tables_once(server, store):
    made, failed = [], []

    def begin():
        try:
            made.append(Store(server.url))
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for other in made:
        other.close()


def test_threads_add_up_what_is_spent(server, store):
    def spend(order):
        for _ in range(20):
            store.spend({(name, "2026-01-01"): 1.0 for name in order})

    threads = [threading.Thread(target=spend, args=(order,)) for order in ("ab", "ba", "ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.spent("2026-01-01") == {(name, "2026-01-01"): 60.0 for name in "ab"}


def test_another_pepper_is_refused(server, store, monkeypatch):
    monkeypatch.setenv("PEPPER", "cd" * 32)
    with pytest.raises(StoreError, match="pepper"):
        Store(server.url)


def test_a_database_that_goes_away_comes_back_without_a_restart(server, store, monkeypatch):
    monkeypatch.setattr(AccessControl, "_work", lambda self: None)
    key, made = api_keys.create(store, GRANT, now=1.0)
    control = AccessControl(Store(server.url))
    header = f"Bearer {key}"
    assert control.authenticate(header).id == made.prefix
    server.stop()
    control._refresh()
    assert control.authenticate(header).id == made.prefix
    control._read_at -= 61
    with pytest.raises(AccessError) as refused:
        control.authenticate(header)
    assert refused.value.status == 503
    server.start()
    control._refresh()
    assert control.authenticate(header).id == made.prefix
    api_keys.create(store, GRANT, now=2.0)
    control.close()
