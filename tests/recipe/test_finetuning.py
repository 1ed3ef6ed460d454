"""How `model: auto` trains published weights further."""

from __future__ import annotations

import pytest

from modelwright.recipe.finetuning import PUBLISHED_MODELS, finetuned
from modelwright.recipe.train import TrainSpec

NAMES = tuple(PUBLISHED_MODELS)


def train(**settings):
    return TrainSpec.model_validate(settings)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_learns_first_and_then_all_at_smaller_rates(name):
    spec = train(optimizer={"name": "sgd", "lr": 0.5}, budget="10m", patience=2, groups=[])
    found = finetuned(spec, PUBLISHED_MODELS[name], samples=5000)
    assert found.optimizer.name == "adamw"
    assert found.unfreeze is not None
    assert found.unfreeze.lr < 1.0
    assert found.layer_decay < 1.0
    # What isn't about rates stays.
    assert (found.budget, found.patience, found.loss) == ("10m", 2, spec.loss)
    # It is a section that a recipe could have.
    TrainSpec.model_validate_json(found.model_dump_json())


@pytest.mark.parametrize(
    ("name", "samples", "asked", "epochs"),
    [
        ("minilm", 50_000, None, 4),
        ("minilm", 50_000, 200, 4),
        ("minilm", 50_000, 1, 1),
        ("minilm", 640, None, 10),  # 200 steps of 32
        ("efficientnet-lite0", 50_000, None, 10),
        ("efficientnet-lite0", 64, 30, 30),
    ],
)
def test_epochs_are_few_unless_there_is_little_data(name, samples, asked, epochs):
    spec = train(budget="10m") if asked is None else train(epochs=float(asked))
    assert finetuned(spec, PUBLISHED_MODELS[name], samples=samples).epochs == epochs
