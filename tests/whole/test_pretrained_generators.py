"""Networks from elsewhere that write a text from another: trained further, shipped, used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.files import read_json
from modelwright.modelfile.inputs import open_input, read_batch
from modelwright.models.seq2seq import Seq2SeqStepper
from modelwright.pipeline import check, layers, run
from modelwright.tasks.beam_search import BeamSearchConfig, beam_search
from modelwright.transforms.text import BEGIN

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.whole.folders import WRITERS, edit, menus, writer

RECIPE = """\
version: 1
task: translation
data: {source: table, path: menus.csv}
text: {max_length: 12}
model: {name: transformers, path: tiny}
train: {epochs: 2, batch_size: 16, precision: fp32, compile: off,
        optimizer: {name: adamw, lr: 0.005}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
SAME = 1e-4
"""Sums of fp32 in another order, over all layers."""
TEXTS = ["the soup was very good", "the tea was so so cold", "fish"]


def recipe(place, name, text=RECIPE):
    (place / f"{name}.yaml").write_text(text)
    return place / f"{name}.yaml"


QUICK = ("bart", "t5")
"""One of each kind; the others differ little, and each takes a minute."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in WRITERS
    ],
)
def written(request, tmp_path_factory):
    """A folder with a tiny network that writes, and a run of it."""
    here = tmp_path_factory.mktemp(request.param)
    writer(here / "tiny", request.param)
    menus(here / "menus.csv")
    return here, run(recipe(here, "first"), out=here / "runs")


def test_a_file_writes_as_the_network_that_is_built_again(written):
    _, result = written
    model, candidate = modelfile.load(result.model), modelfile.rebuild(result.model)
    reader = open_input(candidate.input.to_json(), candidate.assets)
    batch = read_batch(reader, TEXTS)
    source = {name: batch[name] for name in ("source", "source_length")}
    best = beam_search(
        Seq2SeqStepper(candidate.network),
        source,
        np.full((len(TEXTS), 1), BEGIN),
        config=BeamSearchConfig(max_new_tokens=candidate.input.max_length, length_penalty=1.0),
    )
    texts = [candidate.input.tokenizer.decode(item.ids) for item in best]
    found = [answer[0]["text"] for answer in model.predict(TEXTS)]
    assert found == texts
    batch["target"] = np.array([[BEGIN, 7, 9, 3]] * 3)
    with torch.no_grad():
        expected = candidate.network(*(torch.from_numpy(array) for array in batch.values()))
    np.testing.assert_allclose(model.outputs(batch), expected.numpy(), rtol=SAME, atol=SAME)


def test_it_computes_and_writes_what_transformers_does(written):
    here, _ = written
    from transformers import AutoModelForSeq2SeqLM

    from modelwright.initialization import settled_input
    from modelwright.initialization.pretrained import pretrained_section
    from modelwright.models.network import TextFrame
    from modelwright.models.pretrained import build_pretrained
    from modelwright.models.pretrained_folders import open_folder, take_weights
    from modelwright.pipeline.request import read_request

    asked = read_request(here / "first.yaml")
    input, folder = settled_input(asked), open_folder(here / "tiny")
    token_ids = input.tokenizer.token_ids
    section = pretrained_section(asked.recipe.model, folder, token_ids)
    size = input.tokenizer.size
    network = build_pretrained(section, TextFrame(size, input.max_length, size)).eval()
    take_weights(network, folder)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(here / "tiny", local_files_only=True).eval()
    rows, _ = input.encode(TEXTS[:1])
    source = torch.from_numpy(token_ids.theirs()[rows[0]])[None]
    target = torch.tensor([[BEGIN, 8, 5]])
    with torch.no_grad():
        length = torch.tensor([len(rows[0])])
        ours = network(torch.from_numpy(rows[0]).long()[None], length, target)
        own = theirs(
            input_ids=source, decoder_input_ids=torch.from_numpy(token_ids.theirs())[target]
        ).logits
    kept = [number for number in range(size) if number != BEGIN]
    torch.testing.assert_close(
        ours[..., kept], own[..., token_ids.theirs()[kept]], rtol=SAME, atol=SAME
    )
    greedy = theirs.generate(
        source,
        num_beams=1,
        do_sample=False,
        max_new_tokens=6,
        forced_eos_token_id=None,
        bad_words_ids=[[token_ids.padding], [token_ids.unknown]],
    )[0, 1:].tolist()
    (best,) = beam_search(
        Seq2SeqStepper(network),
        {"source": rows[0][None].astype(np.int64), "source_length": length.numpy()},
        np.full((1, 1), BEGIN),
        config=BeamSearchConfig(num_beams=1, max_new_tokens=6),
    )
    found = token_ids.theirs()[list(best.ids)].tolist()
    assert found == greedy[: len(found)]
    assert greedy[len(found) :] in ([], [token_ids.end])


@pytest.mark.slow
def test_it_learns_to_write(tmp_path):
    writer(tmp_path / "tiny")
    menus(tmp_path / "menus.csv", each=400)
    text = RECIPE.replace("epochs: 2", "epochs: 12")
    result = run(recipe(tmp_path, "long", text), out=tmp_path / "runs")
    assert next(item.value for item in result.ledger if item.metric == "chrf") > 60


def test_adapters_leave_shared_weights_shared(written, tmp_path):
    here, first = written
    # Of one layer each: the graphs of the run before were of more.
    model_type = read_json(here / "tiny/config.json")["model_type"]
    writer(tmp_path / "tiny", model_type, **({"num_layers": 1} if model_type == "t5" else {}))
    menus(tmp_path / "menus.csv")
    text = RECIPE.replace("path: tiny", "path: tiny, adapters: {rank: 2}")
    result = run(recipe(tmp_path, "adapted", text), out=tmp_path / "runs")
    shared = [modelfile.read(path).spec.shared for path in (first.model, result.model)]
    assert shared[0] == shared[1]
    model, candidate = modelfile.load(result.model), modelfile.rebuild(result.model)
    reader = open_input(candidate.input.to_json(), candidate.assets)
    batch = read_batch(reader, TEXTS)
    with torch.no_grad():
        expected = candidate.network(*(torch.from_numpy(array) for array in batch.values()))
    np.testing.assert_allclose(model.outputs(batch), expected.numpy(), rtol=SAME, atol=SAME)


def refused(place, text=RECIPE):
    with pytest.raises(RecipeError) as caught:
        layers(recipe(place, "broken", text))
    return str(caught.value)


def test_what_does_not_fit_is_refused(tmp_path):
    writer(tmp_path / "tiny", "bart")
    menus(tmp_path / "menus.csv", each=20)
    assert "is of the kind `seq2seq`" in refused(
        tmp_path, RECIPE.replace("translation", "text-classification")
    )
    pooled = recipe(tmp_path, "pooled", RECIPE.replace("path: tiny", "path: tiny, pooling: mean"))
    with pytest.raises(RecipeError, match=r"`model.pooling` is for"):
        check(pooled)
    assert "reads 28 tokens at most" in refused(
        tmp_path, RECIPE.replace("max_length: 12", "max_length: 29")
    )
    for name in ("config.json", "generation_config.json"):
        edit(tmp_path / "tiny" / name, decoder_start_token_id=None)
    assert "`decoder_start_token_id` isn't a token id" in refused(tmp_path)
    for name in ("config.json", "generation_config.json"):
        edit(tmp_path / "tiny" / name, decoder_start_token_id=2, eos_token_id=1)
    assert "three different tokens" in refused(tmp_path)


def test_it_goes_back_to_where_it_came_from(written, tmp_path):
    _, result = written
    from transformers import AutoModelForSeq2SeqLM

    folder = tmp_path / "back"
    modelfile.export_llama(result.model, folder)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True).eval()
    own = modelfile.rebuild(result.model).network.network.state_dict()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, own[name]), name
