"""Sealed model files: read directly in memory, and refused as a whole where a byte was changed."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError, SealError
from modelwright.ledger import Ledger
from modelwright.security.age import parse_recipient, seal_bytes
from modelwright.security.sealing import (
    ENVIRONMENT,
    create_identity_file,
    read_recipients,
    seal_path,
)

pytest.importorskip("pyrage")


@pytest.fixture
def sealed(packed, tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    public = create_identity_file(tmp_path / "own.key")
    return seal_path(packed, read_recipients([public]), out=tmp_path / "model.mw.age")


@pytest.fixture
def key(sealed):
    return str(sealed.with_name("own.key"))


def test_a_sealed_model_answers_as_the_plain_one(packed, sealed, key, monkeypatch):
    plain = modelfile.load(packed)
    assert modelfile.load(sealed, identities=[key]).digest == plain.digest
    for file in (sealed.read_bytes(), io.BytesIO(sealed.read_bytes())):
        assert modelfile.load(file, identities=[key]).digest == plain.digest
    monkeypatch.setenv(ENVIRONMENT, key)
    assert modelfile.load(sealed).digest == plain.digest
    assert modelfile.verify(sealed).digest == plain.digest
    assert modelfile.describe(sealed) == modelfile.describe(packed)
    assert modelfile.read(sealed).recipe == modelfile.read(packed).recipe


def test_without_an_identity_it_says_that_it_is_sealed(sealed, tmp_path):
    with pytest.raises(SealError, match=r"(?s)model.mw.age.*sealed.*--identity"):
        modelfile.load(sealed)
    create_identity_file(tmp_path / "other.key")
    with pytest.raises(SealError, match="none of the identities"):
        modelfile.load(sealed, identities=[str(tmp_path / "other.key")])


def test_what_would_write_it_unsealed_is_refused(sealed, key, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, key)
    before = sealed.read_bytes()
    for change in (
        lambda: modelfile.with_ledger(sealed, Ledger()),
        lambda: modelfile.with_signature(sealed, b"x"),
        lambda: modelfile.integer_layers(sealed),
    ):
        with pytest.raises(SealError, match="the model file is sealed"):
            change()
    assert sealed.read_bytes() == before


def test_a_changed_sealed_file_is_refused_before_anything_of_it_is_used(sealed, key, monkeypatch):
    def never(stream):
        raise AssertionError("a changed file was read")

    data, draw = sealed.read_bytes(), random.Random(1)
    monkeypatch.setattr("modelwright.modelfile.container._check", never)
    changed = [data[:-1], data[: len(data) // 2], data + b"\0", data + data, data[:40] + data[41:]]
    for _ in range(1000):
        bit = draw.randrange(8 * len(data))
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(turned))
    for one in changed:
        if one.startswith(b"age-encryption.org/v1\n"):
            with pytest.raises((ModelFileError, SealError)):
                modelfile.load(one, identities=[key])
    monkeypatch.undo()
    with pytest.raises(ModelFileError):
        modelfile.load(b"X" + data[1:], identities=[key])


def test_something_else_that_was_sealed_is_no_model_file(sealed, key):
    public = Path(key).read_text().split()[3]
    with pytest.raises(ModelFileError, match="isn't a model file"):
        modelfile.load(seal_bytes(b"no model", [parse_recipient(public)]), identities=[key])


def test_nothing_of_it_reaches_the_disk(sealed, key, tmp_path, monkeypatch):
    place = tmp_path / "temp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    modelfile.load(sealed, identities=[key], sandbox=True)
    assert not list(place.iterdir())
