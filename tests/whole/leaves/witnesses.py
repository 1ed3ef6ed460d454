"""For each setting of the recipe two values, and at which depth their recipes come to other things.

A recipe is one of `BASES` with some settings laid over (`given`); the witness lays one more over.
The setting that tells a section from its siblings (`name`, `source`, `init`) is exchanged with the
whole section: its value is another section.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRAIN = {"epochs": 2, "batch_size": 8, "precision": "fp32", "compile": "off", "select": "last"}
COMMON = {
    "version": 1,
    "train": TRAIN,
    "evaluate": {"baselines": False, "latency": False},
    "resources": {"threads": 1},
}


def _base(task: str, data: Mapping[str, Any], model: Any, **others: Any) -> dict[str, Any]:
    common = {**COMMON, "task": task}
    if task == "speech-recognition":  # No simple method writes down what is said.
        common["evaluate"] = {"latency": False}
    return {**common, "data": dict(data), "model": model, **others}


PHOTOS, CELLS = {"source": "folder", "path": "photos"}, {"source": "table", "path": "photos.csv"}
TEXTS = {"source": "table", "path": "texts.csv"}
SOUNDS, SPOKEN = {"source": "folder", "path": "sounds"}, {"source": "table", "path": "sounds.csv"}
SPOKEN = {**SPOKEN, "label": "said"}
MLP, CNN = {"name": "mlp", "hidden": [6]}, {"name": "cnn", "blocks": [{"filters": 4}], "head": [6]}
RESNET = {"name": "resnet", "width": 0.25}
BOW = {"name": "bow", "width": 4, "buckets": 64}
AUDIO_CNN = {"name": "audio-cnn", "widths": [4]}
CONV_CTC = {"name": "conv-ctc", "channels": 2, "width": 6, "layers": 1, "kernel": 3}
RNN_CTC = {"name": "rnn-ctc", "channels": 2, "hidden": 6, "layers": 1}
DETECTOR = {"name": "detector", "widths": [4, 6], "neck": 4}
DECODER = {"name": "decoder", "width": 16, "layers": 1, "heads": 2}
SEQ2SEQ = {"name": "seq2seq", "width": 8, "layers": 1, "heads": 2}
STORY = {"source": "documents", "path": "story"}
PAIRS = {"source": "parallel_text", "path": "train.en", "target": "train.de"}
ROWS = {
    "source": "boxes",
    "path": "rows.csv",
    "box_columns": ["x1", "y1", "x2", "y2"],
    "split_column": "split",
}
LINES = {"source": "labelled_lines", "path": "lines.txt"}
LONE = {"augment": {"time_masks": 0, "freq_masks": 0, "waveform": False}}
"""No variation, so that nothing else in training is drawn."""

CLASSES, TEXT_CLASSES = "image-classification", "text-classification"
BASES: dict[str, dict[str, Any]] = {
    "digits": _base(CLASSES, {"source": "digits", "limit": 60}, MLP),
    "photos": _base(CLASSES, PHOTOS, MLP),
    "split photos": _base(CLASSES, {"source": "folder", "path": "split", "leaks": "allow"}, MLP),
    "photo table": _base(CLASSES, CELLS, MLP),
    "leaky table": _base(
        CLASSES,
        {"source": "table", "path": "leaky.csv", "split_column": "split", "leaks": "allow"},
        MLP,
    ),
    "several": _base(CLASSES, {**CELLS, "label": "several", "multi_label": True}, MLP),
    "labels": _base(CLASSES, {**PHOTOS, "labels": "labels.csv"}, MLP),
    "scores": _base("regression", {**CELLS, "target_columns": ["score"]}, MLP),
    "cifar": _base(CLASSES, {"source": "cifar10", "path": "cifar", "leaks": "allow"}, MLP),
    "archive": _base(CLASSES, {"source": "arrays", "path": "digits.npz"}, MLP),
    "parts": _base(CLASSES, {"source": "arrays", "path": "parted.npz", "leaks": "allow"}, MLP),
    "cnn": _base(CLASSES, PHOTOS, CNN),
    "resnet": _base(CLASSES, PHOTOS, RESNET),
    "speednet": _base(CLASSES, PHOTOS, {"name": "speednet", "widths": [4, 4, 4]}),
    "published": _base(CLASSES, PHOTOS, {"name": "efficientnet-lite0"}, transforms={"size": 32}),
    "texts": _base(TEXT_CLASSES, TEXTS, BOW),
    "lines": _base(TEXT_CLASSES, LINES, BOW),
    "leaky lines": _base(
        TEXT_CLASSES, {**LINES, "val": "more.txt", "test": "leak.txt", "leaks": "allow"}, BOW
    ),
    "notes": _base(TEXT_CLASSES, {"source": "folder", "path": "notes", "encoding": "cp1252"}, BOW),
    "text scores": _base("regression", {**CELLS, "input_kind": "text"}, "auto"),
    "linear": _base(TEXT_CLASSES, TEXTS, {"name": "linear", "C": 1.0}, train={}),
    "sounds": _base("audio-classification", SOUNDS, AUDIO_CNN, audio={"n_mels": 16}, **LONE),
    "sound table": _base(
        "audio-classification", {"source": "table", "path": "sounds.csv"}, AUDIO_CNN
    ),
    "raw sounds": _base(
        "audio-classification",
        {"source": "table", "path": "raw.parquet", "sampling_rate": 4000},
        AUDIO_CNN,
    ),
    "speech": _base("speech-recognition", SPOKEN, CONV_CTC, audio={"n_mels": 16}, **LONE),
    "story": _base("language-modeling", STORY, DECODER, text={"max_length": 16}),
    "echo": _base(
        "language-modeling",
        {**STORY, "val": "saga", "test": "echo", "leaks": "allow"},
        DECODER,
        text={"max_length": 16},
    ),
    "pairs": _base("translation", PAIRS, SEQ2SEQ),
    "double": _base(
        "translation",
        {**PAIRS, "val": ["dev.en", "dev.de"], "test": ["double.en", "double.de"]}
        | {"leaks": "allow"},
        SEQ2SEQ,
    ),
    "rows": _base("object-detection", ROWS, DETECTOR),
    "cells": _base("object-detection", {"source": "boxes", "path": "cells.csv"}, DETECTOR),
    "coco": _base(
        "object-detection", {"source": "boxes", "path": "coco.json", "images": "scenes"}, DETECTOR
    ),
}
"""The recipes from which the witnesses start."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A setting, what it is set to, and at which depth that shows."""

    path: str
    value: Any
    base: str
    effect: str
    given: Mapping[str, Any] = field(default_factory=dict)
    """What is laid over the base, on both sides."""
    refused: str = ""
    """What the refusal says, where another value is refused."""
    needs: str = ""
    """What must be installed or stood in for."""
    only: tuple[str, ...] = ()
    """The effects that count, by name; all where none is named."""

    def documents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the recipe before and after."""
        before = copy.deepcopy(BASES[self.base])
        for path, value in self.given.items():
            put(before, path, value)
        after = copy.deepcopy(before)
        section, _, key = self.path.rpartition(".")
        is_exchanged = key in ("name", "source")
        put(after, section if is_exchanged else self.path, self.value)
        return before, after


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a dotted path; a number is a place in a list."""
    *sections, key = path.split(".")
    held: Any = document
    for name in sections:
        if isinstance(held, list):
            held = held[int(name)]
        else:
            held[name] = copy.deepcopy(held.get(name, {}))
            held = held[name]
    held[int(key) if isinstance(held, list) else key] = copy.deepcopy(value)


def _all(effect: str, base: str, settings: Mapping[str, Any], **options: Any) -> list[Witness]:
    """Return a witness for each setting, `model.width: 8`, of one base at one depth."""
    return [Witness(path, value, base, effect, **options) for path, value in settings.items()]


def _one(
    effect: str, base: str, path: str, value: Any, given: Mapping[str, Any] = {}, **options: Any
) -> list[Witness]:
    return [Witness(path, value, base, effect, given, **options)]


STEPS = {"train.optimizer": {"name": "sgd", "lr": 0.05}}
TAIL = {"name": "muon", "lr": 0.02}
RNN = {"name": "rnn", "width": 6, "hidden": 6, "cell": "gru", "layers": 1}

OTHER = "is for predicting"
RECIPE = [
    *_one("prepared", "digits", "version", 2, refused="version"),
    *_one("prepared", "photo table", "task", "regression"),
    *_one("prepared", "digits", "resources.identity", ["env:NOWHERE"], refused="site"),
    *[
        witness
        for base in (
            *("digits", "photos", "cifar", "archive", "photo table", "lines", "story", "pairs"),
            "rows",
        )
        for witness in _one("prepared", base, "data.sealed", True, refused="sealed")
    ],
    *_one("network", "photos", "model", "auto"),
    *_one("measured", "digits", "targets", {"accuracy": ">= 0.9"}, only=("verdicts",)),
    *_one("network", "photos", "seed", 1),
    *_one("network", "digits", "resources.device", "cuda", refused="no GPU"),
    *_one("network", "digits", "resources.threads", 2, only=("threads",)),
    *_all("measured", "digits", {"evaluate.baselines": True, "evaluate.latency": True}),
    *_one("measured", "digits", "evaluate.profile", "host.json", refused="no `host.json`"),
]

SPLITS = [
    *_all(
        "prepared",
        "photo table",
        {"data.split.val": 0.3, "data.split.test": 9, "data.split.seed": 1},
    ),
    *_one(
        "prepared",
        "photo table",
        "data.split.by",
        "time",
        {"data.split": {"by": "group", "column": "score"}},
    ),
    *_one(
        "prepared",
        "photo table",
        "data.split.column",
        "time",
        {"data.split": {"by": "time", "column": "score"}},
    ),
]

ALL_SOURCES = {
    "digits": ("digits", "digits", {"0": "zero"}),
    "cifar": ("cifar", "cifar", {"cat": "tiger"}),
    "photos": ("photos", "split photos", {"a": "first"}),
    "photo table": ("photo table", "leaky table", {"a": "first"}),
    "lines": ("lines", "leaky lines", {"good": "fine"}),
    "story": ("story", "echo", {}),
    "pairs": ("pairs", "double", {}),
    "rows": ("rows", "rows", {"disc": "ball"}),
    "archive": ("archive", "parts", {"1": "one"}),
}
DATA = [
    *(Witness("data.limit", 4, base, "prepared") for base, _, _ in ALL_SOURCES.values()),
    *(
        Witness("data.leaks", "drop_from_train", base, "prepared")
        for _, base, _ in ALL_SOURCES.values()
        if base not in ("digits", "rows")
    ),
    *_one("prepared", "digits", "data.leaks", "allow", refused="no effect"),
    *_one(
        "prepared",
        "rows",
        "data.leaks",
        "drop_from_train",
        {"data.path": "echoes.csv", "data.leaks": "allow"},
    ),
    *(
        Witness("data.rename", names, base, "prepared")
        for base, _, names in ALL_SOURCES.values()
        if names
    ),
    *_all("prepared", "story", {"data.rename": {"a": "b"}}, refused=OTHER),
    *_all("prepared", "pairs", {"data.rename": {"a": "b"}}, refused=OTHER),
    # Which source
    *_one("prepared", "digits", "data.source", PHOTOS),
    *_one("prepared", "cifar", "data.source", PHOTOS),
    *_one("prepared", "photos", "data.source", CELLS),
    *_one("prepared", "photo table", "data.source", {"source": "digits", "limit": 60}),
    *_one("prepared", "lines", "data.source", TEXTS),
    *_one("prepared", "story", "data.source", {**TEXTS, "text": "end"}),
    *_one("prepared", "pairs", "data.source", TEXTS),
    *_one("prepared", "rows", "data.source", PHOTOS, refused="boxes"),
    *_one("prepared", "archive", "data.source", PHOTOS),
    # Where they are
    *_all("prepared", "cifar", {"data.path": "rafic"}),
    *_all("prepared", "photos", {"data.path": "others"}),
    *_all("prepared", "photo table", {"data.path": "fewer.csv"}),
    *_all("prepared", "lines", {"data.path": "others.txt"}),
    *_all("prepared", "leaky lines", {"data.val": "least.txt", "data.test": "least.txt"}),
    *_all("prepared", "story", {"data.path": "tale"}),
    *_all("prepared", "echo", {"data.val": "myth", "data.test": "myth"}),
    *_all("prepared", "pairs", {"data.target": "train.fr"}),
    *_one(
        "prepared", "pairs", "data.path", "short.en", {"data.target": "train.de"}, refused="line"
    ),
    *_all(
        "prepared",
        "double",
        {"data.val": ["exam.en", "exam.de"], "data.test": ["exam.en", "exam.de"]},
    ),
    *_one("prepared", "rows", "data.path", "echoes.csv", {"data.leaks": "allow"}),
    *_one("prepared", "archive", "data.path", "inverse.npz"),
    # Folders
    *_all("prepared", "labels", {"data.labels": "halves.csv"}),
    *_one("prepared", "photos", "data.label_pattern", "([a-z])[0-9]/", {"data.path": "flat"}),
    *_one("prepared", "notes", "data.encoding", "cp1253"),
    # Tables
    *_all("prepared", "photo table", {"data.image": "other", "data.label": "half"}),
    *_one("prepared", "photo table", "data.split_column", "split"),
    *_one("prepared", "photo table", "data.metadata_columns", ["half"]),
    *_one(
        "prepared",
        "photo table",
        "data.files",
        "others/*/{}.png",
        {"data.image": "stem", "data.files": "photos/*/{}.png"},
    ),
    *_one(
        "prepared",
        "photo table",
        "data.columns",
        ["-", "-", "image", "label", *"abcdefgh"],
        {
            "data.path": "headless.txt",
            "data.columns": ["image", "-", "-", "label", *"abcdefgh"],
        },
    ),
    *_all("prepared", "texts", {"data.text": "end"}),
    *_one(
        "prepared",
        "texts",
        "data.encoding",
        "cp1253",
        {"data.path": "latin.csv", "data.encoding": "cp1252"},
    ),
    *_all("prepared", "sound table", {"data.audio": "other"}),
    *_all("network", "raw sounds", {"data.sampling_rate": 8000}),
    *_one("prepared", "several", "data.multi_label", False),
    *_all("prepared", "several", {"data.separator": ";"}),
    *_all("prepared", "scores", {"data.target_columns": ["score", "depth"]}),
    *_all("prepared", "text scores", {"data.input_kind": "image"}),
    # Texts in files
    *_one(
        "prepared",
        "lines",
        "data.encoding",
        "cp1253",
        {"data.path": "lines.cp1252", "data.encoding": "cp1252"},
    ),
    *_one(
        "prepared",
        "story",
        "data.encoding",
        "cp1253",
        {"data.path": "runes", "data.encoding": "cp1252"},
    ),
    *_one(
        "prepared",
        "pairs",
        "data.encoding",
        "cp1253",
        {"data.path": "train.en.cp1252", "data.target": "train.de.cp1252"}
        | {"data.encoding": "cp1252"},
    ),
    # Boxes
    *_all("prepared", "coco", {"data.images": "dark"}),
    *_all(
        "prepared",
        "rows",
        {
            "data.image": "shade",
            "data.label": "kind",
            "data.box_format": "xywh",
            "data.box_columns": ["y1", "x1", "y2", "x2"],
            "data.split_column": None,
            "data.files": "dark/{}",
        },
    ),
    *_all("prepared", "cells", {"data.boxes": "narrow"}),
    *_one(
        "prepared",
        "rows",
        "data.columns",
        ["-", "image", "label", "-", "x1", "y1", "x2", "y2", "split"],
        {
            "data.path": "headless.csv",
            "data.columns": ["image", "-", "label", "-", "x1", "y1", "x2", "y2", "split"],
        },
    ),
    *_one(
        "prepared",
        "rows",
        "data.encoding",
        "cp1253",
        {"data.path": "rows.cp1252.csv", "data.encoding": "cp1252"},
    ),
]

PREPARATION = [
    *_all(
        "prepared",
        "photos",
        {
            "transforms.size": 8,
            "transforms.color_mode": "grayscale",
            "transforms.background": 200,
        },
    ),
    *_all(
        "prepared",
        "photos",
        {"transforms.interpolation": "nearest", "transforms.resize": "stretch"},
        given={"transforms.size": 8},
    ),
    *_all("network", "photos", {"transforms.normalize": "half"}),
    *_one("trained", "cnn", "augment.crop.scale", [0.2, 0.4], {"augment.crop": {}}),
    *_one("trained", "cnn", "augment.crop.ratio", [2.0, 3.0], {"augment.crop": {}}),
    *(
        Witness(
            f"augment.color_jitter.{name}",
            0.8,
            "photos",
            "trained",
            {"augment.color_jitter": jitter},
        )
        for name, jitter in (
            ("brightness", {"contrast": 0.1}),
            ("contrast", {"brightness": 0.1}),
            ("saturation", {"brightness": 0.1}),
        )
    ),
    *_all(
        "trained",
        "photos",
        {
            "augment.flip": "random",
            "augment.vertical_flip": True,
            "augment.translate": 2,
            "augment.crop": {},
            "augment.color_jitter": {"brightness": 0.5},
            "augment.cutout": 4,
            "augment.mixup": 0.5,
            "augment.cutmix": 0.5,
        },
    ),
    *_one("trained", "photos", "augment.padding", "zero", {"augment.translate": 2}),
    *_all(
        "network",
        "sounds",
        {"augment.time_masks": 2, "augment.freq_masks": 2, "augment.waveform": True},
        only=("outputs in training",),
    ),
    *_all(
        "prepared",
        "texts",
        {
            "text.tokenizer": "character",
            "text.vocab_size": 20,
            "text.min_count": 3,
            "text.lowercase": False,
            "text.max_length": 4,
        },
    ),
    *_one(
        "network",
        "texts",
        "text.vectors",
        "vectors2.txt",
        {"model.width": 8, "text.vectors": "vectors.txt"},
    ),
    *_all("prepared", "sounds", {"audio.sampling_rate": 2000, "audio.max_seconds": 0.3}),
    *_all("network", "sounds", {"audio.n_mels": 8, "audio.normalize": "peak"}),
]

BLOCK = "model.blocks.0"
SHAPES = [
    *_one("network", "photos", "model.name", CNN),
    *_all(
        "network",
        "photos",
        {"model.hidden": [5], "model.activation": "tanh", "model.dropout": 0.5},
    ),
    *_one("network", "cnn", "model.name", MLP),
    *_all(
        "network",
        "cnn",
        {
            "model.blocks": [{"filters": 4}, {"filters": 4}],
            f"{BLOCK}.filters": 5,
            f"{BLOCK}.convolutions": 2,
            f"{BLOCK}.kernel": 5,
            f"{BLOCK}.pool": 3,
            "model.pooling": "average",
            "model.head": [5],
            "model.batch_norm": False,
            "model.activation": "tanh",
            "model.dropout": 0.5,
        },
    ),
    *_one("network", "resnet", "model.name", MLP),
    *_all("network", "resnet", {"model.depth": 32, "model.width": 0.5}),
    *_one("network", "resnet", "model.stem", "large", {"model.depth": 18, "transforms.size": 32}),
    *_one("network", "speednet", "model.name", MLP),
    *_all(
        "network",
        "speednet",
        {"model.widths": [4, 4, 5], "model.whiten": False, "model.scale": 1.0},
    ),
    *_one("network", "published", "model.name", MLP, {"model.pretrained": False}),
    *_one("network", "published", "model.dropout", 0.6, {"model.pretrained": False}),
    *_one("network", "published", "model.pretrained", False, needs="weights"),
    *_one("network", "texts", "model.name", RNN),
    *_all(
        "network",
        "texts",
        {"model.width": 5, "model.ngrams": 3, "model.buckets": 32, "model.dropout": 0.5},
    ),
    *(
        witness
        for model, settings in (
            (
                {"name": "text-cnn", "width": 6, "filters": 4, "dropout": 0.1, "kernels": [2]},
                {"width": 5, "filters": 5, "kernels": [3], "dropout": 0.5},
            ),
            (
                RNN,
                {"cell": "lstm", "width": 5, "hidden": 5, "layers": 2, "bidirectional": False}
                | {"pooling": "mean", "dropout": 0.6},
            ),
            (
                {"name": "transformer", "width": 8, "layers": 1, "heads": 2},
                {"width": 4, "layers": 2, "heads": 4, "dropout": 0.5},
            ),
        )
        for witness in (
            *_one("network", "texts", "model.name", BOW, {"model": model}),
            *_all(
                "network",
                "texts",
                {f"model.{key}": value for key, value in settings.items()},
                given={"model": model},
            ),
        )
    ),
    *_one("network", "sound table", "model.name", {"name": "linear"}, {"train": {}}),
    *_all("network", "sounds", {"model.widths": [5], "model.dropout": 0.6}),
    *_one("network", "speech", "model.name", RNN_CTC),
    *_all(
        "network",
        "speech",
        {
            "model.channels": 3,
            "model.width": 5,
            "model.layers": 2,
            "model.kernel": 5,
            "model.stride": 4,
            "model.dropout": 0.6,
        },
    ),
    *_one("network", "speech", "model.name", CONV_CTC, {"model": RNN_CTC}),
    *_all(
        "network",
        "speech",
        {
            "model.channels": 3,
            "model.cell": "lstm",
            "model.hidden": 5,
            "model.layers": 2,
            "model.bidirectional": False,
            "model.stride": 4,
            "model.dropout": 0.6,
        },
        given={"model": RNN_CTC},
    ),
    *_one("network", "story", "model.name", "auto"),
    *_all(
        "network",
        "story",
        {
            "model.width": 8,
            "model.layers": 2,
            "model.heads": 1,
            "model.kv_heads": 1,
            "model.hidden": 12,
            "model.tied": False,
            "model.dropout": 0.5,
        },
    ),
    *_one("network", "pairs", "model.name", "auto"),
    *_all(
        "network",
        "pairs",
        {
            "model.kind": "gru",
            "model.width": 4,
            "model.layers": 2,
            "model.heads": 1,
            "model.dropout": 0.6,
        },
        given={"model.kind": "transformer", "model.heads": 4},
    ),
    *_one("network", "rows", "model.name", "auto"),
    *_all(
        "network",
        "rows",
        {"model.widths": [4, 6, 8], "model.depth": 2, "model.neck": 5},
    ),
    *_one(
        "network",
        "rows",
        "model.backbone",
        "efficientnet-lite0",
        {"model": {"name": "detector", "neck": 4}},
        needs="weights",
    ),
    *_one(
        "network",
        "rows",
        "model.pretrained",
        True,
        {
            "model": {"name": "detector", "neck": 4, "backbone": "efficientnet-lite0"}
            | {"pretrained": False}
        },
        needs="weights",
    ),
    # Linear models
    *_one("trained", "linear", "model.name", BOW),
    *_one("trained", "linear", "model.features", "minilm", needs="weights"),
    *_one("trained", "linear", "model.C", 0.01),
]

FOREIGN = [
    *_one("network", "texts", "model.name", BOW, {"model": {"name": "minilm"}}, needs="weights"),
    *_all(
        "network",
        "texts",
        {"model.pooling": "first", "model.dropout": 0.6, "model.adapters": {}},
        given={"model": {"name": "minilm"}},
        needs="weights",
    ),
    *_one(
        "network",
        "texts",
        "model.name",
        BOW,
        {"model": {"name": "transformers", "path": "encoder"}},
        needs="transformers",
    ),
    *_all(
        "network",
        "texts",
        {
            "model.path": "encoder2",
            "model.pooling": "mean",
            "model.dropout": 0.6,
            "model.adapters": {},
        },
        given={"model": {"name": "transformers", "path": "encoder"}},
        needs="transformers",
    ),
    *_one(
        "network",
        "texts",
        "model.hub",
        "org/other-bert",
        {"model": {"name": "transformers", "hub": "org/bert"}},
        needs="transformers hub",
    ),
    *_all(
        "trained",
        "texts",
        {
            "model.adapters.rank": 2,
            "model.adapters.alpha": 2.0,
            "model.adapters.match": ["*.query"],
        },
        given={"model": {"name": "transformers", "path": "encoder", "adapters": {}}},
        needs="transformers",
    ),
    *_one(
        "network",
        "photos",
        "model.name",
        MLP,
        {"model": {"name": "timm", "model": "tiny"}},
        needs="timm",
    ),
    *_one(
        "network",
        "photos",
        "model.model",
        "tiny_deep",
        {"model": {"name": "timm", "model": "tiny"}},
        needs="timm",
    ),
    *_all(
        "network",
        "photos",
        {"model.weights": "weights2", "model.adapters": {}},
        given={"model": {"name": "timm", "model": "tiny", "weights": "weights"}},
        needs="timm",
    ),
    *_one(
        "network",
        "photos",
        "model.hub",
        "org/other-net",
        {"model": {"name": "timm", "hub": "org/net"}},
        needs="timm hub",
    ),
    *_all(
        "network",
        "photos",
        {"model.init": "second.mw", "model.freeze": ["*hidden*"], "model.adapters": {}},
        given={"model": {"init": "first.mw"}},
        needs="file",
    ),
]

TRAINING = [
    *_all(
        "trained",
        "photos",
        {
            "train.epochs": 1,
            "train.batch_size": 4,
            "train.weight_decay": 0.5,
            "train.l1": 0.5,
            "train.l2": 0.5,
            "train.groups": [{"match": "*hidden*", "lr": 0.1}],
            "train.layer_decay": 0.5,
            "train.clip_norm": 0.01,
            "train.precision": "bf16",
            "train.checkpoint_every": "0.001s",
            "train.average": {"name": "ema", "decay": 0.5},
        },
    ),
    *_one(
        "trained",
        "photos",
        "train.budget",
        "0.1s",
        {"train.epochs": 400, "train.budget": "1h"},
        only=("epochs",),
    ),
    *_one("trained", "photos", "train.compile", "on"),
    *_one("trained", "cnn", "train.gradient_accumulation", 2),
    *_one("trained", "texts", "train.max_tokens_per_batch", 40),
    *_one("trained", "resnet", "train.resolution", [{"until": 0.5, "size": 8}]),
    *_one(
        "trained",
        "resnet",
        "train.resolution.0.until",
        0.9,
        {"train.resolution": [{"until": 0.5, "size": 8}]},
    ),
    *_one(
        "trained",
        "resnet",
        "train.resolution.0.size",
        6,
        {"train.resolution": [{"until": 0.5, "size": 8}]},
    ),
    *_one("trained", "photos", "train.loss", {"name": "cross-entropy", "label_smoothing": 0.2}),
    *_one(
        "trained",
        "photo table",
        "train.select",
        "best",
        {"data.label": "half", "train.epochs": 8},
        only=("weights",),
    ),
    *_one(
        "trained",
        "photos",
        "train.patience",
        1,
        {"train.epochs": 30, "train.optimizer": {"name": "sgd", "lr": 1e-9}},
        only=("epochs",),
    ),
    # Losses
    *_one(
        "trained",
        "photos",
        "train.loss.name",
        {"name": "mse"},
        {"train.loss": {"name": "cross-entropy"}},
        refused=OTHER,
    ),
    *_one(
        "trained",
        "photos",
        "train.loss.label_smoothing",
        0.3,
        {"train.loss": {"name": "cross-entropy"}},
    ),
    *_one(
        "trained",
        "photo table",
        "train.loss.class_weights",
        "balanced",
        {"train.loss": {"name": "cross-entropy"}, "data.label": "wide"},
    ),
    *_one(
        "trained",
        "several",
        "train.loss.name",
        {"name": "mse"},
        {"train.loss": {"name": "binary-cross-entropy"}},
        refused=OTHER,
    ),
    *_one(
        "trained", "scores", "train.loss.name", {"name": "huber"}, {"train.loss": {"name": "mse"}}
    ),
    *_one(
        "trained", "scores", "train.loss.name", {"name": "mse"}, {"train.loss": {"name": "huber"}}
    ),
    *_one("trained", "scores", "train.loss.delta", 0.1, {"train.loss": {"name": "huber"}}),
    *_one(
        "trained",
        "speech",
        "train.loss.name",
        {"name": "mse"},
        {"train.loss": {"name": "ctc"}},
        refused=OTHER,
    ),
    *_one(
        "trained",
        "rows",
        "train.loss.name",
        {"name": "mse"},
        {"train.loss": {"name": "detection"}},
        refused=OTHER,
    ),
    # Optimizers
    *_one(
        "trained",
        "photos",
        "train.optimizer.name",
        {"name": "sgd"},
        {"train.optimizer": {"name": "gd"}},
    ),
    *_one("trained", "photos", "train.optimizer.lr", 0.01, {"train.optimizer": {"name": "gd"}}),
    *_one("trained", "photos", "train.optimizer.name", {"name": "gd"}, STEPS),
    *_all(
        "trained",
        "photos",
        {
            "train.optimizer.lr": 0.01,
            "train.optimizer.momentum": 0.1,
            "train.optimizer.nesterov": False,
        },
        given=STEPS,
    ),
    *_one(
        "trained",
        "photos",
        "train.optimizer.name",
        {"name": "sgd"},
        {"train.optimizer": {"name": "adamw"}},
    ),
    *_all(
        "trained",
        "photos",
        {
            "train.optimizer.lr": 0.01,
            "train.optimizer.betas": [0.5, 0.9],
            "train.optimizer.eps": 0.1,
        },
        given={"train.optimizer": {"name": "adamw"}},
    ),
    *_one("trained", "photos", "train.optimizer.name", {"name": "sgd"}, {"train.optimizer": TAIL}),
    *_all(
        "trained",
        "photos",
        {"train.optimizer.lr": 0.01, "train.optimizer.momentum": 0.1, "train.optimizer.steps": 1},
        given={"train.optimizer": TAIL},
    ),
    # Schedules
    *(
        witness
        for name, settings in (
            ("constant", {"warmup": 0.5}),
            ("step", {"at": [0.2], "factor": 0.5, "warmup": 0.5}),
            ("cosine", {"final": 0.5, "warmup": 0.5}),
            ("one-cycle", {"start": 0.5, "peak": 0.6, "final": 0.5}),
            ("trapezoid", {"warmup": 0.5, "cooldown": 0.6, "final": 0.5}),
        )
        for witness in (
            *_one(
                "trained",
                "photos",
                "train.schedule.name",
                {"name": "constant" if name != "constant" else "cosine"},
                {"train.schedule": {"name": name}},
            ),
            *_all(
                "trained",
                "photos",
                {f"train.schedule.{key}": value for key, value in settings.items()},
                given={"train.schedule": {"name": name}},
            ),
        )
    ),
    # Groups
    *_all(
        "trained",
        "photos",
        {
            "train.groups.0.match": "*head*",
            "train.groups.0.lr": 0.1,
            "train.groups.0.until": 0.5,
            "train.groups.0.weight_decay": 0.5,
            "train.groups.0.l1": 0.5,
            "train.groups.0.l2": 0.5,
        },
        given={"train.groups": [{"match": "*hidden*", "lr": 0.5}]},
    ),
    *_one("trained", "photos", "train.unfreeze", {}, {"model": {"init": "first.mw"}}, needs="file"),
    *_all(
        "trained",
        "photos",
        {"train.unfreeze.at": 0.6, "train.unfreeze.lr": 1.0},
        given={"model": {"init": "first.mw"}, "train.unfreeze": {}},
        needs="file",
    ),
    # Averages
    *_one(
        "trained",
        "photos",
        "train.average.name",
        {"name": "look-ahead", "every": 2},
        {"train.average": {"name": "ema", "decay": 0.3}},
    ),
    *_one(
        "trained",
        "photos",
        "train.average.decay",
        0.2,
        {"train.average": {"name": "ema", "decay": 0.3}},
    ),
    *_one(
        "trained",
        "photos",
        "train.average.name",
        {"name": "ema"},
        {"train.average": {"name": "look-ahead", "every": 2}},
    ),
    *_all(
        "trained",
        "photos",
        {"train.average.every": 1, "train.average.decay": 0.1, "train.average.power": 0.0},
        given={"train.average": {"name": "look-ahead", "every": 2}},
    ),
]

INT8 = {"compress": [{"name": "quantize", "dtype": "int8", "samples": 20, "max_drop": 1.0}]}
FULL_RANGE = {"compress": [{"name": "quantize", "dtype": "int8", "reduce_range": False}]}
GROUPS = {"compress": [{"name": "quantize", "weights": "int4", "samples": 20, "max_drop": 9.0}]}
QAT = {"compress": [{**INT8["compress"][0], "qat": True, "epochs": 1}], "data.split.val": 0}
ZEROS = {"compress": [{"name": "prune", "sparsity": 0.9, "epochs": 1, "max_drop": 9.0}]}
CODES = {"name": "vector-quantize", "samples": 20, "epochs": 1, "max_drop": 9.0}
SHORT = {"compress": [{**CODES, "block_size": 4}]}
WIDE = {"model": {"name": "mlp", "hidden": [64]}}
NARROW = {
    "compress": [
        {"name": "prune", "kind": "structured", "multiply_adds": 0.6, "rounds": 1, "max_drop": 9.0}
    ]
}
COMPRESSION = [
    *_one("compressed", "cnn", "compress", INT8["compress"]),
    *_one("compressed", "cnn", "compress.0.name", ZEROS["compress"][0], INT8),
    *_one("compressed", "cnn", "compress.0.dtype", None, INT8, refused="give one of"),
    *_one("compressed", "cnn", "compress.0.qat", True, INT8),
    *_one("compressed", "cnn", "compress.0.epochs", 3, QAT),
    *_one("compressed", "cnn", "compress.0.ranges", "min-max", INT8),
    *_one("compressed", "cnn", "compress.0.samples", 1, INT8),
    *_one("compressed", "scores", "compress.0.max_drop", 0.0, {**WIDE, **GROUPS}, refused="worse"),
    *_one("compressed", "cnn", "compress.0.reduce_range", True, FULL_RANGE),
    *_one("compressed", "digits", "compress.0.weights", "int8", {**WIDE, **GROUPS}),
    *_one("compressed", "digits", "compress.0.group_size", 16, {**WIDE, **GROUPS}),
    *_one("compressed", "digits", "compress.0.name", INT8["compress"][0], {**WIDE, **ZEROS}),
    *_one("compressed", "digits", "compress.0.kind", "structured", ZEROS, refused="give one of"),
    *_one("compressed", "digits", "compress.0.multiply_adds", 0.3, {**WIDE, **NARROW}),
    *_one("compressed", "digits", "compress.0.scores", "activations", {**WIDE, **NARROW}),
    *_one("compressed", "digits", "compress.0.rounds", 2, {**WIDE, **NARROW}),
    *_one(
        "compressed",
        "digits",
        "compress.0.latency",
        0.5,
        {**WIDE, **NARROW},
        refused="give one of",
    ),
    *_one("compressed", "digits", "compress.0.sparsity", 0.3, ZEROS),
    *_one("compressed", "digits", "compress.0.epochs", 3, ZEROS),
    *_one("compressed", "scores", "compress.0.max_drop", 0.0, ZEROS, refused="worse"),
    *_one("compressed", "digits", "compress.0.name", ZEROS["compress"][0], {**WIDE, **SHORT}),
    *_one(
        "compressed",
        "digits",
        "compress.0.ratio",
        5.0,
        {**WIDE, "compress": [{**CODES, "ratio": 3.0}]},
    ),
    *_all(
        "compressed",
        "digits",
        {
            "compress.0.block_size": 6,
            "compress.0.codebook_size": 16,
            "compress.0.codebooks": 2,
            "compress.0.samples": 1,
            "compress.0.epochs": 2,
            "compress.0.lr": 0.01,
        },
        given={**WIDE, **SHORT},
    ),
    *_one(
        "compressed",
        "digits",
        "compress.0.permute",
        False,
        {**WIDE, "compress": [{**CODES, "block_size": 5, "codebook_size": 16}]},
    ),
    *_one(
        "compressed",
        "scores",
        "compress.0.max_drop",
        0.0,
        {**WIDE, "compress": [{**SHORT["compress"][0], "lr": 0.1}]},
        refused="worse",
    ),
]
TAUGHT = {"compress": [{"name": "distill", "student": {"name": "mlp", "hidden": [4]}, "epochs": 1}]}
BY_FILE = {"compress": [{"name": "distill", "teacher": "first.mw", "epochs": 1, "max_drop": 9.0}]}
BY_TEXTS = {"compress": [{"name": "distill", "student": {**BOW, "width": 3}, "epochs": 1}]}
DISTILLATION = [
    *_one("compressed", "cnn", "compress.0.name", ZEROS["compress"][0], TAUGHT),
    *_one("compressed", "photos", "compress.0.teacher", "second.mw", BY_FILE, needs="file"),
    *_one("compressed", "cnn", "compress.0.student", {"name": "mlp", "hidden": [5]}, TAUGHT),
    *_one("compressed", "cnn", "compress.0.kind", "features", TAUGHT),
    *_one("compressed", "cnn", "compress.0.temperature", 1.0, TAUGHT),
    *_one("compressed", "cnn", "compress.0.weight", 0.1, TAUGHT),
    *_one("compressed", "cnn", "compress.0.epochs", 3, TAUGHT),
    *_one("compressed", "scores", "compress.0.max_drop", 0.0, TAUGHT, refused="worse"),
    *_one("compressed", "photos", "data.unlabelled", "others", TAUGHT),
    *_one("compressed", "digits", "data.unlabelled", "others", TAUGHT),
    *_one("compressed", "cifar", "data.unlabelled", "others", TAUGHT),
    *_one("compressed", "archive", "data.unlabelled", "others", TAUGHT),
    *_one("compressed", "photo table", "data.unlabelled", "others", TAUGHT),
    *_one("compressed", "lines", "data.unlabelled", "texts.csv", BY_TEXTS),
]
SPEAK = {"inference.language_model": {"order": 3}}
WRITE = {"generate.max_new_tokens": 12}
BEAM = {"generate.max_new_tokens": 6, "text": {"tokenizer": "character", "vocab_size": 16}}
ANSWERS = [
    *_one("answered", "photos", "inference.tta", "flip"),
    *_one("answered", "speech", "inference.language_model", {"weight": 10.0}),
    *_one("answered", "speech", "inference.language_model.order", 1, SPEAK),
    *_one("answered", "speech", "inference.language_model.weight", 10.0, SPEAK),
    *_one("measured", "digits", "inference.calibration", "none", only=("temperature",)),
    *_one("measured", "digits", "inference.threshold", {"label": "0"}),
    *_one(
        "measured",
        "digits",
        "inference.threshold.label",
        "1",
        {"inference.threshold": {"label": "0"}},
    ),
    *_one(
        "measured",
        "digits",
        "inference.threshold.min_recall",
        0.2,
        {"inference.threshold": {"label": "0"}, "data.limit": 200, "data.split.val": 0.4},
        only=("threshold",),
    ),
    *_all(
        "answered",
        "pairs",
        {"generate.num_beams": 1, "generate.length_penalty": 10.0},
        given=BEAM,
    ),
    *_all(
        "answered",
        "story",
        {
            "generate.max_new_tokens": 5,
            "generate.temperature": 0.0,
            "generate.top_k": 1,
            "generate.top_p": 0.01,
            "generate.repetition_penalty": 50.0,
            "generate.stop": ["a", "e", "o", "t"],
            "generate.seed": 1,
        },
        given=WRITE,
    ),
]

WITNESSES = [
    *RECIPE,
    *SPLITS,
    *DATA,
    *PREPARATION,
    *SHAPES,
    *FOREIGN,
    *TRAINING,
    *COMPRESSION,
    *DISTILLATION,
    *ANSWERS,
]

TOKENS = {"tokenizer": "character", "vocab_size": 270, "min_count": 9, "max_length": 8}
FIGURES = {
    "transforms.size": 8,
    "transforms.resize": "stretch",
    "transforms.color_mode": "grayscale",
    "transforms.background": 200,
}
LINEAR = {"model": {"name": "linear", "C": 1.0}, "train": {}}
SOUND = {"audio.n_mels": 8, "audio.normalize": "bands"}
FURTHER = [
    # Other losses and kinds of target
    *(
        Witness(
            "train.loss.label_smoothing",
            0.3,
            base,
            "trained",
            {"train.loss": {"name": "cross-entropy"}},
        )
        for base in ("texts", "sounds", "story", "pairs")
    ),
    *(
        Witness(
            "train.loss.class_weights",
            "balanced",
            base,
            "trained",
            {"train.loss": {"name": "cross-entropy"}, "data": data, **given},
        )
        for base, data, given in (
            ("texts", {**CELLS, "label": "wide"}, {}),
            ("linear", {**CELLS, "label": "wide"}, {}),
        )
    ),
    # Boxes
    *_all(
        "trained",
        "rows",
        {
            "augment.flip": "random",
            "augment.vertical_flip": True,
            "augment.translate": 4,
            "augment.crop": {},
            "augment.color_jitter": {"brightness": 0.5},
            "train.weight_decay": 0.5,
            "train.clip_norm": 0.001,
            "train.layer_decay": 0.5,
            "train.gradient_accumulation": 2,
        },
    ),
    *_all(
        "network",
        "rows",
        {
            "transforms.size": 24,
            "transforms.color_mode": "grayscale",
            "transforms.normalize": "half",
        },
    ),
    *_all(
        "prepared",
        "rows",
        {
            "transforms.resize": "stretch",
            "transforms.interpolation": "nearest",
            "transforms.background": 9,
        },
        given={"transforms": {"size": [24, 16], "resize": "letterbox"}},
    ),
    # Linear models
    *_all("trained", "photos", FIGURES, given={**LINEAR, "transforms.size": 10}),
    *_all(
        "network",
        "sound table",
        {**SOUND, "audio.max_seconds": 0.3, "audio.sampling_rate": 2000},
        given=LINEAR,
    ),
    *_all("trained", "scores", {"model.C": 0.01}, given=LINEAR),
    *_all("trained", "several", {"model.C": 0.01}, given=LINEAR),
    *_one(
        "prepared",
        "linear",
        "text.max_length",
        8,
        {"model": {"name": "linear", "features": "minilm"}},
        needs="weights",
    ),
    # Recordings
    *_all("network", "speech", SOUND),
    *_all("network", "speech", SOUND, given={"model": RNN_CTC}),
    *_all("network", "sound table", SOUND),
    *_all(
        "network",
        "speech",
        {"augment.time_masks": 2, "augment.freq_masks": 2, "augment.waveform": True},
    ),
    *_all(
        "prepared", "speech", {"data.rename": {"ba": "boo"}, "data.limit": 4, "data.label": "label"}
    ),
    *_one("answered", "sounds", "inference.tta", "speeds"),
    # Texts
    *(
        Witness(f"text.{key}", value, base, "prepared")
        for base in ("story", "pairs")
        for key, value in TOKENS.items()
    ),
    *(Witness("text.lowercase", True, base, "prepared") for base in ("story", "pairs")),
    *_one(
        "network",
        "story",
        "text.vectors",
        "vectors2.txt",
        {"model.width": 8, "model.heads": 1, "text": {"tokenizer": "word"}},
    ),
    *_one("network", "pairs", "text.vectors", "vectors2.txt", {"text": {"tokenizer": "word"}}),
    *(Witness("train.max_tokens_per_batch", 60, base, "trained") for base in ("story", "pairs")),
    *_one("trained", "sounds", "train.max_tokens_per_batch", 5000),
    *(
        Witness(f"model.{key}", value, "pairs", "network", {"model.kind": "lstm", "model.heads": 4})
        for key, value in {"width": 4, "layers": 2, "dropout": 0.6}.items()
    ),
    *_all(
        "trained",
        "texts",
        {
            "train.weight_decay": 0.5,
            "train.l1": 0.5,
            "train.l2": 0.5,
            "train.clip_norm": 0.001,
            "train.layer_decay": 0.5,
            "train.precision": "bf16",
        },
    ),
    *_all(
        "trained",
        "photos",
        {
            "train.optimizer.rest": {"name": "adamw"},
            "train.optimizer.rest.lr": 0.001,
            "train.optimizer.rest.momentum": 0.1,
        },
        given={"train.optimizer": {**TAIL, "rest": {"name": "sgd", "lr": 0.05}}},
    ),
    *_all("trained", "photos", {"train.weight_decay": 0.5}, given={"train.optimizer": TAIL}),
    *_all(
        "trained",
        "texts",
        {"train.groups.0.weight_decay": 0.5, "train.groups.0.l1": 0.5, "train.groups.0.until": 0.5},
        given={"train.groups": [{"match": "embedding*", "lr": 0.5}]},
    ),
    *_one("trained", "speednet", "train.resolution", [{"until": 0.5, "size": 9}]),
    *_one("network", "digits", "transforms.normalize", "none"),
    *_one("network", "archive", "transforms.normalize", "none"),
]
"""More recipes in which some settings must do something too."""
