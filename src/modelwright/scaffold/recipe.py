"""The recipe for some data: one builder for every task, from a list of sections.

A setting has a comment where its value is the user's to choose; the others are explained by
`modelwright config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modelwright.data import Prepared
from modelwright.kinds import InputKind, OutputKind
from modelwright.scaffold.document import Setting, section, write_document
from modelwright.scaffold.infer import CLASSIFICATION, Inferred
from modelwright.tasks import TASKS

_SPEEDNET_SIDE = 24
"""Below this side the third pooling of a speednet leaves too little."""
_MANY = 20_000
"""From so many training images on, a wider network pays."""
_BOXED_SIDES = (32, 160)
"""The smallest and the largest side that is written for images with boxes."""


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


def recipe_for(prepared: Prepared, inferred: Inferred, *, name: str) -> str:
    """Return a commented recipe for some data.

    Args:
        prepared: the data.
        inferred: what it is taken for.
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
        *_INPUT_SECTIONS[kind](prepared, advice),
        _model(prepared, advice),
        _train(prepared, advice, counts["train"]),
        _targets(prepared, inferred.task),
    ]
    return write_document(head, settings)


# -- how samples are read --------------------------------------------------------------------


def _images(prepared: Prepared, advice: Advice) -> list[Setting]:
    """Return the sections `transforms` and, where it is for the network too, `augment`."""
    height, width = prepared.image.height, prepared.image.width
    size = f"{height}" if height == width else f"[{height}, {width}]"
    if prepared.output_kind == OutputKind.BOXES:
        return _boxed_images(prepared)
    if not prepared.has_classes:
        return [Setting("transforms", f"{{size: {size}}}")]
    seen = "pixels fed to the network; larger sees more and takes longer"
    flip = "`random` mirrors images: for things that look the same from both sides"
    translate = str(max(min(height, width) // 16, 1))
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


def _boxed_images(prepared: Prepared) -> list[Setting]:
    train = prepared.rows["train"]
    sides = [prepared.store.numbers(side)[train] for side in ("height", "width")]
    size = str(int(np.clip(np.median(sides), *_BOXED_SIDES)))
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


def _texts(prepared: Prepared, advice: Advice) -> list[Setting]:
    max_length, meaning = advice.max_length
    return [Setting("text", (Setting("max_length", str(max_length), meaning),))]


def _recordings(prepared: Prepared, advice: Advice) -> list[Setting]:
    cut = "seconds; of longer recordings the end is cut off, and counted"
    return [Setting("audio", (Setting("max_seconds", "30.0", cut),))]


_INPUT_SECTIONS = {InputKind.IMAGE: _images, InputKind.TEXT: _texts, InputKind.AUDIO: _recordings}


# -- the network, and how it learns ----------------------------------------------------------


def _model(prepared: Prepared, advice: Advice) -> Setting:
    if prepared.input_kind != InputKind.IMAGE or not prepared.has_classes:
        return Setting("model", "auto", advice.model)
    if min(prepared.image.height, prepared.image.width) >= _SPEEDNET_SIDE:
        is_large = len(prepared.rows["train"]) >= _MANY
        widths = Setting("widths", "[64, 256, 256]" if is_large else "[32, 64, 128]")
        return Setting("model", (Setting("name", "speednet"), widths))
    blocks = ", ".join(f"{{filters: {filters}, convolutions: 2}}" for filters in (32, 64))
    return Setting("model", (Setting("name", "cnn"), Setting("blocks", f"[{blocks}]")))


def _train(prepared: Prepared, advice: Advice, samples: int) -> Setting:
    kind = prepared.input_kind
    usual = min(256, max(8, 2 ** ((samples // 20).bit_length() - 1))) if samples >= 20 else 8
    lr = advice.lr if isinstance(advice.lr, float) else advice.lr[kind]
    settings = [
        Setting("epochs", str(max(10, min(200, 200_000 // max(samples, 1))))),
        Setting(
            "budget",
            advice.budget,
            "wall-clock time of training, at most; the schedule ends by then",
        ),
        Setting("batch_size", str(advice.batch_size or usual)),
        *([] if advice.clip_norm is None else [Setting("clip_norm", f"{advice.clip_norm}")]),
        Setting("optimizer", f"{{name: adamw, lr: {lr}}}"),
        Setting("schedule", "{name: one-cycle}"),
    ]
    if advice.loss:
        sizes = [count for count in prepared.counts["train"] if count]
        weights = ", class_weights: balanced" if max(sizes) > 3 * min(sizes) else ""
        loss = f"{{name: cross-entropy, label_smoothing: 0.1{weights}}}"
        settings.append(Setting("loss", loss))
    return Setting("train", tuple(settings))


def _targets(prepared: Prepared, task: str) -> Setting:
    classes = len(prepared.labels)
    accuracy = round(min(max(2 / classes, 0.5), 0.8) if classes > 1 else 0.5, 2)
    metric, bound = TASKS[task, prepared.output_kind].goal
    if metric == "accuracy":
        bound = f">= {accuracy}"
    return Setting(
        "targets",
        (Setting(metric, f'"{bound}"'),),
        above="What must be reached; the run says for each whether it is met and whether that is "
        "proven.",
    )
