"""Which settings go together: the rules on data, model and training."""

from __future__ import annotations

from modelwright.kinds import OutputKind
from modelwright.recipe.data import BoxesData, TableData
from modelwright.recipe.model import InitModel, LinearModel, TimmModel
from modelwright.recipe.networks import BowModel, MlpModel
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.rule import Rule, has_split, network_of
from modelwright.recipe.train import CrossEntropyLoss, HuberLoss, SgdOptimizer

_OF_GROUPS = ("until", "weight_decay", "l1", "l2")
_FEW_SAMPLES = 8
"""Statistics of a batch over fewer samples than this are mostly noise."""


def _batch_norm_samples(recipe: Recipe) -> str:
    """Say over how many samples BatchNorm takes its statistics, where they are few."""
    train = recipe.train
    parts = 1 if train.optimizer.name == "gd" else train.gradient_accumulation
    samples = train.batch_size // parts
    has_batch_norm = getattr(network_of(recipe), "batch_norm", False)
    return str(samples) if has_batch_norm and samples < _FEW_SAMPLES else ""


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


def _void_split(recipe: Recipe) -> str:
    """Name the setting of drawing splits that the source's own splits leave nothing to."""
    given, split = recipe.data.given_splits, recipe.data.split
    default = type(split)()
    void = list(given)
    if len(given) == 2 and recipe.data.limit is None:
        void.append("seed")
    return next((name for name in void if getattr(split, name) != getattr(default, name)), "")


def _leaks_nowhere(recipe: Recipe) -> bool:
    data = recipe.data
    is_drawn = data.split.by == "stratified" and not data.own_splits
    return is_drawn and data.leaks != "refuse"


def _encodes_parquet(recipe: Recipe) -> bool:
    data = recipe.data
    return isinstance(data, TableData | BoxesData) and bool(
        data.encoding and data.path.lower().endswith(".parquet")
    )


def _void_of_network(recipe: Recipe) -> str:
    """Name the setting of a network that another one of it leaves without effect."""
    # Not refused by the sections themselves: a model file's has its number of buckets anyway.
    names: tuple[str, ...]
    match recipe.model:
        case MlpModel(hidden=()) as model:
            names, why = ("activation", "dropout"), "there is no layer in `hidden`"
        case BowModel(ngrams=1) as model:
            names, why = ("buckets",), "with `ngrams: 1` there are no runs of words"
        case _:
            return ""
    fields = type(model).model_fields
    name = next((name for name in names if getattr(model, name) != fields[name].default), None)
    return "" if name is None else f"`model.{name}` has no effect: {why}"


def _adapts_nothing(recipe: Recipe) -> bool:
    model = recipe.model
    if not isinstance(model, TimmModel):
        return False
    return model.adapters is not None and not model.is_pretrained


def _looks_ahead_without_momentum(recipe: Recipe) -> bool:
    optimizer = recipe.train.optimizer
    if not isinstance(optimizer, SgdOptimizer) or optimizer.momentum:
        return False
    return optimizer.nesterov and "nesterov" in optimizer.model_fields_set


def _void_group(recipe: Recipe) -> str:
    """Name the setting of a group that has no effect, or the last group, where it sets nothing."""
    groups = recipe.train.groups
    for number, group in enumerate(groups):
        own = {name for name in _OF_GROUPS if getattr(group, name) is not None}
        if group.lr == 0 and own:
            name = next(name for name in _OF_GROUPS if name in own)
            return f"`{name}` of `{group.match}` has no effect, whose `lr` of 0 holds it still"
        if group.lr == 1 and not own and number == len(groups) - 1:
            return f"`{group.match}` sets nothing, so it has no effect"
    return ""


def _hidden_group(recipe: Recipe) -> str:
    """Name the first group of parameters that an earlier one leaves nothing to."""
    patterns = [group.match for group in recipe.train.groups]
    for number, pattern in enumerate(patterns):
        before = next((item for item in patterns[:number] if item in ("*", pattern)), None)
        if before is not None:
            return f"`{pattern}` (entry {number}) is behind `{before}`"
    return ""


def _never_stops(recipe: Recipe) -> str:
    """Return the epochs of a training that ends before its patience can."""
    epochs, patience = recipe.train.epochs, recipe.train.patience
    if epochs is None or patience is None or patience + 1 < epochs:
        return ""
    return f"{epochs:g}"


def _searches_nothing(recipe: Recipe) -> bool:
    model = recipe.model
    if not isinstance(model, LinearModel) or recipe.train.budget is None:
        return False
    return isinstance(model.C, float) or (isinstance(model.C, tuple) and len(model.C) == 1)


def _loss_beside_linear(recipe: Recipe) -> str:
    """Say what of the loss a linear model can't be fitted by."""
    loss = recipe.train.loss
    if not isinstance(recipe.model, LinearModel):
        return ""
    if isinstance(loss, CrossEntropyLoss) and loss.label_smoothing:
        return "`label_smoothing`"
    return "`huber`: by squared errors alone" if isinstance(loss, HuberLoss) else ""


TRAINING_RULES: tuple[Rule, ...] = (
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
    ),
    # Data and model
    Rule(
        ("augment.padding: reflect", "task object-detection"),
        _reflects_boxes,
        "`augment.padding: reflect` would show things that have no box",
        "Leave `padding` out",
    ),
    Rule(
        ("data.separator", "JSONL and Parquet tables"),
        _separates_lists,
        "`data.separator` has no effect: this table holds lists",
        "Leave `separator` out",
    ),
    Rule(
        ("data.encoding", "Parquet tables"),
        _encodes_parquet,
        "`data.encoding` has no effect: Parquet says itself how its texts are encoded",
        "Leave `encoding` out",
    ),
    Rule(
        ("data.split", "a source with splits of its own"),
        _void_split,
        "`data.split.{}` has no effect: the source comes split already",
        "Leave it out",
        ("data.split", "data"),
    ),
    Rule(
        ("data.leaks", "a source without splits of its own"),
        _leaks_nowhere,
        "`data.leaks` has no effect: samples that are the same are drawn into one split",
        "Leave it out",
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
    ),
    Rule(
        ("model mlp, model bow", "sizes that leave a setting nothing"),
        _void_of_network,
        "{}",
        "Leave it out",
        ("model",),
    ),
    Rule(
        ("model.adapters", "model timm without weights"),
        _adapts_nothing,
        "`model.adapters` leaves the network as it is, and without `model.weights` it has learnt "
        "nothing",
        "Name its `weights` or a `hub`, or leave `adapters` out",
    ),
    Rule(
        ("train.unfreeze", "a network without pretrained weights"),
        lambda r: r.train.unfreeze is not None and (r.model == "auto" or not r.model.is_pretrained),
        "`train.unfreeze` holds pretrained layers still at first, and this network has none",
        "Leave `unfreeze` out, or start from pretrained weights",
    ),
    Rule(
        ("train.unfreeze", "model.adapters"),
        lambda r: r.train.unfreeze is not None and getattr(r.model, "adapters", None) is not None,
        "`train.unfreeze` lets the whole network learn in the end, and `model.adapters` never does",
        "Leave one of the two out",
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
    ),
    Rule(
        ("train.groups", "settings without effect"),
        _void_group,
        "`train.groups`: {}",
        "Leave it out",
    ),
    Rule(
        ("train.groups: * with lr 0", "training"),
        lambda r: any(group.match == "*" and group.lr == 0 for group in r.train.groups[:1]),
        "`train.groups` freezes every parameter, so nothing would be learned",
        "Freeze fewer",
    ),
    Rule(
        ("model linear", "train.loss"),
        _loss_beside_linear,
        "`train.loss`: a linear model is fitted without {}",
        "Leave it out, or choose another `model`",
    ),
    Rule(
        ("model linear with one C", "train.budget"),
        _searches_nothing,
        "`train.budget` has no effect: it bounds the search for `C`, and `model.C` is one number",
        "Leave it out",
        ("train.budget",),
    ),
    Rule(
        ("train.patience", "data.split.val: 0"),
        lambda r: r.train.patience is not None and not has_split(r, "val"),
        "`train.patience` waits for a better epoch on validation, and `val: 0` holds out nothing",
        "Hold out a share, such as `val: 0.1`, or leave `patience` out",
    ),
)
"""The pairs that can't work."""

TRAINING_NOTES: tuple[Rule, ...] = (
    # Not refused: a recipe is tried with fewer epochs by `--set train.epochs=3`.
    Rule(
        ("train.patience", "train.epochs"),
        _never_stops,
        "`train.patience` has no effect, as training is over after {} epochs anyway",
    ),
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
            and not has_split(r, "val")
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
)
"""The pairs that work, but not as one might think."""
