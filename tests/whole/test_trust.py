"""A whole run under a trust policy: its own files need no signature, those that it is given do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.errors import SignatureError
from modelwright.pipeline import check, compress, evaluate, run
from modelwright.run import TRUST

pytest.importorskip("cryptography")
from modelwright.security.signing_keys import create_key, read_private_key

MODEL = Path("runs/quick/model.mw")
DISTILL = "compress=[{name: distill, epochs: 1, max_drop: 1.0, teacher: teacher.mw}]"


@pytest.fixture
def sign(workspace, monkeypatch):
    """Return a function that signs a file for the policy that the environment names."""
    create_key(Path("key"))
    Path("trust.yaml").write_text("version: 1\ntrusted-signers:\n  - {name: me, key: key.pub}\n")
    monkeypatch.setenv(TRUST, str(Path("trust.yaml").absolute()))
    return lambda path: modelfile.sign(path, read_private_key("key"))


def test_a_run_goes_through_and_what_it_made_is_signed_then(sign):
    result = run("quick.yaml", name="mine")
    assert result.passed
    assert run("quick.yaml", name="mine").finished_before
    with pytest.raises(SignatureError, match="isn't signed"):
        modelfile.load(result.model)
    with pytest.raises(SignatureError, match="isn't signed"):
        evaluate(result)
    sign(result.model)
    assert evaluate(result)["metrics"]["accuracy"]["value"] > 0.2
    assert run("quick.yaml", name="mine").finished_before


def test_a_run_starts_from_a_signed_model_alone(sign):
    start = [f"model={{init: {MODEL}}}", "train.epochs=1"]
    for way in (run, check):
        with pytest.raises(SignatureError, match="isn't signed"):
            way("quick.yaml", overrides=start, **({"name": "next"} if way is run else {}))
    assert not Path("runs/next/model.mw").exists()
    sign(MODEL)
    assert run("quick.yaml", name="next", overrides=start).model.exists()


def test_a_teacher_must_be_signed(sign):
    shutil.copy(MODEL, "teacher.mw")
    with pytest.raises(SignatureError, match="isn't signed"):
        run("quick.yaml", name="taught", overrides=[DISTILL])
    assert not Path("runs/taught/model.mw").exists()
    sign(Path("teacher.mw"))
    assert run("quick.yaml", name="taught", overrides=[DISTILL]).model.exists()


def test_a_finished_model_is_compressed_where_it_is_signed(sign):
    asked = ["compress=[{name: quantize, dtype: float16}]"]
    with pytest.raises(SignatureError, match="isn't signed"):
        compress(MODEL, name="small", overrides=asked)
    sign(MODEL)
    assert compress(MODEL, name="small", overrides=asked).model.exists()
