"""Signing a model file, and deciding whether a file may be opened at all.

A file is refused where a trust policy, given or named by `MODELWRIGHT_TRUST`, doesn't trust who
signed it. Files in the folder of a run that this process carries out are its own, and the policy
that the environment names doesn't speak of them.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.errors import RequestError, SignatureError
from modelwright.files import JsonObject, digest
from modelwright.modelfile.container import Container, FileLike, open_container
from modelwright.modelfile.contents import ledger_lines, with_signature
from modelwright.modelfile.manifest import LEDGER
from modelwright.run import TRUST, is_own

if TYPE_CHECKING:
    from modelwright.security.dsse import Subject
    from modelwright.security.signing_keys import PrivateKey
    from modelwright.security.trust import Policy, Signer


def check_trust(
    container: Container, file: FileLike, trust: Policy | str | os.PathLike[str] | None
) -> tuple[Signer, datetime] | None:
    """Return who signed an open file, and when; `None` where no policy asks for it.

    Args:
        container: the open file.
        file: where it was read from.
        trust: a policy, or the file of one; by default that of `MODELWRIGHT_TRUST`.

    Raises:
        SignatureError: the policy doesn't trust it.
        RequestError: the policy can't be read, or isn't one.
        MissingExtraError: the library `cryptography` isn't installed.
    """
    if trust is None and TRUST not in os.environ:
        return None  # Without a policy nothing more is imported.
    if trust is None and isinstance(file, str | os.PathLike) and is_own(Path(file)):
        return None
    from modelwright.security.trust import Policy, read_policy

    policy = os.environ[TRUST] if trust is None else trust
    if not isinstance(policy, Policy):
        try:
            policy = read_policy(Path(policy))
        except RequestError as error:
            error.why = error.why or "Without the trust policy that is named, no model is opened"
            raise
    signed = policy.check(container.signature, _subject(container))
    for member in container.manifest.members:
        container.read(member.name)  # Whatever is read of it later: every byte is as it was signed.
    return signed


def sign(path: Path | str, key: PrivateKey, *, created: datetime | None = None) -> JsonObject:
    """Sign a model file in place: its manifest, and so every byte but the signature's own.

    A signature that it has is replaced. The model digest and the evidence stay as they are.

    Args:
        path: the file.
        key: the private key, as `security.signing_keys` reads it.
        created: the time that is signed; by default now.

    Returns:
        What was written: `key_id`, `created`, and `replaced`, the key of a signature before it.

    Raises:
        ModelFileError: it isn't a model file, or is damaged.
        ResourceError: the disk is full, or the file can't be written; it is as it was.
    """
    from modelwright.security import dsse

    with open_container(path, is_checked=False) as container:
        subject, before = _subject(container), container.signature
    name = "".join(char if char.isprintable() else "?" for char in Path(path).name[:200])
    signature = dsse.sign(subject, key, name=name, created=created or datetime.now(UTC))
    with_signature(path, signature)
    replaced = None if before is None else describe_signature(before)["key_id"]
    return {**describe_signature(signature), "replaced": replaced}


def describe_signature(signature: bytes) -> JsonObject:
    """Return what a signature says of itself, which nobody has verified."""
    from modelwright.security.dsse import read_envelope

    try:
        envelope = read_envelope(signature)
    except SignatureError:
        return {"key_id": None, "created": None}
    return {"key_id": envelope.key_id, "created": envelope.created.isoformat()}


def _subject(container: Container) -> Subject:
    from modelwright.security.dsse import Subject

    return Subject(
        manifest=digest(container.manifest.to_bytes()),
        model=container.manifest.digest,
        ledger=container.manifest.member(LEDGER).digest,
        evidence=ledger_lines(container.read(LEDGER)),
    )
