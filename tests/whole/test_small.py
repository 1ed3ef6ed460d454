"""The small example of each task, from its data to a model file that predicts and a report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import RecipeError
from modelwright.files import read_json
from modelwright.pipeline import check, layers, run
from modelwright.recipe import load_recipe
from modelwright.scaffold import new

EXAMPLES = Path(__file__).parents[2] / "examples" / "small"
MAIN = {
    "regression": ("r2", 0.8),
    "language-modeling": ("bits_per_byte", 0.0),
    "translation": ("bleu", 30.0),
    "summarization": ("rouge_l", 0.6),
    "speech-recognition": ("wer", 0.0),
    "object-detection": ("map50", 0.3),
    "multi-label": ("f1_macro", 0.95),
}
"""A figure of each task that has no accuracy, and the least that it is."""
RECIPES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The recipes with their data made, and one finished run of each."""
    here = tmp_path_factory.mktemp("small")
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, here)
    subprocess.run([sys.executable, here / "make_data.py", here / "data"], check=True)
    results = {name: run(here / f"{name}.yaml", out=here / "runs") for name in RECIPES}
    return here, results


@pytest.mark.parametrize("name", RECIPES)
def test_it_reaches_its_targets(small, name):
    here, results = small
    result = results[name]
    assert [verdict.metric for verdict in result.verdicts if not verdict.passed] == []
    assert modelfile.verify(result.model).golden_difference <= 1e-4
    page = result.report.read_text(encoding="utf-8")
    shown = page.partition("<body>")[2].partition("How it was made")[0]
    assert ("image" in shown) == (name in ("regression", "object-detection"))
    assert load_recipe(here / f"{name}.yaml").task in page


@pytest.mark.parametrize("name", RECIPES)
def test_the_commands_need_no_flag_of_a_task(small, name, capsys):
    here, results = small
    model = results[name].model
    samples = sorted(str(path) for path in (model.parent / "samples").iterdir())
    assert main(["predict", str(model), *samples, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [item["input"] for item in answers] == samples
    assert all(item["predictions"] for item in answers)
    recipe = load_recipe(here / f"{name}.yaml")
    assert main(["evaluate", str(model), str(here / recipe.data.path), "--json", "--quiet"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    metric, least = MAIN.get(name, ("accuracy", 0.8))
    assert metrics[metric]["value"] >= least
    assert main(["inspect", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == recipe.task


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_answers_as_its_samples_alone(small, name):
    _, results = small
    model = modelfile.load(results[name].model)
    samples = sorted((results[name].model.parent / "samples").iterdir())
    together = model.predict(samples)
    for path, answers in zip(samples, together, strict=True):
        if "text" in answers[0]:
            # A language model draws by the text's place in the batch.
            if name != "language-modeling":
                assert model.predict(path)[0]["text"] == answers[0]["text"]
            continue
        alone, beside = (
            {item["label"]: item.get("probability", item.get("value")) for item in found}
            for found in (model.predict(path), answers)
        )
        assert beside == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_check_and_layers_train_nothing(small, name):
    here, _ = small
    found = check(here / f"{name}.yaml")
    assert [item for item in found.findings if item.severity == "error"] == []
    assert layers(here / f"{name}.yaml").parameters > 0


WRITE = ("language-modeling", "summarization", "translation")


@pytest.mark.parametrize("name", RECIPES)
def test_new_recognises_the_data(small, name, tmp_path):
    here, _ = small
    recipe = load_recipe(here / f"{name}.yaml")
    written = new(here / recipe.data.path, out=tmp_path / "recipe.yaml")
    found = load_recipe(written.path)
    assert (found.task, found.output_kind) == (recipe.task, recipe.output_kind)
    assert [item for item in check(written.path).findings if item.severity == "error"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_what_new_writes_is_trained(small, name, tmp_path):
    here, _ = small
    recipe = load_recipe(here / f"{name}.yaml")
    written = new(here / recipe.data.path, out=tmp_path / "recipe.yaml")
    # What has learnt next to nothing writes to the end.
    shorter = ["text.max_length=16"] if recipe.task in WRITE else []
    result = run(
        written.path,
        out=tmp_path / "runs",
        overrides=["train.epochs=1", "data.limit=60", "evaluate.latency=false", *shorter],
    )
    assert result.model.exists()
    assert read_json(result.folder / "decisions.json")["model"]["why"] == "auto"


FAMILIES = [
    "{name: bow, width: 8, buckets: 256}",
    "{name: text-cnn, width: 8, filters: 4, kernels: [1, 3]}",
    "{name: rnn, width: 8, hidden: 8}",
    "{name: rnn, cell: gru, width: 8, hidden: 8, layers: 2, pooling: last, bidirectional: false}",
    "{name: rnn, width: 8, hidden: 8, pooling: attention}",
    "{name: rnn, width: 8, hidden: 8, pooling: mean}",
    "{name: transformer, width: 8, layers: 1, heads: 2}",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_texts_trains_and_ships(small, family, tmp_path):
    here, _ = small
    result = run(
        here / "text-classification.yaml",
        out=tmp_path,
        overrides=[
            f"model={family}",
            "train.epochs=1",
            "train.max_tokens_per_batch=300",
            "targets={}",
            "evaluate={baselines: false, latency: false}",
        ],
    )
    assert modelfile.verify(result.model).golden_difference <= 1e-4
    again = modelfile.rebuild(result.model)
    assert again.architecture["name"] == family.split()[1].rstrip(",}")


@pytest.mark.parametrize("kind", ["word", "bpe", "character"])
def test_every_tokenizer_ships(small, kind, tmp_path):
    here, _ = small
    result = run(
        here / "text-classification.yaml",
        out=tmp_path,
        overrides=[
            f"text={{tokenizer: {kind}, vocab_size: 300}}",
            "train.epochs=1",
            "targets={}",
            "evaluate={baselines: false, latency: false}",
        ],
    )
    model = modelfile.load(result.model)
    assert model.input.tokenizer.kind == kind
    assert len(model.predict("The soup was délicieux <eos> 汤")) == 2


def test_training_further_keeps_the_tokenizer(small, tmp_path):
    here, results = small
    first = results["text-classification"].model
    result = run(
        here / "text-classification.yaml",
        out=tmp_path,
        overrides=[
            f"model={{init: {json.dumps(str(first))}}}",
            "text={}",
            "train.epochs=1",
            "targets={}",
        ],
    )
    old, found = modelfile.load(first), modelfile.load(result.model)
    assert found.input == old.input
    assert modelfile.rebuild(result.model).lineage[2]["step"] == "init"


def test_words_start_from_a_file_and_their_neighbours_are_shown(small, tmp_path, capsys):
    here, _ = small
    # Words of one mood point one way; their vectors stay, as no parameter of the table is trained.
    pleased, annoyed = ["delicious", "friendly", "warm"], ["cold", "rude", "slow"]
    rows = [f"{word} 1 0.{at} 0 0" for at, word in enumerate(pleased)]
    rows += [f"{word} 0 0 1 0.{at}" for at, word in enumerate(annoyed)]
    (tmp_path / "vectors.txt").write_text("\n".join(rows) + "\n")
    result = run(
        here / "text-classification.yaml",
        out=tmp_path,
        overrides=[
            "model={name: text-cnn, width: 4, filters: 4, kernels: [1]}",
            f"text.vectors={json.dumps(str(tmp_path / 'vectors.txt'))}",
            "train.groups=[{match: embedding.*, lr: 0}]",
            "train.epochs=1",
            "targets={}",
            "evaluate={baselines: false, latency: false}",
        ],
    )
    assert any(note.startswith("6 of") for note in result.notes)
    assert modelfile.rebuild(result.model).lineage[0]["words"] == 6
    assert main(["inspect", str(result.model), "--word", "Delicious", "--json"]) == 0
    near = [item["word"] for item in json.loads(capsys.readouterr().out)]
    assert {"friendly", "warm"} == set(near[:2])
    with pytest.raises(RecipeError, match="vectors of 4 numbers"):
        run(
            here / "text-classification.yaml",
            out=tmp_path,
            name="other",
            overrides=[f"text.vectors={json.dumps(str(tmp_path / 'vectors.txt'))}"],
        )
