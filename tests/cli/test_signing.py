"""`identity create --signing`, `sign`, `verify --signer` and `--trust`: answers and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from modelwright.cli import main
from modelwright.run import TRUST
from tests.modelfile.making import FROZEN

pytest.importorskip("cryptography")


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Return a function that runs a command with `--json` in a folder with a model and a key."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(FROZEN, tmp_path / "model.mw")

    def run(*words, code=0):
        assert main([*words, "--json"]) == code
        out = capsys.readouterr().out
        assert out.count("\n") == 1, out
        return json.loads(out)

    assert run("identity", "create", "--signing", "key")["private"] == "key"
    return run


def test_a_key_is_made_and_signs(call):
    public = Path("key.pub").read_text().strip()
    assert stat.S_IMODE(Path("key").stat().st_mode) == 0o600
    found = call("identity", "create", "--signing", "key", code=2)
    assert "no key is overwritten" in found["error"]["what"]
    signed = call("sign", "model.mw", "--key", "key")
    assert set(signed) == {"key_id", "created", "public", "replaced"}
    assert (signed["public"], signed["replaced"]) == (public, None)
    for signer in (public, "key.pub"):
        found = call("verify", "model.mw", "--signer", signer)
        assert (found["intact"], found["key_id"]) == (True, signed["key_id"])
        assert found["signed_at"] == signed["created"]
    assert call("inspect", "model.mw")["signature"]["verified"] is False


def test_verify_exits_with_0_only_where_it_is_signed_by_one_of_them(call):
    call("identity", "create", "--signing", "other")
    found = call("verify", "model.mw", "--signer", "key.pub", code=1)
    assert (found["intact"], found["trusted"]) == (None, False)
    assert "isn't signed" in found["why"]
    call("sign", "model.mw", "--key", "other")
    assert "another key" in call("verify", "model.mw", "--signer", "key.pub", code=1)["why"]
    call("verify", "model.mw", "--signer", "key.pub", "--signer", "other.pub")
    raw = bytearray(Path("model.mw").read_bytes())
    raw[len(raw) // 2] ^= 1
    Path("model.mw").write_bytes(raw)
    assert call("verify", "model.mw", "--signer", "other.pub", code=1)["why"]
    call("verify", "model.mw", "--signer", "nowhere", code=1)
    call("verify", "model.mw", "--signer", "other.pub", "--trust", "x", code=2)


def test_the_passphrase_stands_in_a_variable_or_a_file(call, monkeypatch):
    Path("phrase").write_text("correct horse\n")
    monkeypatch.setenv("PHRASE", "correct horse")
    call("identity", "create", "--signing", "--passphrase", "file:phrase", "guarded")
    call("sign", "model.mw", "--key", "guarded", "--passphrase", "env:PHRASE")
    call("sign", "model.mw", "--key", "guarded", code=1)
    found = call("sign", "model.mw", "--key", "guarded", "--passphrase", "correct horse", code=2)
    assert "can be read by others" in found["error"]["what"]
    call("sign", "model.mw", code=2)
    call("sign", "model.mw", "--key", "env:NOWHERE", code=2)
    call("sign", "nowhere.mw", "--key", "key", code=1)


def test_commands_obey_the_policy_that_is_given(call, capsys):
    Path("trust.yaml").write_text("version: 1\ntrusted-signers:\n  - {name: team, key: key.pub}\n")
    trust = ("--trust", "trust.yaml")
    words = (
        ("verify", "model.mw"),
        ("predict", "model.mw", "nothing.png"),
        ("evaluate", "model.mw"),
        ("export", "model.mw", "out", "--to", "onnx"),
        ("compress", "model.mw", "--set", "compress=auto"),
    )
    for line in words:
        assert "isn't signed" in json.dumps(call(*line, *trust, code=1))
        assert TRUST not in os.environ
    call("sign", "model.mw", "--key", "key")
    assert call("verify", "model.mw", *trust)["signed_by"] == "team"
    call("evaluate", "model.mw", *trust)
    Path("trust.yaml").write_text("version: 1\n")
    found = call("evaluate", "model.mw", *trust, code=2)
    assert found["error"]["where"].endswith("trust.yaml")


def test_people_are_told_who_signed(call, capsys):
    call("sign", "model.mw", "--key", "key")
    main(["verify", "model.mw", "--signer", "key.pub"])
    said = capsys.readouterr().out
    assert "It is signed by the key SHA256:" in said
    assert "what was signed is this model and its 1 records of evidence" in said
    main(["inspect", "model.mw"])
    assert "not verified here" in capsys.readouterr().out
    main(["sign", "model.mw", "--key", "key"])
    assert "in place of the signature of SHA256:" in capsys.readouterr().out
