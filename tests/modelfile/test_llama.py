"""A language model as transformers loads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import ModelFileError
from modelwright.modelfile import write_model
from modelwright.models import architecture, build_network
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import Resize, modified, modify
from modelwright.recipe.model import BowModel, DecoderModel
from modelwright.tasks.generation import GenerateSpec, collect
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer

TALES = ["the fox ran to the lake", "a crow slept by the inn", "the old king found a lamp"]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def written(request, tmp_path_factory):
    """A language model's file, with fresh weights."""
    tokenizer = train_tokenizer(TALES, kind="bpe", size=280, lowercase=False)
    input = TextInput(tokenizer, 32, "prompt")
    spec = DecoderModel(name="decoder", width=32, layers=2, heads=4, kv_heads=2, tied=request.param)
    torch.manual_seed(0)
    network = build_network(spec, input=input, num_outputs=tokenizer.size).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(5 if weight.ndim == 2 else 1)
    candidate = Candidate(
        network=network,
        task="language-modeling",
        input=input,
        labels=(),
        architecture=architecture(spec, input=input, num_outputs=tokenizer.size),
        output_kind="tokens",
        assets=input.assets(),
    )
    path = tmp_path_factory.mktemp("llama") / "model.mw"
    write_model(path, candidate)
    return path


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
        Resize(layer="layers.0.ffn.gate_up", outputs=20),
        Resize(layer="layers.0.ffn.down", inputs=10),
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
    tokenizer = train_tokenizer(TALES, kind="word", size=30, lowercase=True)
    input = TextInput(tokenizer, 32)
    spec = BowModel(name="bow", width=4, buckets=64)
    candidate = Candidate(
        network=build_network(spec, input=input, num_outputs=2).eval(),
        task="text-classification",
        input=input,
        labels=("a", "b"),
        architecture=architecture(spec, input=input, num_outputs=2),
        assets=input.assets(),
    )
    write_model(tmp_path / "model.mw", candidate)
    with pytest.raises(ModelFileError, match="bow"):
        modelfile.export_llama(tmp_path / "model.mw", tmp_path / "out")


def test_it_goes_on_from_a_text_and_streams_the_same(written):
    model = modelfile.load(written)
    whole = model.predict("the fox")[0]["text"]
    pieces = list(model.generate("the fox"))
    assert "".join(piece.text for piece in pieces) == whole
    assert whole == model.predict("the fox")[0]["text"]


def test_a_text_has_one_answer_wherever_it_stands(written):
    model = modelfile.load(written)
    asked = ["a crow", "the fox", "", "the fox"]
    together = model.predict(asked)
    assert together == [model.predict(text) for text in asked]
    assert together[0] != together[1]
    how = GenerateSpec(max_new_tokens=40, seed=0)
    texts = {
        seed: [item.text for item in collect(model.generate(asked, replace(how, seed=seed)), 4)]
        for seed in (0, 1)
    }
    assert texts[0] != texts[1]
    assert texts[0][1] == texts[0][3]


def test_a_mistyped_file_is_no_text(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tales.txt").write_text("the fox")
    assert main(["predict", str(written), "tales.txt"]) == 0
    capsys.readouterr()
    for name in ("tails.txt", "here/tales", "./tales.csv"):
        assert main(["predict", str(written), "the crow", name]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert f"{name}: there is no such file" in told.err
        assert "standard input" in told.err
    assert main(["predict", str(written), "tails.txt"]) == 1
    assert "Did you mean `tales.txt`?" in capsys.readouterr().err
    asked = ["a / b", "fox.", "https://example.org/fox"]
    assert main(["predict", str(written), *asked]) == 0


def test_a_table_is_said_to_be_read_as_one_text(written, tmp_path, capsys):
    (tmp_path / "tales.csv").write_text("text\nthe fox\n")
    assert main(["predict", str(written), str(tmp_path / "tales.csv")]) == 0
    assert "tales.csv: the whole file is one text here" in capsys.readouterr().err


def test_a_long_prompt_is_said_to_be_cut(written, capsys):
    assert main(["predict", str(written), "the fox " * 90]) == 0
    assert "the model reads 32: its beginning is left out" in capsys.readouterr().err
    assert main(["predict", str(written), "the fox " * 90, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_steps_are_the_whole_text(written):
    """What the graph `step` says after each token is what `main` says of the whole text."""
    model = modelfile.load(written)
    greedy = GenerateSpec(max_new_tokens=6, temperature=0, barred=())
    ids = [piece.token for piece in model.generate("a crow", greedy) if piece.token is not None]
    begun = [2, *model.input.tokenizer.encode(["a crow"])[0].tolist()]
    for at, token in enumerate(ids):
        tokens = np.array([begun + ids[:at]], dtype=np.int64)
        assert model.outputs({"tokens": tokens})[0, -1].argmax() == token


def test_the_file_holds_the_graph_of_a_step(written):
    assert set(modelfile.read(written).spec.graphs) == {"main", "step"}
