"""The trust policy: who is trusted and when, and the lines of what isn't a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelwright.errors import DataError, RequestError, SignatureError
from modelwright.files import canonical_json
from modelwright.security import dsse
from modelwright.security.dsse import Subject
from modelwright.security.trust import CLOCKS, Policy, Signer, read_policy, trust_keys

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
from modelwright.security.signing_keys import PrivateKey, PublicKey  # noqa: E402

KEY, OTHER = (
    PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)) for seed in (7, 8)
)
NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SUBJECT = Subject(*(f"sha256:{part * 64}" for part in "abc"), [{"metric": "accuracy"}])


def signed(key: PrivateKey = KEY, *, created: datetime = NOW, subject: Subject = SUBJECT) -> bytes:
    return dsse.sign(subject, key, name="model.mw", created=created)


def policy(*signers: Signer, **more: object) -> Policy:
    return Policy.model_validate({"version": 1, "trusted-signers": signers, **more})


def team(**more: object) -> Signer:
    return Signer(name="team", key=KEY.public, **more)  # type: ignore[arg-type]


def refused(policy: Policy, signature: bytes | None, why: str, **more: object) -> None:
    with pytest.raises(SignatureError, match=why):
        policy.check(signature, SUBJECT, **{"now": NOW, **more})  # type: ignore[arg-type]


def test_a_trusted_signer_is_named() -> None:
    found, created = policy(Signer(name="other", key=OTHER.public), team()).check(
        signed(), SUBJECT, now=NOW
    )
    assert (found.name, found.key.id, created) == ("team", KEY.public.id, NOW)


def test_what_is_unsigned_or_signed_by_another_is_refused() -> None:
    refused(policy(team()), None, "isn't signed")
    refused(policy(team()), signed(OTHER), "signed with another key")
    refused(policy(team()), b"a signature", "isn't an envelope")


def test_the_key_decides_and_not_what_the_envelope_says() -> None:
    """Another's signature under a trusted key's name, an empty, a short and a swapped one."""
    value = json.loads(signed(OTHER))
    value["signatures"][0]["keyid"] = KEY.public.id
    refused(policy(team()), canonical_json(value), "was changed, or isn't one of team")
    for wrong in ("", "AAAA", json.loads(signed(created=NOW - DAY))["signatures"][0]["sig"]):
        value = json.loads(signed())
        value["signatures"][0]["sig"] = wrong
        refused(policy(team()), canonical_json(value), "was changed, or isn't one of team")


@pytest.mark.parametrize("part", ["manifest", "model", "ledger", "evidence"])
def test_a_signature_of_something_else_is_refused(part: str) -> None:
    other = [] if part == "evidence" else f"sha256:{'d' * 64}"
    subject = replace(SUBJECT, **{part: other})
    refused(policy(team()), signed(subject=subject), "isn't this model with this evidence")


def test_a_signature_over_the_payload_without_its_type_is_refused() -> None:
    """What another protocol has signed with the same key is no signature of a model."""
    payload = dsse.statement_of(SUBJECT, name="model.mw", created=NOW)
    for message in (payload, dsse.pre_authentication_encoding("application/json", payload)):
        forged = dsse._encode(payload, KEY.public.id, KEY.sign(message))
        refused(policy(team()), forged, "was changed, or isn't one of team")


def test_a_signer_is_trusted_in_their_time_alone() -> None:
    window = policy(team(not_before="2026-11-01", expires="2026-12-01"))
    inside = NOW - DAY
    assert window.check(signed(created=inside), SUBJECT, now=NOW)[1] == inside
    early, late = datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    refused(window, signed(created=early), "is trusted from 2026-11-01 00:00 UTC on")
    refused(window, signed(created=inside), "was trusted until 2026-12-01", now=late)
    refused(window, signed(created=early), "is trusted from", now=NOW)
    refused(window, signed(created=inside), "in the future", now=early)
    last = late - timedelta(seconds=1)
    assert window.check(signed(created=last), SUBJECT, now=last)


def test_a_key_that_stands_twice_is_trusted_where_both_times_say_so() -> None:
    both = policy(team(), team(expires="2026-11-30"))
    refused(both, signed(created=NOW - DAY), "was trusted until 2026-11-30")


def test_a_clock_that_is_two_hours_off_is_told() -> None:
    hours = timedelta(hours=2)
    refused(policy(team()), signed(created=NOW + hours), "in the future")
    with pytest.raises(SignatureError) as caught:
        policy(team()).check(signed(created=NOW + hours), SUBJECT, now=NOW)
    assert "this machine's clock or the signer's is wrong" in str(caught.value)
    for ahead in (-hours, timedelta(), CLOCKS):
        assert policy(team()).check(signed(created=NOW + ahead), SUBJECT, now=NOW)


def test_old_signatures_are_refused_where_a_policy_says_so() -> None:
    young = policy(team(), max_age_days=30)
    assert young.check(signed(created=NOW - 30 * DAY), SUBJECT, now=NOW)
    refused(young, signed(created=NOW - 31 * DAY), "more than 30 days ago")


def test_the_machines_own_clock_is_asked() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    assert policy(team()).check(signed(created=now), SUBJECT)[1] == now


def test_keys_alone_are_a_policy(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(OTHER.public.line)
    keys = trust_keys([KEY.public.line, str(tmp_path / "key.pub")])
    assert keys.check(signed(OTHER), SUBJECT, now=NOW)[0].key == OTHER.public
    assert keys.check(signed(), SUBJECT, now=NOW)[0].key == KEY.public
    with pytest.raises(DataError):
        trust_keys(["nowhere"])


HEAD = "version: 1\ntrusted-signers:\n"
LINE = f'  - {{name: team, key: "{KEY.public.line} me@work"}}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "trust.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "team.pub").write_text(OTHER.public.line)
    text = (
        f"{HEAD}{LINE}  - name: other\n    key: team.pub\n    not_before: 2026-01-01\n"
        "    expires: 2027-01-31T12:00:00Z\nalgorithms: [ed25519]\nmax_age_days: 365\n"
    )
    found = read_policy(written(tmp_path, text))
    assert found.signers[0].key == KEY.public
    assert found.signers[1] == Signer(
        name="other",
        key=PublicKey(OTHER.public.raw),
        not_before="2026-01-01",  # type: ignore[arg-type]
        expires="2027-01-31T12:00:00Z",  # type: ignore[arg-type]
    )
    assert found.signers[1].expires == datetime(2027, 1, 31, 12, tzinfo=UTC)
    assert found.max_age_days == 365
    assert read_policy(written(tmp_path, HEAD + LINE)).max_age_days is None


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", None, "is missing"),
        ("- a\n", None, "isn't made of settings"),
        (HEAD, 2, "trusted-signers"),
        (f"{HEAD}  []\n", 2, "trusted-signers"),
        (f"version: 2\ntrusted-signers:\n{LINE}", 1, "`version`"),
        (f"trusted-signers:\n{LINE}", None, "`version`"),
        (f"{HEAD}{LINE}signers: []\n", 4, "Did you mean `trusted-signers`"),
        (f"{HEAD}{LINE}algorithms: [rsa]\n", 4, "ed25519"),
        (f"{HEAD}{LINE}algorithms: []\n", 4, "algorithms"),
        (f"{HEAD}{LINE}algorithms: none\n", 4, "algorithms"),
        (f"{HEAD}{LINE}max_age_days: 0\n", 4, "max_age_days"),
        (f"{HEAD}{LINE}max_age_days: true\n", 4, "max_age_days"),
        (f"{HEAD}{LINE}max_age_days: 1.5\n", 4, "max_age_days"),
        (f"{HEAD}{LINE}version: 1\n", 4, "version"),
        (f"{HEAD}  - {{name: a, key: nowhere.pub}}\n", 3, "can't be read"),
        (f'{HEAD}  - {{name: a, key: "ssh-rsa AAAAB3Nz"}}\n', 3, "can't be used"),
        (f"{HEAD}  - {{name: a, key: 1}}\n", 3, "key"),
        (f"{HEAD}  - {{name: a}}\n", 3, "key"),
        (f"{HEAD}  - name: a\n    kay: 1\n    key: k\n", 4, "Did you mean `key`"),
        (f"{HEAD}{LINE[:-2]}, expires: 2027}}\n", 3, "a time is"),
        (f"{HEAD}{LINE[:-2]}, expires: 2027-02-30}}\n", 3, "a time is"),
        (f"{HEAD}{LINE[:-2]}, not_before: null}}\n", None, "a time is"),
        (f"{HEAD}  - {{name: '', key: k}}\n", 3, "name"),
        (f"{HEAD}  - &a {{name: b, key: k}}\n  - *a\n", None, ""),
        ("{", None, ""),
        ("\0", None, ""),
        ("[" * 5000, None, ""),
    ],
)
def test_what_is_wrong_in_a_policy_is_told_with_its_line(
    tmp_path: Path, text: str, line: int | None, why: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        read_policy(path)
    assert str(caught.value).startswith(f"{path}:{line}: " if line else str(path))
    assert why in str(caught.value)


def test_a_policy_that_cannot_be_read_trusts_nobody(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_bytes(b"#" * (2 << 20))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
    for path in (tmp_path, tmp_path / "nowhere", long, tmp_path / "bytes", Path("a\0b")):
        with pytest.raises(RequestError):
            read_policy(path)
