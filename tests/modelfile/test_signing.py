"""Signed files: whose they are, and that no way into a file leads around a trust policy."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError, RequestError, SignatureError
from modelwright.files import canonical_json
from modelwright.ledger import Ledger
from modelwright.modelfile.container import open_container
from modelwright.run import TRUST, claimed, is_own
from modelwright.security.trust import Policy, trust_keys
from tests.modelfile.making import FROZEN, evidence, forge, members_of

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
from modelwright.security.signing_keys import PrivateKey  # noqa: E402

KEY, OTHER = (
    PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)) for seed in (7, 8)
)
POLICY = trust_keys([KEY.public.line])
SAMPLES = 1000
"""How many flipped bits are tried, each a file of its own."""


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    path = tmp_path / "model.mw"
    shutil.copy(FROZEN, path)
    modelfile.sign(path, KEY)
    return path


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a policy that trusts the key, and that the environment names."""
    path = tmp_path / "trust.yaml"
    path.write_text(f'version: 1\ntrusted-signers:\n  - {{name: team, key: "{KEY.public.line}"}}\n')
    monkeypatch.setenv(TRUST, str(path))
    return path


def refused(path: Path, why: str, trust: Policy = POLICY) -> None:
    """Both `load` and `verify` refuse the file, with its place and the reason."""
    for enter in (modelfile.load, modelfile.verify):
        with pytest.raises(SignatureError, match=why) as caught:
            enter(path, trust=trust)
        assert caught.value.where == str(path)


def test_a_file_is_signed_in_place_and_its_model_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.mw"
    shutil.copy(FROZEN, path)
    created = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)
    found = modelfile.sign(path, KEY, created=created)
    assert found == {
        "key_id": KEY.public.id,
        "created": "2026-11-30T12:00:05+00:00",
        "replaced": None,
    }
    assert modelfile.digest(path) == modelfile.digest(FROZEN)
    assert members_of(path) == members_of(FROZEN)
    before = path.read_bytes()
    assert modelfile.sign(path, KEY, created=created)["replaced"] == KEY.public.id
    assert path.read_bytes() == before
    assert modelfile.load(path).ledger == modelfile.load(FROZEN).ledger


def test_a_file_with_any_name_is_signed(tmp_path: Path) -> None:
    for name in (os.fsdecode(b"\xff\n.mw"), "狗" * 60 + ".mw", 'a"b.mw'):
        path = tmp_path / name
        shutil.copy(FROZEN, path)
        modelfile.sign(path, KEY)
        renamed = path.rename(tmp_path / "renamed.mw")
        assert modelfile.verify(renamed, trust=POLICY).signed_by


def test_who_signed_and_when_is_told(signed: Path) -> None:
    for trust in (POLICY, trust_keys([OTHER.public.line, KEY.public.line])):
        report = modelfile.verify(signed, trust=trust)
        assert report.is_signed
        assert (report.signed_by, report.key_id) == (f"the key {KEY.public.id}", KEY.public.id)
        at = datetime.fromisoformat(report.signed_at)
        assert abs(datetime.now(UTC) - at) < timedelta(hours=1)
    assert modelfile.load(signed, trust=POLICY).digest == report.digest
    unasked = modelfile.verify(signed)
    assert (unasked.is_signed, unasked.signed_by, unasked.signed_at) == (True, "", "")


def test_a_description_says_that_nobody_has_verified_it(signed: Path, tmp_path: Path) -> None:
    said = modelfile.describe(signed)["signature"]
    assert (said["key_id"], said["verified"]) == (KEY.public.id, False)
    assert modelfile.describe(FROZEN)["signature"] is None
    odd = tmp_path / "odd.mw"
    shutil.copy(FROZEN, odd)
    modelfile.with_signature(odd, b"a signature")
    assert modelfile.describe(odd)["signature"] == {
        "key_id": None,
        "created": None,
        "verified": False,
    }


def test_unsigned_other_and_odd_signatures_are_refused(signed: Path, tmp_path: Path) -> None:
    refused(FROZEN, "isn't signed")
    refused(signed, "signed with another key", trust_keys([OTHER.public.line]))
    modelfile.with_signature(signed, b"a signature")
    refused(signed, "isn't an envelope")


def test_a_signature_that_was_taken_out_is_missed(signed: Path, tmp_path: Path) -> None:
    modelfile.load(signed, trust=POLICY)
    modelfile.with_signature(signed, None)
    refused(signed, "isn't signed")
    # The comment says that it is signed, and the signature isn't there.
    path = forge(tmp_path / "m.mw", FROZEN, claimed=b"mine")
    with pytest.raises(ModelFileError, match=r"`signature\.json` is missing"):
        modelfile.load(path, trust=POLICY)


def test_a_signature_of_another_file_is_refused(signed: Path, tmp_path: Path) -> None:
    """Moved to a file with other evidence, and to one with another model."""
    signature = modelfile.read(signed).signature
    for name, change in (
        ("evidence", {"ledger.jsonl": b"", "artefacts/curve.svg": None}),
        ("recipe", {"recipe.yaml": b"version: 1\n"}),
    ):
        path = forge(
            tmp_path / f"{name}.mw", FROZEN, change=change, signature=signature, claimed=signature
        )
        modelfile.load(path)
        refused(path, "isn't this model with this evidence")
    other = tmp_path / "other.mw"
    shutil.copy(FROZEN, other)
    modelfile.with_ledger(other, Ledger([evidence(value=0.99)]))
    modelfile.with_signature(other, signature)
    refused(other, "isn't this model with this evidence")


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(payloadType="text/plain"),
        lambda e: e["signatures"].append(e["signatures"][0]),
        lambda e: e["signatures"].clear(),
        lambda e: e["signatures"][0].update(alg="none"),
        lambda e: e["signatures"][0].update(sig=""),
        lambda e: e["signatures"][0].update(keyid=OTHER.public.id),
    ],
)
def test_an_envelope_that_was_changed_is_refused(
    signed: Path, change: Callable[[Any], None]
) -> None:
    value = json.loads(modelfile.read(signed).signature or b"")
    change(value)
    modelfile.with_signature(signed, canonical_json(value))
    modelfile.load(signed)
    refused(signed, "isn't an envelope|was changed, or isn't one of|signed with another key")


def test_every_flipped_bit_of_a_signed_file_is_refused(signed: Path) -> None:
    """Before anything in it is used: a random sample of all bits, and none of them passes."""
    raw, draw = signed.read_bytes(), random.Random(0)
    for place in draw.sample(range(8 * len(raw)), SAMPLES):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ModelFileError), open_container(bytes(changed), trust=POLICY):
            pytest.fail(f"bit {place} may be turned")
    for place in draw.sample(range(8 * len(raw)), 10):  # The ways in are that one.
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        for enter in (modelfile.load, modelfile.verify):
            with pytest.raises(ModelFileError):
                enter(bytes(changed), trust=POLICY)


def test_a_cut_a_longer_and_a_swapped_file_are_refused(signed: Path) -> None:
    raw = signed.read_bytes()
    for changed in (raw[:-1], raw[: len(raw) // 2], raw + b"\0", b"\0" + raw, raw[::-1], b""):
        with pytest.raises(ModelFileError):
            modelfile.load(changed, trust=POLICY)


# -- the policy of the environment -------------------------------------------------------------

WAYS: dict[str, Callable[[Any], object]] = {
    "load": modelfile.load,
    "verify": modelfile.verify,
    "read": modelfile.read,
    "read_weights": modelfile.read_weights,
    "recipe_text": modelfile.recipe_text,
    "data_card": modelfile.data_card,
    "digest": modelfile.digest,
    "rebuild": modelfile.rebuild,
    "declared": modelfile.declared,
    "bytes": lambda path: modelfile.load(path.read_bytes()),
    "stream": lambda path: modelfile.load(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("name", WAYS)
def test_no_way_into_a_file_leads_around_the_policy(name: str, signed: Path, policy: Path) -> None:
    with pytest.raises(SignatureError, match="isn't signed"):
        WAYS[name](FROZEN)
    WAYS[name](signed)


def test_every_reader_of_model_files_is_asked() -> None:
    """Only these three open a file without asking: they show, sign, and write what was signed."""
    folder = Path(modelfile.__file__).parent
    unchecked = [
        path.name
        for path in sorted(folder.rglob("*.py"))
        for _ in range(path.read_text().count("is_checked=False"))
    ]
    assert unchecked == ["contents.py", "contents.py", "signing.py"]


def test_changing_an_untrusted_file_is_refused(policy: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    with pytest.raises(SignatureError):
        modelfile.with_ledger(path, Ledger())
    modelfile.sign(path, KEY)
    modelfile.load(path)


def test_exports_obey_the_policy(policy: Path, tmp_path: Path) -> None:
    for export in (modelfile.export_onnx, modelfile.export_llama):
        with pytest.raises(SignatureError):
            export(FROZEN, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_model_that_was_sent_to_another_process_is_asked_again(
    signed: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(modelfile.load(signed))
    assert pickle.loads(sent).digest == modelfile.digest(signed)
    modelfile.with_signature(signed, None)
    with pytest.raises(SignatureError):
        pickle.loads(sent)


def test_a_policy_that_cannot_be_read_refuses_every_file(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.yaml").write_text("version: 1\n")
    for value in ("", "nowhere.yaml", str(tmp_path), str(tmp_path / "broken.yaml")):
        monkeypatch.setenv(TRUST, value)
        with pytest.raises(RequestError) as caught:
            modelfile.load(signed)
        assert "no model is opened" in str(caught.value) or "`trusted-signers`" in str(caught.value)


def test_what_is_given_comes_before_the_environment(signed: Path, policy: Path) -> None:
    with pytest.raises(SignatureError, match="another key"):
        modelfile.load(signed, trust=trust_keys([OTHER.public.line]))
    modelfile.sign(signed, OTHER)
    with pytest.raises(SignatureError, match="another key"):
        modelfile.load(signed)
    assert modelfile.load(signed, trust=trust_keys([OTHER.public.line]))
    with pytest.raises(SignatureError, match="another key"):
        modelfile.load(signed, trust=policy)


def test_a_runs_own_files_need_no_signature_while_it_runs(policy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    with claimed(folder, digest="d", document={}):
        own, link = folder / "stages" / "train" / "model.mw", folder / "link.mw"
        own.parent.mkdir(parents=True)
        shutil.copy(FROZEN, own)
        modelfile.load(own)
        assert is_own(Path(os.path.relpath(own)))
        with pytest.raises(SignatureError):  # Given in so many words, a policy is always obeyed.
            modelfile.load(own, trust=POLICY)
        link.symlink_to(FROZEN)
        for other in (link, FROZEN, folder / ".." / "other.mw", tmp_path / "runs" / "mine2"):
            assert not is_own(other)
        with pytest.raises(SignatureError):
            modelfile.load(link)
        link.unlink()
    with pytest.raises(SignatureError):
        modelfile.load(own)
