"""The signature of a model file: a DSSE envelope (1.0.2) over a statement of in-toto's (v1).

An envelope is accepted in one spelling only; `trust` compares the statement to the byte.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from modelwright.errors import SignatureError
from modelwright.files import JsonObject, canonical_json
from modelwright.security.signing_keys import PrivateKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:modelwright:evidence:v1"
MOST_EVIDENCE_BYTES = 1 << 19
"""Evidence that is longer is named by its digest alone, as a signature has at most 1 MiB."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a model file is signed; digests are `sha256:` and 64 hexadecimal digits."""

    manifest: str
    """The digest of the manifest, which names all other members but the signature."""
    model: str
    """The model digest."""
    ledger: str
    """The digest of the evidence."""
    evidence: Sequence[JsonObject]
    """Its records."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signature as it was read; nothing of it has been verified."""

    payload: bytes
    key_id: str
    signature: bytes
    name: str
    """The file's name when it was signed."""
    created: datetime
    """When it was signed, by the signer's clock."""


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that DSSE signs."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def statement_of(subject: Subject, *, name: str, created: datetime) -> bytes:
    """Return the statement about a model file of this name, as canonical JSON."""
    records = list(subject.evidence)
    fits = len(canonical_json(records)) <= MOST_EVIDENCE_BYTES
    parts = (("manifest.json", subject.manifest), ("model", subject.model))
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": f"{name}/{part}", "digest": {"sha256": digest.removeprefix("sha256:")}}
            for part, digest in parts
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "created": created.astimezone(UTC).strftime(_TIME),
            "ledger": subject.ledger,
            "evidence": records if fits else None,
        },
    }
    return canonical_json(statement)


def sign(subject: Subject, key: PrivateKey, *, name: str, created: datetime) -> bytes:
    """Return the signature member of a model file of this name, signed at this time."""
    payload = statement_of(subject, name=name, created=created)
    made = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    return _encode(payload, key.public.id, made)


def read_envelope(data: bytes) -> Envelope:
    """Read a signature member; nothing is verified.

    Raises:
        SignatureError: it isn't an envelope with one signature over a statement of ours.
    """
    try:
        value = json.loads(data)
        payload = base64.b64decode(value["payload"], validate=True)
        (one,) = value["signatures"]
        key_id, signature = one["keyid"], base64.b64decode(one["sig"], validate=True)
        said = json.loads(payload)
        name, _, part = said["subject"][0]["name"].rpartition("/")
        kinds = (said["_type"], said["predicateType"], part)
        created = datetime.strptime(said["predicate"]["created"], _TIME).replace(tzinfo=UTC)
        # What we would write is the only form: other types, keys and spellings end here.
        is_text = all(len(text) < 256 and text.isprintable() for text in (key_id, name))
        is_known = kinds == (STATEMENT_TYPE, PREDICATE_TYPE, "manifest.json")
        if not (is_text and is_known and _encode(payload, key_id, signature) == data):
            raise ValueError("another form")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        what = "the signature isn't an envelope with one signature over a statement of modelwright"
        raise SignatureError(what, fix="Have the file signed by `modelwright sign`") from error
    return Envelope(payload, key_id, signature, name, created)


def _encode(payload: bytes, key_id: str, signature: bytes) -> bytes:
    one = {"keyid": key_id, "sig": base64.b64encode(signature).decode()}
    said = base64.b64encode(payload).decode()
    return canonical_json({"payload": said, "payloadType": PAYLOAD_TYPE, "signatures": [one]})
