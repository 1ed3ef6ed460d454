"""Language models from elsewhere: trained further, shipped, written with, and given back."""

from __future__ import annotations

import shutil
from itertools import product

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.pipeline import run
from modelwright.tasks.sampling import SamplingConfig
from modelwright.transforms.text import BEGIN

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.whole.folders import DECODERS, WORDS, decoder, edit, encoder

RECIPE = """\
version: 1
task: language-modeling
data: {source: documents, path: corpus, split: {val: 0.2, test: 0.2}}
text: {max_length: 24}
model: {name: transformers, path: tiny}
train: {epochs: 6, batch_size: 16, precision: fp32, compile: off,
        optimizer: {name: adamw, lr: 0.005}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
SAME = 1e-4
"""Sums of fp32 in another order, over all layers."""
QUICK = ("gpt2", "llama")
"""One with a table of places and one with rotary ones, and with a tokenizer of each kind."""


def recipe(place, name, text=RECIPE):
    (place / "corpus").mkdir(exist_ok=True)
    for number, (meal, how, since) in enumerate(product(WORDS[1:7], WORDS[8:16], ("so", "very"))):
        tale = f"the {meal} was {since} {how} and we {'liked' if number % 2 else 'hated'} it\n"
        (place / f"corpus/{number:02}.txt").write_text(tale * 2)
    (place / f"{name}.yaml").write_text(text)
    return place / f"{name}.yaml"


def started(place, model_type):
    """Return a network as it begins, that of transformers, and how texts are taken."""
    from transformers import AutoModelForCausalLM

    from modelwright.initialization import settled_input
    from modelwright.initialization.pretrained import pretrained_section
    from modelwright.models.network import TextFrame
    from modelwright.models.pretrained import build_pretrained
    from modelwright.models.pretrained_folders import open_folder, take_weights
    from modelwright.pipeline.request import read_request

    if not (place / "tiny").exists():
        decoder(place / "tiny", model_type)
    asked = read_request(recipe(place, "started"))
    input, folder = settled_input(asked), open_folder(place / "tiny")
    section = pretrained_section(asked.recipe.model, folder, input.tokenizer.token_ids)
    size = input.tokenizer.size
    network = build_pretrained(section, TextFrame(size, input.max_length, size)).eval()
    take_weights(network, folder)
    theirs = AutoModelForCausalLM.from_pretrained(place / "tiny", local_files_only=True).eval()
    return network, theirs, input


@pytest.mark.parametrize("model_type", DECODERS)
def test_it_computes_what_transformers_does_whole_and_step_by_step(tmp_path, model_type):
    network, theirs, input = started(tmp_path, model_type)
    token_ids = input.tokenizer.token_ids
    ids = [BEGIN, *input.tokenizer.encode(["the tea was fresh"])[0].tolist()]
    tokens = torch.tensor([ids])
    kept = [number for number in range(token_ids.count) if number not in token_ids.second()]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(token_ids.theirs())[tokens]).logits
        expected = expected[..., token_ids.theirs()[kept]]
        found = network(tokens)
        # Padded on the left by two, in two steps.
        padded = torch.cat((torch.zeros(1, 2, dtype=torch.long), tokens), 1)
        padding = torch.tensor([2])
        cache = network.empty_cache(1)
        first, cache = network.step(padded[:, :6], padding, cache)
        last, cache = network.step(padded[:, 6:], padding, cache)
    torch.testing.assert_close(found[..., kept], expected, rtol=SAME, atol=SAME)
    torch.testing.assert_close(first[:, kept], expected[:, 3], rtol=SAME, atol=SAME)
    torch.testing.assert_close(last[:, kept], expected[:, -1], rtol=SAME, atol=SAME)
    assert cache.shape[4] == padded.shape[1]
    for number in token_ids.second():
        assert found[..., number].max() < found[..., kept].min()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in DECODERS
    ],
)
def written(request, tmp_path_factory):
    """A folder with a tiny language model, and a run of it."""
    here = tmp_path_factory.mktemp(request.param)
    decoder(here / "tiny", request.param)
    return here, request.param, run(recipe(here, "first"), out=here / "runs")


def test_it_learns_and_is_measured_and_the_file_writes_like_the_network(written):
    _, _, result = written
    figures = {item.metric: item.value for item in result.ledger if item.split == "test"}
    assert 0 < figures["bits_per_byte"] < 5
    model, candidate = modelfile.load(result.model), modelfile.rebuild(result.model)
    ids = [BEGIN, *model.input.tokenizer.encode(["the soup"])[0].tolist()]
    greedy = SamplingConfig(max_new_tokens=6, temperature=0)
    found = [piece.token for piece in model.generate("the soup", greedy) if piece.token is not None]
    for at, token in enumerate(found):
        tokens = np.array([ids + found[:at]], np.int64)
        outputs = model.outputs({"tokens": tokens})
        with torch.no_grad():
            expected = candidate.network(torch.from_numpy(tokens)).numpy()
        np.testing.assert_allclose(outputs, expected, rtol=SAME, atol=SAME)
        allowed = [number for number in range(outputs.shape[-1]) if number not in greedy.barred]
        assert allowed[outputs[0, -1, allowed].argmax()] == token


def test_a_text_with_all_that_is_written_keeps_to_the_places_there_are(written):
    _, model_type, result = written
    model = modelfile.load(result.model)
    how = SamplingConfig(max_new_tokens=60, temperature=1.0, stop_ids=())
    pieces = list(model.generate(["the soup was " * 20, "tea"], how))
    lengths = [sum(piece.sample == row for piece in pieces) for row in range(2)]
    if not DECODERS[model_type].get("n_positions") and model_type != "opt":
        assert lengths == [60, 60]
        return
    # What begins the text takes a place, and the last token that is written none.
    max_length = model.input.max_length
    prompt = len(model.input.tokenizer.encode(["tea"])[0])
    assert lengths == [32 + 1 - 1 - max_length, 32 + 1 - 1 - prompt]


def test_it_goes_back_to_where_it_came_from(written, tmp_path):
    _, _, result = written
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path / "back"
    modelfile.export_llama(result.model, folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    model = modelfile.load(result.model)
    token_ids = model.input.tokenizer.token_ids
    ids = np.array([[BEGIN, *model.input.tokenizer.encode(["the tea was cold"])[0].tolist()]])
    kept = [number for number in range(token_ids.count) if number not in token_ids.second()]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(token_ids.theirs()[ids])).logits.numpy()
    found = model.outputs({"tokens": ids})[..., kept]
    assert np.abs(found - expected[..., token_ids.theirs()[kept]]).max() <= SAME
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    own = fast("the tea was cold", add_special_tokens=False)["input_ids"]
    assert own == token_ids.theirs()[ids[0, 1:]].tolist()


@pytest.mark.parametrize("model_type", QUICK)
def test_bytes_are_counted_as_the_text_has_them(tmp_path, model_type):
    from modelwright.data.documents import WHOLE
    from modelwright.data.ragged import Ragged
    from modelwright.data.text_targets import next_targets

    _, _, input = started(tmp_path, model_type)
    texts = ["the soup was good", "süß, 茶 and tea", "  two blanks"]
    ids = [item.astype(np.int64) for item in input.tokenizer.encode(texts)]
    rows = Ragged.of("tokens", ids, "int64", length_name="")
    _, joined, windows = next_targets(rows, [WHOLE] * 3, input)
    for row, text in enumerate(texts):
        places = windows.of(np.array([row]))
        total = sum(int(joined[place : place + 1]["bytes"].sum()) for place in places.tolist())
        assert total == len(text.encode()), text


def test_adapters_learn_in_it_alone(tmp_path):
    decoder(tmp_path / "tiny", "llama", num_hidden_layers=1)
    text = RECIPE.replace("path: tiny", "path: tiny, adapters: {rank: 2}")
    result = run(recipe(tmp_path, "adapted", text), out=tmp_path / "runs")
    assert any("parameters learn" in note for note in result.notes)
    from safetensors.numpy import load_file

    first, after = (
        load_file(tmp_path / "tiny/model.safetensors"),
        modelfile.read_weights(result.model),
    )
    assert {f"network.{name}" for name in first} == after.keys()
    for name, array in first.items():
        learns = name.endswith("_proj.weight")
        assert np.array_equal(array, after[f"network.{name}"]) != learns, name


def test_weights_that_were_saved_without_the_head(tmp_path):
    from safetensors.torch import load_file, save_file

    decoder(tmp_path / "tiny")
    path = tmp_path / "tiny/model.safetensors"
    held = {
        name.removeprefix("transformer."): item.clone() for name, item in load_file(path).items()
    }
    save_file({name: item for name, item in held.items() if name != "lm_head.weight"}, path)
    network, _, _ = started(tmp_path, "gpt2")
    assert torch.equal(network.network.transformer.wte.weight, held["wte.weight"])


def test_a_window_bounds_reading_and_writing(tmp_path):
    decoder(tmp_path / "tiny", "mistral", num_hidden_layers=1)
    _, _, input = started(tmp_path, "mistral")
    assert (input.max_length, input.places) == (24, 24)
    edit(tmp_path / "tiny/config.json", sliding_window=16)
    shutil.rmtree(tmp_path / "corpus")
    text = RECIPE.replace("text: {max_length: 24}", "").replace("epochs: 6", "epochs: 1")
    result = run(recipe(tmp_path, "bound", text), out=tmp_path / "runs")
    model = modelfile.load(result.model)
    how = SamplingConfig(max_new_tokens=60, temperature=1.0, stop_ids=())
    prompt = len(model.input.tokenizer.encode(["tea"])[0])
    assert len(list(model.generate("tea", how))) == 16 + 1 - 1 - prompt


def test_wavelengths_may_be_long(tmp_path):
    decoder(tmp_path / "tiny", "llama")
    rope = {"rope_type": "default", "rope_theta": 1e8}
    edit(tmp_path / "tiny/config.json", rope_parameters=rope)
    network, _, _ = started(tmp_path, "llama")
    assert network.network.config.rope_parameters["rope_theta"] == 1e8


def test_weights_that_should_be_one_and_differ(tmp_path):
    decoder(tmp_path / "tiny", "llama")
    edit(tmp_path / "tiny/config.json", tie_word_embeddings=True)
    with pytest.raises(RecipeError, match=r"differ.*says that they are one"):
        run(recipe(tmp_path, "broken"), out=tmp_path / "runs")


def test_an_index_that_names_no_files(tmp_path):
    decoder(tmp_path / "tiny", "llama")
    (tmp_path / "tiny/model.safetensors").unlink()
    (tmp_path / "tiny/model.safetensors.index.json").write_text('{"weight_map": {"a": 5}}')
    with pytest.raises(RecipeError, match="no name of a file"):
        run(recipe(tmp_path, "broken"), out=tmp_path / "runs")


def test_a_number_that_is_none(tmp_path):
    decoder(tmp_path / "tiny", "llama")
    path = tmp_path / "tiny/config.json"
    path.write_text(path.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": NaN'))
    assert "NaN" in path.read_text()
    with pytest.raises(RecipeError, match="isn't JSON"):
        run(recipe(tmp_path, "broken"), out=tmp_path / "runs")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # Nothing so large is drawn before it is known to fit.
        ({"hidden_size": 10_000_000}, "asks for"),
        ({"bos_token_id": 9999}, "the begin token has the id 9999"),
        ({"vocab_size": 10_000_000}, "vocab_size"),
        ({"layer_types": ["sliding_attention"] * 2, "model_type": "qwen2"}, "no window is set"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rotary positions"),
        ({"eos_token_id": None}, "eos_token_id"),
        ({"eos_token_id": "end"}, "config.json"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"vocab_size": 10}, "asks for"),
    ],
)
def test_what_is_refused(tmp_path, changes, said):
    decoder(tmp_path / "tiny", "llama")
    (tmp_path / "tiny/generation_config.json").unlink()
    edit(tmp_path / "tiny/config.json", **changes)
    with pytest.raises(RecipeError, match=said):
        run(recipe(tmp_path, "broken"), out=tmp_path / "runs")


def test_a_network_that_reads_is_no_language_model_and_the_other_way_round(tmp_path):
    encoder(tmp_path / "tiny")
    with pytest.raises(RecipeError, match="is of the kind `encoder`"):
        run(recipe(tmp_path, "broken"), out=tmp_path / "runs")
    shutil.rmtree(tmp_path / "tiny")
    decoder(tmp_path / "tiny")
    (tmp_path / "rows.csv").write_text("text,label\n" + "the soup,good\nthe tea,bad\n" * 30)
    text = "version: 1\ntask: text-classification\ndata: {source: table, path: rows.csv}\n"
    with pytest.raises(RecipeError, match="is of the kind `causal_lm`"):
        run(recipe(tmp_path, "other", text + "model: 'transformers:tiny'\n"), out=tmp_path / "runs")
