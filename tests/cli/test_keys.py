"""`keys` and `audit-log verify`: what they print, how they exit, and what they never show."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modelwright.cli import main
from tests.security.test_audit_log import notes, write, write_keys


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Return a function that runs a command with `--json`, and gives its value."""
    monkeypatch.setenv("MODELWRIGHT_STORE", str(tmp_path / "keys.db"))

    def run(*words, code=0):
        assert main([*words, "--json"]) == code
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return json.loads(out)

    return run


CREATE = ("keys", "create", "--role", "predictor", "--model", "digits")


def test_a_key_is_printed_once(call, capsys):
    assert main(list(CREATE)) == 0
    captured = capsys.readouterr()
    (key,) = captured.out.split()
    assert key.startswith("mw_")
    listed = call("keys", "list")
    assert key[3:15] == listed[0]["prefix"]
    assert main(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert listed[0]["prefix"] in shown
    assert key[16:] not in json.dumps(listed) + shown


def test_create_rotate_revoke_and_list(call):
    options = ("--name", "web", "--expires", "90d", "--requests-per-minute", "60")
    made = call(*CREATE, "--model", "iris", *options, "--daily-cost", "1.5")
    assert (made["role"], made["models"]) == ("predictor", ["digits", "iris"])
    assert made["expires"] - made["created"] == 90 * 86_400
    assert (made["name"], made["requests_per_minute"], made["daily_cost"]) == ("web", 60, 1.5)
    new = call("keys", "rotate", made["prefix"], "--grace", "1d")
    assert new["key"] != made["key"]
    assert call("keys", "revoke", new["prefix"]) == {"revoked": new["prefix"]}
    states = {key["prefix"]: key["state"] for key in call("keys", "list")}
    assert states == {made["prefix"]: "valid", new["prefix"]: "revoked"}
    assert "in use" in call("keys", "revoke", new["prefix"], code=2)["error"]["what"]


def test_the_store_can_be_named(call, tmp_path):
    other = ("--store", f"sqlite:///{tmp_path / 'other.db'}")
    call(*CREATE, *other)
    assert len(call("keys", "list", *other)) == 1
    assert call("keys", "list") == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("keys", "ACTION"),
        ("keys forge", "forge"),
        ("keys create", "--role"),
        ("keys create --role predictor", "--model"),
        ("keys create --role king --model a", "predictor"),
        ("keys create abc --role admin --model a", "PREFIX"),
        ("keys create --role admin --model a --expires soon", "--expires"),
        ("keys create --role admin --model a --expires 0s", "--expires"),
        ("keys create --role admin --model a --daily-cost much", "--daily-cost"),
        ("keys create --role admin --model a --daily-cost nan", "above 0"),
        ("keys create --role admin --model a --requests-per-minute -1", "above 0"),
        ("keys rotate", "PREFIX"),
        ("keys rotate abc", "abc"),
        ("keys revoke", "PREFIX"),
        ("keys list --store mysql://a@b/c", "postgresql://"),
        ("keys list --role admin", "--role"),
        ("keys create --role admin --model * --grace 1d", "--grace"),
        ("audit-log verify", "LOG"),
        ("audit-log sign a", "verify"),
        ("audit-log verify nowhere", "--signer"),
    ],
)
def test_what_makes_no_sense_is_said(call, line, word):
    error = call(*line.split(), code=2)["error"]
    assert word in " ".join(error.values())
    assert call("keys", "list") == []


def test_a_signer_that_is_not_there_is_said(call):
    error = call("audit-log", "verify", "nowhere", "--signer", "nowhere.pem", code=1)["error"]
    assert "nowhere.pem" in error["where"]


def test_an_audit_log_is_checked(call, capsys, tmp_path):
    key, public = write_keys(tmp_path)
    log, signer = tmp_path / "audit.jsonl", ("--signer", str(public))
    write(log, key, 2, 3)
    found = call("audit-log", "verify", str(log), *signer)
    assert (found["intact"], found["records"], found["signed"], found["checkpoints"]) == (
        *(True, 6, 6, 2),
    )
    kept = tmp_path / "kept"
    kept.write_bytes(notes(log).read_bytes())
    assert call("audit-log", "verify", str(log), *signer, "--checkpoint", str(kept))["intact"]
    log.write_bytes(log.read_bytes().replace(b"digits", b"digitz", 1))
    found = call("audit-log", "verify", str(log), *signer, code=1)
    assert found["intact"] is False
    assert found["findings"]
    assert main(["audit-log", "verify", str(log), *signer]) == 1
    assert "isn't intact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("library", "line"),
    [("sqlalchemy", "keys list"), ("cryptography", "audit-log verify a --signer b")],
)
def test_a_missing_library_is_named_with_its_extra(library, line, tmp_path):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from modelwright.cli import main\n"
        f"sys.exit(main({line.split()}))"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert library in done.stderr
    assert "modelwright[serve]" in done.stderr
