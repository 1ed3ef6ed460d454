"""What the composition rules ask of a recipe: each a question whose answer names the fault.

A question returns a few words for the message where the pair stands, else a blank.
"""

from __future__ import annotations

from modelwright.errors import nearest
from modelwright.kinds import ANY_OUTPUT, OutputKind
from modelwright.recipe.data import TableData
from modelwright.recipe.model import (
    CnnModel,
    DetectorModel,
    InitModel,
    TimmModel,
    TransformersModel,
)
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.schema import tag_of
from modelwright.recipe.targets import METRICS, parse_target
from modelwright.recipe.train import ConstantSchedule, GdOptimizer, MuonOptimizer, StepSchedule

FEW = 8
"""Statistics of a batch over fewer samples than this are mostly noise."""


def model_of(recipe: Recipe) -> object:
    """Return the network that is meant, where the recipe alone decides it."""
    if recipe.model == "auto" and recipe.task == "image-classification":
        return CnnModel(name="cnn")
    return recipe.model


def separates_lists(recipe: Recipe) -> bool:
    """Say whether a separator is set for a table whose cells hold lists."""
    data = recipe.data
    if not isinstance(data, TableData) or data.separator == "|":
        return False
    return data.path.lower().removesuffix(".gz").endswith((".jsonl", ".parquet"))


def missing_column(recipe: Recipe) -> str:
    """Say how a source without the column to split by can be split instead."""
    split, source = recipe.data.split, recipe.data.source
    columns = recipe.data.split_columns
    if columns is None or split.by == "stratified" or columns.get(split.by) == split.column:
        return ""
    ways = [f"`by: {by}` with `column: {column}`" for by, column in columns.items()]
    instead = f"Write {ways[0]}, or use a table" if ways else "Leave `by` out, or use a table"
    return f"`{source}` has no column `{split.column}`. {instead}"


def boxes_beyond_the_border(recipe: Recipe) -> bool:
    """Say whether a shift of images with boxes is asked to reflect what stands at the border."""
    augment = recipe.augment
    is_written = "padding" in augment.model_fields_set and augment.padding != "zero"
    return recipe.output_kind == OutputKind.BOXES and augment.translate > 0 and is_written


def known_sides(recipe: Recipe) -> tuple[int, int] | None:
    """Return the height and width of the network's input, where the recipe alone decides them."""
    size = recipe.transforms.size
    if isinstance(size, tuple):
        return size
    if isinstance(size, int):
        return size, size
    if isinstance(recipe.model, InitModel):
        return None  # The model file's own.
    side = recipe.data.side if recipe.model == "auto" else recipe.model.usual_side
    side = side or recipe.data.side
    return (side, side) if side else None


def short_side(recipe: Recipe) -> int | None:
    """Return the shorter side of the input, where the recipe alone decides it."""
    sides = known_sides(recipe)
    return min(sides) if sides else None


def too_large(amount: int, recipe: Recipe) -> str:
    """Say how an amount of pixels compares with the side that it reaches."""
    side = short_side(recipe)
    return f"{amount} pixels on a side of {side}" if side and amount >= side else ""


def is_grey(recipe: Recipe) -> bool:
    """Say whether it is sure that images are grey."""
    color_mode = recipe.transforms.color_mode
    if isinstance(recipe.model, InitModel):
        return False  # As the model file has it.
    return color_mode == "grayscale" or (color_mode == "auto" and recipe.data.is_grayscale)


def has_no_validation(recipe: Recipe) -> bool:
    """Say whether it is sure that nothing is held out; a folder may come with its own split."""
    return "val" not in recipe.data.own_splits and not recipe.data.split.val


def has_no_test(recipe: Recipe) -> bool:
    """Say whether it is sure that there is no test split."""
    return "test" not in recipe.data.own_splits and not recipe.data.split.test


def has_batch_norm(recipe: Recipe) -> bool:
    """Say whether it is sure that the network takes statistics of its batches."""
    return bool(getattr(model_of(recipe), "batch_norm", False))


def part(recipe: Recipe) -> int:
    """Return how many samples the network sees at once."""
    train = recipe.train
    if isinstance(train.optimizer, GdOptimizer):
        return train.batch_size
    return train.batch_size // train.gradient_accumulation


def vanishing_block(recipe: Recipe) -> str:
    """Name the block of a `cnn` that pools away the last pixel."""
    side, model = smallest_known_side(recipe), model_of(recipe)
    if side is None or not isinstance(model, CnnModel):
        return ""
    left = side
    for number, block in enumerate(model.blocks, start=1):
        left //= block.pool
        if left == 0:
            return f"block {number} of {len(model.blocks)} pools away the last of {side} pixels"
    return ""


def model_of_one_size(recipe: Recipe) -> str:
    """Name the network that is built for one size of images where training has several."""
    model = model_of(recipe)
    is_fixed = not getattr(model, "takes_any_size", True)
    return str(getattr(model, "name", "")) if recipe.train.resolution and is_fixed else ""


def below_smallest_side(recipe: Recipe) -> str:
    """Say which size of images the network can't take."""
    side, model = smallest_known_side(recipe), recipe.model
    if side is None or model == "auto" or side >= model.smallest_side:
        return ""
    name = tag_of(type(model))[1]
    return f"`{name}` needs images of at least {model.smallest_side} pixels, and these have {side}"


def void_for_backbone(recipe: Recipe) -> str:
    """Name the setting of a detector that has no effect on its backbone."""
    model = recipe.model
    if not isinstance(model, DetectorModel):
        return ""
    names = ("pretrained",) if model.backbone == "residual" else ("widths", "depth")
    for name in names:
        if getattr(model, name) != DetectorModel.model_fields[name].default:
            return f"`model.{name}` has no effect on the backbone `{model.backbone}`"
    return ""


def is_pretrained(recipe: Recipe) -> bool:
    """Say whether the network starts from weights that have learnt before."""
    model = recipe.model
    if isinstance(model, TimmModel):
        return model.weights is not None
    if isinstance(model, InitModel | TransformersModel):
        return True
    return model != "auto" and bool(model.published)


def grey_for_published(recipe: Recipe) -> str:
    """Name the published weights, made for images in colour, that grey ones were asked for."""
    is_grey = recipe.transforms.color_mode == "grayscale"
    return recipe.model.published if is_grey and recipe.model != "auto" else ""


def smallest_known_side(recipe: Recipe) -> int | None:
    """Return the smallest side that the network is sure to get, in training or after."""
    sides = [step.size for step in recipe.train.resolution]
    if (full := short_side(recipe)) is not None:
        sides.append(full)
    return min(sides, default=None)


def larger_step(recipe: Recipe) -> str:
    """Name the first size of training that is no smaller than the full one."""
    side = short_side(recipe)
    sizes = [step.size for step in recipe.train.resolution if side and step.size >= side]
    return f"{sizes[0]} is not below the full size of {side}" if sizes else ""


def dead_group(recipe: Recipe) -> str:
    """Name the first group of parameters that an earlier one leaves nothing to."""
    groups = [group.match for group in recipe.train.groups]
    for number, pattern in enumerate(groups):
        before = next((item for item in groups[:number] if item in ("*", pattern)), None)
        if before is not None:
            return f"`{pattern}` (entry {number}) is behind `{before}`"
    return ""


def decays_under_muon(recipe: Recipe) -> bool:
    """Say whether a decay was written down that Muon undoes for most of the network."""
    train = recipe.train
    if not isinstance(train.optimizer, MuonOptimizer):
        return False
    return "weight_decay" in train.model_fields_set and train.weight_decay > 0


def freezes_all(recipe: Recipe) -> bool:
    """Say whether the first group takes every parameter and holds it still."""
    first = recipe.train.groups[:1]
    return bool(first) and first[0].match == "*" and first[0].lr == 0


def unknown_metric(recipe: Recipe) -> str:
    """Name the first target that nothing measures."""
    wrong = next((name for name in recipe.targets if name not in METRICS), "")
    if wrong:
        return f"`{wrong}` is not a metric. {nearest(wrong, METRICS)}".rstrip(".")
    kind = recipe.output_kind
    for name in recipe.targets:
        if kind not in METRICS[name].outputs:
            own = ", ".join(
                f"`{metric.name}`"
                for metric in METRICS.values()
                if kind in metric.outputs != ANY_OUTPUT
            )
            return f"`{name}` doesn't judge {kind.noun}, which this task predicts. Use one of {own}"
    return ""


def out_of_range(recipe: Recipe) -> str:
    """Name the first target of a share that no share can meet, or a percentage."""
    for name, target in recipe.targets.items():
        bound = parse_target(target)[1]
        if name in METRICS and METRICS[name].is_bounded and bound > 1:
            return f"`{name}` lies between 0 and 1, and its target is {target}"
    return ""


def wrong_way(recipe: Recipe) -> str:
    """Name the first target that asks for a worse figure."""
    for name, target in recipe.targets.items():
        wants_high = parse_target(target)[0].startswith(">")
        if name in METRICS and METRICS[name].higher_is_better != wants_high:
            better = "higher" if METRICS[name].higher_is_better else "lower"
            return f"`{name}: {target}` asks for a worse figure than it allows: {better} is better"
    return ""


def timed_target(recipe: Recipe) -> str:
    """Name the first target that needs times."""
    return next(
        (f"`{name}`" for name in recipe.targets if name in METRICS and METRICS[name].is_timed), ""
    )


def threshold_target(recipe: Recipe) -> str:
    """Name the first target that needs a threshold."""
    return next(
        (
            f"`{name}`"
            for name in recipe.targets
            if name in METRICS and METRICS[name].needs_threshold
        ),
        "",
    )


def falls(recipe: Recipe) -> bool:
    """Say whether the learning rate falls steadily to the end."""
    return not isinstance(recipe.train.schedule, ConstantSchedule | StepSchedule)
