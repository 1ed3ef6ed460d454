"""The store of API keys and daily use: an SQLite file, or a PostgreSQL database by its URL.

Several servers and the command line may use one store at a time. It holds no secret: keys are
hashed with a *pepper* of 256 bits that is kept elsewhere. SQLite is in WAL mode, in which reading
doesn't wait for writing; it needs a local disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from modelwright.errors import RequestError, ResourceError, require
from modelwright.files import locked, resource_errors, state_folder
from modelwright.security.roles import Grant, grant_of

if TYPE_CHECKING:
    import sqlalchemy as sa
else:
    sa = require("sqlalchemy", extra="serve", purpose="the store of API keys")

SCHEMA = "1"
BUSY_S = 5
"""So long a write waits for another one, and a connection for a database that is away."""
_FORMS = "Write a path, sqlite:///PATH or postgresql://USER@HOST/DATABASE"

# Both databases read these words the same way; values are never part of them.
_TABLES = (
    "create table if not exists modelwright_meta (name text primary key, value text not null)",
    "create table if not exists modelwright_api_keys (prefix text primary key, hash text not null,"
    " name text not null, role text not null, models text not null,"
    " created double precision not null, expires double precision, revoked double precision,"
    " requests_per_minute bigint, daily_cost double precision)",
    "create table if not exists modelwright_daily_use (id text, day text,"
    " cost double precision not null, primary key (id, day))",
)
_FIRST = "insert into modelwright_meta values (:name, :value) on conflict do nothing"
_META = "select name, value from modelwright_meta"
_CHANGED = "update modelwright_meta set value = :word where name = 'change'"
_KEYS = "select * from modelwright_api_keys order by created"
_ADD = (
    "insert into modelwright_api_keys values (:prefix, :hash, :name, :role, :models, :created,"
    " :expires, :revoked, :requests_per_minute, :daily_cost)"
)
_END = (
    "update modelwright_api_keys set expires = case when expires < :until then expires else :until"
    " end where prefix = :prefix and revoked is null and (expires is null or expires > :now)"
)
_REVOKE = (
    "update modelwright_api_keys set revoked = :now where prefix = :prefix and revoked is null"
)
_SPEND = (
    "insert into modelwright_daily_use values (:id, :day, :cost) on conflict (id, day)"
    " do update set cost = modelwright_daily_use.cost + excluded.cost"
)
_SPENT = "select id, day, cost from modelwright_daily_use where day = :day"
_LOCK = "select pg_advisory_xact_lock(469786060140)"  # any number, the same for all servers


class StoreError(ResourceError):
    """The store is away, busy, damaged, or of another version."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the store knows it; times are seconds since 1970."""

    prefix: str
    hash: str
    name: str
    grant: Grant
    created: float
    expires: float | None = None
    revoked: float | None = None
    requests_per_minute: int | None = None
    daily_cost: float | None = None


class Store:
    """A store of keys and of daily use. All methods may wait for the disk or the database.

    Args:
        url: a path, `sqlite:///PATH` or `postgresql://…`; by default `MODELWRIGHT_STORE`, else
            `keys.db` in the user's state folder.
        pepper: `file:PATH` or `env:NAME` with 64 hexadecimal digits; by default
            `MODELWRIGHT_PEPPER`, else a file beside an SQLite store (of PostgreSQL: in the state
            folder), which is made where it is missing.

    Raises:
        RequestError: the URL or the pepper makes no sense.
        StoreError: it is away (so everywhere below), newer, or made with another pepper.
    """

    def __init__(self, url: str | None = None, *, pepper: str | None = None) -> None:
        address = _address(url or os.environ.get("MODELWRIGHT_STORE") or "")
        self.where = address.render_as_string(hide_password=True)
        self._is_sqlite = address.drivername == "sqlite"
        path = Path(address.database or "") if self._is_sqlite else state_folder() / "postgresql"
        with locked(Path(f"{path}.lock"), wait_s=4 * BUSY_S):
            reference = pepper or os.environ.get("MODELWRIGHT_PEPPER") or ""
            beside = Path(f"{path}.pepper")
            if self._is_sqlite and beside.exists() and not path.exists():
                raise StoreError(
                    "the store of keys is gone, and its pepper is still here",
                    where=str(path),
                    why="An empty one in its place would open the server",
                    fix=f"Bring it back, or begin anew: rm {beside}",
                )
            self.pepper = _pepper(reference, beside)
            if self._is_sqlite:
                with resource_errors(path):  # The files beside it get the same permissions.
                    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._engine = _engine(address)
            try:
                self._make()
            except BaseException:
                self.close()
                raise

    def _make(self) -> None:
        """Make what is missing, and refuse what isn't ours."""
        mark = keyed_hash(self.pepper, "modelwright store")
        first = {"schema": SCHEMA, "pepper": mark, "change": ""}
        with self._connected() as connection:
            for statement in (_LOCK, *_TABLES) if not self._is_sqlite else _TABLES:
                connection.execute(sa.text(statement))
            rows = [{"name": name, "value": value} for name, value in first.items()]
            connection.execute(sa.text(_FIRST), rows)
            found = _meta(connection)
        if found["schema"] != SCHEMA:
            what = f"this store is of version {found['schema']}, and only {SCHEMA} is known here"
            raise StoreError(what, where=self.where, fix="Update modelwright on this machine")
        if not hmac.compare_digest(found["pepper"], mark):
            what = "the pepper isn't the one that this store's keys were made with"
            fix = "Copy the first server's pepper, or name it by MODELWRIGHT_PEPPER"
            raise StoreError(what, where=self.where, fix=fix)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        """Give a connection whose changes are all made at the end of the block, or none of them."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, OSError) as error:
            why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise StoreError("the store of keys fails", where=self.where, why=why) from error

    def change(self) -> str:
        """Return a word that is another one after each change of a key."""
        with self._connected() as connection:
            return _meta(connection)["change"]

    def all_keys(self) -> list[StoredKey]:
        """Return all keys, the oldest first."""
        with self._connected() as connection:
            rows = [dict(row) for row in connection.execute(sa.text(_KEYS)).mappings()]
        try:
            grants = [grant_of(row.pop("role"), json.loads(row.pop("models"))) for row in rows]
            return [StoredKey(grant=grant, **row) for grant, row in zip(grants, rows, strict=True)]
        except (ValueError, TypeError, RequestError) as error:
            raise StoreError("a key can't be read", where=self.where, why=str(error)) from error

    def add(self, key: StoredKey, *, in_place_of: str | None = None, grace_s: float = 0) -> None:
        """Add a key; the one that it takes the place of ends `grace_s` later, if not before.

        Raises:
            RequestError: no key `in_place_of` is in use.
        """
        grant = {"role": key.grant.role, "models": json.dumps(key.grant.models)}
        with self._connected() as connection:
            if in_place_of is not None:
                until = key.created + grace_s
                self._change(connection, _END, prefix=in_place_of, until=until, now=key.created)
            self._change(connection, _ADD, **{**asdict(key), "grant": None, **grant})

    def revoke(self, prefix: str, *, now: float) -> None:
        """End a key at once.

        Raises:
            RequestError: no such key is in use.
        """
        with self._connected() as connection:
            self._change(connection, _REVOKE, prefix=prefix, now=now)

    def _change(self, connection: sa.Connection, statement: str, **values: object) -> None:
        connection.execute(sa.text(_CHANGED), {"word": secrets.token_hex(8)})
        if connection.execute(sa.text(statement), values).rowcount != 1:
            fix = "`modelwright keys list` shows the keys and their state"
            raise RequestError(f"no key `{values['prefix']}` is in use", where=self.where, fix=fix)

    def spend(self, costs: Mapping[tuple[str, str], float]) -> None:
        """Add costs, by id and day, to what is spent."""
        rows = [{"id": who, "day": day, "cost": cost} for (who, day), cost in sorted(costs.items())]
        with self._connected() as connection:  # in one order, so that no two wait for each other
            connection.execute(sa.text(_SPEND), rows)

    def spent(self, day: str) -> dict[tuple[str, str], float]:
        """Return what each id has spent on a day, by id and day."""
        with self._connected() as connection:
            rows = connection.execute(sa.text(_SPENT), {"day": day}).all()
        return {(row.id, day): row.cost for row in rows}

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _meta(connection: sa.Connection) -> dict[str, str]:
    return {row.name: row.value for row in connection.execute(sa.text(_META))}


def day_of(at: float) -> str:
    """Return the day (UTC) of a time in seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def keyed_hash(pepper: bytes, text: str) -> str:
    """Return the hash of a key: BLAKE2b with the pepper as its key (RFC 7693), in hexadecimal."""
    data = text.encode(errors="surrogatepass")
    return hashlib.blake2b(data, key=pepper, digest_size=32).hexdigest()


def _address(text: str) -> sa.URL:
    """Return where a store is, with the driver."""
    if "://" not in text:
        path = Path(text).expanduser() if text else state_folder() / "keys.db"
        return sa.URL.create("sqlite", database=str(path.absolute()))
    try:
        address = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:  # The text may hold a password.
        raise RequestError("the URL of the store can't be read", fix=_FORMS) from error
    if address.drivername == "sqlite" and address.database and not address.query:
        return address.set(database=str(Path(address.database).absolute()))
    if address.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise RequestError(f"a store can't be in `{address.drivername}`", fix=_FORMS)
    require("psycopg", extra="postgresql", purpose="a store in PostgreSQL")
    return address.set(drivername="postgresql+psycopg")


def _engine(address: sa.URL) -> sa.Engine:
    if address.drivername != "sqlite":  # Everything has a bound: a database may be away.
        bounds = {"connect_timeout": BUSY_S, "tcp_user_timeout": 1000 * BUSY_S}
        words = {"client_encoding": "utf8", "options": f"-c statement_timeout={1000 * BUSY_S}"}
        return sa.create_engine(
            address, pool_pre_ping=True, pool_size=2, connect_args=bounds | words
        )
    # A connection lasts for one use, and never makes the file: one that was put back in its place
    # counts at once, and one that is gone isn't taken for an empty store.
    place = f"file:{quote(address.database or '')}"
    opened = sa.URL.create("sqlite", database=place, query={"mode": "rw", "uri": "true"})
    engine = sa.create_engine(opened, poolclass=sa.NullPool, connect_args={"timeout": BUSY_S})
    sa.event.listen(engine, "connect", lambda made, _: made.execute("pragma journal_mode=wal"))
    return engine


def _pepper(reference: str, beside: Path) -> bytes:
    """Return the pepper that a reference names, else that of a file which is made once."""
    kind, _, name = reference.partition(":")
    if kind not in ("", "env", "file") or (kind == "env" and name not in os.environ):
        raise RequestError("the pepper isn't there", fix="Name it as env:NAME or file:PATH")
    path = Path(name).expanduser() if kind == "file" else beside
    with resource_errors(path):
        if not kind and not path.exists():
            aside = Path(f"{path}.new")
            made = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with os.fdopen(made, "w") as stream:
                stream.write(secrets.token_hex(32))
                stream.flush()
                os.fsync(made)
            aside.replace(path)
        if kind != "env" and os.name == "posix" and path.stat().st_mode & 0o077:
            raise StoreError("others may read it", where=str(path), fix=f"chmod 600 {path}")
        text = os.environ[name] if kind == "env" else path.read_text("ascii", "replace")
    with contextlib.suppress(ValueError):
        if len(found := bytes.fromhex(text.strip())) == 32:
            return found
    fix = "A pepper is 64 hexadecimal digits: openssl rand -hex 32"
    raise RequestError("this is no pepper", where=reference or str(path), fix=fix)
