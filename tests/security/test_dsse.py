"""The envelope and the statement in it: known bytes, one spelling, and everything else refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import SignatureError
from modelwright.security import dsse
from modelwright.security.dsse import Subject, pre_authentication_encoding, read_envelope

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
from modelwright.security.signing_keys import PrivateKey  # noqa: E402

KEY = PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
CREATED = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
SUBJECT = Subject(DIGEST, DIGEST, DIGEST, [{"metric": "accuracy", "value": 0.9}])
SIGNED = dsse.sign(SUBJECT, KEY, name="model.mw", created=CREATED)


def test_the_example_of_the_specification() -> None:
    """The test vector of DSSE's protocol.md."""
    found = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("", b"") == b"DSSEv1 0  0 "
    assert pre_authentication_encoding("ä", b"\0\n") == b"DSSEv1 2 \xc3\xa4 2 \0\n"


@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
def test_no_two_payloads_are_encoded_alike(one: tuple[str, bytes], two: tuple[str, bytes]) -> None:
    assert (pre_authentication_encoding(*one) == pre_authentication_encoding(*two)) == (one == two)


def test_what_stands_in_an_envelope() -> None:
    value = json.loads(SIGNED)
    assert set(value) == {"payload", "payloadType", "signatures"}
    assert value["payloadType"] == "application/vnd.in-toto+json"
    assert [item["keyid"] for item in value["signatures"]] == [KEY.public.id]
    statement = json.loads(base64.b64decode(value["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [item["name"] for item in statement["subject"]] == [
        "model.mw/manifest.json",
        "model.mw/model",
    ]
    assert all(item["digest"] == {"sha256": "ab" * 32} for item in statement["subject"])
    assert statement["predicate"] == {
        "created": "2026-11-30T12:00:05Z",
        "ledger": DIGEST,
        "evidence": [{"metric": "accuracy", "value": 0.9}],
    }
    read = read_envelope(SIGNED)
    assert (read.name, read.created, read.key_id) == ("model.mw", CREATED, KEY.public.id)
    message = pre_authentication_encoding(dsse.PAYLOAD_TYPE, read.payload)
    assert KEY.public.verifies(read.signature, message)


def test_long_evidence_is_named_by_its_digest() -> None:
    subject = Subject(DIGEST, DIGEST, DIGEST, [{"metric": "x" * 1000}] * 600)
    signed = dsse.sign(subject, KEY, name="model.mw", created=CREATED)
    assert len(signed) < 2000
    predicate = json.loads(read_envelope(signed).payload)["predicate"]
    assert predicate["evidence"] is None
    assert predicate["ledger"] == DIGEST


def canonical(value: object) -> bytes:
    """Return canonical JSON, also of text that isn't one."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text.encode()


def edited(change: Callable[[Any], object]) -> bytes:
    value = json.loads(SIGNED)
    change(value)
    return canonical(value)


def restated(change: Callable[[Any], object]) -> bytes:
    """Return an envelope, rightly signed, over another statement."""
    statement = json.loads(base64.b64decode(json.loads(SIGNED)["payload"]))
    change(statement)
    payload = canonical(statement)
    return dsse._encode(payload, KEY.public.id, KEY.sign(payload))


ENVELOPES = {
    "another payload type": lambda e: e.update(payloadType="application/json"),
    "no payload type": lambda e: e.pop("payloadType"),
    "two signatures": lambda e: e["signatures"].append(e["signatures"][0]),
    "no signature": lambda e: e["signatures"].clear(),
    "signatures no list": lambda e: e.update(signatures=e["signatures"][0]),
    "an algorithm of its own": lambda e: e["signatures"][0].update(alg="none"),
    "a certificate": lambda e: e["signatures"][0].update(cert="x"),
    "a key beside": lambda e: e.update(publicKey="x"),
    "a number for an id": lambda e: e["signatures"][0].update(keyid=1),
    "a long id": lambda e: e["signatures"][0].update(keyid="x" * 256),
    "an id that steers a terminal": lambda e: e["signatures"][0].update(keyid="\x1b[2J"),
    "an id that isn't UTF-8": lambda e: e["signatures"][0].update(keyid="\ud800"),
    "no id": lambda e: e["signatures"][0].pop("keyid"),
    "base64 with a line's end": lambda e: e.update(payload=e["payload"] + "\n"),
    "base64 without padding": lambda e: e["signatures"][0].update(
        sig=e["signatures"][0]["sig"].rstrip("=")
    ),
    "another payload": lambda e: e.update(payload=base64.b64encode(b"[]").decode()),
    "no payload": lambda e: e.update(payload=None),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_another_envelope_is_refused(name: str) -> None:
    with pytest.raises(SignatureError, match="isn't an envelope"):
        read_envelope(edited(ENVELOPES[name]))


STATEMENTS = {
    "another statement": lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
    "no subject": lambda s: s["subject"].clear(),
    "another subject": lambda s: s["subject"][0].update(name="model.mw"),
    "a name that is no text": lambda s: s["subject"][0].update(name="\ud800/manifest.json"),
    "a long name": lambda s: s["subject"][0].update(name="x" * 256 + "/manifest.json"),
    "no predicate": lambda s: s.pop("predicate"),
    "no time": lambda s: s["predicate"].pop("created"),
    "a time of another zone": lambda s: s["predicate"].update(created="2026-11-30T12:00:05+01:00"),
    "an impossible time": lambda s: s["predicate"].update(created="2026-13-30T12:00:05Z"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_another_statement_is_refused(name: str) -> None:
    with pytest.raises(SignatureError, match="isn't an envelope"):
        read_envelope(restated(STATEMENTS[name]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a signature",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        SIGNED + b"\n",
        b" " + SIGNED,
        SIGNED.replace(b'{"payload"', b'{"payload":"","payload"', 1),
        SIGNED.replace(b'","', b'", "', 1),
        b"[" * 100_000,
        b'{"payload":' * 50_000,
        b'{"payload":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureError, match="isn't an envelope"):
        read_envelope(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(SignatureError):
        read_envelope(data)
