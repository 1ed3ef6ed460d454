"""From a recipe's section `data` to splits of what a network takes, audited and described."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.audit import AuditReport, Finding, audit, listed
from modelwright.data.dataset import Dataset, Inputs, Split, taken
from modelwright.data.encoding import Input, encode, fit_audio, fit_text
from modelwright.data.labels import LABELLED, about_unknown, read_boxes
from modelwright.data.listing import Kind
from modelwright.data.multi_label import read_labels, renamed, strata
from modelwright.data.sources import kind_of, list_like, list_source
from modelwright.data.splits import draw_splits, limited, root, write_splits
from modelwright.data.store import Store, open_store
from modelwright.data.targets import Windows, build_targets
from modelwright.errors import DataError, RecipeError
from modelwright.recipe import Recipe
from modelwright.recipe.data import (
    DataSpec,
    TableData,
    TransformsSpec,
)
from modelwright.run import Observe, Progress
from modelwright.tasks import Target, task_of
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.text import TextInput

Rows = NDArray[np.int64]
LARGEST_AUTO_SIDE = 96
"""`transforms.size: auto` takes no more than this, which two cores can still train."""
SMALLEST_AUTO_SIDE = 8
_KEPT = ("resize", "interpolation", "background")
"""What stays as a model file has it when it is trained further."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe's data, ready to train on."""

    store: Store
    input: Input
    labels: tuple[str, ...]
    """Those of the training split."""
    rows: Mapping[str, Rows]
    """The rows of each split."""
    targets: Any
    """The class number of each row in its split, −1 where the row isn't used; its numbers `[N, D]`;
    or what `data.targets` makes of it."""
    inputs: Inputs
    """A row a sample of the store: pixels `[N, H, W, C]`, or token ids or recording samples."""
    report: AuditReport
    mean: tuple[float, ...] = ()
    """Of images: of each channel of the training split, pixels in 0…1."""
    std: tuple[float, ...] = ()
    kind: Target = "label"
    """What the targets are."""
    windows: Windows | None = None
    """Which rows of the inputs each sample gives, where one gives several."""
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By split, the labels that it has beyond those of the training split."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The pixels `[N, H, W, C]` of images."""
        assert isinstance(self.inputs, np.ndarray)
        return self.inputs

    @property
    def image(self) -> ImageInput:
        """How images are taken."""
        assert isinstance(self.input, ImageInput)
        return self.input

    def split(self, name: str) -> Split | None:
        """Return a split, or `None` where it is empty."""
        rows, texts = self.rows[name], None
        if self.windows is not None:
            rows = self.windows.of(rows)
            texts = self.windows.texts[rows]
        if not len(rows):
            return None
        pairs = _pairs(self.store, rows) if self.kind == "text" else None
        targets, unknown = taken(self.targets, rows), self.unknown.get(name, ())
        if self.kind == "labels":  # Splits have more or fewer labels beyond the model's.
            targets = targets[:, : len(self.labels) + len(unknown)]
        return Split(name, self.inputs, rows, targets, pairs, unknown, texts)

    def dataset(self) -> Dataset:
        """Return what training may see."""
        train = self.split("train")
        assert train is not None  # Drawing splits refuses an empty one.
        return Dataset(train, self.split("validation"), self.labels)

    def test(self) -> Split | None:
        """Return the test split."""
        return self.split("test")

    @property
    def has_classes(self) -> bool:
        """Whether each sample is of one class."""
        return self.kind == "label"

    @property
    def num_outputs(self) -> int:
        """How many numbers a network gives for each answer: classes, numbers, letters, tokens."""
        match self.kind:
            case "letters":
                return len(self.labels) + 1  # The blank.
            case "text" | "next":
                assert isinstance(self.input, TextInput)
                return self.input.tokenizer.size
            case _:
                return len(self.labels)

    def fingerprint(self, name: str) -> str:
        """Return the digest of a split's samples and targets, whatever their order."""
        rows = self.rows[name]
        if self.kind == "numbers":
            labels = [json.dumps(at) for at in self.targets[rows].tolist()]
        else:
            held = self.store.strings("label")
            labels = [held[row] for row in rows.tolist()]
        return root(self.store.fixed("content_digest")[rows], labels)

    @property
    def source(self) -> str:
        """The data in a few words."""
        return self.store.title

    @property
    def store_bytes(self) -> int:
        """Bytes of the store on disk."""
        return self.store.size_bytes

    @property
    def counts(self) -> dict[str, list[int]]:
        """Samples a class, of each split; of numbers, all samples as one."""
        return {
            name: np.bincount(self.targets[rows], minlength=len(self.labels)).tolist()
            if self.has_classes
            else [len(rows)]
            for name, rows in self.rows.items()
            if len(rows)
        }

    @property
    def record(self) -> dict[str, Any]:
        """What a model file says of its data: counts and roots, and nothing of single samples."""
        return {
            "source": self.source,
            "splits": {
                name: {"samples": sum(counts), "root": self.fingerprint(name)}
                for name, counts in self.counts.items()
            },
            **self._about_targets(),
            **({"mean": list(self.mean), "std": list(self.std)} if self.mean else {}),
        }

    def _about_targets(self) -> dict[str, Any]:
        if self.kind == "numbers":
            return {"numbers": list(self.labels)}
        if self.kind == "letters":
            return {"letters": "".join(self.labels)}
        if self.kind == "boxes":
            return {"classes": len(self.labels)}
        if self.kind == "labels":
            counts = self.dataset().train.targets.sum(axis=0).tolist()
            return {"classes": len(self.labels), "training_counts": counts}
        if self.kind in ("text", "next"):
            return {"vocabulary": self.num_outputs}
        few = len(self.labels) <= 1000
        return {
            "classes": len(self.labels),
            "training_counts": self.counts["train"] if few else None,
        }


def prepare(
    recipe: Recipe,
    *,
    base: Path,
    like: Input | None = None,
    run_folder: Path | None = None,
    observe: Observe,
) -> Prepared:
    """Build or open the store, split, audit, decode at training size, and take statistics.

    Args:
        recipe: what is asked.
        base: where the recipe's relative paths start.
        like: how the model file that training starts from takes samples, if there is one.
        run_folder: where `splits.parquet` goes; `None` writes nothing.
        observe: called with progress.

    Raises:
        DataError: the data can't be used, or identical samples stand in two splits.
        RecipeError: the transforms contradict the model file that training starts from.
        ResourceError: the disk is full.
    """
    spec = recipe.data
    target = task_of(recipe).target
    listing = list_source(spec, base=base, observe=observe, kind=kind_of(recipe), target=target)
    for note in listing.notes:
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, observe=observe)
    labels_by_row, keys = store.strings("label"), store.fixed("content_digest")
    usable = _usable(store)
    kept, note = _shares(labels_by_row, usable, target)
    given = store.strings("split")
    if note and spec.split.by == "stratified" and not {"validation", "test"} <= set(given):
        observe(Progress("note", 0, 0, note=note))
    splits = draw_splits(
        spec.split,
        rows=usable,
        given=given,
        labels=kept,
        extras=store.strings("extra"),
        keys=keys,
    )
    splits = {
        name: limited(rows, spec.limit, seed=spec.split.seed, keys=keys)
        for name, rows in splits.items()
    }
    _refuse_nothing_to_learn(labels_by_row, splits["train"], target, store)
    observe(Progress("audit", 0, 1))
    report = audit(store, splits, allow_leaks=spec.allow_leaks, target=target)
    observe(Progress("audit", 1, 1))
    _refuse_leaks(report, allowed=spec.allow_leaks)
    _say([finding for finding in report.findings if finding.severity == "warning"], observe)
    input = _input(recipe, store, splits["train"], like, observe)
    encoded = encode(store, input, observe=observe)
    names = spec.target_columns if isinstance(spec, TableData) else ()
    asked = build_targets(target, encoded, labels_by_row, splits, names=names)
    findings = [*_cut(encoded.cut, store, splits, target), *asked.findings]
    _say(findings, observe)
    report = replace(report, findings=(*report.findings, *findings))
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if isinstance(encoded.inputs, np.ndarray):
        mean, std = _statistics(recipe.transforms, encoded.inputs, splits["train"])
    if run_folder is not None:
        write_splits(
            run_folder / "splits.parquet",
            splits,
            origins=store.strings("origin"),
            labels=labels_by_row,
        )
    return Prepared(
        store=store,
        input=input,
        labels=asked.labels,
        rows=splits,
        targets=asked.targets,
        inputs=asked.inputs,
        report=report,
        mean=mean,
        std=std,
        kind=target,
        windows=asked.windows,
        unknown=asked.unknown,
    )


def _input(
    recipe: Recipe, store: Store, train: Rows, like: Input | None, observe: Observe
) -> Input:
    """Return how samples are taken: as a model file takes them, or fitted to the training split."""
    if like is None:
        match store.kind:
            case "image":
                return resolve_input(recipe.transforms, store, train)
            case "text":
                return fit_text(recipe.text, store, train, task_of(recipe).target)
            case "audio":
                return fit_audio(recipe.audio, store, train)
    if not isinstance(like, ImageInput):
        return like
    input = _input_like(like, recipe)
    shown = f"{input.height}×{input.width} pixels, {input.resize}, {input.interpolation}"
    note = f"Images are taken as the model file of `model.init` takes them: {shown}"
    observe(Progress("note", 0, 0, note=note))
    return input


def _say(findings: Sequence[Finding], observe: Observe) -> None:
    for finding in findings:
        observe(Progress("note", 0, 0, note=f"Data: {finding.message}"))


def _cut(
    all_cut: Rows, store: Store, splits: Mapping[str, Rows], target: Target
) -> Iterator[Finding]:
    """Yield how many samples are longer than what is taken of them."""
    if target == "next":  # A language model reads a text stretch by stretch.
        return
    key = f"{store.kind}.longest" + ("_s" if store.kind == "audio" else "")
    for name, rows in splits.items():
        cut = np.intersect1d(all_cut, rows)
        if len(cut):
            origins = store.strings("origin")
            yield Finding(
                kind="cut",
                severity="warning",
                rows=listed(cut.tolist(), origins),
                message=f"{len(cut):,} of {len(rows):,} {store.kind}s of the {name} split are "
                f"longer than `{key}` allows, and their ends are cut off; the first is "
                f"{origins[int(cut[0])]}",
                fix=f"Raise `{key}`, if what matters may stand at the end",
            )


def _shares(held: Sequence[str], usable: Rows, target: Target) -> tuple[Sequence[str], str]:
    """Return by what a split keeps the rows' shares, and what to say of it."""
    match target:
        case "label":
            return held, ""
        case "labels":
            return strata(held, usable)
        case "boxes":
            kept = [""] * len(held)
            for row in usable.tolist():
                kept[row] = "boxes" if read_boxes(held[row]).boxes else "none"
            return kept, ""
        case _:  # Only classes have shares that could be kept.
            return [""] * len(held), ""


def _usable(store: Store) -> Rows:
    broken = store.errors()
    usable = np.array([row for row in range(len(store)) if row not in broken], dtype=np.int64)
    if not len(usable):
        first = min(broken)
        raise DataError(
            f"none of the {len(store):,} {store.kind}s can be used",
            where=store.strings("origin")[first],
            why=broken[first],
            fix="Look at it; the paths in a table start from its folder",
        )
    return usable


def _refuse_nothing_to_learn(
    held: Sequence[str], train: Rows, target: Target, store: Store
) -> None:
    """Refuse a training split whose samples all want the same answer."""
    if target not in ("label", "labels", "numbers"):
        return
    kinds = {held[row] for row in train.tolist()}
    if target == "labels":
        _refuse_one_set(kinds, store.title)
        return
    if len(kinds) > 1:
        return
    (only,) = kinds
    if target == "numbers":
        raise DataError(
            f"all training samples have one target, {only}, so there is nothing to learn",
            where=store.title,
            fix="Look at `data.target_columns`: does it name the right column?",
        )
    raise DataError(
        f"all training samples have one label, `{only}`, so there is nothing to tell apart",
        where=store.title,
        fix="Give the training split at least two classes: for a folder, at least two folders of "
        f"{store.kind}s",
    )


def _refuse_one_set(kinds: set[str], title: str) -> None:
    """Refuse samples that all have the same labels, or none."""
    if len(kinds) > 1:
        return
    names = ", ".join(f"`{label}`" for label in read_labels(next(iter(kinds))))
    raise DataError(
        f"all training samples have the same labels, {names}, so there is nothing to tell apart"
        if names
        else "no training sample has a label, so there is nothing to learn",
        where=title,
        fix="Look at `data.label`: does it name the right column?",
    )


def _refuse_leaks(report: AuditReport, *, allowed: bool) -> None:
    leaks = report.leaks
    if not leaks or allowed:
        return
    raise DataError(
        leaks[0].message,
        where="data",
        why="What is measured on samples that were learned by heart is too good",
        fix="Take them out of one of the two, or write `data: {allow_leaks: true}` to go on; "
        "`modelwright check` lists them",
    )


def resolve_input(spec: TransformsSpec, store: Store, train: Rows) -> ImageInput:
    """Return how images become pixels, `auto` resolved by the training images."""
    grey = spec.color_mode == "grayscale" or (
        spec.color_mode == "auto" and bool(store.numbers("is_grey")[train].all())
    )
    if spec.size == "auto":
        height, width = _auto_size(store.numbers("height")[train], store.numbers("width")[train])
    elif isinstance(spec.size, tuple):
        height, width = spec.size
    else:
        height = width = spec.size
    return ImageInput(
        height=height,
        width=width,
        channels=1 if grey else 3,
        resize=spec.resize,
        interpolation=spec.interpolation,
        background=spec.background,
    )


def _input_like(like: ImageInput, recipe: Recipe) -> ImageInput:
    """Return how a model file takes images, at the size that the recipe asks for, if it does.

    Raises:
        RecipeError: the recipe asks for what the file's weights weren't trained on.
    """
    spec, colour = recipe.transforms, "rgb" if like.channels == 3 else "grey"
    own = {"colour": colour, **{key: getattr(like, key) for key in _KEPT}}
    for key, value in own.items():
        asked = getattr(spec, key)
        if asked not in (TransformsSpec.model_fields[key].default, value):
            raise RecipeError(
                f"`transforms.{key}` is `{asked}`, and the model file that training starts from "
                f"was trained with `{value}`",
                where=recipe.place_of(f"transforms.{key}"),
                fix=f"Leave `{key}` out: the file's own is taken",
            )
    match spec.size:
        case "auto":
            return like
        case (height, width):
            return replace(like, height=height, width=width)
        case side:
            return replace(like, height=side, width=side)


def _auto_size(heights: NDArray[np.int32], widths: NDArray[np.int32]) -> tuple[int, int]:
    """Return the images' own size where it is one and small, else a square near the median."""
    high, wide = int(np.median(heights)), int(np.median(widths))
    alike = bool((heights == high).all() and (widths == wide).all())
    if alike and min(high, wide) >= SMALLEST_AUTO_SIDE and max(high, wide) <= LARGEST_AUTO_SIDE:
        return high, wide
    side = min(max(min(high, wide), SMALLEST_AUTO_SIDE), LARGEST_AUTO_SIDE)
    return side, side


def _statistics(
    spec: TransformsSpec, pixels: NDArray[np.uint8], train: Rows
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel over the training split alone."""
    channels = pixels.shape[-1]
    if spec.normalize == "none":
        return (0.0,) * channels, (1.0,) * channels
    if spec.normalize == "half":
        return (0.5,) * channels, (0.5,) * channels
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(train), 4096):
        block = pixels[train[start : start + 4096]]
        for channel in range(channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts * values).sum(axis=1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    deviation = np.sqrt(variance)
    # A channel that never changes has nothing to scale.
    deviation[deviation < 1e-6] = 1.0
    return tuple(mean.tolist()), tuple(deviation.tolist())


def labelled_split(
    path: Path,
    *,
    input: Input,
    labels: Sequence[str],
    observe: Observe,
    like: DataSpec | None = None,
    target: Target = "label",
) -> tuple[Split, str]:
    """Return labelled data as a split for an existing model, and its fingerprint.

    A folder's or table's test part is taken where it has one, else all of it.

    Args:
        path: a folder of class folders, a table, or CIFAR-10's folder or archive; or the name of a
            known source, `digits` or `cifar10`.
        input: how the model takes its samples.
        labels: the model's labels.
        observe: called with progress.
        target: what is wanted; numbers are called as the model's labels.
        like: the section `data` that the model was made from: a table's columns are taken to be
            called as there, and labels to be renamed so.

    Raises:
        DataError: the data can't be used, or has no label that the model knows.
    """
    names = tuple(labels)
    listing = list_like(
        path, kind=KINDS[type(input)], like=like, observe=observe, target=target, names=names
    )
    if not any(listing.splits) and listing.title == "digits":
        note = "All of `digits` is measured, images that a model was trained on among them"
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, observe=observe)
    given, held = np.array(store.strings("split")), store.strings("label")
    if like is not None and target in ("label", "labels", "letters"):
        held = [renamed(label, like.rename, target) for label in held]
    broken = store.errors()
    chosen = given == "test" if (given == "test").any() else np.ones(len(store), dtype=bool)
    rows = np.array([row for row in np.flatnonzero(chosen) if row not in broken], dtype=np.int64)
    if not len(rows):
        raise DataError(f"there is no {store.kind} that can be used", where=str(path))
    if broken:
        note = f"{len(broken):,} {store.kind}s can't be used and are left out"
        observe(Progress("note", 0, 0, note=note))
    encoded = encode(store, input, observe=observe)
    _say([*_cut(encoded.cut, store, {"test": rows}, target)], observe)
    mark = root(store.fixed("content_digest")[rows], [held[row] for row in rows.tolist()])
    asked = build_targets(
        target, encoded, held, {"test": rows}, names=names, known=names, where=str(path)
    )
    _say(asked.findings, observe)
    if target in LABELLED:
        note = about_unknown(target, held, {"test": rows}, names, store.kind)
        if note:
            observe(Progress("note", 0, 0, note=note))
    texts = None
    if asked.windows is not None:
        rows = asked.windows.of(rows)
        texts = asked.windows.texts[rows]
    pairs = _pairs(store, rows) if target == "text" else None
    targets, unknown = taken(asked.targets, rows), asked.unknown.get("test", ())
    return Split("test", asked.inputs, rows, targets, pairs, unknown, texts), mark


def _pairs(store: Store, rows: Rows) -> Callable[[], tuple[list[str], list[str]]]:
    """Return a function that reads the texts of rows, and those that are wanted for them."""

    def read() -> tuple[list[str], list[str]]:
        held = store.strings("label")
        return [store.original(row).decode() for row in rows.tolist()], [held[row] for row in rows]

    return read


KINDS: dict[type[Input], Kind] = {ImageInput: "image", TextInput: "text", AudioInput: "audio"}
"""What the samples of each input are."""
