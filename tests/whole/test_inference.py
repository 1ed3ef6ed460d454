"""What decides an answer beyond the weights: fitted on validation, kept in the file, obeyed."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright import metrics, modelfile
from modelwright.data import prepare
from modelwright.evaluation.threshold import highest_threshold
from modelwright.pipeline import evaluate, run
from modelwright.recipe import parse_recipe
from modelwright.run import silent

RECIPE = """\
version: 1
data: {source: digits, limit: 700, split: {val: 0.2, test: 0.2}}
model: {name: mlp, hidden: [32]}
train:
  epochs: 12
  batch_size: 32
  loss: {name: cross-entropy, label_smoothing: 0.2}
  optimizer: {name: adamw, lr: 0.01}
  precision: fp32
  compile: off
inference: {threshold: {label: "8", min_recall: 0.9}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    here = tmp_path_factory.mktemp("inference")
    recipe = parse_recipe(RECIPE, where="recipe.yaml")
    result = run(recipe, out=here)
    prepared = prepare(recipe, base=here, observe=silent)
    return result, prepared, modelfile.load(result.model)


def logits_of(model, split):
    """Return the logits without the temperature, and the targets."""
    rows = np.arange(len(split))
    logits = model.outputs(split.gather(rows)) * model.inference.temperature[0]
    return logits.astype(np.float64), np.asarray(split.targets[:])


def test_the_temperature_is_the_best_on_validation(finished):
    result, prepared, model = finished
    (temperature,) = model.inference.temperature
    known = logits_of(model, prepared.dataset().validation)

    def cost(value):
        logits, targets = known
        logs = np.log(metrics.softmax((logits / value).astype(np.float32)).astype(np.float64))
        own = logs[np.arange(len(targets)), targets]
        wrong = 1 / (len(targets) + 2)
        others = (logs.sum(axis=1) - own) / (logs.shape[1] - 1)
        return -((1 - wrong) * own + wrong * others).sum() + np.log(value) ** 2 / 2

    assert temperature < 0.8  # Smoothed labels teach to be unsure.
    assert all(cost(temperature) < cost(temperature * factor) for factor in (0.8, 0.95, 1.05, 1.25))
    record = result.ledger.find("temperature")
    assert (record.split, record.model) == ("validation", model.digest)
    assert record.value == pytest.approx(temperature)


def test_a_temperature_brings_the_calibration_error_down(finished):
    _, prepared, model = finished
    logits, targets = logits_of(model, prepared.test())

    def error(temperature):
        chances = metrics.softmax((logits / temperature).astype(np.float32))
        hits = chances.argmax(axis=1) == targets
        return metrics.calibration_error(metrics.reliability(chances.max(axis=1), hits))

    assert error(model.inference.temperature[0]) < 0.7 * error(1.0)


def test_probabilities_are_those_of_the_divided_logits(finished):
    _, prepared, model = finished
    test = prepared.test()
    logits, _ = logits_of(model, test)
    pixels = test.gather(np.arange(len(test)))
    expected = metrics.softmax((logits / model.inference.temperature[0]).astype(np.float32))
    np.testing.assert_allclose(model.predict_proba(pixels), expected, atol=1e-5)
    answers = model.predict(pixels, top=10)
    found = {item["label"]: item["probability"] for item in answers[0]}
    held = [found[label] for label in model.labels]
    np.testing.assert_allclose(held, expected[0], atol=1e-5)


def test_the_threshold_is_chosen_on_validation_and_obeyed(finished):
    result, prepared, model = finished
    label = model.labels.index("8")
    chances, is_eight = {}, {}
    for name, split in (("val", prepared.dataset().validation), ("test", prepared.test())):
        logits, targets = logits_of(model, split)
        divided = (logits / model.inference.temperature[0]).astype(np.float32)
        chances[name] = metrics.softmax(divided)[:, label]
        is_eight[name] = targets == label
    best = {
        name: highest_threshold(chances[name], is_eight[name], min_recall=0.9) for name in chances
    }
    threshold = model.inference.threshold
    assert threshold.probability == pytest.approx(best["val"], rel=1e-4)
    assert threshold.probability != pytest.approx(best["test"], rel=1e-3)
    test = prepared.test()
    answers = model.predict(test.gather(np.arange(len(test))), top=1)
    said = np.array([item[0]["label"] == "8" for item in answers])
    is_sure = np.abs(chances["test"] - threshold.probability) > 1e-6
    np.testing.assert_array_equal(
        said[is_sure], (chances["test"] >= threshold.probability)[is_sure]
    )
    recall = result.ledger.find("recall_at_threshold")
    assert recall.value == pytest.approx(said[is_eight["test"]].mean())
    again = evaluate(result.model, "digits")["metrics"]
    assert "recall_at_threshold" in again
