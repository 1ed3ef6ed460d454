"""How `model: auto` trains published weights further: the head first, then the whole network.

What the recipe says of epochs, time, loss, number format and the choice of the epoch holds. The
rates and what goes with them are those that suit weights which have learnt before, whatever the
recipe says for networks that start from nothing.
"""

from __future__ import annotations

import math

from modelwright.kinds import InputKind
from modelwright.recipe.model import MinilmModel
from modelwright.recipe.networks import EfficientNetLite0Model
from modelwright.recipe.train import AdamwOptimizer, OneCycleSchedule, TrainSpec, UnfreezeSpec

PublishedModel = EfficientNetLite0Model | MinilmModel
_MODELS: tuple[PublishedModel, ...] = (
    EfficientNetLite0Model(name="efficientnet-lite0"),
    MinilmModel(name="minilm"),
)
PUBLISHED_MODELS = {model.published: model for model in _MODELS}
"""The published networks that `model: auto` may train further, by the names of their weights."""
_BATCH, _MOST_TOKENS = 32, 4096
_EPOCHS = {InputKind.IMAGE: 10, InputKind.TEXT: 4}
_FEWEST_STEPS = 200
"""Of little data, so many steps are taken, in more epochs."""


def finetuned(spec: TrainSpec, model: PublishedModel, *, samples: int) -> TrainSpec:
    """Return the section `train` for published weights.

    Args:
        spec: the recipe's section, for a network that starts from nothing.
        model: the published network.
        samples: how many training samples there are.
    """
    is_text = isinstance(model, MinilmModel)
    usual = _EPOCHS[InputKind.TEXT if is_text else InputKind.IMAGE]
    most = max(usual, math.ceil(_FEWEST_STEPS * _BATCH / max(samples, 1)))
    asked = math.inf if spec.epochs is None else spec.epochs
    return spec.model_copy(
        update={
            "epochs": float(min(most, asked)),
            "batch_size": _BATCH,
            "max_tokens_per_batch": _MOST_TOKENS if is_text else None,
            "optimizer": AdamwOptimizer(name="adamw", lr=0.0015 if is_text else 0.005),
            "schedule": OneCycleSchedule(name="one-cycle", start=0.0, peak=0.1, final=0.0),
            "weight_decay": 0.01,
            "groups": (),
            "layer_decay": 0.9,
            "unfreeze": UnfreezeSpec(at=0.1, lr=0.1 if is_text else 0.2),
            "clip_norm": 1.0,
            "average": None,
            "resolution": (),
        }
    )
