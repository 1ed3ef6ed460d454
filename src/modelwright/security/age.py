"""The *age* format (C2SP age-encryption.org/v1), through the library `pyrage`.

Bytes are sealed for recipients and opened with identities: X25519 keys, SSH keys, passphrases, and
whatever an age plugin holds (hardware, key services). Nothing here touches a file, and no error
quotes an identity or what was sealed.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modelwright.errors import RequestError, SealError, require

HEAD = 1 << 11
"""How many bytes tell whether something is sealed; white space may stand before armour."""
_BINARY = b"age-encryption.org/v1\n"
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_TAGS = {"age1tag1": "tag", "age1tagpq1": "tagpq"}
"""Recipients that hardware holds, and which need no plugin to seal for; `tagpq` is post-quantum."""
_PLUGIN = re.compile(r"(?:age1|AGE-PLUGIN-)([A-Za-z0-9+._]+(?:-[A-Za-z0-9+._]+)*)-?1[A-Za-z0-9]+")
_NO_MATCH = ("No matching keys found", "Decryption failed")
"""What pyrage says where a key, or a passphrase, isn't of those that open a file."""
_MOST_HEADER = 1 << 20
_WORK = re.compile(rb"\d|1\d|2[012]")
"""The logarithm of the work that a passphrase may ask for; age itself has the same limit: 4 GiB."""


class DamagedSealError(SealError):
    """Something that was sealed, and then cut short, lengthened or changed."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone who may open what is sealed; `text` is the public key."""

    text: str
    key: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What opens what was sealed: a secret key, a passphrase, or an age plugin's stand-in."""

    key: Any = field(default=None, repr=False)
    passphrase: str = field(default="", repr=False)
    recipient: Recipient | None = None
    """Its public side, where the key itself says it: that of X25519."""


def is_sealed(data: bytes) -> bool:
    """Say whether some bytes, or the first `HEAD` of them, begin as any version of the format."""
    return data.startswith(_BINARY[:-3]) or data[:HEAD].lstrip().startswith(_ARMOR)


def create_identity() -> tuple[str, str]:
    """Return a new X25519 identity and its recipient, both as text."""
    identity = _pyrage().x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def parse_recipient(text: str) -> Recipient:
    """Return a recipient, `age1…`, an SSH public key or a plugin's, or raise a `SealError`."""
    pyrage, text = _pyrage(), text.strip()
    _refuse_hybrid(text)
    tag = next((kind for prefix, kind in _TAGS.items() if text.startswith(prefix)), "x25519")
    plugin = _PLUGIN.fullmatch(text)
    why = "An identity is secret: seal for its public key" if "KEY-" in text else ""
    try:
        if plugin is not None and tag == "x25519":
            made = pyrage.plugin.Recipient.from_str(text)
            return Recipient(text, _of_plugin("RecipientPluginV1", plugin[1], [made], []))
        kind = pyrage.ssh if text.startswith("ssh-") else getattr(pyrage, tag)
        return Recipient(text, kind.Recipient.from_str(text))
    except pyrage.RecipientError as error:
        raise SealError(
            "this isn't a recipient" if why else f"`{text[:80]}` isn't a recipient",
            why=why or str(error)[:120],
            fix="Give a key that begins with age1, an SSH public key (ssh-ed25519, ssh-rsa), or "
            "file:PATH of a file with one a line",
        ) from None


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Return the identities of an identity file: keys a line, or one SSH private key.

    Raises:
        SealError: there is none, or a line is none; the error doesn't say what stands there.
    """
    if is_sealed(text.encode(errors="replace")):
        raise SealError("this identity is itself sealed", fix="Open it where only you can read it")
    if text.lstrip().startswith("-----BEGIN "):
        pyrage = _pyrage()
        try:
            return (Identity(pyrage.ssh.Identity.from_buffer(text.encode())),)
        except pyrage.IdentityError as error:
            fix = "Ed25519 and RSA keys without a passphrase are read (ssh-keygen -p on a copy)"
            raise SealError("this SSH key can't be used", why=str(error)[:120], fix=fix) from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    identities = tuple(
        _parse_identity(line, number) for number, line in lines if line and line[0] != "#"
    )
    if not identities:
        raise SealError("there is no identity in it", fix="Make one: modelwright identity create")
    return identities


def _parse_identity(line: str, number: int) -> Identity:
    pyrage = _pyrage()
    _refuse_hybrid(line)
    plugin = _PLUGIN.fullmatch(line)
    try:
        if plugin is not None and line.startswith("AGE-PLUGIN-"):
            made = pyrage.plugin.Identity.from_str(line)
            return Identity(_of_plugin("IdentityPluginV1", plugin[1].lower(), [made]))
        key = pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError:  # Its cause is left out: it may quote the line.
        fix = "It begins with AGE-SECRET-KEY-1 or AGE-PLUGIN-; a public key opens nothing"
        raise SealError(f"line {number} isn't an identity", fix=fix) from None
    public = key.to_public()
    return Identity(key, recipient=Recipient(str(public), public))


def plugin_identity(name: str) -> Identity:
    """Return the identity that an age plugin (`age-plugin-NAME`) holds by default."""
    made = _pyrage().plugin.Identity.default_for_plugin(name)
    return Identity(_of_plugin("IdentityPluginV1", name, [made]))


def seal_bytes(data: bytes, recipients: Sequence[Recipient], *, passphrase: str = "") -> bytes:
    """Seal some bytes for each of the recipients, or else with a passphrase.

    Raises:
        RequestError: both are given, or none.
        SealError: an age plugin fails.
    """
    pyrage = _pyrage()
    if bool(recipients) == bool(passphrase):
        what = "give recipients or a passphrase, and not both: age's format takes it alone"
        raise RequestError(what, fix="--to RECIPIENT, or --passphrase env:NAME")
    keys = [recipient.key for recipient in recipients]
    try:
        sealed: bytes = (
            pyrage.encrypt(data, keys) if keys else pyrage.passphrase.encrypt(data, passphrase)
        )
    except pyrage.EncryptError as error:
        raise SealError("it can't be sealed", why=str(error)[:200]) from error
    return sealed


def open_bytes(sealed: bytes, identities: Sequence[Identity]) -> bytes:
    """Return what was sealed; nothing of it is returned where any byte was changed.

    Raises:
        DamagedSealError: it was cut short, lengthened or changed, or is of another version.
        SealError: none of the identities opens it.
    """
    pyrage = _pyrage()
    if not sealed.startswith(_BINARY):
        sealed = sealed.strip()  # pyrage takes armour only without white space around it.
    _check_header(sealed)
    keys = [identity.key for identity in identities if identity.key is not None]
    phrases = [identity.passphrase for identity in identities if identity.passphrase]
    attempts: list[Callable[[], bytes]] = [partial(pyrage.decrypt, sealed, keys)]
    attempts += [partial(pyrage.passphrase.decrypt, sealed, phrase) for phrase in phrases]
    for attempt in attempts:
        try:
            return attempt()
        except pyrage.DecryptError as error:
            if str(error) not in _NO_MATCH:
                raise _damaged(str(error)) from None
    what = f"none of the identities opens this sealed file ({len(identities)} tried)"
    raise SealError(what, fix="Give one that it was sealed for: --identity REF")


def _check_header(sealed: bytes) -> None:
    """Refuse what pyrage takes and the standard doesn't: early forms, and costly passphrases.

    The last line of a stanza, and no other, has less than 64 characters.
    """
    if not sealed.startswith(_BINARY):
        try:
            sealed = base64.b64decode(b"".join(sealed.split(b"\n")[1:-1]))
        except ValueError:
            raise _damaged("Its armour can't be read") from None
    is_ended = True
    end = sealed.find(b"\n--- ", 0, _MOST_HEADER)
    for line in sealed[: max(end, 0)].split(b"\n")[1:]:
        if is_ended != line.startswith(b"-> "):
            break
        if line.startswith(b"-> scrypt ") and not _WORK.fullmatch(line.rpartition(b" ")[2]):
            raise _damaged("Its passphrase asks for far too much work")
        is_ended = not is_ended and len(line) < 64
    else:
        if is_ended:
            return
    raise _damaged("Its header isn't made of whole stanzas")


def _damaged(why: str) -> DamagedSealError:
    what = "this sealed file is damaged, or isn't of age's version 1"
    return DamagedSealError(what, why=why[:120], fix="Copy the file again from where it came")


class _Callbacks:
    """What an age plugin may ask of its user: it may speak, and gets no answer."""

    def display_message(self, message: str, *_: object) -> None:
        sys.stderr.write(f"{message!r}\n")

    confirm = request_public_string = request_passphrase = display_message


def _of_plugin(kind: str, name: str, *parts: list[Any]) -> Any:
    """Return the recipient or identity that a plugin stands for; say where it is missing."""
    try:
        return getattr(_pyrage().plugin, kind)(name, *parts, _Callbacks())
    except Exception as error:
        raise SealError(
            f"the age plugin `{name}` can't be used",
            why=str(error).split("\n")[0][:120],
            fix=f"Install the program age-plugin-{name}, and see that it is in PATH",
        ) from error


def _refuse_hybrid(text: str) -> None:
    if text.startswith(("age1pq1", "AGE-SECRET-KEY-PQ-")):
        what = "this is a post-quantum key of age's kind `hybrid`, which isn't read yet"
        raise SealError(what, fix="Use an X25519 key (age1…), or one of hardware (age1tagpq1…)")


def _pyrage() -> Any:
    return require("pyrage", extra="security", purpose="to seal and open files")
