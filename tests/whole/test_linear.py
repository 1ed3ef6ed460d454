"""Linear models, from data to a model file: against scikit-learn's own, and all that is asked of a
file."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline, make_union

from modelwright import modelfile
from modelwright.data.waves import as_wav
from modelwright.errors import MissingExtraError, RecipeError, StoppedError
from modelwright.evaluation import IS_SIMPLE
from modelwright.files import read_json
from modelwright.initialization.published import is_installed
from modelwright.modelfile import torch_runtime
from modelwright.pipeline import check, evaluate, layers, run
from modelwright.recipe import check_composition, parse_recipe
from modelwright.run import silent
from modelwright.transforms.ngrams import CHAR_RANGE, WORD_RANGE

SAME = 1e-5
"""A probability in single precision, against scikit-learn's in double."""
WORDS = {
    "praise": "good fine lovely great superb",
    "blame": "bad poor dull awful weak",
    "neither": "green tall round early wooden",
}
RECIPE = """\
version: 1
task: {task}
data: {{source: table, path: {path}, split_column: split{more}}}
model: {{name: linear{settings}}}
{inference}
evaluate: {{latency: false}}
resources: {{threads: 1}}
"""


def write_texts(path, labels, *, target=None):
    """Write texts of which most words tell the label, and return their rows."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(240):
        label = labels[number % len(labels)]
        words = list(random.choice(WORDS[label].split(), 3))
        words += list(random.choice(" ".join(WORDS.values()).split(), 4))
        split = ("test", "val", "train", "train")[number % 8 // 2]
        text = f"{number} " + " ".join(random.permutation(words))
        value = len(set(words) & set(WORDS["praise"].split())) * 1000.0 + 500
        rows.append((text, label, value, split))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "target", "split"))
        writer.writerows(rows)
    return rows


def recipe_of(folder, *, task="text-classification", settings="", more="", path="texts.csv"):
    file = folder / "recipe.yaml"
    inference = "inference: {calibration: none}" if task.endswith("classification") else ""
    text = RECIPE.format(task=task, settings=settings, more=more, path=path, inference=inference)
    file.write_text(text, "utf-8")
    return file


def of_sklearn(estimator):
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=WORD_RANGE, sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char", ngram_range=CHAR_RANGE, sublinear_tf=True)
    return make_pipeline(make_union(words, characters), estimator)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts of three labels, their recipe and a finished run."""
    folder = tmp_path_factory.mktemp("texts")
    rows = write_texts(folder / "texts.csv", list(WORDS))
    return folder, rows, run(recipe_of(folder), out=folder)


def probabilities(model, asked):
    return [{item["label"]: item["probability"] for item in each} for each in model.predict(asked)]


def test_the_file_answers_as_scikit_learns_own_model(texts):
    folder, rows, result = texts
    model = modelfile.load(result.model)
    chosen = read_json(folder / "recipe/stages/train/decisions.json")["C"]
    train = [row for row in rows if row[3] == "train"]
    reference = of_sklearn(LogisticRegression(C=chosen["C"], max_iter=1000))
    reference.fit([row[0] for row in train], [row[1] for row in train])
    asked = [row[0] for row in rows if row[3] == "test"] + ["nothing known", "Ω", "good"]
    expected = reference.predict_proba(asked)
    for answer, row in zip(probabilities(model, asked), expected, strict=True):
        for label, value in zip(reference.classes_, row, strict=True):
            assert answer[label] == pytest.approx(value, abs=SAME)
    assert result.ledger.find("accuracy").value > 0.6


def test_it_is_verified_measured_again_and_described(texts):
    folder, _, result = texts
    assert modelfile.verify(result.model).golden_difference <= SAME
    again = evaluate(result.model, folder / "texts.csv")["metrics"]
    assert again["accuracy"]["n"] == 60  # The rows of the test split alone.
    assert again["accuracy"]["value"] > 0.6
    packed = modelfile.describe(result.model)
    step = next(item for item in packed["lineage"] if item["step"] == "train")
    tried = read_json(folder / "recipe/stages/train/decisions.json")["C"]["tried"]
    assert step["C"] in [item["C"] for item in tried]
    assert max(item["accuracy"] for item in tried) == next(
        item["accuracy"] for item in tried if item["C"] == step["C"]
    )


def test_the_same_run_gives_the_same_weights(texts, tmp_path):
    folder, _, result = texts
    again = run(folder / "recipe.yaml", out=tmp_path)
    assert modelfile.digest(again.model) == modelfile.digest(result.model)


def test_predicting_takes_neither_scikit_learn_nor_torch(texts):
    _, _, result = texts
    code = (
        "import sys, modelwright as mw\n"
        f"mw.load({str(result.model)!r}).predict('a good film')\n"
        "print([name for name in ('sklearn', 'scipy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_trained_further_as_a_network(texts, tmp_path):
    folder, _, result = texts
    recipe = folder / "further.yaml"
    recipe.write_text(
        "version: 1\ntask: text-classification\n"
        "data: {source: table, path: texts.csv, split_column: split}\n"
        f"model: {{init: {result.model}}}\n"
        "train: {epochs: 1, precision: fp32, optimizer: {name: sgd, lr: 0.01}}\n"
        "evaluate: {latency: false}\n",
        "utf-8",
    )
    further = run(recipe, out=tmp_path)
    before, after = (modelfile.load(each.model) for each in (result, further))
    one, other = (probabilities(model, ["a good film"])[0] for model in (before, after))
    assert one != other
    assert one == pytest.approx(other, abs=0.1)


def test_two_labels_are_fitted_by_coordinate_descent(tmp_path):
    rows = write_texts(tmp_path / "texts.csv", ["praise", "blame"])
    result = run(recipe_of(tmp_path, settings=", C: 3.0"), out=tmp_path)
    train = [row for row in rows if row[3] == "train"]
    estimator = LogisticRegression(C=3.0, solver="liblinear", dual=True, random_state=0)
    reference = of_sklearn(estimator).fit([row[0] for row in train], [row[1] for row in train])
    asked = [row[0] for row in rows if row[3] == "test"]
    for answer, row in zip(
        probabilities(modelfile.load(result.model), asked),
        reference.predict_proba(asked),
        strict=True,
    ):
        assert answer["blame"] == pytest.approx(row[0], abs=SAME)
        assert answer["praise"] == pytest.approx(row[1], abs=SAME)


def test_numbers_are_fitted_by_ridge_regression(tmp_path):
    rows = write_texts(tmp_path / "texts.csv", list(WORDS))
    recipe = recipe_of(
        tmp_path, task="regression", settings=", C: [1.0]", more=", input_kind: text"
    )
    result = run(recipe, out=tmp_path)
    train = [row for row in rows if row[3] == "train"]
    values = np.array([row[2] for row in train])
    reference = of_sklearn(Ridge(alpha=1.0, tol=1e-8))
    reference.fit([row[0] for row in train], (values - values.mean()) / values.std())
    asked = [row[0] for row in rows if row[3] == "test"]
    expected = reference.predict(asked) * values.std() + values.mean()
    answers = [item[0]["value"] for item in modelfile.load(result.model).predict(asked)]
    np.testing.assert_allclose(answers, expected, rtol=1e-4)


def test_several_labels_are_fitted_one_by_one(tmp_path):
    rows = write_texts(tmp_path / "texts.csv", list(WORDS))
    with (tmp_path / "several.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "split"))
        for text, _, _, split in rows:
            there = [name for name, words in WORDS.items() if text.split()[1] in words.split()]
            writer.writerow((text, "|".join([*there, "text"]), split))
    result = run(
        recipe_of(tmp_path, settings=", C: 10.0", more=", multi_label: true", path="several.csv"),
        out=tmp_path,
    )
    answers = probabilities(modelfile.load(result.model), ["a good film"])
    assert answers[0]["text"] > 0.98  # All have it, so there is nothing to fit.
    train = [text for text, _, _, split in rows if split == "train"]
    there = [text.split()[1] in WORDS["praise"].split() for text in train]
    estimator = LogisticRegression(C=10.0, solver="liblinear", dual=True, random_state=0)
    reference = of_sklearn(estimator).fit(train, there)
    expected = reference.predict_proba(["a good film"])[0, 1]
    assert answers[0]["praise"] == pytest.approx(expected, abs=SAME)


def test_without_a_validation_split_a_usual_value_is_taken(tmp_path):
    write_texts(tmp_path / "texts.csv", ["praise", "blame"])
    text = (tmp_path / "texts.csv").read_text("utf-8").replace(",val\n", ",train\n")
    (tmp_path / "texts.csv").write_text(text.replace(",val\r\n", ",train\r\n"), "utf-8")
    result = run(recipe_of(tmp_path, more=", split: {val: 0}"), out=tmp_path)
    chosen = read_json(result.folder / "stages/train/decisions.json")["C"]
    assert chosen["tried"] == []
    assert "no validation split" in chosen["why"]


def test_a_stop_ends_it_at_once(texts, tmp_path):
    import signal

    folder, _, _ = texts

    def stopping(progress):
        if progress.stage == "train":
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError, match="stopped"):
        run(folder / "recipe.yaml", out=tmp_path, observe=stopping)
    assert run(folder / "recipe.yaml", out=tmp_path).model.exists()


def test_what_has_no_effect_is_refused():
    def refused(task="text-classification", model="", rest=""):
        text = f"version: 1\ntask: {task}\ndata: {{source: folder, path: x}}\n"
        recipe = parse_recipe(f"{text}model: {{name: linear{model}}}\n{rest}", where="recipe.yaml")
        with pytest.raises(RecipeError) as caught:
            check_composition(recipe)
        return str(caught.value)

    assert "`train.epochs` has no effect" in refused(rest="train: {epochs: 3}")
    assert "`train.optimizer` has no effect" in refused(rest="train: {optimizer: {name: adamw}}")
    assert "`text.max_length` has no effect" in refused(rest="text: {max_length: 9}")
    flips = {"task": "image-classification", "rest": "augment: {flip: random}"}
    assert "`augment.flip` has no effect" in refused(**flips)
    smoothing = "train: {loss: {name: cross-entropy, label_smoothing: 0.1}}"
    assert "label_smoothing" in refused(rest=smoothing)
    assert "`model.features: hog` is for images" in refused(model=", features: hog")


def test_the_forecast_and_the_layers_are_known_before(texts):
    folder, _, _ = texts
    expected = check(folder / "recipe.yaml").forecast
    assert expected.steps is None
    assert 0 < expected.training_s < 60
    assert expected.memory_bytes > 1 << 20
    summary = layers(folder / "recipe.yaml", observe=silent)
    assert summary.parameters > 1000


# -- images and recordings -------------------------------------------------------------------------


def test_images_are_seen_as_histograms_of_gradients(tmp_path):
    recipe = tmp_path / "digits.yaml"
    recipe.write_text(
        "version: 1\ndata: {source: digits}\nmodel: {name: linear}\n"
        "evaluate: {latency: false}\n"
        "targets: {gain_over_simple: '>= 0'}\nresources: {threads: 1}\n",
        "utf-8",
    )
    result = run(recipe, out=tmp_path)
    (verdict,) = result.verdicts
    assert (verdict.passed, verdict.proven, verdict.why) == (True, False, IS_SIMPLE)
    assert "it is the simple method" in result.report.read_text("utf-8")
    assert result.ledger.find("accuracy").value > 0.9
    candidate = torch_runtime.rebuild(result.model)
    assert candidate.architecture["features"] == "hog"
    model, random = modelfile.load(result.model), np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)
    assert len(model.predict(pixels)) == 5
    assert modelfile.verify(result.model).golden_difference <= 1e-4


def test_recordings_are_seen_as_statistics_of_their_spectrum(tmp_path):
    random = np.random.default_rng(0)
    for number in range(60):
        label = ("low", "high")[number % 2]
        samples = np.sin(np.arange(2000 + 20 * number) * (0.3 + 0.6 * (label == "high")))
        samples = (9000 * samples + random.normal(0, 900, len(samples))).astype(np.int16)
        (tmp_path / "sounds" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sounds" / label / f"{number}.wav").write_bytes(as_wav(samples, 8000))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\ntask: audio-classification\ndata: {source: folder, path: sounds}\n"
        "audio: {n_mels: 16}\nmodel: {name: linear, C: [0.01, 1.0]}\n"
        "evaluate: {latency: false}\nresources: {threads: 1}\n",
        "utf-8",
    )
    result = run(recipe, out=tmp_path)
    assert result.ledger.find("accuracy").value == 1.0
    assert result.ledger.find("accuracy", subject="baseline:spectrum").value == 1.0


@pytest.mark.skipif(
    not is_installed("efficientnet-lite0"), reason="the extra [pretrained] isn't installed"
)
def test_a_published_networks_features_ship_with_it(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\ndata: {source: digits, limit: 100}\ntransforms: {size: 32}\n"
        "model: {name: linear, features: efficientnet-lite0, C: 0.01}\n"
        "evaluate: {latency: false, baselines: false}\nresources: {threads: 1}\n",
        "utf-8",
    )
    result = run(recipe, out=tmp_path)
    assert modelfile.verify(result.model).golden_difference <= 1e-4
    assert torch_runtime.rebuild(result.model).architecture["name"] == "efficientnet-lite0"
    assert result.ledger.find("accuracy").value > 0.3


def test_published_features_that_are_missing_or_of_another_kind_are_refused(tmp_path):
    def recipe(features):
        text = "version: 1\ndata: {source: digits}\nmodel: {name: linear, features: "
        return parse_recipe(f"{text}{features}}}\n", where="recipe.yaml")

    with pytest.raises(RecipeError, match=r"`model.features: minilm` is for texts"):
        check_composition(recipe("minilm"))
    if not is_installed("efficientnet-lite0"):
        with pytest.raises(MissingExtraError, match="isn't installed"):
            run(recipe("efficientnet-lite0"), out=tmp_path)
