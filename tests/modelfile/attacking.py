"""What the tests of hostile files share: forging them, and seeing that each way in refuses them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError
from tests.modelfile.making import FROZEN, edit_json, members_of

SPEC, WEIGHTS, GRAPH = "model/spec.json", "model/weights.safetensors", "model/graphs/main.onnx"


GOLDEN, LEDGER = "golden.safetensors", "ledger.jsonl"


CURVE = "artefacts/curve.svg"


MEMBERS = members_of(FROZEN)


Archive = zipfile.ZipFile


def refused(path: Path, why: str) -> None:
    """Every way into the file refuses it, or at least `verify` does, with its place and reason."""
    with pytest.raises(ModelFileError, match=why) as caught:
        modelfile.verify(path)
    assert caught.value.where == str(path)
    for enter in (modelfile.load, modelfile.describe, modelfile.read, modelfile.read_weights):
        read_or_refused(enter, path)


def read_or_refused(enter: Callable[[Path], Any], path: Path) -> None:
    """Enter the file; if that is refused, then with its place."""
    error: ModelFileError | None = None
    try:
        enter(path)
    except ModelFileError as caught:
        error = caught
    assert error is None or error.where == str(path)


def spec(**changes: Any) -> dict[str, bytes]:
    return {SPEC: edit_json(MEMBERS[SPEC], **changes)}


def inference(**changes: Any) -> dict[str, bytes | None]:
    """Return a change of what decides an answer beyond the weights."""
    return spec(
        inference={"tta": "flip", "threshold": None, "temperature": [], "generate": None} | changes
    )
