"""Compression from end to end for each kind of output, and in chains of two steps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import modelwright as mw
from modelwright import modelfile
from tests.whole.leaves.data import write_all
from tests.whole.leaves.witnesses import BASES

QAT = {"name": "quantize", "dtype": "int8", "qat": True, "max_drop": 9.0}
INT4 = {"name": "quantize", "weights": "int4", "max_drop": 9.0}
HALF = {"name": "quantize", "dtype": "float16", "max_drop": 9.0}
ZEROS = {"name": "prune", "sparsity": 0.7, "max_drop": 9.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"name": "cnn", "blocks": [{"filters": 32}, {"filters": 64}], "head": [64]},
    "detector": {"name": "detector", "widths": [16, 32], "neck": 32},
    "conv-ctc": {"name": "conv-ctc", "channels": 8, "width": 64, "layers": 2, "kernel": 5},
    "audio-cnn": {"name": "audio-cnn", "widths": [16, 64, 96]},
    "transformer": {"name": "transformer", "width": 64, "layers": 1, "heads": 2},
    "decoder": {"name": "decoder", "width": 64, "layers": 1, "heads": 2},
    "seq2seq": {"name": "seq2seq", "width": 32, "layers": 1, "heads": 2},
    "linear": {"name": "linear"},
}
TRAIN = {"epochs": 4, "optimizer": {"name": "adamw", "lr": 0.001}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data of each kind."""
    here = tmp_path_factory.mktemp("data")
    write_all(here)
    return here


def check(base: str, network: str, steps: list[dict], out: Path) -> None:
    """Train and compress, and verify what ships."""
    document = {**copy.deepcopy(BASES[base]), "model": NETWORKS[network], "compress": steps}
    document["train"] = {} if network == "linear" else {**document["train"], **TRAIN}
    found = mw.run(document, out=out)
    modelfile.verify(found.model, sandbox=False)
    assert found.ledger.find("size_ratio").value > 1.1
    assert found.ledger.find("gain_over_parent") is not None
    names = [step["step"] for step in modelfile.describe(found.model)["lineage"]]
    assert [name.partition("-")[0] for name in names[1:-1]] == [step["name"] for step in steps]
    assert "What compression changed" in found.report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "network"),
    [
        ("several", "cnn"),
        ("scores", "cnn"),
        ("sounds", "audio-cnn"),
        ("speech", "conv-ctc"),
        ("rows", "detector"),
        ("text scores", "transformer"),
        ("cnn", "linear"),
    ],
)
def test_every_kind_of_output_is_trained_in_int8(base, network, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    check(base, network, [QAT], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "network", "steps"),
    [
        ("cnn", "cnn", [ZEROS, QAT]),
        ("texts", "transformer", [ZEROS, QAT]),
        ("sounds", "audio-cnn", [ZEROS, QAT]),
        ("cnn", "cnn", [ZEROS, INT4]),
        ("story", "decoder", [ZEROS, INT4]),
        ("cnn", "cnn", [ZEROS, HALF]),
        ("sounds", "audio-cnn", [ZEROS, HALF]),
        ("pairs", "seq2seq", [ZEROS, HALF]),
        ("texts", "transformer", [ZEROS, QAT, HALF]),
    ],
)
def test_chains(base, network, steps, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    check(base, network, steps, tmp_path)
