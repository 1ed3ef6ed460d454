"""Sealed files and folders: for whom they are sealed, with what they are opened, and by which name.

Identities and passphrases are named by references, never given: `env:NAME`, `file:PATH` (or a plain
path), `plugin:NAME` for what an age plugin holds, and `passphrase:` before one of the first two.
Where none is given, `MODELWRIGHT_IDENTITY` names them, as the words of a shell would be. What is
opened to be read stays in memory; only `open_path` writes it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelwright.errors import RequestError, SealError, located
from modelwright.files import folder_aside, resource_errors, write_bytes
from modelwright.security.age import (
    HEAD,
    Identity,
    Recipient,
    create_identity,
    is_sealed,
    open_bytes,
    parse_identities,
    parse_recipient,
    plugin_identity,
    seal_bytes,
)

ENVIRONMENT = "MODELWRIGHT_IDENTITY"
SUFFIX = ".age"
_MOST_KEY_BYTES = 1 << 20
HOW_TO_GIVE = "Give what opens it: --identity FILE, or the variable MODELWRIGHT_IDENTITY"


def create_identity_file(path: Path) -> str:
    """Write a new identity, which only its owner may read, and return its recipient.

    Raises:
        RequestError: the file is there already; an identity is never written over.
    """
    identity, recipient = create_identity()
    with resource_errors(path):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            what = "there is such a file already, and an identity isn't written over"
            raise RequestError(what, where=str(path), fix="Choose another name") from error
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(f"# public key: {recipient}\n{identity}\n")
    return recipient


def read_secret(ref: str) -> str:
    """Return the text that `env:NAME`, `file:PATH` or a path names, or raise a `SealError`."""
    kind, _, name = ref.partition(":")
    if kind == "env" and name:
        if name not in os.environ:
            raise SealError(f"the environment variable `{name}` isn't set", where=ref)
        return os.environ[name]
    path = Path(ref.removeprefix("file:")).expanduser()
    with _reading(path), path.open("rb") as stream:
        return stream.read(_MOST_KEY_BYTES).decode("utf-8", "replace")


def read_passphrase(ref: str) -> str:
    """Return the passphrase that a reference names, its first line, or raise a `SealError`."""
    passphrase = read_secret(ref).partition("\n")[0].removesuffix("\r")
    if not passphrase:
        raise SealError("there is no passphrase in it", where=ref)
    return passphrase


def read_identities(refs: Sequence[str] | None = None) -> tuple[Identity, ...]:
    """Return the identities that references name, by default those of `MODELWRIGHT_IDENTITY`."""
    identities: list[Identity] = []
    for ref in environment_refs() if refs is None else refs:
        kind, _, name = ref.partition(":")
        if ref.startswith(("AGE-SECRET-KEY", "AGE-PLUGIN")):
            what = "an identity is secret, and what is written on a command line can be seen"
            raise RequestError(what, fix="Put it into a file, or name a variable by env:NAME")
        with located(ref, SealError):
            if kind == "plugin" and name:
                identities.append(plugin_identity(name))
            elif kind == "passphrase" and name:
                identities.append(Identity(passphrase=read_passphrase(name)))
            else:
                identities += parse_identities(read_secret(ref))
    return tuple(identities)


def environment_refs() -> list[str]:
    """Return the references in `MODELWRIGHT_IDENTITY`."""
    try:
        return shlex.split(os.environ.get(ENVIRONMENT, ""))
    except ValueError as error:
        what = f"its words can't be told ({error})"
        raise RequestError(what, where=ENVIRONMENT, fix="Quote as in a shell") from None


@contextmanager
def using_identities(refs: Sequence[str]) -> Iterator[None]:
    """Let the block, and the processes that it starts, open files with these identities too."""
    before = os.environ.get(ENVIRONMENT)
    if refs:
        os.environ[ENVIRONMENT] = shlex.join([*refs, *environment_refs()])
    try:
        yield
    finally:
        os.environ.pop(ENVIRONMENT, None)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def read_recipients(refs: Sequence[str]) -> tuple[Recipient, ...]:
    """Return recipients, or raise a `SealError`: public keys, and `file:PATH` with one a line."""
    recipients: list[Recipient] = []
    for ref in refs:
        if not ref.startswith("file:"):
            recipients.append(parse_recipient(ref))
            continue
        for number, line in enumerate(read_secret(ref).splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                with located(f"{ref.removeprefix('file:')}:{number}", SealError):
                    recipients.append(parse_recipient(line))
    return tuple(recipients)


def is_sealed_path(path: Path) -> bool:
    """Say whether a file is sealed, or one of the files in a folder."""
    try:
        if path.is_dir():
            return any(is_sealed_path(item) for item in path.rglob(f"*{SUFFIX}") if item.is_file())
        with path.open("rb") as stream:
            return path.is_file() and is_sealed(stream.read(HEAD))
    except (OSError, ValueError):
        return False


def opened(data: bytes, identities: Sequence[Identity] | None = None) -> bytes:
    """Return in memory what was sealed; what isn't sealed, as it is.

    Raises:
        SealError: there is no identity, or none that opens it.
        DamagedSealError: it isn't what was sealed.
    """
    if not is_sealed(data):
        return data
    identities = read_identities() if identities is None else identities
    if not identities:
        raise SealError("it is sealed, and no identity was given", fix=HOW_TO_GIVE)
    return open_bytes(data, identities)


def opened_file(path: Path, identities: Sequence[Identity] | None = None) -> bytes:
    """Return in memory what a file holds; see `opened`. May raise an `OSError` too."""
    with located(path, SealError):
        return opened(path.read_bytes(), identities)


def seal_path(
    path: Path,
    recipients: Sequence[Recipient],
    *,
    passphrase: str = "",
    identities: Sequence[Identity] = (),
    out: Path | None = None,
) -> Path:
    """Seal a file, or each file of a folder on its own, beside it (`NAME.age`) or at `out`.

    What is sealed already is opened with `identities` and sealed anew, in its place by default.
    Names of files, and how long they are, aren't hidden.

    Raises:
        SealError: it can't be sealed, or is sealed already and no identity opens it.
        RequestError: something stands at `out`.
    """

    def seal(data: bytes) -> bytes:
        if is_sealed(data):
            if not identities:
                raise SealError("this is sealed already", fix="Give --identity FILE too")
            data = open_bytes(data, identities)
        return seal_bytes(data, recipients, passphrase=passphrase)

    is_again = identities and path.name.endswith(SUFFIX)
    target = out or (path if is_again else path.with_name(path.name + SUFFIX))
    _change(path, target, seal, lambda name: name.removesuffix(SUFFIX) + SUFFIX)
    return target


def open_path(path: Path, identities: Sequence[Identity], *, out: Path | None = None) -> Path:
    """Open a sealed file, or each file of a sealed folder, beside it (without `.age`) or at `out`.

    Raises:
        SealError: it isn't sealed, or can't be opened; nothing is written then.
        RequestError: something stands at `out` already.
    """

    def unseal(data: bytes) -> bytes:
        if not is_sealed(data):
            raise SealError("this isn't sealed", fix="Give a file that `modelwright seal` wrote")
        return opened(data, identities)

    if out is None and not path.name.endswith(SUFFIX):
        raise RequestError(f"its name doesn't end in {SUFFIX}", where=str(path), fix="Give --out")
    target = out or path.with_name(path.name.removesuffix(SUFFIX))
    _change(path, target, unseal, lambda name: name.removesuffix(SUFFIX))
    return target


def _change(
    path: Path, target: Path, change: Callable[[bytes], bytes], rename: Callable[[str], str]
) -> None:
    """Write what a function makes of a file, or of each in a folder: all of it or nothing."""
    if target.exists() and target != path:
        raise RequestError("something stands here already", where=str(target), fix="Give --out")
    if not path.is_dir():
        write_bytes(target, _changed(path, change))
        return
    files = list(_files(path))
    if not files:
        raise SealError("there are no files in this folder", where=str(path))
    with folder_aside(target) as aside:
        for file in files:
            place = aside / file.relative_to(path).with_name(rename(file.name))
            if place.exists():
                raise SealError(f"two files would be called `{place.name}`", where=str(file))
            write_bytes(place, _changed(file, change))


def _changed(path: Path, change: Callable[[bytes], bytes]) -> bytes:
    with _reading(path):
        data = path.read_bytes()
    with located(path, SealError):
        return change(data)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, in order; a link to another folder is refused."""
    for item in sorted(folder.iterdir()):
        if item.is_symlink() and item.is_dir():
            raise SealError("this links to another folder", where=str(item), fix="Leave it out")
        if item.is_dir():
            yield from _files(item)
        else:
            yield item


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what is wrong with a path; a pipe would be waited for."""
    try:
        if path.exists() and not path.is_file():
            raise SealError("this is no plain file", where=str(path))
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SealError(f"the file can't be read ({why})", where=str(path)) from error
