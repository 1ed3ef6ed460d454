"""Which settings go together: the rules on images and their sizes."""

from __future__ import annotations

from modelwright.kinds import OutputKind
from modelwright.recipe.model import InitModel
from modelwright.recipe.networks import CnnModel, DetectorModel, ResnetModel
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.rule import Rule, network_of, sides_of
from modelwright.recipe.schema import tag_of


def _smallest_side(recipe: Recipe) -> int | None:
    """Return the smallest side that the network is sure to get, in training or after."""
    return min((*(step.size for step in recipe.train.resolution), *sides_of(recipe)), default=None)


def _too_large(amount: int, recipe: Recipe) -> str:
    """Say how an amount of pixels compares with the side that it reaches."""
    side = min(sides_of(recipe), default=None)
    return f"{amount} pixels on a side of {side}" if side and amount >= side else ""


def _vanishing_block(recipe: Recipe) -> str:
    """Name the block of a `cnn` that pools away the last pixel."""
    side, model = _smallest_side(recipe), network_of(recipe)
    if side is None or not isinstance(model, CnnModel):
        return ""
    remaining = side
    for number, block in enumerate(model.blocks, start=1):
        remaining //= block.pool
        if remaining == 0:
            return f"block {number} of {len(model.blocks)} pools away the last of {side} pixels"
    return ""


def _below_smallest_side(recipe: Recipe) -> str:
    """Say which size of images the network can't take."""
    side, model = _smallest_side(recipe), recipe.model
    if side is None or model == "auto" or side >= model.smallest_side:
        return ""
    name = tag_of(type(model))[1]
    return f"`{name}` needs images of at least {model.smallest_side} pixels, and these have {side}"


def _network_of_one_size(recipe: Recipe) -> str:
    """Name the network that is built for one size of images where training has several."""
    model = network_of(recipe)
    is_fixed = not getattr(model, "takes_any_size", True)
    return str(getattr(model, "name", "")) if recipe.train.resolution and is_fixed else ""


def _large_resolution(recipe: Recipe) -> str:
    """Name the first size of training that is no smaller than the full one."""
    side = min(sides_of(recipe), default=None)
    sizes = [step.size for step in recipe.train.resolution if side and step.size >= side]
    return f"{sizes[0]} is not below the full size of {side}" if sizes else ""


def _oblong_images(recipe: Recipe) -> str:
    sides = sides_of(recipe)
    return "×".join(map(str, sides)) if recipe.train.resolution and len(set(sides)) == 2 else ""


def _pads_nothing(recipe: Recipe) -> bool:
    augment = recipe.augment
    is_padded = augment.padding == "zero" and recipe.output_kind != OutputKind.BOXES
    return is_padded and not augment.translate


def _jitters_nothing(recipe: Recipe) -> bool:
    jitter = recipe.augment.color_jitter
    return jitter is not None and not (jitter.brightness or jitter.contrast or jitter.saturation)


def _jitters_grey_images(recipe: Recipe) -> bool:
    jitter, color_mode = recipe.augment.color_jitter, recipe.transforms.color_mode
    if jitter is None or not jitter.saturation or isinstance(recipe.model, InitModel):
        return False
    return color_mode == "grayscale" or (color_mode == "auto" and recipe.data.is_grayscale)


def _grey_for_published(recipe: Recipe) -> str:
    """Name the published weights, made for images in colour, that grey ones were asked for."""
    is_grey = recipe.transforms.color_mode == "grayscale"
    return recipe.model.published if is_grey and recipe.model != "auto" else ""


def _void_for_backbone(recipe: Recipe) -> str:
    """Name the setting of a detector that has no effect on its backbone."""
    model = recipe.model
    if not isinstance(model, DetectorModel):
        return ""
    names = ("pretrained",) if model.backbone == "residual" else ("widths", "depth")
    for name in names:
        if getattr(model, name) != DetectorModel.model_fields[name].default:
            return f"`model.{name}` has no effect on the backbone `{model.backbone}`"
    return ""


def _void_stem(recipe: Recipe) -> str:
    """Return the depth at which a stem that was asked for is taken anyway."""
    model = recipe.model
    if isinstance(model, ResnetModel) and model.depth != 18 and model.stem == "small":
        return str(model.depth)
    return ""


IMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        ("model resnet, depth", "stem: small"),
        _void_stem,
        "`model.stem: small` has no effect: at depth {} it is so anyway",
        "Leave it out",
        ("model.stem", "model.depth"),
    ),
    Rule(
        ("model speednet, efficientnet-lite0", "small images"),
        _below_smallest_side,
        "{}",
        "Enlarge them with `transforms.size`, or use `cnn`",
        ("train.resolution", "transforms.size", "model.name"),
    ),
    Rule(
        ("published weights", "transforms.color_mode: grayscale"),
        _grey_for_published,
        "the published weights `{}` are for images in colour",
        "Leave `color_mode` out: grey images are given to the network in three channels",
    ),
    Rule(
        ("model detector, backbone", "settings of another backbone"),
        _void_for_backbone,
        "{}",
        "Leave it out, or look at `model.backbone`",
        ("model.widths", "model.depth", "model.pretrained"),
    ),
    Rule(
        ("model cnn", "small images"),
        _vanishing_block,
        "`model.blocks`: {}",
        "Use fewer blocks, or `pool: 1` in some",
        ("train.resolution", "model.blocks", "transforms.size", "model"),
    ),
    Rule(
        ("train.resolution", "model mlp, model cnn"),
        _network_of_one_size,
        "`train.resolution` needs a network that takes any size, and `{}` is built for one",
        "Use `resnet` or `speednet`, or leave `resolution` out",
    ),
    Rule(
        ("train.resolution", "full size"),
        _large_resolution,
        "`train.resolution`: {}",
        "Write smaller sizes",
    ),
    Rule(
        ("train.resolution", "images that aren't square"),
        _oblong_images,
        "`train.resolution` makes squares, and the images are {}",
        "Leave `resolution` out, or write one side for `transforms.size`",
    ),
    Rule(
        ("augment.translate", "small images"),
        lambda r: _too_large(r.augment.translate, r),
        "`augment.translate` can shift the whole image out of sight: {}",
        "Shift by less; an eighth of the side is usual",
    ),
    Rule(
        ("augment.cutout", "small images"),
        lambda r: _too_large(r.augment.cutout, r),
        "`augment.cutout` can hide the whole image: {}",
        "Cut out less; a quarter of the side is usual",
    ),
    Rule(
        ("augment.padding", "augment.translate: 0"),
        _pads_nothing,
        "`augment.padding` has no effect: nothing is shifted",
        "Leave it out, or set `augment.translate`",
    ),
    Rule(
        ("augment.color_jitter", "no figure above 0"),
        _jitters_nothing,
        "`augment.color_jitter` has no effect: brightness, contrast and saturation are 0",
        "Leave it out, or set one of them",
    ),
    Rule(
        ("augment.color_jitter.saturation", "grey images"),
        _jitters_grey_images,
        "`augment.color_jitter.saturation` has no effect on grey images",
        "Leave it out",
    ),
)
"""The pairs that can't work."""
