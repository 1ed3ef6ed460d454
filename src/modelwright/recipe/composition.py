"""Which settings go together: one table of pairs, judged here and nowhere else.

A pair is *refused* where one setting makes the other impossible or void, and *said* where both work
but not as one might think. What needs the data or the network to be known (a pattern that matches
no parameter, a class without samples) is refused by the room that knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelwright.errors import RecipeError, nearest
from modelwright.kinds import ANY_OUTPUT, OutputKind
from modelwright.recipe.data import TableData
from modelwright.recipe.model import (
    CnnModel,
    DetectorModel,
    InitModel,
    LinearModel,
    TimmModel,
)
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.relevance import check_relevance
from modelwright.recipe.schema import tag_of
from modelwright.recipe.targets import METRICS, Metric, parse_target
from modelwright.recipe.train import CrossEntropyLoss, HuberLoss, SgdOptimizer

_FEW_SAMPLES = 8
"""Statistics of a batch over fewer samples than this are mostly noise."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One pair of features and what becomes of it."""

    pair: tuple[str, str]
    applies: Callable[[Recipe], str | bool]
    """Whether the pair stands in a recipe; a text says so too, and fills the `{}` of the message
    and of the fix."""
    message: str
    """What is wrong, or what happens."""
    fix: str = ""
    at: tuple[str, ...] = ()
    """The settings that an error points at, the likeliest first."""


def check_composition(recipe: Recipe) -> list[str]:
    """Judge a recipe; return a sentence for each pair that works otherwise than it reads.

    Raises:
        RecipeError: a setting has no effect, or a pair of settings is impossible.
    """
    check_relevance(recipe)
    for rule in REFUSED:
        if detail := rule.applies(recipe):
            message = rule.message.format(detail)
            place = _place(recipe, rule, message)
            raise RecipeError(message, where=place, fix=rule.fix.format(detail))
    return [
        ". ".join(part for part in (rule.message.format(detail), rule.fix) if part)
        for rule in SAID
        if (detail := rule.applies(recipe))
    ]


def _place(recipe: Recipe, rule: Rule, message: str) -> str:
    """Return the line of the first setting of the rule that was written down."""
    likely = list(rule.at)
    if "targets" in rule.at:
        likely = [f"targets.{name}" for name in recipe.targets if f"`{name}" in message] + likely
    return recipe.place_of(next(filter(recipe.has_place, likely), likely[0]))


# What the rules ask of a recipe. A text says what is wrong; it is empty where nothing is.


def _network(recipe: Recipe) -> object:
    """Return the network that is meant, where the recipe alone decides it."""
    if recipe.model == "auto" and recipe.task == "image-classification":
        return CnnModel(name="cnn")
    return recipe.model


def _sides(recipe: Recipe) -> tuple[int, ...]:
    """Return the height and width of the input; nothing where the recipe alone doesn't decide."""
    size = recipe.transforms.size
    if isinstance(size, tuple):
        return size
    if isinstance(size, int):
        return size, size
    if isinstance(recipe.model, InitModel):
        return ()  # The model file's own.
    usual = None if recipe.model == "auto" else recipe.model.usual_side
    side = usual or recipe.data.side
    return () if side is None else (side, side)


def _smallest_side(recipe: Recipe) -> int | None:
    """Return the smallest side that the network is sure to get, in training or after."""
    return min((*(step.size for step in recipe.train.resolution), *_sides(recipe)), default=None)


def _has_split(recipe: Recipe, name: str) -> bool:
    """Say whether there may be such a split; a folder may come with its own."""
    return name in recipe.data.own_splits or bool(getattr(recipe.data.split, name))


def _batch_norm_samples(recipe: Recipe) -> str:
    """Say over how many samples BatchNorm takes its statistics, where they are few."""
    train = recipe.train
    parts = 1 if train.optimizer.name == "gd" else train.gradient_accumulation
    samples = train.batch_size // parts
    has_batch_norm = getattr(_network(recipe), "batch_norm", False)
    return str(samples) if has_batch_norm and samples < _FEW_SAMPLES else ""


def _too_large(amount: int, recipe: Recipe) -> str:
    """Say how an amount of pixels compares with the side that it reaches."""
    side = min(_sides(recipe), default=None)
    return f"{amount} pixels on a side of {side}" if side and amount >= side else ""


def _vanishing_block(recipe: Recipe) -> str:
    """Name the block of a `cnn` that pools away the last pixel."""
    side, model = _smallest_side(recipe), _network(recipe)
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
    model = _network(recipe)
    is_fixed = not getattr(model, "takes_any_size", True)
    return str(getattr(model, "name", "")) if recipe.train.resolution and is_fixed else ""


def _large_resolution(recipe: Recipe) -> str:
    """Name the first size of training that is no smaller than the full one."""
    side = min(_sides(recipe), default=None)
    sizes = [step.size for step in recipe.train.resolution if side and step.size >= side]
    return f"{sizes[0]} is not below the full size of {side}" if sizes else ""


def _oblong_images(recipe: Recipe) -> str:
    sides = _sides(recipe)
    return "×".join(map(str, sides)) if recipe.train.resolution and len(set(sides)) == 2 else ""


def _jitters_grey_images(recipe: Recipe) -> bool:
    jitter, color_mode = recipe.augment.color_jitter, recipe.transforms.color_mode
    if jitter is None or not jitter.saturation or isinstance(recipe.model, InitModel):
        return False
    return color_mode == "grayscale" or (color_mode == "auto" and recipe.data.is_grayscale)


def _reflects_boxes(recipe: Recipe) -> bool:
    augment = recipe.augment
    is_written = "padding" in augment.model_fields_set and augment.padding != "zero"
    return recipe.output_kind == OutputKind.BOXES and augment.translate > 0 and is_written


def _separates_lists(recipe: Recipe) -> bool:
    data = recipe.data
    if not isinstance(data, TableData) or data.separator == "|":
        return False
    return data.path.lower().removesuffix(".gz").endswith((".jsonl", ".parquet"))


def _missing_column(recipe: Recipe) -> str:
    """Say how a source without the column to split by can be split instead."""
    split, columns = recipe.data.split, recipe.data.split_columns
    if columns is None or split.by == "stratified" or columns.get(split.by) == split.column:
        return ""
    ways = [f"Write `by: {by}` with `column: {column}`" for by, column in columns.items()]
    instead = ways[0] if ways else "Leave `by` out"
    return f"`{recipe.data.source}` has no column `{split.column}`. {instead}, or use a table"


def _adapts_nothing(recipe: Recipe) -> bool:
    model = recipe.model
    if not isinstance(model, TimmModel):
        return False
    return model.adapters is not None and not model.is_pretrained


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


def _looks_ahead_without_momentum(recipe: Recipe) -> bool:
    optimizer = recipe.train.optimizer
    if not isinstance(optimizer, SgdOptimizer) or optimizer.momentum:
        return False
    return optimizer.nesterov and "nesterov" in optimizer.model_fields_set


def _hidden_group(recipe: Recipe) -> str:
    """Name the first group of parameters that an earlier one leaves nothing to."""
    patterns = [group.match for group in recipe.train.groups]
    for number, pattern in enumerate(patterns):
        before = next((item for item in patterns[:number] if item in ("*", pattern)), None)
        if before is not None:
            return f"`{pattern}` (entry {number}) is behind `{before}`"
    return ""


def _loss_beside_linear(recipe: Recipe) -> str:
    """Say what of the loss a linear model can't be fitted by."""
    loss = recipe.train.loss
    if not isinstance(recipe.model, LinearModel):
        return ""
    if isinstance(loss, CrossEntropyLoss) and loss.label_smoothing:
        return "`label_smoothing`"
    return "`huber`: by squared errors alone" if isinstance(loss, HuberLoss) else ""


def _wrong_metric(recipe: Recipe) -> str:
    """Name the first target that nothing measures, or nothing for this kind of output."""
    unknown = next((name for name in recipe.targets if name not in METRICS), "")
    if unknown:
        return f"`{unknown}` is not a metric. {nearest(unknown, METRICS)}".rstrip(".")
    kind = recipe.output_kind
    own = [name for name, item in METRICS.items() if kind in item.outputs != ANY_OUTPUT]
    for name in recipe.targets:
        if kind not in METRICS[name].outputs:
            names = ", ".join(f"`{metric}`" for metric in own)
            return (
                f"`{name}` doesn't judge {kind.noun}, which this task predicts. Use one of {names}"
            )
    return ""


def _first_target(recipe: Recipe, is_meant: Callable[[Metric], bool]) -> str:
    """Name the first target whose metric is meant."""
    names = (f"`{name}`" for name in recipe.targets if name in METRICS and is_meant(METRICS[name]))
    return next(names, "")


def _target_above_one(recipe: Recipe) -> str:
    """Name the first target of a share that no share can meet, or a percentage."""
    for name, target in recipe.targets.items():
        metric = METRICS.get(name)  # A rate of errors can be above 1.
        is_share = metric is not None and metric.is_share and metric.higher_is_better
        if is_share and parse_target(target)[1] > 1:
            return f"`{name}` lies between 0 and 1, and its target is {target}"
    return ""


def _wrong_direction(recipe: Recipe) -> str:
    """Name the first target that asks for a worse figure."""
    for name, target in recipe.targets.items():
        is_lower_bound = target.strip().startswith(">")
        if name in METRICS and METRICS[name].higher_is_better != is_lower_bound:
            better = "lower" if is_lower_bound else "higher"
            return f"`{name}: {target}` asks for a worse figure than it allows: {better} is better"
    return ""


REFUSED: tuple[Rule, ...] = (
    # Length of training and batches
    Rule(
        ("train.epochs: null", "no train.budget"),
        lambda r: r.train.epochs is None and r.train.budget is None,
        "training has no end: neither `train.epochs` nor `train.budget` is set",
        "Set one of them",
        ("train.epochs", "train"),
    ),
    Rule(
        ("optimizer gd", "train.gradient_accumulation"),
        lambda r: r.train.optimizer.name == "gd" and r.train.gradient_accumulation > 1,
        "`gd` computes the whole split in parts of `batch_size`, so `gradient_accumulation` has "
        "no effect",
        "Leave `gradient_accumulation` out, and lower `batch_size` to save memory",
        ("train.gradient_accumulation",),
    ),
    Rule(
        ("train.gradient_accumulation", "train.batch_size"),
        lambda r: (
            f"a batch of {r.train.batch_size} can't be computed in "
            f"{r.train.gradient_accumulation} parts"
            if r.train.gradient_accumulation > r.train.batch_size
            else ""
        ),
        "`train.gradient_accumulation`: {}",
        "Make `gradient_accumulation` at most `batch_size`",
        ("train.gradient_accumulation", "train.batch_size"),
    ),
    Rule(
        ("augment.mixup or cutmix", "train.batch_size: 1"),
        lambda r: (
            bool(r.augment.mixup or r.augment.cutmix)
            and r.train.batch_size == 1
            and r.train.optimizer.name != "gd"
        ),
        "MixUp and CutMix mix the samples of a batch, and a batch of 1 has nothing to mix",
        "Raise `train.batch_size`",
        ("train.batch_size", "augment"),
    ),
    Rule(
        ("train.max_tokens_per_batch", "optimizer gd"),
        lambda r: r.train.max_tokens_per_batch is not None and r.train.optimizer.name == "gd",
        "`gd` takes the whole split in one step, so `train.max_tokens_per_batch` has no effect",
        "Leave it out",
        ("train.max_tokens_per_batch",),
    ),
    # Data and model
    Rule(
        ("augment.padding: reflect", "task object-detection"),
        _reflects_boxes,
        "`augment.padding: reflect` would show things that have no box",
        "Leave `padding` out",
        ("augment.padding",),
    ),
    Rule(
        ("data.separator", "JSONL and Parquet tables"),
        _separates_lists,
        "`data.separator` has no effect: this table holds lists",
        "Leave `separator` out",
        ("data.separator",),
    ),
    Rule(
        ("data.split.by: group or time", "a source without that column"),
        _missing_column,
        "`data.split.by`: {}",
        at=("data.split.column", "data.split.by"),
    ),
    Rule(
        ("model.freeze", "model.adapters"),
        lambda r: (
            isinstance(r.model, InitModel) and bool(r.model.freeze) and r.model.adapters is not None
        ),
        "`model.freeze` has no effect beside `adapters`, under which all else stands still",
        "Leave one of the two out; `adapters.match` says which layers learn",
        ("model.freeze", "model.adapters"),
    ),
    Rule(
        ("model.adapters", "model timm without weights"),
        _adapts_nothing,
        "`model.adapters` leaves the network as it is, and without `model.weights` it has learnt "
        "nothing",
        "Name its `weights` or a `hub`, or leave `adapters` out",
        ("model.adapters",),
    ),
    Rule(
        ("train.unfreeze", "a network without pretrained weights"),
        lambda r: r.train.unfreeze is not None and (r.model == "auto" or not r.model.is_pretrained),
        "`train.unfreeze` holds pretrained layers still at first, and this network has none",
        "Leave `unfreeze` out, or start from pretrained weights",
        ("train.unfreeze",),
    ),
    Rule(
        ("train.unfreeze", "model.adapters"),
        lambda r: r.train.unfreeze is not None and getattr(r.model, "adapters", None) is not None,
        "`train.unfreeze` lets the whole network learn in the end, and `model.adapters` never does",
        "Leave one of the two out",
        ("train.unfreeze", "model.adapters"),
    ),
    # Optimizer
    Rule(
        ("nesterov: true", "momentum: 0"),
        _looks_ahead_without_momentum,
        "`nesterov` looks ahead along the momentum, and `momentum` is 0",
        "Write `nesterov: false`, or set a momentum",
        ("train.optimizer.nesterov",),
    ),
    Rule(
        ("train.groups", "an earlier group"),
        _hidden_group,
        "`train.groups`: {}, which takes all its parameters, so it has no effect",
        "Put the narrower pattern first, or remove it",
        ("train.groups",),
    ),
    Rule(
        ("train.groups: * with lr 0", "training"),
        lambda r: any(group.match == "*" and group.lr == 0 for group in r.train.groups[:1]),
        "`train.groups` freezes every parameter, so nothing would be learned",
        "Freeze fewer",
        ("train.groups",),
    ),
    Rule(
        ("model linear", "train.loss"),
        _loss_beside_linear,
        "`train.loss`: a linear model is fitted without {}",
        "Leave it out, or choose another `model`",
        ("train.loss",),
    ),
    Rule(
        ("train.patience", "data.split.val: 0"),
        lambda r: r.train.patience is not None and not _has_split(r, "val"),
        "`train.patience` waits for a better epoch on validation, and `val: 0` holds out nothing",
        "Hold out a share, such as `val: 0.1`, or leave `patience` out",
        ("train.patience", "data.split.val"),
    ),
    # Size of the images
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
        ("transforms.color_mode",),
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
        ("train.resolution",),
    ),
    Rule(
        ("train.resolution", "full size"),
        _large_resolution,
        "`train.resolution`: {}",
        "Write smaller sizes",
        ("train.resolution",),
    ),
    Rule(
        ("train.resolution", "images that aren't square"),
        _oblong_images,
        "`train.resolution` makes squares, and the images are {}",
        "Leave `resolution` out, or write one side for `transforms.size`",
        ("train.resolution",),
    ),
    Rule(
        ("augment.translate", "small images"),
        lambda r: _too_large(r.augment.translate, r),
        "`augment.translate` can shift the whole image out of sight: {}",
        "Shift by less; an eighth of the side is usual",
        ("augment.translate",),
    ),
    Rule(
        ("augment.cutout", "small images"),
        lambda r: _too_large(r.augment.cutout, r),
        "`augment.cutout` can hide the whole image: {}",
        "Cut out less; a quarter of the side is usual",
        ("augment.cutout",),
    ),
    Rule(
        ("augment.color_jitter.saturation", "grey images"),
        _jitters_grey_images,
        "`augment.color_jitter.saturation` has no effect on grey images",
        "Leave it out",
        ("augment.color_jitter.saturation",),
    ),
    # Measuring
    Rule(
        ("data.split.test: 0", "data.split.val: 0"),
        lambda r: not _has_split(r, "test") and not r.data.split.val,
        "nothing is held out to measure the model on",
        "Hold out a share, such as `test: 0.2`",
        ("data.split.test", "data.split.val"),
    ),
    Rule(("targets", "metrics"), _wrong_metric, "`targets`: {}", at=("targets",)),
    Rule(
        ("targets of a share", "more than 1"),
        _target_above_one,
        "`targets`: {}",
        "Write 0.93 for 93 %",
        ("targets",),
    ),
    Rule(
        ("targets of time", "evaluate.latency: false"),
        lambda r: not r.evaluate.latency and _first_target(r, lambda metric: metric.is_timed),
        "the target {} needs what `evaluate.latency: false` leaves out",
        "Write `latency: true`, or remove the target",
        ("evaluate.latency", "targets"),
    ),
    Rule(
        ("targets.gain_over_simple", "evaluate.baselines: false"),
        lambda r: (
            not r.evaluate.baselines and _first_target(r, lambda metric: metric.needs_baselines)
        ),
        "the target {} needs what `evaluate.baselines: false` leaves out",
        "Write `baselines: true`, or remove the target",
        ("evaluate.baselines", "targets"),
    ),
    Rule(
        ("targets at a threshold", "inference.threshold"),
        lambda r: (
            not r.inference.threshold and _first_target(r, lambda metric: metric.needs_threshold)
        ),
        "the target {} needs a threshold, and nothing says for which class",
        "Write `inference.threshold`, or remove the target",
        ("targets",),
    ),
)
"""The pairs that can't work."""

SAID: tuple[Rule, ...] = (
    Rule(
        ("optimizer gd", "few epochs"),
        lambda r: (
            f"{r.train.epochs:g}"
            if r.train.optimizer.name == "gd" and r.train.epochs and r.train.epochs < 50
            else ""
        ),
        "`gd` takes one step an epoch, so this training has about {} steps",
    ),
    Rule(
        ("BatchNorm", "small batches or parts"),
        _batch_norm_samples,
        "BatchNorm takes its statistics over {} samples at a time, which is mostly noise",
        "Raise `train.batch_size` or lower `train.gradient_accumulation`",
    ),
    Rule(
        ("optimizer muon", "weight_decay"),
        lambda r: (
            r.train.optimizer.name == "muon"
            and "weight_decay" in r.train.model_fields_set
            and r.train.weight_decay > 0
        ),
        "Muon sets the length of each matrix and filter anew at every step, so `weight_decay` "
        "shrinks only what its `rest` trains: the last layer, and what a group names",
    ),
    Rule(
        ("train.select: best", "data.split.val: 0"),
        lambda r: (
            r.train.select == "best"
            and not _has_split(r, "val")
            and (r.model == "auto" or "train.select" not in r.model.own_settles)
        ),
        "Nothing is held out to choose an epoch by (`val: 0`), so the last one is shipped",
    ),
    Rule(
        ("train.patience", "train.select: last"),
        lambda r: f"{r.train.patience}" if r.train.patience and r.train.select == "last" else "",
        "Training stops {} epochs after the best one, and `select: last` ships the last of them",
    ),
    Rule(
        ("train.patience", "a schedule that falls"),
        lambda r: (
            r.train.schedule.name
            if r.train.patience and r.train.schedule.name not in ("constant", "step")
            else ""
        ),
        "Where `patience` stops training early, the `{}` schedule hasn't brought the rate down yet",
    ),
    Rule(
        ("train.resolution until 1", "measuring at full size"),
        lambda r: bool(r.train.resolution) and r.train.resolution[-1].until == 1,
        "The network never trains at full size (`until: 1`), at which it is measured and used",
    ),
    Rule(
        ("train.resolution", "train.compile: on"),
        lambda r: (
            f"{len(r.train.resolution) + 1}"
            if r.train.resolution and r.train.compile == "on"
            else ""
        ),
        "The network is compiled anew for each size of image, about {} times",
    ),
    Rule(
        ("train.compile: on", "resources.device: cpu"),
        lambda r: r.train.compile == "on" and r.resources.device == "cpu",
        "Compiling for a processor needs a C++ compiler, takes a while, and seldom pays back",
    ),
    Rule(
        ("augment.flip", "data digits"),
        lambda r: r.augment.flip != "none" and r.data.source == "digits",
        "A mirrored digit is another sign, so `augment.flip` teaches what never occurs",
    ),
    Rule(
        ("inference.tta: flip or flip_shift", "data digits"),
        lambda r: r.inference.tta not in ("none", "speeds") and r.data.source == "digits",
        "A mirrored digit is another sign, so `inference.tta` averages over wrong images",
    ),
    Rule(
        ("data.split.test: 0", "measuring"),
        lambda r: not _has_split(r, "test") and bool(r.data.split.val),
        "Without a test split the model is measured on validation, by which it was chosen too",
    ),
    Rule(("targets", "the better direction"), _wrong_direction, "Target {}"),
    Rule(
        ("targets", "data.limit"),
        lambda r: f"{r.data.limit:,}" if r.targets and r.data.limit else "",
        "`data.limit` leaves at most {} samples to judge the targets by",
    ),
)
"""The pairs that work, but not as one might think."""


def composition_reference() -> str:
    """Return the table of pairs as Markdown."""
    lines = [
        "| together | with | verdict | what is said | way out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for verdict, rules in (("refused", REFUSED), ("said", SAID)):
        for rule in rules:
            cells = (*rule.pair, verdict, rule.message.format("…"), rule.fix.format("…"))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
