"""Whose model files are trusted: a policy, and what it refuses.

    version: 1
    trusted-signers:
      - {name: release team, key: "ssh-ed25519 AAAA…", not_before: 2026-01-01, expires: 2027-01-01}
    algorithms: [ed25519]   # by default
    max_age_days: 365       # by default any age

A signer's algorithm is that of its key in the policy; what an envelope says of it plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from modelwright.errors import DataError, SignatureError
from modelwright.recipe.reading import load_settings
from modelwright.recipe.spec import FromList, Spec, TypeDescription
from modelwright.security import dsse
from modelwright.security.dsse import Subject
from modelwright.security.signing_keys import PublicKey, read_public_key

CLOCKS = timedelta(minutes=10)
"""How far a signer's clock may be ahead of this machine's."""
_FORM = "%Y-%m-%d %H:%M UTC"


def _key(value: object, info: ValidationInfo) -> object:
    """Read a public key; the path of one starts from the policy's folder."""
    if not isinstance(value, str):
        return value
    try:
        return read_public_key(value, base=info.context)
    except DataError as error:
        raise ValueError(str(error)) from error


def _time(value: object) -> datetime:
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return datetime.strptime(str(value), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise ValueError("a time is 2027-01-31 or 2027-01-31T12:00:00Z, in UTC")


Key = Annotated[PublicKey, BeforeValidator(_key), TypeDescription("a public key, or its file")]
Time = Annotated[
    datetime | None,
    BeforeValidator(_time),
    TypeDescription("a time in UTC"),
    Field(validate_default=False),  # Only what isn't there means any time.
]


class Signer(Spec):
    """Somebody whose signature is trusted, from one time to another where it says so."""

    name: str = Field(min_length=1, max_length=80)
    """What messages call them."""
    key: Key
    """Their public key, or the path of its file, which starts from the policy's folder."""
    not_before: Time = None
    """From when on they are trusted."""
    expires: Time = None
    """Until when."""


class Policy(Spec):
    """The signers whose files are trusted; all others are refused."""

    version: Literal[1]
    """The version of this form."""
    signers: Annotated[tuple[Signer, ...], FromList] = Field(alias="trusted-signers", min_length=1)
    """Who is trusted."""
    algorithms: Annotated[tuple[Literal["ed25519"], ...], FromList] = Field(
        default=("ed25519",), min_length=1
    )
    """By which algorithms they may sign."""
    max_age_days: int | None = Field(default=None, gt=0, le=36_500)
    """How old a signature may be."""

    def check(
        self, signature: bytes | None, subject: Subject, *, now: datetime | None = None
    ) -> tuple[Signer, datetime]:
        """Return who signed a model file, and when by their clock.

        Args:
            signature: the file's signature member; `None` where it has none.
            subject: what must have been signed.
            now: the time; by default this machine's.

        Raises:
            SignatureError: it isn't signed, not by one of the signers, or not in their time.
            MissingExtraError: the library `cryptography` isn't installed.
        """
        if signature is None:
            raise SignatureError(
                "the file isn't signed, and only files of trusted signers are taken here",
                fix="Get a signed one, or sign it: modelwright sign FILE --key KEY",
            )
        envelope = dsse.read_envelope(signature)
        # A key that stands twice, with other times, is trusted where all of them say so.
        signers = [item for item in self.signers if item.key.id == envelope.key_id]
        if not signers:
            known = ", ".join(f"{item.name} ({item.key.id})" for item in self.signers[:4])
            what = f"the file is signed with another key: {envelope.key_id[:60]!r}"
            raise SignatureError(what, why=f"Trusted: {known}")
        message = dsse.pre_authentication_encoding(dsse.PAYLOAD_TYPE, envelope.payload)
        if not signers[0].key.verifies(envelope.signature, message):
            raise SignatureError(f"the signature was changed, or isn't one of {signers[0].name}")
        # To the byte, so that nothing in a statement can mean more than is checked.
        name, created = envelope.name, envelope.created
        if envelope.payload != dsse.statement_of(subject, name=name, created=created):
            why = "It was changed after it was signed, or the signature is of another file"
            raise SignatureError("what was signed isn't this model with this evidence", why=why)
        for signer in signers:
            self._check_time(signer, created, now or datetime.now(UTC))
        return signers[0], created

    def _check_time(self, signer: Signer, created: datetime, now: datetime) -> None:
        """Refuse a signature made, or looked at, outside its time: a thief of a key can set it."""
        at, fix = f"the file was signed at {created:{_FORM}}", "Have the file signed again"
        if created > now + CLOCKS:
            why = f"Here it is {now:{_FORM}}: this machine's clock or the signer's is wrong"
            raise SignatureError(f"{at}, in the future", why=why, fix="Set the clock")
        if signer.not_before is not None and min(created, now) < signer.not_before:
            begins = f"{signer.name} is trusted from {signer.not_before:{_FORM}} on"
            raise SignatureError(f"{at}, and {begins}", fix=fix)
        if signer.expires is not None and max(created, now) >= signer.expires:
            raise SignatureError(
                f"{signer.name} was trusted until {signer.expires:{_FORM}}", fix=fix
            )
        if self.max_age_days is not None and now - created > timedelta(days=self.max_age_days):
            raise SignatureError(f"{at}, more than {self.max_age_days} days ago", fix=fix)


def trust_keys(keys: Sequence[str]) -> Policy:
    """Return the policy that trusts these public keys, texts or files, at any time.

    Raises:
        DataError: one of them isn't a public key.
    """
    read = [read_public_key(key) for key in keys]
    signers = [{"name": f"the key {key.id}", "key": key} for key in read]
    return Policy.model_validate({"version": 1, "trusted-signers": signers})


def read_policy(file: Path) -> Policy:
    """Read a policy, a file as strict as a recipe.

    Raises:
        RecipeError: it can't be read, or isn't a policy, with the line that is wrong.
    """
    return load_settings(file, Policy)
