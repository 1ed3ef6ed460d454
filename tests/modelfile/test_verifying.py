"""Verifying: every byte, every member, every golden sample."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError
from tests.modelfile.making import FROZEN, signed


def test_what_was_verified_is_told(tmp_path: Path) -> None:
    report = modelfile.verify(FROZEN)
    described = modelfile.describe(FROZEN)
    assert report.path == str(FROZEN)
    assert report.digest == described["digest"]
    assert report.members == len(described["members"]) + 1
    assert report.file_bytes == FROZEN.stat().st_size
    assert (report.golden_samples, report.evidence, report.artefacts) == (8, 1, 1)
    assert 0 <= report.golden_difference <= report.tolerance == 1e-4
    assert not report.is_signed
    assert report.to_json()["members"] == report.members
    path = signed(tmp_path / "signed.mw", b"a signature")
    found = modelfile.verify(path)
    assert found.is_signed
    assert found.members == report.members + 1
    assert found.digest == report.digest


def test_it_verifies_what_is_not_a_file() -> None:
    raw, report = FROZEN.read_bytes(), modelfile.verify(FROZEN)
    assert modelfile.verify(raw) == replace(report, path="the bytes given")
    assert modelfile.verify(io.BytesIO(raw)) == replace(report, path="the stream given")


def test_what_load_does_not_read_is_found(tmp_path: Path) -> None:
    path, raw = tmp_path / "m.mw", FROZEN.read_bytes()
    path.write_bytes(raw.replace(b"<svg", b"<SVG"))
    modelfile.load(path)
    with pytest.raises(ModelFileError, match=r"`artefacts/curve\.svg` has been changed"):
        modelfile.verify(path)


def test_all_golden_samples_are_answered(tmp_path: Path) -> None:
    contents = modelfile.read(FROZEN)
    answers = {"logits": contents.golden.outputs["logits"].copy()}
    answers["logits"][-1] += 1
    changed = replace(contents, golden=replace(contents.golden, outputs=answers))
    modelfile.write(tmp_path / "m.mw", changed)
    modelfile.load(tmp_path / "m.mw")
    with pytest.raises(ModelFileError, match="answers its golden samples differently"):
        modelfile.verify(tmp_path / "m.mw")
