"""The SBOM: what CycloneDX 1.6 asks for, always the same bytes, and nothing of this machine."""

from __future__ import annotations

import getpass
import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.files import canonical_json
from modelwright.modelfile.manifest import SBOM
from modelwright.modelfile.sbom import training_sbom
from tests.modelfile.making import FROZEN, members_of

KEYS = {"type", "name", "version", "purl", "licenses"}
SERIAL = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_it_has_the_fields_of_the_standard() -> None:
    sbom = training_sbom()
    assert set(sbom) == {"bomFormat", "specVersion", "serialNumber", "version", "components"}
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    assert SERIAL.fullmatch(sbom["serialNumber"])
    assert all({"type", "name", "version"} <= set(item) <= KEYS for item in sbom["components"])
    platform, *libraries = sbom["components"]
    assert (platform["type"], platform["name"]) == ("platform", "Python")
    for item in libraries:
        assert item["type"] == "library"
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.%-]+", item["purl"])
        for licence in item.get("licenses", []):
            assert len(item["licenses"]) == 1 or set(licence) == {"license"}
            assert set(licence) in ({"expression"}, {"license"})
            assert len(json.dumps(licence)) < 400


def test_it_agrees_with_the_official_schema() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    checker = validation.JsonStrictValidator(SchemaVersion.V1_6)
    assert checker.validate_str(json.dumps(training_sbom())) is None


def test_it_lists_what_training_needs_and_no_more() -> None:
    names = [item["name"] for item in training_sbom()["components"][1:]]
    assert names == sorted(set(names))
    versions = {item["name"]: item["version"] for item in training_sbom()["components"]}
    for name in ("numpy", "onnxruntime", "pydantic", "torch"):
        assert versions[name] == metadata.version(name)
    assert not {"pytest", "ruff", "mypy", "fastapi", "uvicorn"} & set(names)


def test_the_same_environment_gives_the_same_bytes() -> None:
    before = canonical_json(training_sbom())
    training_sbom.cache_clear()
    assert canonical_json(training_sbom()) == before


def test_it_says_nothing_of_this_machine() -> None:
    text = json.dumps(training_sbom())
    for word in (str(Path.home()), str(Path.cwd()), "site-packages", f'"{getpass.getuser()}'):
        assert word not in text


def test_it_is_in_the_file(packed: Path) -> None:
    assert modelfile.read(packed).sbom == training_sbom()
    assert json.loads(members_of(FROZEN)[SBOM])["bomFormat"] == "CycloneDX"
