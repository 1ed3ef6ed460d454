"""What the composition rules ask of a recipe: each a question whose answer names the fault.

A question returns a few words for the message where the pair stands, else a blank.
"""

from __future__ import annotations

from modelwright.errors import nearest
from modelwright.recipe.data import (
    ArraysData,
    AudioSpec,
    AugmentSpec,
    BoxesData,
    Cifar10Data,
    DigitsData,
    DocumentsData,
    FolderData,
    LabelledLinesData,
    ParallelTextData,
    TableData,
    TextSpec,
    TransformsSpec,
)
from modelwright.recipe.evaluate import AT_THRESHOLD, METRICS, TIMED, parse_target
from modelwright.recipe.model import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    InitModel,
    MlpModel,
    ResnetModel,
    RnnCtcModel,
    RnnModel,
    Seq2SeqModel,
    SpeednetModel,
    TextCnnModel,
    TimmModel,
    TransformerModel,
    TransformersModel,
)
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.train import ConstantSchedule, GdOptimizer, MuonOptimizer, StepSchedule

SPEEDNET_SIDE = 9
"""Below it, nothing is left after speednet's 2×2 convolution and three poolings by 2."""
FEW = 8
"""Statistics of a batch over fewer samples than this are mostly noise."""


def model_of(recipe: Recipe) -> object:
    """Return the network that is meant, where the recipe alone decides it."""
    if recipe.model == "auto" and recipe.task == "image-classification":
        return CnnModel(name="cnn")
    return recipe.model


_KINDS: dict[str, str] = {
    "image-classification": "image",
    "text-classification": "text",
    "audio-classification": "audio",
    "language-modeling": "text",
    "translation": "text",
    "summarization": "text",
    "speech-recognition": "audio",
    "object-detection": "image",
}
OF: dict[str, str] = {
    "regression": "numbers",
    "language-modeling": "tokens",
    "translation": "texts",
    "summarization": "texts",
    "speech-recognition": "letters",
    "object-detection": "boxes",
}
"""What a task predicts, where that isn't one label."""
_SOURCES: dict[type, str] = {
    DigitsData: "image",
    Cifar10Data: "image",
    ArraysData: "image",
    LabelledLinesData: "text",
    DocumentsData: "text",
    ParallelTextData: "text",
    BoxesData: "image",
}
"""The sources that hold one kind of sample only."""
_MODELS: dict[type, str] = {
    MlpModel: "image",
    CnnModel: "image",
    ResnetModel: "image",
    SpeednetModel: "image",
    BowModel: "text",
    TextCnnModel: "text",
    RnnModel: "text",
    TransformerModel: "text",
    AudioCnnModel: "audio",
    ConvCtcModel: "audio",
    RnnCtcModel: "audio",
    DecoderModel: "text",
    Seq2SeqModel: "text",
    DetectorModel: "image",
    TransformersModel: "text",
    TimmModel: "image",
}
_ANSWERS: dict[type, str] = {
    DecoderModel: "tokens",
    Seq2SeqModel: "texts",
    ConvCtcModel: "letters",
    RnnCtcModel: "letters",
    DetectorModel: "boxes",
}
"""What a family answers with, where that isn't labels or numbers."""
_HOLDS: dict[type, tuple[str, ...]] = {
    DigitsData: ("labels",),
    Cifar10Data: ("labels",),
    ArraysData: ("labels",),
    LabelledLinesData: ("labels",),
    FolderData: ("labels", "letters"),
    DocumentsData: ("tokens",),
    ParallelTextData: ("texts",),
    BoxesData: ("boxes",),
    TableData: ("labels", "label sets", "numbers", "tokens", "texts", "letters"),
}
"""What a source can say of its samples."""


def kind_of(recipe: Recipe) -> str:
    """Return what the task's samples are: `image`, `text` or `audio`."""
    if recipe.task in _KINDS:
        return _KINDS[recipe.task]
    return recipe.data.holds if isinstance(recipe.data, TableData) else "image"


def predicts_numbers(recipe: Recipe) -> bool:
    """Say whether the task's targets are numbers, not labels."""
    return recipe.task == "regression"


def predicted(recipe: Recipe) -> str:
    """Return what the task predicts: `labels`, `label sets`, `numbers`, `tokens`, `texts`, …."""
    of = OF.get(recipe.task, "labels")
    return "label sets" if of == "labels" and recipe.has_label_sets else of


def foreign_target(recipe: Recipe) -> str:
    """Name what the source or the network is for, where the task predicts something else."""
    of = predicted(recipe)
    if of not in _HOLDS[type(recipe.data)]:
        return f"`data.source: {recipe.data.source}` holds no {of}"
    if recipe.model == "auto" or isinstance(recipe.model, InitModel):
        return ""
    if isinstance(recipe.model, TransformersModel):
        # Which of them, its folder says.
        return "" if of in _FROM_ELSEWHERE else _says(recipe.model.name, _FROM_ELSEWHERE, of)
    answers = _ANSWERS.get(type(recipe.model), "labels")
    wanted = "labels" if of in ("numbers", "label sets") else of
    if answers == wanted:
        return ""
    return _says(recipe.model.name, (answers,), of)


_FROM_ELSEWHERE = ("labels", "numbers", "texts", "tokens")


def _says(name: str, answers: tuple[str, ...], of: str) -> str:
    return f"`model: {name}` answers with {' or '.join(answers)}, and the task asks for {of}"


_LOSSES: dict[str, tuple[str, ...]] = {
    "cross-entropy": ("labels", "tokens", "texts"),
    "binary-cross-entropy": ("label sets",),
    "mse": ("numbers",),
    "huber": ("numbers",),
    "ctc": ("letters",),
    "detection": ("boxes",),
}


def foreign_loss(recipe: Recipe) -> str:
    """Name the loss, where it isn't for what the task predicts."""
    loss, of = recipe.train.loss, predicted(recipe)
    if loss == "auto" or of in _LOSSES[loss.name]:
        return ""
    return f"`{loss.name}` compares {' and '.join(_LOSSES[loss.name])}, and the task predicts {of}"


def foreign_rename(recipe: Recipe) -> str:
    """Name the task, where labels are to be renamed and it has none."""
    renames = predicted(recipe) in ("labels", "label sets", "letters")
    return recipe.task if recipe.data.rename and not renames else ""


def foreign_separator(recipe: Recipe) -> str:
    """Say why nothing is separated, where a separator was written down."""
    data = recipe.data
    if not isinstance(data, TableData) or "separator" not in data.model_fields_set:
        return ""
    if not data.multi_label:
        return "each sample has one label without `data.multi_label: true`"
    if data.path.lower().removesuffix(".gz").endswith((".jsonl", ".parquet")):
        return "this table holds lists"
    return ""


def foreign_numbers(recipe: Recipe) -> str:
    """Name what is asked of labels where the targets are numbers, or the reverse."""
    data = recipe.data
    if not predicts_numbers(recipe):
        if isinstance(data, TableData) and "numbers" in data.model_fields_set:
            return "`data.numbers` is for `task: regression`"
        if isinstance(data, TableData) and "holds" in data.model_fields_set:
            return "`data.holds` is for `task: regression`; this task knows what it takes"
        return ""
    if recipe.augment.mixup or recipe.augment.cutmix:
        return "`augment.mixup` and `cutmix` mix labels, and a regression has numbers"
    return ""


def foreign_source(recipe: Recipe) -> str:
    """Name the kind of sample that the source holds, where the task takes another."""
    held, kind = _SOURCES.get(type(recipe.data), ""), kind_of(recipe)
    if not held or held == kind:
        return ""
    return f"`{recipe.data.source}` holds {held}s, and `task: {recipe.task}` takes {kind}s"


def foreign_model(recipe: Recipe) -> str:
    """Name the kind of sample that the network takes, where the task has another."""
    taken, kind = _MODELS.get(type(recipe.model), ""), kind_of(recipe)
    if not taken or taken == kind:
        return ""
    name = getattr(recipe.model, "name", "")
    return f"`{name}` takes {taken}s, and `task: {recipe.task}` has {kind}s"


OF_A_TOKENIZER = ("tokenizer", "size", "min_count", "lowercase", "vectors")


def foreign_text(recipe: Recipe) -> str:
    """Name what is said of a tokenizer, where the network comes with its own."""
    if not isinstance(recipe.model, TransformersModel):
        return ""
    own = TextSpec()
    changed = (key for key in OF_A_TOKENIZER if getattr(recipe.text, key) != getattr(own, key))
    return next(changed, "")


def foreign_section(recipe: Recipe) -> str:
    """Name the section that was written down for another kind of sample."""
    kind = kind_of(recipe)
    sections = {
        "transforms": ("image", recipe.transforms == TransformsSpec()),
        "augment": ("image", recipe.augment == AugmentSpec()),
        "text": ("text", recipe.text == TextSpec()),
        "audio": ("audio", recipe.audio == AudioSpec()),
    }
    for name, (of_kind, is_default) in sections.items():
        if of_kind != kind and not is_default:
            return name
    return ""


def foreign_views(recipe: Recipe) -> str:
    """Say what is asked for samples of another kind, or where answers can't be averaged."""
    kind, views = kind_of(recipe), recipe.evaluate.views
    takes = {"speeds": "audio", "none": kind}.get(str(views), "image")
    if takes != kind:
        return f"`evaluate.views: {views}` is for {takes}s, and this task takes {kind}s"
    if views == "speeds" and recipe.task == "speech-recognition":
        return "`evaluate.views: speeds` averages answers, and letters come at other times then"
    if recipe.train.resolution and kind != "image":
        return f"`train.resolution` is for images, and this task takes {kind}s"
    return ""


def foreign_to_boxes(recipe: Recipe) -> str:
    """Name what has no meaning where an image's answers are boxes."""
    if predicted(recipe) != "boxes":
        return ""
    augment, found = recipe.augment, ""
    if augment.mixup or augment.cutmix:
        found = "`augment.mixup` and `cutmix` mix labels"
    elif augment.cutout:
        found = "`augment.cutout` may hide what a box is for"
    elif augment.flip == "alternating":
        found = "`augment.flip: alternating` isn't made for boxes"
    elif augment.translate and "padding" in augment.model_fields_set and augment.padding != "zero":
        found = "`augment.padding: reflect` would show things that have no box"
    elif recipe.train.resolution:
        found = "`train.resolution` changes the images and not their boxes"
    elif recipe.evaluate.views != "none":
        found = "`evaluate.views` averages labels"
    return found


def known_sides(recipe: Recipe) -> tuple[int, int] | None:
    """Return the height and width of the network's input, where the recipe alone decides them."""
    size = recipe.transforms.size
    if isinstance(size, tuple):
        return size
    if isinstance(size, int):
        return size, size
    if isinstance(recipe.model, InitModel):
        return None  # The model file's own.
    own = {DigitsData: 8, Cifar10Data: 32}.get(type(recipe.data))
    return (own, own) if own else None


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
    colour = recipe.transforms.colour
    if isinstance(recipe.model, InitModel):
        return False  # As the model file has it.
    return colour == "grey" or (colour == "auto" and isinstance(recipe.data, DigitsData))


def has_no_validation(recipe: Recipe) -> bool:
    """Say whether it is sure that nothing is held out; a folder may come with its own split."""
    return isinstance(recipe.data, DigitsData | Cifar10Data) and not recipe.data.split.val


def has_no_test(recipe: Recipe) -> bool:
    """Say whether it is sure that there is no test split."""
    return isinstance(recipe.data, DigitsData) and not recipe.data.split.test


def has_batch_norm(recipe: Recipe) -> bool:
    """Say whether it is sure that the network takes statistics of its batches."""
    model = model_of(recipe)
    return isinstance(model, ResnetModel | SpeednetModel | DetectorModel) or (
        isinstance(model, CnnModel) and model.batch_norm
    )


def part(recipe: Recipe) -> int:
    """Return how many samples the network sees at once."""
    train = recipe.train
    if isinstance(train.optimizer, GdOptimizer):
        return train.batch_size
    return train.batch_size // train.accumulate


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


def too_small_for_speednet(recipe: Recipe) -> str:
    """Name the size of images that `speednet` can't take."""
    side = smallest_known_side(recipe)
    is_small = isinstance(recipe.model, SpeednetModel) and side is not None and side < SPEEDNET_SIDE
    return f"{side}" if is_small else ""


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
    of = predicted(recipe)
    for name in recipe.targets:
        if METRICS[name].of and of not in METRICS[name].of:
            held = " and ".join(METRICS[name].of)
            own = ", ".join(f"`{key}`" for key, metric in METRICS.items() if of in metric.of)
            return f"`{name}` is a metric of {held}, and this task predicts {of}: {own}"
    return ""


def out_of_range(recipe: Recipe) -> str:
    """Name the first target of a share that no share can meet, or a percentage."""
    for name, target in recipe.targets.items():
        bound = parse_target(target)[1]
        if name in METRICS and METRICS[name].is_share and bound > 1:
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
    return next((f"`{name}`" for name in recipe.targets if name in TIMED), "")


def no_one_class(recipe: Recipe) -> str:
    """Say what samples have in place of one class each."""
    return "several" if recipe.has_label_sets else OF.get(recipe.task, "")


def settled_input(recipe: Recipe) -> str:
    """Name the first setting of how samples are read that a model file settles."""
    if not isinstance(recipe.model, InitModel):
        return ""
    names = [f"text.{name}" for name in TextSpec.model_fields if name != "vectors"]
    names += [f"sound.{name}" for name in AudioSpec.model_fields]
    return next((name for name in names if recipe.has_place(name)), "")


def threshold_target(recipe: Recipe) -> str:
    """Name the first target that needs a threshold."""
    return next((f"`{name}`" for name in recipe.targets if name in AT_THRESHOLD), "")


def has_no_column(recipe: Recipe) -> bool:
    """Say whether a source without columns is to be split by one."""
    bare = DigitsData | Cifar10Data | ArraysData | LabelledLinesData | ParallelTextData
    return isinstance(recipe.data, bare) and recipe.data.split.by != "stratified"


def foreign_order(recipe: Recipe) -> bool:
    """Say whether documents are to be split by anything but their order."""
    split = recipe.data.split
    if not isinstance(recipe.data, DocumentsData) or split.by == "stratified":
        return False
    return not (split.by == "time" and split.column == "order")


def foreign_split_column(recipe: Recipe) -> bool:
    """Say whether a folder is to be split by what only a table has."""
    split = recipe.data.split
    if not isinstance(recipe.data, FolderData) or split.by == "stratified":
        return False
    return not (split.by == "group" and split.column == "parent")


def falls(recipe: Recipe) -> bool:
    """Say whether the learning rate falls steadily to the end."""
    return not isinstance(recipe.train.schedule, ConstantSchedule | StepSchedule)
