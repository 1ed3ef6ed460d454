"""Which settings go together: one table of pairs, judged here and nowhere else.

A pair is *refused* where one setting makes the other impossible or void, and *said* where both work
but not as one might think. What needs the data or the network to be known (a pattern that matches
no parameter, a class without samples) is refused by the room that knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from modelwright.errors import RecipeError
from modelwright.recipe import conditions as its
from modelwright.recipe.data import DigitsData
from modelwright.recipe.model import TimmModel
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.relevance import find_irrelevant
from modelwright.recipe.train import GdOptimizer, SgdOptimizer


@dataclass(frozen=True, slots=True)
class Rule:
    """One pair of features and what becomes of it."""

    pair: tuple[str, str]
    verdict: Literal["refused", "said"]
    found: Callable[[Recipe], str]
    """What to call the fault where the pair stands in a recipe, else a blank."""
    message: str
    """What is wrong, or what happens; `{}` is what `found` returned."""
    fix: str = ""
    at: tuple[str, ...] = ()
    """The settings to point at, the likeliest first."""


def check_composition(recipe: Recipe) -> list[str]:
    """Judge a recipe; return a sentence for each pair that works otherwise than it reads.

    Raises:
        RecipeError: a setting has no effect, or a pair of settings is impossible.
    """
    irrelevant = find_irrelevant(recipe)
    if irrelevant is not None:
        raise RecipeError(
            irrelevant.why,
            where=recipe.place_of(irrelevant.path),
            fix=f"Leave it out, or look at `{irrelevant.decided_by}`",
        )
    notes = []
    for rule in RULES:
        detail = rule.found(recipe)
        if not detail:
            continue
        message = rule.message.format(detail)
        if rule.verdict == "refused":
            raise RecipeError(
                message, where=_place(recipe, rule, message), fix=rule.fix.format(detail)
            )
        notes.append(". ".join(part for part in (message, rule.fix.format(detail)) if part))
    return notes


def _place(recipe: Recipe, rule: Rule, message: str) -> str:
    """Return the line of the first setting of the rule that was written down."""
    named = [f"targets.{name}" for name in recipe.targets if f"`{name}" in message]
    likely = [*named, *rule.at] if "targets" in rule.at else list(rule.at)
    written = [path for path in likely if recipe.has_place(path)]
    return recipe.place_of([*written, *likely, ""][0])


def _when(condition: Callable[[Recipe], bool]) -> Callable[[Recipe], str]:
    return lambda recipe: "yes" if condition(recipe) else ""


RULES: tuple[Rule, ...] = (
    # Length of training
    Rule(
        ("train.epochs: null", "no train.budget"),
        "refused",
        _when(lambda r: r.train.epochs is None and r.train.budget is None),
        "training has no end: neither `train.epochs` nor `train.budget` is set",
        "Set one of them",
        ("train.epochs", "train"),
    ),
    Rule(
        ("optimizer gd", "few epochs"),
        "said",
        lambda r: (
            f"{r.train.epochs:g}"
            if isinstance(r.train.optimizer, GdOptimizer) and r.train.epochs and r.train.epochs < 50
            else ""
        ),
        "`gd` takes one step an epoch, so this training has about {} steps",
    ),
    # Batches
    Rule(
        ("optimizer gd", "train.gradient_accumulation"),
        "refused",
        _when(
            lambda r: (
                isinstance(r.train.optimizer, GdOptimizer) and r.train.gradient_accumulation > 1
            )
        ),
        "`gd` computes the whole split in parts of `batch_size`, so `gradient_accumulation` has "
        "no effect",
        "Leave `gradient_accumulation` out, and lower `batch_size` to save memory",
        ("train.gradient_accumulation",),
    ),
    Rule(
        ("train.gradient_accumulation", "train.batch_size"),
        "refused",
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
        "refused",
        _when(
            lambda r: (
                bool(r.augment.mixup or r.augment.cutmix)
                and r.train.batch_size == 1
                and not isinstance(r.train.optimizer, GdOptimizer)
            )
        ),
        "MixUp and CutMix mix the samples of a batch, and a batch of 1 has nothing to mix",
        "Raise `train.batch_size`",
        ("train.batch_size", "augment"),
    ),
    Rule(
        ("BatchNorm", "small batches or parts"),
        "said",
        lambda r: f"{its.part(r)}" if its.has_batch_norm(r) and its.part(r) < its.FEW else "",
        "BatchNorm takes its statistics over {} samples at a time, which is mostly noise",
        "Raise `train.batch_size` or lower `train.gradient_accumulation`",
    ),
    Rule(
        ("train.max_tokens_per_batch", "optimizer gd"),
        "refused",
        _when(
            lambda r: (
                r.train.max_tokens_per_batch is not None
                and isinstance(r.train.optimizer, GdOptimizer)
            )
        ),
        "`gd` takes the whole split in one step, so `train.max_tokens_per_batch` has no effect",
        "Leave it out",
        ("train.max_tokens_per_batch",),
    ),
    Rule(
        ("augment.padding: reflect", "task object-detection"),
        "refused",
        _when(its.boxes_beyond_the_border),
        "`augment.padding: reflect` would show things that have no box",
        "Leave `padding` out",
        ("augment.padding",),
    ),
    # Data and model
    # Loss and optimizer
    Rule(
        ("data.separator", "JSONL and Parquet tables"),
        "refused",
        _when(its.separates_lists),
        "`data.separator` has no effect: this table holds lists",
        "Leave `separator` out",
        ("data.separator",),
    ),
    Rule(
        ("model.freeze", "model.adapters"),
        "refused",
        _when(
            lambda r: (
                bool(getattr(r.model, "freeze", ()))
                and getattr(r.model, "adapters", None) is not None
            )
        ),
        "`model.freeze` has no effect beside `adapters`, under which all else stands still",
        "Leave one of the two out; `adapters.match` says which layers learn",
        ("model.freeze", "model.adapters"),
    ),
    Rule(
        ("model.adapters", "model timm without weights"),
        "refused",
        _when(
            lambda r: (
                isinstance(r.model, TimmModel)
                and r.model.adapters is not None
                and r.model.weights is None
            )
        ),
        "`model.adapters` leaves the network as it is, and without `model.weights` it has learnt "
        "nothing",
        "Name its `weights`, or leave `adapters` out",
        ("model.adapters",),
    ),
    Rule(
        ("train.unfreeze", "a network without pretrained weights"),
        "refused",
        _when(lambda r: r.train.unfreeze is not None and not its.is_pretrained(r)),
        "`train.unfreeze` holds pretrained layers still at first, and this network has none",
        "Leave `unfreeze` out, or start from pretrained weights",
        ("train.unfreeze",),
    ),
    Rule(
        ("train.unfreeze", "model.adapters"),
        "refused",
        _when(
            lambda r: (
                r.train.unfreeze is not None and getattr(r.model, "adapters", None) is not None
            )
        ),
        "`train.unfreeze` lets the whole network learn in the end, and `model.adapters` never does",
        "Leave one of the two out",
        ("train.unfreeze", "model.adapters"),
    ),
    Rule(
        ("optimizer muon", "weight_decay"),
        "said",
        _when(its.decays_under_muon),
        "Muon sets the length of each matrix and filter anew at every step, so `weight_decay` "
        "shrinks only what its `rest` trains: the last layer, and what a group names",
    ),
    Rule(
        ("nesterov: true", "momentum: 0"),
        "refused",
        _when(
            lambda r: (
                isinstance(r.train.optimizer, SgdOptimizer)
                and r.train.optimizer.momentum == 0
                and r.train.optimizer.nesterov
                and "nesterov" in r.train.optimizer.model_fields_set
            )
        ),
        "`nesterov` looks ahead along the momentum, and `momentum` is 0",
        "Write `nesterov: false`, or set a momentum",
        ("train.optimizer.nesterov",),
    ),
    Rule(
        ("train.groups", "an earlier group"),
        "refused",
        its.dead_group,
        "`train.groups`: {}, which takes all its parameters, so it has no effect",
        "Put the narrower pattern first, or remove it",
        ("train.groups",),
    ),
    Rule(
        ("train.groups: * with lr 0", "training"),
        "refused",
        _when(its.freezes_all),
        "`train.groups` freezes every parameter, so nothing would be learned",
        "Freeze fewer",
        ("train.groups",),
    ),
    # Choosing an epoch
    Rule(
        ("train.patience", "data.split.val: 0"),
        "refused",
        _when(lambda r: r.train.patience is not None and its.has_no_validation(r)),
        "`train.patience` waits for a better epoch on validation, and `val: 0` holds out nothing",
        "Hold out a share, such as `val: 0.1`, or leave `patience` out",
        ("train.patience", "data.split.val"),
    ),
    Rule(
        ("train.select: best", "data.split.val: 0"),
        "said",
        _when(lambda r: r.train.select == "best" and its.has_no_validation(r)),
        "Nothing is held out to choose an epoch by (`val: 0`), so the last one is shipped",
    ),
    Rule(
        ("train.patience", "train.select: last"),
        "said",
        lambda r: f"{r.train.patience}" if r.train.patience and r.train.select == "last" else "",
        "Training stops {} epochs after the best one, and `select: last` ships the last of them",
    ),
    Rule(
        ("train.patience", "a schedule that falls"),
        "said",
        lambda r: r.train.schedule.name if r.train.patience and its.falls(r) else "",
        "Where `patience` stops training early, the `{}` schedule hasn't brought the rate down yet",
    ),
    # Size of the images
    Rule(
        ("model speednet, efficientnet-lite0", "small images"),
        "refused",
        its.below_smallest_side,
        "{}",
        "Enlarge them with `transforms.size`, or use `cnn`",
        ("train.resolution", "transforms.size", "model.name"),
    ),
    Rule(
        ("published weights", "transforms.color_mode: grayscale"),
        "refused",
        its.grey_for_published,
        "the published weights `{}` are for images in colour",
        "Leave `color_mode` out: grey images are given to the network in three channels",
        ("transforms.color_mode",),
    ),
    Rule(
        ("model detector, backbone", "settings of another backbone"),
        "refused",
        its.void_for_backbone,
        "{}",
        "Leave it out, or look at `model.backbone`",
        ("model.widths", "model.depth", "model.pretrained"),
    ),
    Rule(
        ("model cnn", "small images"),
        "refused",
        its.vanishing_block,
        "`model.blocks`: {}",
        "Use fewer blocks, or `pool: 1` in some",
        ("train.resolution", "model.blocks", "transforms.size", "model"),
    ),
    Rule(
        ("train.resolution", "model mlp, model cnn"),
        "refused",
        its.model_of_one_size,
        "`train.resolution` needs a network that takes any size, and `{}` is built for one",
        "Use `resnet` or `speednet`, or leave `resolution` out",
        ("train.resolution",),
    ),
    Rule(
        ("train.resolution", "full size"),
        "refused",
        its.larger_step,
        "`train.resolution`: {}",
        "Write smaller sizes",
        ("train.resolution",),
    ),
    Rule(
        ("train.resolution", "images that aren't square"),
        "refused",
        lambda r: (
            "×".join(str(side) for side in its.known_sides(r) or ())
            if r.train.resolution and len(set(its.known_sides(r) or ())) == 2
            else ""
        ),
        "`train.resolution` makes squares, and the images are {}",
        "Leave `resolution` out, or write one side for `transforms.size`",
        ("train.resolution",),
    ),
    Rule(
        ("train.resolution until 1", "measuring at full size"),
        "said",
        _when(lambda r: bool(r.train.resolution) and r.train.resolution[-1].until == 1),
        "The network never trains at full size (`until: 1`), at which it is measured and used",
    ),
    Rule(
        ("train.resolution", "train.compile: on"),
        "said",
        lambda r: (
            f"{len(r.train.resolution) + 1}"
            if r.train.resolution and r.train.compile == "on"
            else ""
        ),
        "The network is compiled anew for each size of image, about {} times",
    ),
    Rule(
        ("train.compile: on", "resources.device: cpu"),
        "said",
        _when(lambda r: r.train.compile == "on" and r.resources.device == "cpu"),
        "Compiling for a processor needs a C++ compiler, takes a while, and seldom pays back",
    ),
    # Augmentation
    Rule(
        ("augment.translate", "small images"),
        "refused",
        lambda r: its.too_large(r.augment.translate, r) if r.augment.translate else "",
        "`augment.translate` can shift the whole image out of sight: {}",
        "Shift by less; an eighth of the side is usual",
        ("augment.translate",),
    ),
    Rule(
        ("augment.cutout", "small images"),
        "refused",
        lambda r: its.too_large(r.augment.cutout, r) if r.augment.cutout else "",
        "`augment.cutout` can hide the whole image: {}",
        "Cut out less; a quarter of the side is usual",
        ("augment.cutout",),
    ),
    Rule(
        ("augment.color_jitter.saturation", "grey images"),
        "refused",
        _when(
            lambda r: (
                r.augment.color_jitter is not None
                and r.augment.color_jitter.saturation > 0
                and its.is_grey(r)
            )
        ),
        "`augment.color_jitter.saturation` has no effect on grey images",
        "Leave it out",
        ("augment.color_jitter.saturation",),
    ),
    Rule(
        ("augment.flip", "data digits"),
        "said",
        _when(lambda r: r.augment.flip != "none" and isinstance(r.data, DigitsData)),
        "A mirrored digit is another sign, so `augment.flip` teaches what never occurs",
    ),
    Rule(
        ("inference.tta: flip or flip_shift", "data digits"),
        "said",
        _when(
            lambda r: r.inference.tta not in ("none", "speeds") and isinstance(r.data, DigitsData)
        ),
        "A mirrored digit is another sign, so `inference.tta` averages over wrong images",
    ),
    # Splits
    Rule(
        ("data.split.by: group or time", "a source without that column"),
        "refused",
        its.missing_column,
        "`data.split.by`: {}",
        at=("data.split.column", "data.split.by"),
    ),
    # Measuring
    Rule(
        ("data.split.test: 0", "data.split.val: 0"),
        "refused",
        _when(lambda r: its.has_no_test(r) and not r.data.split.val),
        "nothing is held out to measure the model on",
        "Hold out a share, such as `test: 0.2`",
        ("data.split.test", "data.split.val"),
    ),
    Rule(
        ("data.split.test: 0", "measuring"),
        "said",
        _when(lambda r: its.has_no_test(r) and bool(r.data.split.val)),
        "Without a test split the model is measured on validation, by which it was chosen too",
    ),
    Rule(
        ("targets", "metrics"),
        "refused",
        its.unknown_metric,
        "`targets`: {}",
        at=("targets",),
    ),
    Rule(
        ("targets of a share", "more than 1"),
        "refused",
        its.out_of_range,
        "`targets`: {}",
        "Write 0.93 for 93 %",
        ("targets",),
    ),
    Rule(("targets", "the better direction"), "said", its.wrong_way, "Target {}"),
    Rule(
        ("targets of time", "evaluate.latency: false"),
        "refused",
        lambda r: "" if r.evaluate.latency else its.timed_target(r),
        "the target {} needs what `evaluate.latency: false` leaves out",
        "Write `latency: true`, or remove the target",
        ("evaluate.latency", "targets"),
    ),
    Rule(
        ("targets at a threshold", "inference.threshold"),
        "refused",
        lambda r: "" if r.inference.threshold else its.threshold_target(r),
        "the target {} needs a threshold, and nothing says for which class",
        "Write `inference.threshold`, or remove the target",
        ("targets",),
    ),
    Rule(
        ("targets", "data.limit"),
        "said",
        lambda r: f"{r.data.limit:,}" if r.targets and r.data.limit else "",
        "`data.limit` leaves at most {} samples to judge the targets by",
    ),
)
"""Every pair that isn't simply fine."""


def composition_reference() -> str:
    """Return the table of pairs as Markdown."""
    lines = [
        "| together | with | verdict | what is said | way out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rule in RULES:
        cells = (*rule.pair, rule.verdict, rule.message.format("…"), rule.fix.format("…"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
