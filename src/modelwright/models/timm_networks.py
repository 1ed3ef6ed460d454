"""Image networks as the library `timm` builds them, with a last layer of our own.

From that library comes the code of the networks alone: it fetches nothing, and what a recipe names
as their weights is read here. What a model file keeps is a registered name and plain settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modelwright.errors import MissingExtraError, RecipeError, require
from modelwright.kinds import InputKind
from modelwright.models.network import Frame, ImageBody
from modelwright.models.pretrained_io import (
    CONFIG,
    MOST_CONFIG,
    WEIGHTS,
    digest_of,
    fill,
    first_line,
    no_weights,
    read_json,
    read_shapes,
    read_weights,
)
from modelwright.recipe.spec import Spec

_SETTINGS = frozenset(
    {
        "class_token",
        "depth",
        "embed_dim",
        "global_pool",
        "init_values",
        "mlp_ratio",
        "no_embed_class",
        "num_heads",
        "patch_size",
        "qk_norm",
        "qkv_bias",
        "reg_tokens",
    }
)
"""What a folder's `model_args` may say of a network. All else could also name a file to load."""
_OURS = frozenset(
    {
        "dynamic_img_pad",
        "dynamic_img_size",
        "img_size",
        "in_chans",
        "num_classes",
        "strict_img_size",
    }
)
"""What it may say, and is ignored: the data decides."""
_MOST, _MOST_LAYERS = 1 << 16, 512
_MOST_SIDE = 4096
"""No published network takes larger images; tables that go by their size stay small."""
_OTHERWISE = "or take our own: `model: {name: resnet}`"
_SAVE = "Save them as safetensors where you trust them: safetensors.torch.save_file"


class TimmNetwork(Spec):
    """What a model file keeps of a network of timm's."""

    inputs = frozenset({InputKind.IMAGE})
    name: Literal["timm"]
    model: str
    """Its registered name."""
    settings: dict[str, bool | int | float | str]
    """How it differs from what is registered."""


class TimmBody(ImageBody):
    """A network of timm's without its last layer, and a linear `head` of our own.

    Args:
        network: takes images `[N, C, H, W]` and returns features `[N, D]`.
        width: D.
        num_outputs: K.
    """

    def __init__(self, network: nn.Module, width: int, num_outputs: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(width, num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        pooled: Tensor = self.network(images)
        return pooled


def build_timm(spec: TimmNetwork, frame: Frame) -> nn.Module:
    """Build a network of timm's, with fresh weights.

    Raises:
        RecipeError: timm has none of this name, or it can't take the images.
        MissingExtraError: timm isn't installed, or can't be imported.
    """
    check_name(spec.model)
    _check_settings(spec.settings)
    side = max(frame.height, frame.width)
    if side > _MOST_SIDE:
        raise RecipeError(f"images of {side:,} pixels are larger than {_MOST_SIDE:,}")
    images = (1, frame.channels, frame.height, frame.width)
    try:
        with torch.device("meta"), torch.no_grad():
            shape = _created(spec, frame, 0).eval()(torch.empty(images)).shape
    except Exception as error:
        raise RecipeError(
            f"timm's `{spec.model}` can't be built for images of {frame.height}×{frame.width} "
            "pixels",
            why=first_line(error),
            fix="Write another `transforms.size`",
        ) from error
    if len(shape) != 2:
        raise RecipeError(f"timm's `{spec.model}` doesn't return one vector for an image")
    return TimmBody(_created(spec, frame, 0), shape[1], frame.num_outputs)


def check_name(model: str) -> None:
    """Refuse what isn't one of timm's own names: some forms of names fetch, or read elsewhere.

    Raises:
        RecipeError: it isn't.
        MissingExtraError: timm isn't installed, or can't be imported.
    """
    names = _library().list_models()
    if model in names:
        return
    # As a hub has it, or with the tag of weights: `hf-hub:timm/resnet18.a1_in1k`.
    stem = re.split("[:/]", model)[-1].partition(".")[0]
    if stem in names:
        hub = model.rpartition(":")[2] if "/" in model else f"timm/{model}"
        raise RecipeError(
            f"timm has no network `{model:.60}`",
            why="A name says which network, and not which weights",
            fix=f"Write `{stem}`, and name the file of weights as `weights`; or, for those of "
            f"Hugging Face's hub, `hub: {hub:.80}`",
        )
    close = difflib.get_close_matches(model[:60], names, n=1)
    raise RecipeError(
        f"timm has no network `{model:.60}`",
        fix=f"Did you mean `{close[0]}`?" if close else "timm.list_models() in Python lists them",
    )


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        most = _MOST_LAYERS if name == "depth" else _MOST
        is_plain = len(value) <= 20 if isinstance(value, str) else 0 <= value <= most
        if name not in _SETTINGS or not is_plain:
            raise RecipeError(f"the network's setting `{name:.60}` isn't known, or out of bounds")


def takes_one_size(model: str) -> bool:
    """Say whether a network is built for one size of images."""
    return bool(_usual(model)["fixed_input_size"])


def _created(spec: TimmNetwork, frame: Frame, num_classes: int) -> nn.Module:
    size = (frame.height, frame.width)
    of_size = {"img_size": size} if takes_one_size(spec.model) else {}
    network: nn.Module = _library().create_model(
        spec.model,
        pretrained=False,
        num_classes=num_classes,
        in_chans=frame.channels,
        **of_size,
        **spec.settings,
    )
    return network


def _usual(model: str) -> dict[str, Any]:
    """Return timm's own settings for the weights that a network usually has."""
    usual: dict[str, Any] = _library().models.get_pretrained_cfg(model).to_dict()
    return usual


def _library() -> Any:
    try:
        return require("timm", extra="timm", purpose="a network of timm's")
    except MissingExtraError as error:
        error.fix += f", {_OTHERWISE}"
        raise
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        # It imports torchvision, whose operators exist for the one build of torch it was made for.
        raise MissingExtraError(
            "timm is installed, and can't be imported",
            why=first_line(error),
            fix="It needs the torchvision that was made for your build of torch; install that one, "
            f"{_OTHERWISE}",
        ) from error


# -- weights ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TimmWeights:
    """A file of weights, with what is known of the images that it was trained on."""

    path: Path
    """What the recipe names: the file, or a folder that holds it."""
    file: Path
    settings: dict[str, Any]
    """How the network differs from what is registered."""
    size: tuple[int, int, int]
    """Channels, height and width."""
    mean: tuple[float, ...]
    """Of each channel `[C]`, pixels in 0…1."""
    std: tuple[float, ...]
    """Of each channel `[C]`."""
    is_declared: bool
    """Whether a folder declares mean and deviation; else they are timm's for its usual weights."""
    is_here: bool = True
    """Whether the file holds the weights, and not their header alone."""

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return digest_of([self.file])


def declared_name(folder: Path) -> str:
    """Return the network that a folder's `config.json` names.

    Raises:
        RecipeError: it names none of timm's.
        MissingExtraError: timm isn't installed, or can't be imported.
    """
    name = read_json(folder / CONFIG, MOST_CONFIG).get("architecture")
    if name not in _library().list_models():
        raise RecipeError(
            f"its `architecture` is `{name!s:.60}`, which isn't a network of timm's",
            where=str(folder / CONFIG),
            fix="Take another repository, or `name: transformers` for a network of texts",
        )
    return str(name)


def open_weights(path: Path, model: str, *, header: Path | None = None) -> TimmWeights:
    """Look at a safetensors file, or at a folder as timm's are on Hugging Face's hub.

    Args:
        path: the file or folder.
        model: the network that they are for.
        header: a file that begins as that of the weights, where that isn't in the folder yet.

    Raises:
        RecipeError: it is neither, of another network, or with settings that aren't known.
    """
    images, settings, is_declared = _usual(model), {}, False
    file = header or (path / WEIGHTS if path.is_dir() else path)
    if header is None and (not file.is_file() or file.suffix != ".safetensors"):
        raise no_weights(path, fix=_SAVE)
    if path.is_dir() and (path / CONFIG).is_file():
        document, where = read_json(path / CONFIG, MOST_CONFIG), str(path / CONFIG)
        own = document.get("architecture")
        if own != model:
            raise RecipeError(
                f"the weights are of `{own!s:.60}`, and the recipe asks for `{model}`",
                where=where,
                fix=f"Write `model: {own}`" if own in _library().list_models() else "",
            )
        settings = _model_args(document.get("model_args") or {}, where)
        config = document.get("pretrained_cfg")
        if isinstance(config, dict):
            is_declared = "mean" in config and "std" in config
            images |= config
    values = (images.get(key) for key in ("input_size", "mean", "std"))
    size, mean, std = (tuple(item) if isinstance(item, list | tuple) else () for item in values)
    is_size = len(size) == 3 and all(type(item) is int and 0 < item <= _MOST_SIDE for item in size)
    is_plain = all(type(item) in (int, float) and -100 <= item <= 100 for item in (*mean, *std))
    if not is_size or not is_plain or not len(mean) == len(std) == size[0] or min(std) <= 0:
        raise RecipeError(
            "`input_size`, `mean` and `std` of its `pretrained_cfg` don't fit together",
            where=str(path),
        )
    return TimmWeights(path, file, settings, size, mean, std, is_declared, header is None)


def _model_args(settings: Any, where: str) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise RecipeError("`model_args` isn't a JSON object", where=where)
    for name, value in settings.items():
        if name not in _SETTINGS | _OURS or (isinstance(value, list | dict) and name not in _OURS):
            raise RecipeError(f"the network's setting `{name:.60}` isn't known here", where=where)
    return {
        name: value for name, value in settings.items() if name in _SETTINGS and value is not None
    }


def take_weights(
    body: TimmBody, spec: TimmNetwork, frame: Frame, weights: TimmWeights
) -> list[str]:
    """Put a file's weights into a network, whose head keeps its own.

    Returns:
        The names of those of the file's own head, which are left behind.

    Raises:
        RecipeError: weights are missing, unknown, or have other shapes.
    """
    fix, (_, height, width) = "", weights.size
    if takes_one_size(spec.model) and (height, width) != (frame.height, frame.width):
        source = "its weights are for" if weights.is_declared else "usual is"
        fix = (
            f"It is built for one size of images, and {source} {height}×{width}: write "
            f"`transforms: {{size: {[height, width] if height != width else height}}}`"
        )
    unused = fill(
        body.network,
        read_weights([weights.file]) if weights.is_here else read_shapes([weights.file]),
        where=weights.path,
        source=f"timm's `{spec.model}`",
        fix=fix,
    )
    with torch.device("meta"):
        whole = _created(spec, frame, 2).state_dict()
    for name in sorted(set(unused) - whole.keys()):
        raise RecipeError(
            f"the weights `{name:.80}` have no place in timm's `{spec.model}`",
            where=str(weights.path),
            fix="Look at `model.model`: they may be of a larger network of its kind",
        )
    return unused
