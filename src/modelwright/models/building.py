"""From a recipe's section `model` to a network, and from a model file's architecture to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from modelwright.errors import ModelFileError, ModelwrightError, RequestError
from modelwright.models.cnn import cnn
from modelwright.models.initialising import initialise
from modelwright.models.mlp import mlp
from modelwright.models.network import Frame, ImageNetwork
from modelwright.models.resnet import resnet, resolved_stem
from modelwright.models.speednet import speednet
from modelwright.models.steps import PixelSteps
from modelwright.recipe.model import CnnModel, MlpModel, ResnetModel, SpeednetModel
from modelwright.recipe.spec import Spec

if TYPE_CHECKING:
    from modelwright.transforms import ImageInput

Architecture = MlpModel | CnnModel | ResnetModel | SpeednetModel

BUILDERS: dict[type[Spec], Callable[[Any, Frame], nn.Module]] = {
    MlpModel: mlp,
    CnnModel: cnn,
    ResnetModel: resnet,
    SpeednetModel: speednet,
}
"""The families: each builds a body from its section of the recipe."""

_NAMES: dict[str, type[Architecture]] = {
    "mlp": MlpModel,
    "cnn": CnnModel,
    "resnet": ResnetModel,
    "speednet": SpeednetModel,
}
_INPUT = ("channels", "height", "width")
_MOST = 1 << 20
"""No size in a model file may be larger."""


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
        raise RequestError(
            f"images of {channels} channels can't be normalised by {len(mean)} figures"
        )
    frame = Frame(channels=channels, height=height, width=width, num_outputs=num_outputs)
    body = BUILDERS[type(architecture)](architecture, frame)
    initialise(body, architecture)
    return ImageNetwork(PixelSteps(mean, std), body)


def architecture(spec: Architecture, *, input: ImageInput, num_outputs: int) -> dict[str, Any]:
    """Return what a model file keeps of a network: its section, resolved, and its ends.

    `rebuild` takes it back.
    """
    found = spec.model_dump(mode="json")
    if isinstance(spec, ResnetModel):
        found["stem"] = resolved_stem(spec, input.height, input.width)
    # Apart from the section, whose keys may have the same names.
    return resized(found, input) | {"num_outputs": num_outputs}


def resized(architecture: Mapping[str, Any], input: ImageInput) -> dict[str, Any]:
    """Return an architecture for images of another size."""
    ends = {"channels": input.channels, "height": input.height, "width": input.width}
    return {**architecture, "input": ends}


def rebuild(
    architecture: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    steps: Sequence[Mapping[str, Any]] | None = None,
) -> ImageNetwork:
    """Build the network of a model file from its architecture and weights.

    No memory is taken before the weights are known to fit, so that a hostile architecture can't
    ask for more than its file holds.

    Args:
        architecture: what the function of that name returned.
        weights: the network's `state_dict()`; the network gets its own copy.
        steps: the graph steps that the file declares, which must be those in the weights.

    Raises:
        ModelFileError: anything is missing, unknown or doesn't fit.
    """
    spec, frame = _read(architecture)
    try:
        with torch.device("meta"):
            ends = [1.0] * frame.channels
            network = ImageNetwork(PixelSteps(ends, ends), BUILDERS[type(spec)](spec, frame))
    except ModelwrightError as error:
        raise ModelFileError("the architecture can't be built", why=error.what) from error
    wanted = {name: (item.shape, item.dtype) for name, item in network.state_dict().items()}
    _check_weights(wanted, weights)
    copies = {name: item.detach().clone() for name, item in weights.items()}
    network.load_state_dict(copies, strict=True, assign=True)
    if steps is not None:
        declared = PixelSteps.from_json(steps)
        network.steps.scale = declared.scale
        if declared.to_json() != network.steps.to_json():
            raise ModelFileError("the declared graph steps aren't those among the weights")
    return network.eval()


def _read(architecture: Mapping[str, Any]) -> tuple[Architecture, Frame]:
    """Read an architecture, strictly."""
    section = {**architecture}
    ends, num_outputs = section.pop("input", None), section.pop("num_outputs", None)
    if not isinstance(ends, Mapping) or set(ends) != set(_INPUT):
        raise ModelFileError("the architecture's `input` isn't channels, height and width")
    sizes = {**ends, "num_outputs": num_outputs}
    for key, value in sizes.items():
        if type(value) is not int or not 0 < value <= _MOST:
            raise ModelFileError(f"the architecture's `{key}` is {value!r:.40}, not a size")
    family = _NAMES.get(str(section.get("name")))
    if family is None:
        raise ModelFileError(
            f"the architecture `{section.get('name')!s:.40}` is unknown",
            fix="A newer version of modelwright may know it",
        )
    try:
        spec = family.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(f"the architecture's `{place}`: {first['msg']}") from error
    if set(spec.model_dump()) != set(section):
        raise ModelFileError("the architecture isn't written out in full")
    return spec, Frame(**sizes)


def _check_weights(
    wanted: Mapping[str, tuple[torch.Size, torch.dtype]], weights: Mapping[str, Tensor]
) -> None:
    for name in sorted(wanted.keys() ^ weights.keys()):
        state = "missing" if name in wanted else "unknown to the architecture"
        raise ModelFileError(f"the weights `{name:.80}` are {state}")
    for name, (shape, dtype) in wanted.items():
        item = weights[name]
        if item.shape != shape or item.dtype != dtype:
            raise ModelFileError(
                f"the weights `{name}` are {item.dtype} {list(item.shape)}, and the architecture "
                f"asks for {dtype} {list(shape)}"
            )


def replace_output(network: nn.Module, num_outputs: int) -> None:
    """Put a new last layer into a network, for other labels; its weights are drawn anew.

    Raises:
        RequestError: the network has no layer `head`.
    """
    body = network.body if isinstance(network, ImageNetwork) else network
    head = getattr(body, "head", None)
    if not isinstance(head, nn.Linear):
        raise RequestError("this network has no last layer that could be replaced")
    new = nn.Linear(
        head.in_features, num_outputs, bias=head.bias is not None, dtype=head.weight.dtype
    )
    body.head = new.to(head.weight.device)
