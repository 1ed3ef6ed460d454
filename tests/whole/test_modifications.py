"""A network that a stage has narrowed: packed, loaded, trained further."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.models.modifications import modified
from modelwright.pipeline import run, running
from modelwright.run import StageReport
from tests.data.making import folder
from tests.models.narrowing import narrowed

SETTINGS = """\
train: {epochs: 2, batch_size: 8, precision: fp32, compile: off}
evaluate: {baselines: false, latency: false}
resources: {threads: 1, device: cpu}
"""
FIRST = """\
version: 1
data: {source: folder, path: pets}
transforms: {size: 12}
model: {name: cnn, blocks: [{filters: 8}, {filters: 6}], head: [10]}
"""
FURTHER = """\
version: 1
data: {source: folder, path: birds}
model: {init: runs/first/model.mw}
"""
KEPT = [1, 3, 4, 7]


def narrow(candidate, recipe, data, run):
    """Leave half of the first convolution's channels."""
    small, changes = narrowed(
        candidate.network,
        "body.blocks.0.conv1",
        KEPT,
        norm="body.blocks.0.norm1",
        consumer="body.blocks.1.conv1",
    )
    architecture = modified(candidate.architecture, *changes)
    changed = replace(candidate, network=small, architecture=architecture)
    return changed.after(StageReport(run.stage_name, 0.0), {"kept": len(KEPT)})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run `first`, whose network was narrowed, and other data."""
    here = tmp_path_factory.mktemp("narrowed")
    folder(here / "pets", each=12)
    folder(here / "birds", classes=("emu", "jay", "owl"), each=12, first=100)
    (here / "first.yaml").write_text(FIRST + SETTINGS)
    (here / "birds.yaml").write_text(FURTHER + SETTINGS)
    (here / "pets.yaml").write_text(FURTHER.replace("birds", "pets") + SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "STAGES", (*running.STAGES, ("narrow", narrow)))
        run(here / "first.yaml", out=here / "runs")
    return here


def widths(path):
    return {
        name: item.shape[:2]
        for name, item in modelfile.read_weights(path).items()
        if name.endswith(("conv1.weight", "head.weight"))
    }


def test_the_file_is_narrow_and_answers_as_its_network(place):
    path = place / "runs/first/model.mw"
    modelfile.verify(path)
    assert widths(path)["body.blocks.0.conv1.weight"] == (len(KEPT), 3)
    assert widths(path)["body.blocks.1.conv1.weight"] == (6, len(KEPT))
    rebuilt, model = modelfile.rebuild(path), modelfile.load(path)
    assert [item["layer"] for item in rebuilt.architecture["modifications"]] == [
        "body.blocks.0.conv1",
        "body.blocks.0.norm1",
        "body.blocks.1.conv1",
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = rebuilt.network(torch.from_numpy(pixels)).numpy()
    logits = model.outputs(pixels) * model.inference.temperature[0]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["birds", "pets"])
def test_it_is_trained_further_and_stays_narrow(place, name):
    first = place / "runs/first/model.mw"
    result = run(place / f"{name}.yaml", out=place / "runs")
    again = modelfile.rebuild(result.model)
    assert (
        again.architecture["modifications"]
        == (modelfile.rebuild(first).architecture["modifications"])
    )
    assert [step["step"] for step in again.lineage] == [
        "train",
        "narrow",
        "export",
        "init",
        "train",
        "export",
    ]
    assert widths(result.model)["body.blocks.0.conv1.weight"] == (len(KEPT), 3)
    assert widths(result.model)["body.head.weight"] == ((3 if name == "birds" else 2), 10)
    before, after = (modelfile.read_weights(path) for path in (first, result.model))
    conv = "body.blocks.0.conv1.weight"
    assert not np.array_equal(before[conv], after[conv])
    modelfile.verify(result.model)


def test_a_file_with_an_unknown_modification_predicts_but_is_not_trained_further(place, tmp_path):
    candidate = modelfile.rebuild(place / "runs/first/model.mw")
    strange = copy.deepcopy(candidate.architecture)
    strange["modifications"][0]["kind"] = "fold"
    path = tmp_path / "strange.mw"
    modelfile.write_model(path, replace(candidate, architecture=strange))
    assert modelfile.load(path).labels == ("cat", "dog")
    with pytest.raises(ModelFileError, match="`fold` is unknown"):
        modelfile.rebuild(path)
