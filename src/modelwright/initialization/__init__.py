"""Which weights a network begins with: drawn, word vectors, a model file, or published weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright.errors import MissingExtraError, RecipeError, require
from modelwright.initialization.model_file import model_file_input
from modelwright.recipe.model import (
    InitModel,
    LinearModel,
    MinilmModel,
    TimmModel,
    TransformersModel,
)

if TYPE_CHECKING:
    from modelwright.data import Prepared
    from modelwright.models.candidate import Candidate
    from modelwright.run import Run, RunRequest
    from modelwright.transforms.inputs import Input


def settled_input(request: RunRequest) -> Input | None:
    """Return how the network that training starts from takes its samples, if there is one.

    Whatever is wrong with it is refused here, before the data is prepared.

    Raises:
        RecipeError: it can't be used, or was made for other inputs or outputs than the recipe's.
    """
    model = request.recipe.model
    if isinstance(model, LinearModel):
        model = model.network or model
    if isinstance(model, TransformersModel | MinilmModel):
        require("torch", extra="train", purpose="to train")
        from modelwright.initialization.pretrained import pretrained_input

        return pretrained_input(model, request)
    if isinstance(model, TimmModel):
        require("torch", extra="train", purpose="to train")
        from modelwright.initialization.timm import open_timm

        open_timm(model, request)
    if isinstance(model, InitModel):
        return model_file_input(model, request)
    if model != "auto" and model.published:
        _check_published(model.published, request)
    return None


def _check_published(name: str, request: RunRequest) -> None:
    """Refuse published weights that aren't there, or aren't those published."""
    from modelwright.initialization.published import published_folder

    try:
        published_folder(name)
    except (MissingExtraError, RecipeError) as error:
        error.at(request.recipe.place_of("model"))
        raise


def initialize_model(request: RunRequest, prepared: Prepared, context: Run) -> Candidate:
    """Return the network that training starts from, the same for the same seed and data."""
    from modelwright.initialization import initialize

    return initialize.initialize_model(request, prepared, context)


__all__ = ["initialize_model", "settled_input"]
