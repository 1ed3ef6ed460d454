"""Networks that start from published weights of the package index.

The file that EfficientNet-Lite0's package brings is a pickle. It is read once, by torch's reader
that runs no code, after its digest was checked, and kept as safetensors in the cache.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.files import cache_folder, write_bytes
from modelwright.initialization.published import (
    PUBLISHED,
    lineage_step,
    published_files,
    read_digested,
)
from modelwright.modelfile.tensors import write_arrays
from modelwright.models import ImageNetwork, build_network
from modelwright.models.detector import Detector
from modelwright.models.efficientnet import MEAN, STD, EfficientNetLite0, read_published
from modelwright.models.pretrained_io import fill, load_weights
from modelwright.recipe.networks import EfficientNetLite0Model
from modelwright.run import Run
from modelwright.transforms import ImageInput

_TRUNK = "trunk."


def published_weights(name: str) -> dict[str, Tensor]:
    """Return published weights by the names of our network; checked.

    Args:
        name: a key of `PUBLISHED`.

    Raises:
        MissingExtraError: its package isn't installed.
        RecipeError: its file is missing, or isn't the published one.
        ResourceError: the cache can't be written.
    """
    found, files = PUBLISHED[name], published_files(name)
    data, original = files.content[found.weights], files.folder / found.weights
    if not found.converted:
        return load_weights(data, where=original)
    path = cache_folder() / "published" / f"{name}-{found.converted[:16]}.safetensors"
    kept, own = read_digested(path) if path.is_file() else (b"", "")
    if own != found.converted:
        weights = read_published(data, where=str(original))
        kept = write_arrays({key: item.numpy() for key, item in weights.items()}, name=path.name)
        write_bytes(path, kept)
    return load_weights(kept, where=path)


def start_from_published(network: nn.Module, name: str, context: Run) -> dict[str, Any]:
    """Put published weights into an image network, whose new layers keep theirs.

    Returns:
        The step of lineage.

    Raises:
        MissingExtraError: the package isn't installed.
        RecipeError: its file isn't the published one, or has other shapes.
    """
    assert isinstance(network, ImageNetwork)
    _fill(network.body, name)
    found = PUBLISHED[name]
    context.say(f"The network starts from the published weights `{name}` ({found.trained_on})")
    return lineage_step(name)


def _fill(body: nn.Module, name: str) -> None:
    weights = published_weights(name)
    if isinstance(body, Detector):
        weights = _without(weights, _TRUNK)
        body = body.backbone
    else:
        assert isinstance(body, EfficientNetLite0)
        weights = {key: item for key, item in weights.items() if not key.startswith("head.")}
    own = {key for key in body.state_dict() if key.startswith("head.")}
    unused = fill(body, weights, where=PUBLISHED[name].package, source=f"`{name}`", optional=own)
    if unused:
        raise RecipeError(
            f"the weights `{unused[0]}` have no place in `{name}`",
            where=PUBLISHED[name].package,
        )


def _without(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): item for key, item in weights.items() if key.startswith(prefix)
    }


def frozen_network(name: Literal["efficientnet-lite0"], input: ImageInput) -> ImageNetwork:
    """Return the network of published weights for images, whose `features` describe an image.

    It is in evaluation mode, and none of its parameters takes a gradient. Its last layer is of one
    output and without meaning.

    Args:
        name: a key of `PUBLISHED` that is for images.
        input: how images become pixels, in three channels; 224 × 224 is what it was trained on.

    Raises:
        MissingExtraError: the package isn't installed.
        RecipeError: its file isn't the published one, or the images are too small.
    """
    network = build_network(
        EfficientNetLite0Model(name="efficientnet-lite0"),
        input=input,
        num_outputs=1,
        mean=MEAN,
        std=STD,
    )
    assert isinstance(network, ImageNetwork)
    _fill(network.body, name)
    return network.eval().requires_grad_(False)
