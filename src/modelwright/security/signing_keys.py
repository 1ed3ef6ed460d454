"""Ed25519 keys (RFC 8032) for signing: made, read from the usual files, named by a fingerprint.

The library `cryptography` reads the files and computes. Private keys are PEM (PKCS 8), OpenSSH's
or 32 raw bytes, public ones a line of OpenSSH, PEM or raw. All may raise a `MissingExtraError`.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.errors import DataError, RequestError, require
from modelwright.files import resource_errors

_ED25519 = "hazmat.primitives.asymmetric.ed25519"
_FORMS = "hazmat.primitives.serialization"
_KEY_BYTES = 32
_MOST_FILE_BYTES = 1 << 16
_SSH_HEAD = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
"""What OpenSSH puts before a key: two strings, the length before each (RFC 8709, section 4)."""
_NOT_ONE = "Give an Ed25519 key, such as `modelwright identity create --signing FILE` makes"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, 32 bytes."""

    raw: bytes

    @property
    def line(self) -> str:
        """The line of OpenSSH that holds it, without a comment."""
        return f"ssh-ed25519 {base64.b64encode(_SSH_HEAD + self.raw).decode()}"

    @property
    def id(self) -> str:
        """Its fingerprint, as `ssh-keygen -l` prints it: the SHA-256 of its OpenSSH form."""
        found = base64.b64encode(hashlib.sha256(_SSH_HEAD + self.raw).digest())
        return "SHA256:" + found.decode().rstrip("=")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Say whether a signature over the message was made with the private key."""
        key = _library(_ED25519).Ed25519PublicKey.from_public_bytes(self.raw)
        try:
            key.verify(signature, message)
        except _library("exceptions").InvalidSignature:
            return False
        return True


class PrivateKey:
    """A private key of the library; nothing of it is shown when this is printed."""

    def __init__(self, key: Any) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return bytes(self._key.sign(message))


def create_key(path: Path, *, passphrase: bytes | None = None) -> PublicKey:
    """Make a key pair: the private key (PKCS 8, mode 0600), and the public one at `path`.pub.

    Raises:
        RequestError: a file is there already, or the passphrase, which encrypts it, is empty.
        ResourceError: the place can't be written.
    """
    if passphrase == b"":
        raise RequestError("the passphrase is empty", where=str(path))
    forms, key = _library(_FORMS), _library(_ED25519).Ed25519PrivateKey.generate()
    guard = forms.BestAvailableEncryption(passphrase) if passphrase else forms.NoEncryption()
    pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, guard)
    public, beside = PrivateKey(key).public, path.with_name(f"{path.name}.pub")
    for place in filter(os.path.lexists, (path, beside)):
        fix = "Choose another name, or move it away"
        raise RequestError("this is there, and no key is overwritten", where=str(place), fix=fix)
    for place, data, mode in ((path, pem, 0o600), (beside, f"{public.line}\n".encode(), 0o644)):
        with resource_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            # Not renamed into its place: that would overwrite what came there meanwhile.
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
    return public


def secret(reference: str) -> bytes:
    """Return what `env:NAME`, `file:PATH` or a path refers to: a key, or a passphrase.

    Raises:
        RequestError: the variable isn't set.
        DataError: the file can't be read.
    """
    kind, _, name = reference.partition(":")
    if kind != "env":
        return _read(Path(name if kind == "file" else reference))
    if name not in os.environ:
        raise RequestError(f"the variable `{name}` isn't set", where=reference)
    return os.fsencode(os.environ[name])


def read_private_key(reference: str, *, passphrase: bytes | None = None) -> PrivateKey:
    """Return the private key that a reference names; see `secret`.

    Raises:
        RequestError: it names a variable that isn't set.
        DataError: it can't be read, isn't an Ed25519 key, or the passphrase isn't its own.
    """
    data, forms, kind = secret(reference), _library(_FORMS), _library(_ED25519).Ed25519PrivateKey
    load = forms.load_ssh_private_key if b"BEGIN OPENSSH" in data else forms.load_pem_private_key
    if len(data) == _KEY_BYTES:
        return PrivateKey(kind.from_private_bytes(data))
    return PrivateKey(_loaded(lambda: load(data, passphrase), kind, where=reference))


def read_public_key(text: str, *, base: Path | None = None) -> PublicKey:
    """Return the public key that a text is, or that the file of this path holds.

    A relative path starts from `base`, by default the current folder.

    Raises:
        DataError: it is neither, or the key isn't one of Ed25519.
    """
    is_key = " AAAA" in text or "-----BEGIN" in text
    path = (base or Path()) / text
    data, where = (text.encode(), "the key given") if is_key else (_read(path), str(path))
    forms, kind = _library(_FORMS), _library(_ED25519).Ed25519PublicKey
    if b"PRIVATE KEY-----" in data:
        raise DataError("this is a private key", where=where, fix="Give the public one, FILE.pub")
    if len(data) == _KEY_BYTES:
        return PublicKey(data)
    load = forms.load_pem_public_key if b"-----BEGIN" in data else forms.load_ssh_public_key
    return PublicKey(_loaded(lambda: load(data.strip()), kind, where=where).public_bytes_raw())


def _loaded(load: Callable[[], object], kind: type, *, where: str) -> Any:
    """Return a key of this kind; no text of the library is shown, as it may quote the key."""
    why = "It is of another algorithm or form, or the passphrase isn't its own"
    try:
        key = load()
        if isinstance(key, kind):
            return key
    except TypeError:
        why = "It is encrypted and there is no passphrase, or the other way round"
    except (ValueError, _library("exceptions").UnsupportedAlgorithm) as error:
        if "bcrypt" in str(error):
            why = "ssh-keygen encrypted it: that needs bcrypt, pip install 'modelwright[security]'"
    raise DataError("this key can't be used", where=where, why=why, fix=_NOT_ONE)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_FILE_BYTES + 1)
        if len(data) > _MOST_FILE_BYTES:
            raise ValueError("it is longer than 64 KiB")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"the key can't be read ({why})", where=str(path), fix=_NOT_ONE) from error
    return data


def _library(module: str) -> Any:
    return require(f"cryptography.{module}", extra="security", purpose="signing")
