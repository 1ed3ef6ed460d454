"""Networks from elsewhere: a folder that transformers saved, trained further and shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import MissingExtraError, ModelFileError, ModelwrightError, RecipeError
from modelwright.modelfile.inputs import open_input, read_batch
from modelwright.models.lora import LoraLinear
from modelwright.pipeline import check, layers, run
from modelwright.recipe import load_recipe

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.whole.folders import SIZES, edit, encoder, meals

SETTINGS = """\
train: {epochs: 6, batch_size: 8, precision: fp32, compile: off,
        optimizer: {name: adamw, lr: 0.003}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
RECIPE = """\
version: 1
task: text-classification
data: {source: table, path: meals.csv}
model: {name: transformers, path: tiny}
"""
SAME = 1e-5
"""The same sums in another order, over some dozens of terms of fp32."""


def recipe(place, name, text=RECIPE):
    (place / f"{name}.yaml").write_text(text + SETTINGS)
    return place / f"{name}.yaml"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny encoder, a table, and a finished run `whole`."""
    here = tmp_path_factory.mktemp("pretrained")
    encoder(here / "tiny", masked=True)
    meals(here / "meals.csv")
    run(recipe(here, "whole"), out=here / "runs")
    return here


@pytest.fixture
def own(place, tmp_path):
    """The folder and the table, to be broken."""
    shutil.copytree(place / "tiny", tmp_path / "tiny")
    shutil.copy(place / "meals.csv", tmp_path)
    return tmp_path


def refused(own, text=RECIPE):
    with pytest.raises(ModelwrightError) as caught:
        run(recipe(own, "broken", text), out=own / "runs")
    assert isinstance(caught.value, RecipeError)
    return str(caught.value)


# -- an encoder ------------------------------------------------------------------------------


def test_a_folder_is_trained_whole_and_answers_well(place):
    result = run(place / "whole.yaml", out=place / "runs")
    assert result.finished_before
    accuracy = next(item.value for item in result.ledger if item.metric == "accuracy")
    assert accuracy >= 0.9
    assert any("starts from tiny (bert)" in note for note in result.notes)
    assert modelfile.verify(result.model).golden_difference <= 1e-4


def test_the_file_says_from_which_weights_it_came(place):
    step = modelfile.describe(place / "runs/whole/model.mw")["lineage"][0]
    assert (step["step"], step["folder"], step["model_type"]) == ("pretrained", "tiny", "bert")
    weights = (place / "tiny/model.safetensors").read_bytes()
    from modelwright.files import digest

    assert step["weights"] == digest(weights)


def test_before_training_it_computes_what_transformers_computes(place):
    from transformers import AutoModel, PreTrainedTokenizerFast

    from modelwright.models.network import TextFrame
    from modelwright.models.pretrained import PretrainedModel, build_pretrained
    from modelwright.models.pretrained_folders import open_folder, take_weights
    from modelwright.transforms.hf_tokenizer import read_foreign
    from modelwright.transforms.text import TextInput

    folder = open_folder(place / "tiny")
    spec = PretrainedModel(
        name="transformers",
        model_type="bert",
        config=folder.config,
        pooling="first",
        dropout=0.1,
        token_ids=None,
    )
    texts = ["The soup was good", "we hated it, très dull"]
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(place / "tiny/tokenizer.json"), pad_token="[PAD]"
    )
    given = theirs(
        ["The soup was good", "we hated it, très dull"], padding=True, return_tensors="pt"
    )
    tokenizer = read_foreign(folder.tokenizer_bytes(), None)
    ids, sizes = TextInput(tokenizer, 22).encode(texts)
    assert max(sizes) <= 20
    for row, own in enumerate(ids):
        kept = given["input_ids"][row][given["attention_mask"][row] == 1]
        assert own.tolist() == kept.tolist()
    # What looks like a special token is text.
    assert 2 not in tokenizer.encode(["dull [SEP] bread"])[0]
    network = build_pretrained(spec, TextFrame(tokenizer.size, 22, 3)).eval()
    unused = take_weights(network, folder)
    assert any(name.startswith("cls.predictions") for name in unused)
    model = AutoModel.from_pretrained(place / "tiny", local_files_only=True).eval()
    with torch.no_grad():
        expected = network.head(
            model(**{k: given[k] for k in ("input_ids", "attention_mask")})[0][:, 0]
        )
        padded = torch.zeros(given["input_ids"].shape, dtype=torch.long)
        for row, own in enumerate(ids):
            padded[row, : len(own)] = torch.from_numpy(own)
        found = network(padded, torch.tensor([len(own) for own in ids]))
    torch.testing.assert_close(found, expected, rtol=SAME, atol=SAME)


ALIKE = ("camembert", "distilbert", "electra", "roberta", "xlm-roberta")
"""Types whose graphs are those of `bert` but for names and a layer."""


@pytest.mark.parametrize(
    "model_type",
    [pytest.param(item, marks=pytest.mark.slow if item in ALIKE else ()) for item in SIZES],
)
def test_each_known_type_is_exported_and_built_again(tmp_path, model_type):
    encoder(tmp_path / "tiny", model_type)
    meals(tmp_path / "meals.csv", each=12)
    settings = SETTINGS.replace("epochs: 6", "epochs: 1")
    text = RECIPE.replace("path: tiny", "path: tiny, pooling: mean")
    (tmp_path / "one.yaml").write_text(text + settings)
    result = run(tmp_path / "one.yaml", out=tmp_path / "runs")
    answers_as_in_torch(result.model)


def answers_as_in_torch(path):
    """Compare a file's answers with those of the network that is built again from it."""
    model, candidate = modelfile.load(path), modelfile.rebuild(path)
    texts = ["the soup was good", "so dull and cold and stale and bad", "tea"]
    batch = read_batch(open_input(candidate.input.to_json(), candidate.assets), texts)
    with torch.no_grad():
        expected = candidate.network(*(torch.from_numpy(array) for array in batch.values()))
    (temperature,) = model.inference.temperature or (1.0,)
    logits = model.outputs(batch) * temperature
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_predicting_imports_neither_torch_nor_transformers(place):
    program = (
        "import sys; from modelwright import modelfile; "
        f"m = modelfile.load({str(place / 'runs/whole/model.mw')!r}); "
        "print(m.predict('the soup was good')[0]['label']); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "good"), done.stderr


def test_numbers_are_predicted_too(place):
    meals(place / "scores.csv", numbers=True)
    text = RECIPE.replace("text-classification", "regression").replace(
        "path: meals.csv", "path: scores.csv, input_kind: text, target_columns: [score]"
    )
    result = run(recipe(place, "numbers", text), out=place / "runs")
    assert next(item.value for item in result.ledger if item.metric == "r2") > 0.7
    answers_as_in_torch(result.model)


def test_a_model_file_of_it_is_trained_further(place):
    text = RECIPE.replace("{name: transformers, path: tiny}", "{init: runs/whole/model.mw}")
    result = run(recipe(place, "further", text), out=place / "runs")
    steps = [step["step"] for step in modelfile.describe(result.model)["lineage"]]
    assert steps == ["pretrained", "train", "export", "init", "train", "export"]


def test_the_short_form_names_the_same(place):
    short = RECIPE.replace("{name: transformers, path: tiny}", '"transformers:tiny"')
    assert load_recipe(recipe(place, "short", short)) == load_recipe(place / "whole.yaml")


def test_check_and_layers_know_it(place):
    assert check(place / "whole.yaml").forecast
    names = [layer.name for layer in layers(place / "whole.yaml").layers]
    assert "head" in names
    assert any(name.endswith("query") for name in names)


def test_long_texts_are_cut_before_their_last_token_and_counted(place):
    lines = [f"{'soup ' * (20 + n % 9)}{'good' if n % 2 else 'bad'} {n},{n % 2}" for n in range(40)]
    (place / "long.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    text = RECIPE.replace("meals.csv", "long.csv") + "text: {max_length: 24}\n"
    result = run(recipe(place, "long", text), out=place / "runs")
    assert any("are longer than `text.max_length` allows" in note for note in result.notes)
    reader = open_input(
        modelfile.rebuild(result.model).input.to_json(), modelfile.rebuild(result.model).assets
    )
    batch = read_batch(reader, ["soup " * 30])
    assert batch["length"].tolist() == [24]
    assert (batch["tokens"][0, 0], batch["tokens"][0, -1]) == (3, 2)


# -- adapters --------------------------------------------------------------------------------

ADAPTED = RECIPE.replace(
    "path: tiny", "path: tiny, adapters: {rank: 4, match: ['*.query', '*.value']}"
)


def test_adapters_are_trained_alone_and_leave_plain_weights(place):
    result = run(recipe(place, "adapted", ADAPTED), out=place / "runs")
    assert any("parameters learn" in note for note in result.notes)
    before = modelfile.read_weights(place / "runs/whole/model.mw")
    after = modelfile.read_weights(result.model)
    assert before.keys() == after.keys()
    from safetensors.numpy import load_file

    first = load_file(place / "tiny/model.safetensors")
    for name, array in after.items():
        if name.startswith("head."):
            continue
        same = np.array_equal(array, first[f"bert.{name.removeprefix('encoder.')}"])
        assert same != name.endswith(("query.weight", "value.weight")), name
    step = modelfile.describe(result.model)["lineage"][1]
    assert (step["step"], step["rank"], step["layers"]) == ("adapters", 4, 4)
    answers_as_in_torch(result.model)


def test_the_optimizer_holds_nothing_but_what_learns(place):
    from modelwright.models.lora import adapt
    from modelwright.recipe.train import TrainSpec
    from modelwright.training.optimizers import Optimizer

    network = modelfile.rebuild(place / "runs/whole/model.mw").network
    found = adapt(network, rank=2, alpha=4.0, match=("*",), head=True)
    held = Optimizer(network, TrainSpec()).parameters
    assert sum(item.numel() for item in held) == found.trained < found.parameters
    assert any(isinstance(item, LoraLinear) for item in network.modules())


def test_a_model_file_is_trained_further_by_adapters(place):
    text = RECIPE.replace(
        "{name: transformers, path: tiny}", "{init: runs/whole/model.mw, adapters: {rank: 2}}"
    )
    result = run(recipe(place, "further-adapted", text), out=place / "runs")
    answers_as_in_torch(result.model)


def test_a_pattern_that_matches_no_layer_is_refused(place):
    with pytest.raises(RecipeError, match="matches no fully connected layer"):
        run(recipe(place, "nothing", ADAPTED.replace("*.query", "*.kwery")), out=place / "runs")


# -- what is refused -------------------------------------------------------------------------


def test_a_name_of_a_hub_in_place_of_a_folder_is_not_fetched(own):
    message = refused(own, RECIPE.replace("path: tiny", "path: bert-base-uncased"))
    assert "there is no `bert-base-uncased`" in message
    assert "or write `hub: ORG/NAME` in place of `path`" in message


def test_a_folder_without_settings(own):
    (own / "tiny/config.json").unlink()
    assert "there is no `config.json`" in refused(own)


@pytest.mark.parametrize("name", ["gpt-neox", "mystery", None])
def test_an_unknown_type(own, name):
    edit(own / "tiny/config.json", model_type=name, auto_map={"AutoModel": "evil.Model"})
    message = refused(own)
    assert "isn't known here" in message
    assert "isn't run" in message


def test_settings_of_another_kind(own):
    edit(own / "tiny/config.json", hidden_size="many")
    assert "config.json" in refused(own)


def test_no_tokenizer(own):
    (own / "tiny/tokenizer.json").unlink()
    assert "there is no `tokenizer.json`" in refused(own)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pre_tokenizer": {"type": "Mystery"}}, "`Mystery`"),
        (
            {
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": {"Regex": "(a+)+$"},
                    "behavior": "Isolated",
                    "invert": False,
                }
            },
            "regular expression",
        ),
        ({"model": {"type": "WordPiece"}}, "can't read it"),
        ({"extra": 1}, "`extra`"),
    ],
)
def test_a_tokenizer_that_is_not_known(own, change, said):
    edit(own / "tiny/tokenizer.json", **change)
    message = refused(own)
    assert "tokenizer.json" in message
    assert said in message


def test_pickled_weights(own):
    (own / "tiny/model.safetensors").rename(own / "tiny/pytorch_model.bin")
    message = refused(own)
    assert "`pytorch_model.bin`" in message
    assert "can run code" in message


def test_weights_that_are_cut_short(own):
    path = own / "tiny/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or cut short" in refused(own)


def test_weights_that_are_missing_or_of_another_shape(own):
    edit(own / "tiny/config.json", num_hidden_layers=3)
    assert "are missing" in refused(own)
    edit(own / "tiny/config.json", num_hidden_layers=2, intermediate_size=32)
    assert "asks for" in refused(own)


def test_texts_longer_than_the_network_takes(own):
    message = refused(own, RECIPE + "text: {max_length: 100}\n")
    assert "reads 24 tokens at most" in message


def test_another_task(own):
    (own / "corpus.txt").write_text("the soup was good\n" * 50)
    text = "version: 1\ntask: language-modeling\ndata: {source: documents, path: corpus.txt}\n"
    message = refused(own, text + "model: {name: transformers, path: tiny}\n")
    assert "is of the kind `encoder`" in message


def test_a_tokenizer_of_ones_own(own):
    assert "brings its own" in refused(own, RECIPE + "text: {tokenizer: bpe}\n")


def test_sharded_weights_are_read_and_nothing_outside_the_folder(own):
    from safetensors.numpy import load_file, save_file

    held = load_file(own / "tiny/model.safetensors")
    (own / "tiny/model.safetensors").unlink()
    names = sorted(held)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, own_names in shards.items():
        save_file({name: held[name] for name in own_names}, own / "tiny" / shard)
    index = {name: shard for shard, own_names in shards.items() for name in own_names}
    path = own / "tiny/model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": index}))
    assert layers(recipe(own, "sharded"))
    path.write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))
    assert "isn't a file of weights" in refused(own)


def test_a_file_with_strange_settings_is_refused(place):
    contents = modelfile.read(place / "runs/whole/model.mw")
    from modelwright import models

    weights = {name: torch.from_numpy(array.copy()) for name, array in contents.weights.items()}
    architecture = contents.spec.architecture
    for change in (
        {"attn_implementation": "someone/kernel"},
        {"num_hidden_layers": 10**6},
        {"hidden_act": "mystery"},
        {"hidden_size": None},
    ):
        strange = {**architecture, "config": {**architecture["config"], **change}}
        with pytest.raises(ModelFileError):
            models.rebuild(strange, weights)


def test_without_the_library_it_says_how_to_install_it(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="isn't installed") as caught:
        layers(recipe(own, "missing"))
    assert "modelwright[finetune]" in str(caught.value)
