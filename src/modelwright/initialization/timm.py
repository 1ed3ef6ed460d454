"""Starting from a network of timm's: its weights, and the pixels that these were trained on."""

from __future__ import annotations

from typing import Any

from torch import nn

from modelwright.data import Prepared
from modelwright.errors import RecipeError
from modelwright.initialization.fetching import began_with, snapshot_of
from modelwright.models import ImageNetwork
from modelwright.models.network import Frame
from modelwright.models.timm_networks import (
    TimmBody,
    TimmNetwork,
    TimmWeights,
    check_name,
    declared_name,
    open_weights,
    take_weights,
    takes_one_size,
)
from modelwright.recipe.model import TimmModel
from modelwright.run import Run, RunRequest


def open_timm(spec: TimmModel, request: RunRequest) -> tuple[TimmNetwork, TimmWeights | None]:
    """Return what a model file keeps of the network, and the weights that the recipe names.

    Raises:
        RecipeError: there is no such network, its weights can't be used, or it can't train on other
            sizes of images and is asked to.
        MissingExtraError: timm isn't installed, or can't be imported.
    """
    weights, key = None, "model.model"
    try:
        if spec.model is not None:
            check_name(spec.model)
        if spec.hub is not None:
            key, found = "model.hub", snapshot_of(spec)
            model = spec.model or declared_name(found.folder)
            header = None if found.is_whole else found.weight_headers()[0]
            weights = open_weights(found.folder, model, header=header)
        else:
            assert spec.model is not None
            model = spec.model
        if spec.weights is not None:
            key = "model.weights"
            weights = open_weights(request.find(spec.weights), model)
    except RecipeError as error:
        error.at(request.recipe.place_of(key))
        raise
    if request.recipe.train.resolution and takes_one_size(model):
        raise RecipeError(
            "`train.resolution` needs a network that takes any size, and timm's "
            f"`{model}` is built for one",
            where=request.recipe.place_of("train.resolution"),
            fix="Leave `resolution` out",
        )
    settings = weights.settings if weights is not None else {}
    return TimmNetwork(name="timm", model=model, settings=settings), weights


def load_timm(
    network: nn.Module,
    spec: TimmModel,
    section: TimmNetwork,
    weights: TimmWeights,
    prepared: Prepared,
    context: Run,
) -> dict[str, Any]:
    """Put weights into a network of timm's; return the step of lineage.

    Of weights of a hub that aren't here, while a run is only checked, the shapes are compared.
    """
    assert isinstance(network, ImageNetwork)
    assert isinstance(network.body, TimmBody)
    image = prepared.image
    frame = Frame(image.channels, image.height, image.width, prepared.num_outputs)
    left = take_weights(network.body, section, frame, weights)
    if not weights.is_here:
        return {}
    source: dict[str, Any] = {"file": weights.path.name}
    shown = weights.path.name
    if spec.hub is not None:
        found = snapshot_of(spec)
        source, shown = began_with(found, context), f"{found.repo}, commit {found.commit[:7]}"
    context.say(
        f"The network starts from {shown} (timm's {section.model})"
        + (f"; its last layer is left behind, such as {left[0]}" if left else "")
    )
    return {
        "step": "pretrained",
        **source,
        "model": f"timm:{section.model}",
        "weights": weights.digest(),
    }
