"""Sealed data: opened in memory while a source is listed and read, and sealed again in the cache.

Sources read their files by `read_bytes` here, and tell kinds of files by `plain_name`. Both open
something only where `listed` was told to, so that nothing sealed is ever kept in an open cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.errors import DataError, SealError
from modelwright.files import digest, json_digest
from modelwright.security.age import Identity, Recipient, is_sealed, seal_bytes
from modelwright.security.sealing import (
    HOW_TO_GIVE,
    SUFFIX,
    is_sealed_path,
    opened_file,
    read_identities,
)

if TYPE_CHECKING:
    from modelwright.data.listing import Listing


@dataclass(frozen=True, slots=True)
class Sealing:
    """How sealed data is opened, and how what is made of it is sealed again."""

    identities: tuple[Identity, ...] = field(repr=False)
    recipients: tuple[Recipient, ...]

    @property
    def mark(self) -> str:
        """The digest of who can open what is sealed so."""
        return digest("\n".join(sorted(item.text for item in self.recipients)).encode())

    def seal(self, data: bytes) -> bytes:
        """Seal some bytes for all of the identities."""
        return seal_bytes(data, self.recipients)

    def open(self, path: Path) -> bytes:
        """Return in memory what a file holds; see `opened_file`."""
        return opened_file(path, self.identities)


def sealing() -> Sealing:
    """Return how data is opened and sealed again with the identities of `MODELWRIGHT_IDENTITY`.

    Raises:
        SealError: there are none, or only such as don't say their public key.
    """
    identities = read_identities()
    if not identities:
        raise SealError("the data is sealed, and no identity was given", fix=HOW_TO_GIVE)
    recipients = tuple(item.recipient for item in identities if item.recipient is not None)
    if not recipients:
        raise SealError(
            "what is kept of sealed data in the cache is sealed too, and for none of the "
            "identities its public key is known",
            fix="Give an X25519 identity beside it, made by: modelwright identity create FILE",
        )
    return Sealing(identities, recipients)


_SEALING: ContextVar[Sealing | None] = ContextVar("sealing", default=None)


def listed(make: Callable[[], Listing], *, where: Path, sealed: bool) -> Listing:
    """Return what a function lists; of sealed files in a form that is sealed wherever it is kept.

    Args:
        make: lists a source.
        where: the source's path.
        sealed: whether its files are sealed.

    Raises:
        SealError: there is no identity that opens them.
        DataError: nothing there is sealed, or it is and isn't said to be.
    """
    if sealed:
        return _unsealed(make, where)
    try:
        return make()
    except DataError as error:
        if is_sealed_path(where):
            raise _not_said(where) from error
        raise


def _not_said(path: Path) -> DataError:
    return DataError(
        "this data is sealed, and nothing of it is opened unless the recipe says so",
        where=str(path),
        fix="Write `data: {sealed: true, …}` and give --identity",
    )


def _unsealed(make: Callable[[], Listing], where: Path) -> Listing:
    if not is_sealed_path(where):
        raise DataError(
            "nothing here is sealed, and the recipe says `sealed: true`",
            where=str(where),
            fix="Seal it with `modelwright seal`, and let `data.path` name what that wrote",
        )
    own = sealing()
    with _within(own):
        listing = make()
    read = listing.read

    def opened(row: int) -> bytes:
        with _within(own):  # Another thread may ask.
            return read(row)

    key = json_digest([listing.key, "sealed 1", own.mark])
    return replace(listing, read=opened, key=key, sealing=own)


@contextmanager
def _within(own: Sealing) -> Iterator[None]:
    token = _SEALING.set(own)
    try:
        yield
    finally:
        _SEALING.reset(token)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; while sealed data is read, opened, whatever its name ends in.

    Raises:
        DataError: it is sealed, and the data isn't said to be.
        OSError: it can't be read.
        SealError: it can't be opened.
    """
    own = _SEALING.get()
    if own is not None:
        return own.open(stored(path))
    data = path.read_bytes()
    refuse_sealed(data, path)
    return data


def refuse_sealed(data: bytes, path: Path) -> None:
    """Refuse what is sealed where nothing is opened: an encrypted file may look like texts.

    Raises:
        DataError: it is sealed.
    """
    if is_sealed(data):
        raise _not_said(path)


def is_unsealing() -> bool:
    """Say whether sealed files are opened here and now."""
    return _SEALING.get() is not None


def plain_name(name: str) -> str:
    """Return the name that a file has unsealed; where nothing is opened the name itself."""
    return name.removesuffix(SUFFIX) if is_unsealing() else name


def stored(path: Path) -> Path:
    """Return the file that holds what one of this name held before it was sealed."""
    sealed = path.with_name(path.name + SUFFIX)
    return sealed if is_unsealing() and not path.exists() and sealed.exists() else path
