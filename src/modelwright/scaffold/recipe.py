"""The recipe for some data: one builder for every task, from a list of sections.

A setting has a comment where its value is the user's to choose; the others are explained by
`modelwright config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelwright.data import Prepared
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.targets import METRICS
from modelwright.scaffold.document import Setting, section, write_document
from modelwright.scaffold.inferred import CLASSIFICATION, Inferred
from modelwright.scaffold.plan import Proposal, TrainingDefaults
from modelwright.tasks import TASKS


@dataclass(frozen=True, slots=True)
class Advice:
    """What a recipe begins with for one kind of target."""

    seen: str
    """What the data is; it takes `samples`, how many `classes`, and the `labels`."""
    lr: Mapping[InputKind, float] | float = 0.002
    budget: str = "10m"
    batch_size: int | None = None
    """Where it doesn't go by the number of samples."""
    clip_norm: float | None = None
    loss: bool = False
    """Whether the loss has settings that are worth knowing."""
    model: str = "or one that `modelwright config` lists"
    """What else `model: auto` may be."""
    max_length: tuple[int, str] = (512, "tokens; of longer texts the end is cut off, and counted")
    """How long texts may be, and what becomes of longer ones."""


GAIN = "gain_over_simple"
"""The metric that a model is to reach where there are simple methods."""
_OWN_SETTINGS = "with settings that `modelwright config` lists"
ADVICE: dict[OutputKind, Advice] = {
    OutputKind.SINGLE_LABEL: Advice(
        "{samples}, {classes} classes",
        lr={InputKind.IMAGE: 0.002, InputKind.TEXT: 0.01, InputKind.AUDIO: 0.002},
        loss=True,
    ),
    OutputKind.MULTI_LABEL: Advice("{samples} with any number of {classes} labels", lr=0.01),
    OutputKind.REGRESSION: Advice("{samples}, {labels}"),
    OutputKind.CTC: Advice(
        "{samples} with their texts, in {classes} different characters",
        model=f"or `conv-ctc` and `rnn-ctc` {_OWN_SETTINGS}",
    ),
    OutputKind.SEQ2SEQ: Advice(
        "{samples}",
        lr=0.001,
        budget="20m",
        clip_norm=1.0,
        max_length=(256, "tokens; of longer texts the end is cut off, and counted"),
    ),
    OutputKind.CAUSAL_LM: Advice(
        "{samples}",
        budget="20m",
        clip_norm=1.0,
        max_length=(256, "tokens that it sees at once"),
    ),
    OutputKind.BOXES: Advice(
        "{samples}, boxes of {classes} classes",
        budget="20m",
        batch_size=16,
        clip_norm=5.0,
        model=f"or `detector` {_OWN_SETTINGS}",
    ),
}


def usual_training(prepared: Prepared) -> TrainingDefaults:
    """Return what training begins with for some data, whatever the network."""
    advice = ADVICE[prepared.output_kind]
    lr = advice.lr if isinstance(advice.lr, float) else advice.lr[prepared.input_kind]
    return TrainingDefaults(advice.budget, lr, advice.batch_size, advice.model)


def recipe_for(prepared: Prepared, inferred: Inferred, proposal: Proposal, *, name: str) -> str:
    """Return a commented recipe for some data.

    Args:
        prepared: the data.
        inferred: what it is taken for.
        proposal: the network, the size of images and the time of training.
        name: the recipe's file.
    """
    advice, kind = ADVICE[prepared.output_kind], prepared.input_kind
    counts = {split: sum(of_class) for split, of_class in prepared.counts.items()}
    seen = advice.seen.format(
        samples=f"{sum(counts.values()):,} {kind.plural}",
        classes=f"{len(prepared.labels):,}",
        labels=", ".join(prepared.labels),
    )
    head = [
        f"Written by `modelwright new` from what it saw in the data: {seen}.",
        f"`modelwright config {name}` shows every other setting with its default.",
        *inferred.choices,
    ]
    is_usual = inferred.task == CLASSIFICATION[InputKind.IMAGE]  # The default of `task`.
    settings = [
        Setting("version", "1"),
        *([] if is_usual else [Setting("task", inferred.task)]),
        section("data", inferred.data),
        *_INPUT_SECTIONS[kind](prepared, advice, proposal),
        proposal.model,
        _train(prepared, advice, proposal),
        _targets(prepared, inferred.task),
    ]
    return write_document(head, settings)


# -- how samples are read --------------------------------------------------------------------


def _images(prepared: Prepared, advice: Advice, proposal: Proposal) -> list[Setting]:
    """Return the sections `transforms` and, where it is for the network too, `augment`."""
    side = proposal.side
    assert side is not None
    size = str(list(side)) if isinstance(side, tuple) else str(side)
    if prepared.output_kind == OutputKind.BOXES:
        return _boxed_images(size)
    if not prepared.has_classes:
        return [Setting("transforms", f"{{size: {size}}}")]
    seen = "pixels fed to the network; larger sees more and takes longer"
    flip = "`random` mirrors images: for things that look the same from both sides"
    translate = str(max((min(side) if isinstance(side, tuple) else side) // 16, 1))
    return [
        Setting("transforms", (Setting("size", size, seen),)),
        Setting(
            "augment",
            (
                Setting("flip", "none", flip),
                Setting("translate", translate),
            ),
        ),
    ]


def _boxed_images(size: str) -> list[Setting]:
    seen = "pixels fed to the network; more see smaller things and take longer"
    flip = "`random` mirrors images: for things that look the same from both sides"
    return [
        Setting(
            "transforms",
            (
                Setting("size", size, seen),
                Setting("resize", "letterbox"),
            ),
        ),
        Setting(
            "augment",
            (
                Setting("flip", "none", flip),
                Setting("crop", "{scale: [0.4, 1.0]}"),
            ),
        ),
    ]


def _texts(prepared: Prepared, advice: Advice, proposal: Proposal) -> list[Setting]:
    max_length, meaning = advice.max_length
    return [Setting("text", (Setting("max_length", str(max_length), meaning),))]


def length_settings(kind: OutputKind) -> list[Setting]:
    """Return the section that decides how texts are cut, for data that isn't prepared yet."""
    if not kind.is_generative:
        return []
    return [section("text", {"max_length": ADVICE[kind].max_length[0]})]


def _recordings(prepared: Prepared, advice: Advice, proposal: Proposal) -> list[Setting]:
    cut = "seconds; of longer recordings the end is cut off, and counted"
    return [Setting("audio", (Setting("max_seconds", "30.0", cut),))]


_INPUT_SECTIONS = {InputKind.IMAGE: _images, InputKind.TEXT: _texts, InputKind.AUDIO: _recordings}


# -- how the network learns, and what it must reach ------------------------------------------


def _train(prepared: Prepared, advice: Advice, proposal: Proposal) -> Setting:
    settings = [
        Setting("epochs", str(proposal.epochs)),
        Setting(
            "budget",
            proposal.budget,
            "wall-clock time of training, at most; the schedule ends by then",
        ),
        Setting("batch_size", str(proposal.batch_size)),
        *([] if advice.clip_norm is None else [Setting("clip_norm", f"{advice.clip_norm}")]),
        Setting("optimizer", f"{{name: adamw, lr: {proposal.lr}}}"),
        *(
            []
            if proposal.layer_decay is None
            else [Setting("layer_decay", f"{proposal.layer_decay}")]
        ),
        Setting("schedule", "{name: one-cycle}"),
    ]
    if advice.loss:
        sizes = [count for count in prepared.counts["train"] if count]
        weights = ", class_weights: balanced" if max(sizes) > 3 * min(sizes) else ""
        loss = f"{{name: cross-entropy, label_smoothing: 0.1{weights}}}"
        settings.append(Setting("loss", loss))
    return Setting("train", tuple(settings))


def _targets(prepared: Prepared, task: str) -> Setting:
    metric, bound = TASKS[task, prepared.output_kind].goal
    above = (
        "What must be reached; the run says for each whether it is met and whether that is proven."
    )
    if prepared.output_kind in METRICS[GAIN].outputs:
        metric, bound = GAIN, ">= 0"
        above = "The model must be at least as good as the best simple method on the same samples."
    return Setting("targets", (Setting(metric, f'"{bound}"'),), above=above)
