"""From a recipe's section `model` to a network, and from a model file's architecture back to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from modelwright.errors import RequestError
from modelwright.models.cnn import cnn
from modelwright.models.initialising import initialise
from modelwright.models.mlp import mlp
from modelwright.models.network import Frame, ImageNetwork
from modelwright.models.steps import PixelSteps
from modelwright.recipe.model import CnnModel, MlpModel, ResnetModel, SpeednetModel
from modelwright.recipe.spec import Spec

Architecture = MlpModel | CnnModel | ResnetModel | SpeednetModel

BUILDERS: dict[type[Spec], Callable[[Any, Frame], nn.Module]] = {
    MlpModel: mlp,
    CnnModel: cnn,
}
"""The families."""


def build(
    architecture: Architecture,
    *,
    channels: int,
    height: int,
    width: int,
    num_outputs: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> ImageNetwork:
    """Build the network that a recipe's section `model` asks for, with fresh weights.

    Args:
        architecture: the section.
        channels: C.
        height: H of the images that it will be served; some families also train on others.
        width: W.
        num_outputs: K.
        mean: of each channel `[C]`, pixels in 0…1.
        std: of each channel `[C]`.

    Returns:
        A network that takes pixels `[N, H, W, C]` in 0…255 and returns outputs `[N, K]`. Its
        weights are drawn from torch's generator.

    Raises:
        RecipeError: the images are too small for it.
    """
    if len(mean) != channels:
        raise RequestError(f"{channels} channels, and figures to normalise {len(mean)}")
    frame = Frame(channels=channels, height=height, width=width, num_outputs=num_outputs)
    body = BUILDERS[type(architecture)](architecture, frame)
    initialise(body, architecture)
    return ImageNetwork(PixelSteps(mean, std), body)
