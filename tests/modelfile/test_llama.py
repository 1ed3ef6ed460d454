"""A language model as transformers loads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import ModelFileError
from modelwright.modelfile import write_model
from modelwright.models.modifications import Resize, modified, modify
from tests.modelfile.making import TALES, text_candidate


@pytest.fixture(scope="module", params=["tied_decoder", "untied_decoder"])
def written(request):
    """A language model's file, with fresh weights."""
    return request.getfixturevalue(request.param)


def test_transformers_gives_the_same_logits(written, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "llama"
    assert main(["export", str(written), str(folder)]) == 0
    assert "config.json" in capsys.readouterr().out
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    tokens = np.random.default_rng(0).integers(4, 250, size=(3, 20))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    found = modelfile.load(written).outputs({"tokens": tokens})
    assert np.abs(found - expected).max() <= 1e-4
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ours = modelfile.load(written).input.tokenizer
    assert (
        fast(TALES[0], add_special_tokens=False)["input_ids"] == ours.encode(TALES[:1])[0].tolist()
    )


def test_layers_of_other_widths_have_no_such_layout(written, tmp_path):
    candidate = modelfile.rebuild(written)
    changes = [
        Resize(layer="layers.0.ffn.gate_up", out_features=20),
        Resize(layer="layers.0.ffn.down", in_features=10),
    ]
    modify(candidate.network, changes)
    with torch.no_grad():
        for change in changes:
            candidate.network.get_submodule(change.layer).weight.normal_(std=0.1)
    narrow = replace(candidate, architecture=modified(candidate.architecture, *changes))
    write_model(tmp_path / "narrow.mw", narrow)
    assert modelfile.rebuild(tmp_path / "narrow.mw").network.layers[0].ffn.down.in_features == 10
    with pytest.raises(ModelFileError, match="other widths has no layout"):
        modelfile.export_llama(tmp_path / "narrow.mw", tmp_path / "llama")
    assert not (tmp_path / "llama").exists()


def test_nothing_is_overwritten_and_nothing_left_behind(written, tmp_path, capsys):
    (tmp_path / "here").mkdir()
    assert main(["export", str(written), str(tmp_path / "here")]) != 0
    assert "something here already" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["here"]


def test_other_networks_are_refused(tmp_path):
    modelfile.write_model(tmp_path / "model.mw", text_candidate())
    with pytest.raises(ModelFileError, match="bow"):
        modelfile.export_llama(tmp_path / "model.mw", tmp_path / "out")
