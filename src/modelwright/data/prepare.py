"""From a recipe's section `data` to splits of what a network takes, audited and described."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.arrays import list_arrays
from modelwright.data.audit import AuditReport, audit
from modelwright.data.boxed import list_boxes
from modelwright.data.cifar10 import list_cifar10
from modelwright.data.dataset import Dataset, Inputs, Split, taken
from modelwright.data.digits import list_digits
from modelwright.data.documents import list_documents
from modelwright.data.encoding import Encoded, Input, encode, fit_sound, fit_text
from modelwright.data.folder import list_folder
from modelwright.data.lines import list_lines
from modelwright.data.listing import Kind, Listing
from modelwright.data.pairs import list_pairs
from modelwright.data.ragged import Ragged
from modelwright.data.splits import draw_splits, limited, root, write_splits
from modelwright.data.store import Store, open_store
from modelwright.data.table import guess_table, is_table, is_table_folder, list_table
from modelwright.data.targets import (
    Windows,
    box_labels,
    box_targets,
    class_targets,
    letter_targets,
    letters_of,
    next_targets,
    number_targets,
    text_targets,
)
from modelwright.data.transcripts import list_transcripts
from modelwright.errors import DataError, RecipeError, nearest
from modelwright.files import json_digest
from modelwright.recipe import Recipe
from modelwright.recipe.data import (
    ArraysData,
    BoxesData,
    Cifar10Data,
    DataSpec,
    DigitsData,
    DocumentsData,
    FolderData,
    LinesData,
    PairsData,
    SplitSpec,
    TableData,
    TransformsSpec,
)
from modelwright.run import Observe, Progress
from modelwright.tasks import TASKS, Target
from modelwright.transforms import ImageInput
from modelwright.transforms.sound import SoundInput
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
    rows: Mapping[str, Rows]
    """The rows of each split."""
    targets: Any
    """The class number of each row, −1 where the row isn't used; its numbers `[N, D]`; or what
    `data.targets` makes of it."""
    inputs: Inputs
    """A row a sample of the store: pixels `[N, H, W, C]`, or token ids or sound samples."""
    report: AuditReport
    mean: tuple[float, ...] = ()
    """Of images: of each channel of the training split, pixels in 0…1."""
    std: tuple[float, ...] = ()
    kind: Target = "label"
    """What the targets are."""
    windows: Windows | None = None
    """Which rows of the inputs each sample gives, where one gives several."""

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
        rows = self.rows[name]
        if self.windows is not None:
            rows = self.windows.of(rows)
        if not len(rows):
            return None
        pairs = _pairs(self.store, rows) if self.kind == "text" else None
        return Split(name, self.inputs, rows, taken(self.targets, rows), pairs)

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
        match self.kind:
            case "label":
                labels = [self.labels[at] for at in self.targets[rows].tolist()]
            case "numbers":
                labels = [json.dumps(at) for at in self.targets[rows].tolist()]
            case _:
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
        if self.kind in ("text", "next"):
            return {"vocabulary": self.num_outputs}
        few = len(self.labels) <= 1000
        return {
            "classes": len(self.labels),
            "training_counts": self.counts["train"] if few else None,
        }


def kind_of(recipe: Recipe) -> Kind:
    """Return what a recipe's samples are."""
    if recipe.task == "regression" and isinstance(recipe.data, TableData):
        return recipe.data.holds
    return TASKS[recipe.task].input


def list_source(
    spec: DataSpec,
    *,
    base: Path,
    observe: Observe,
    kind: Kind = "image",
    target: Target = "label",
) -> Listing:
    """Return what a source holds, of the kind that the task takes, under the labels' new names.

    Raises:
        DataError: the source can't be used, or holds another kind.
        RecipeError: a label that is to be renamed doesn't occur.
    """
    listing = _list_source(spec, base=base, observe=observe, kind=kind, target=target)
    if listing.kind != kind:
        raise DataError(
            f"`source: {spec.source}` holds {listing.kind}s, and the task takes {kind}s",
            where="data.source",
            fix="Look at `task`",
        )
    if not spec.rename:
        return listing
    for name in spec.rename:
        if name not in set(listing.labels):
            raise RecipeError(
                f"`data.rename` names the label `{name}`, which doesn't occur",
                where="data.rename",
                fix=nearest(name, sorted(set(listing.labels))),
            )
    labels = [spec.rename.get(label, label) for label in listing.labels]
    return replace(listing, labels=labels, key=json_digest([listing.key, spec.rename]))


def _list_source(
    spec: DataSpec, *, base: Path, observe: Observe, kind: Kind, target: Target
) -> Listing:
    match spec:
        case DigitsData():
            return list_digits()
        case Cifar10Data():
            return list_cifar10(spec.path, base=base, observe=observe)
        case FolderData():
            group = spec.split.column if spec.split.by == "group" else None
            if target == "letters":
                return list_transcripts(spec.path, base=base, group=group)
            return list_folder(spec.path, base=base, group=group, kind=kind)
        case TableData():
            return list_table(spec, base=base, kind=kind, target=target)
        case LinesData():
            return list_lines(spec, base=base)
        case DocumentsData():
            return list_documents(spec, base=base)
        case PairsData():
            return list_pairs(spec, base=base)
        case BoxesData():
            return list_boxes(spec, base=base)
        case ArraysData():
            return list_arrays(spec, base=base)


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
    target = TASKS[recipe.task].target
    has_labels = target == "label"
    listing = list_source(spec, base=base, observe=observe, kind=kind_of(recipe), target=target)
    for note in listing.notes:
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, observe=observe)
    labels_by_row, keys = store.strings("label"), store.fixed("content_digest")
    usable = _usable(store, labels_by_row, target)
    splits = draw_splits(
        spec.split,
        rows=usable,
        given=store.strings("split"),
        # Only classes have shares that could be kept.
        labels=labels_by_row if has_labels else [""] * len(store),
        extras=store.strings("extra"),
        keys=keys,
    )
    splits = {
        name: limited(rows, spec.limit, seed=spec.split.seed, keys=keys)
        for name, rows in splits.items()
    }
    observe(Progress("audit", 0, 1))
    report = audit(store, splits, allow_leaks=spec.allow_leaks, has_labels=has_labels)
    observe(Progress("audit", 1, 1))
    _refuse_leaks(report, allowed=spec.allow_leaks)
    for finding in report.findings:
        if finding.severity == "warning":
            observe(Progress("note", 0, 0, note=f"Data: {finding.message}"))
    input = _input(recipe, store, splits["train"], like, observe)
    encoded = encode(store, input, observe=observe)
    names = spec.numbers if isinstance(spec, TableData) else ()
    asked = _asked(target, encoded, labels_by_row, splits, names=names)
    if target != "next":  # A language model reads a text stretch by stretch.
        for note in _cut_notes(encoded.cut, store, splits):
            observe(Progress("note", 0, 0, note=note))
    for note in asked.notes:
        observe(Progress("note", 0, 0, note=note))
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
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is wanted of each row, and what the network is given for it."""

    labels: tuple[str, ...]
    targets: Any
    inputs: Inputs
    windows: Windows | None = None
    notes: tuple[str, ...] = ()


def _asked(
    target: Target,
    encoded: Encoded,
    held: Sequence[str],
    splits: Mapping[str, Rows],
    *,
    names: tuple[str, ...] = (),
    known: tuple[str, ...] | None = None,
) -> _Asked:
    """Return what is wanted of each row; what is fitted is fitted to the training split.

    Args:
        target: the kind of target.
        encoded: the inputs of every row.
        held: what was read as each row's label.
        splits: the rows that are used.
        names: of numbers, what they are called.
        known: the labels, letters or names of a model that exists; then nothing is fitted.
    """
    train, inputs, input = splits.get("train", _NO_ROWS), encoded.inputs, encoded.input
    used = np.sort(np.concatenate(list(splits.values())))
    match target:
        case "label":
            return _Asked(*class_targets(held, splits), inputs)
        case "numbers":
            return _Asked(names, number_targets(held, used, len(names)), inputs)
        case "letters":
            letters = letters_of(held, train) if known is None else known
            spelled, unknown = letter_targets(held, letters)
            note = f"Data: {unknown:,} letters occur in no training text, and are left out"
            return _Asked(letters, spelled, inputs, notes=(note,) if unknown else ())
        case "text":
            assert isinstance(inputs, Ragged)
            assert isinstance(input, TextInput)
            given, asked, cut = text_targets(inputs, held, input)
            return _Asked((), asked, given, notes=tuple(_cut_targets(cut, splits)))
        case "next":
            assert isinstance(inputs, Ragged)
            assert isinstance(input, TextInput)
            stretches, follow, windows = next_targets(inputs, held, input)
            return _Asked((), follow, stretches, windows)
        case "boxes":
            assert isinstance(input, ImageInput)
            labels = box_labels(held, train) if known is None else known
            boxes, unknown, hidden = box_targets(held, input, labels, used)
            notes = []
            if unknown:
                notes.append(f"Data: {unknown:,} boxes have labels that no training image has")
            if hidden:
                notes.append(
                    f"Data: {hidden:,} boxes lie where `transforms.resize: {input.resize}` cuts "
                    "images, and are left out; `letterbox` keeps all of an image"
                )
            return _Asked(labels, boxes, inputs, notes=tuple(notes))


_NO_ROWS: Rows = np.empty(0, dtype=np.int64)


def _cut_targets(cut: Rows, splits: Mapping[str, Rows]) -> Iterator[str]:
    for name, rows in splits.items():
        count = len(np.intersect1d(cut, rows))
        if count:
            yield (
                f"Data: {count:,} of {len(rows):,} texts wanted of the {name} split are longer "
                "than `text.longest` allows, and their ends are cut off"
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
                return fit_text(recipe.text, store, train, TASKS[recipe.task].target)
            case "sound":
                return fit_sound(recipe.sound, store, train)
    if not isinstance(like, ImageInput):
        return like
    input = _input_like(like, recipe)
    shown = f"{input.height}×{input.width} pixels, {input.resize}, {input.interpolation}"
    note = f"Images are taken as the model file of `model.init` takes them: {shown}"
    observe(Progress("note", 0, 0, note=note))
    return input


def _cut_notes(all_cut: Rows, store: Store, splits: Mapping[str, Rows]) -> Iterator[str]:
    """Say how many samples are longer than what is taken of them."""
    for name, rows in splits.items():
        cut = np.intersect1d(all_cut, rows)
        if len(cut):
            first = store.strings("origin")[int(cut[0])]
            key = f"{store.kind}.longest" + ("_s" if store.kind == "sound" else "")
            yield (
                f"Data: {len(cut):,} of {len(rows):,} {store.kind}s of the {name} split are longer "
                f"than `{key}` allows, and their ends are cut off; the first is {first}"
            )


def _usable(store: Store, labels: Sequence[str], target: Target) -> Rows:
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
    kinds = {labels[row] for row in usable.tolist()}
    if target not in ("label", "numbers"):
        return usable
    if len(kinds) < 2 and target == "numbers":
        raise DataError(
            f"all samples have one target, {next(iter(kinds))}, so there is nothing to learn",
            where=store.title,
            fix="Look at `data.numbers`: does it name the right column?",
        )
    if len(kinds) < 2:
        raise DataError(
            f"all samples have one label, `{next(iter(kinds))}`, so there is nothing to tell apart",
            where=store.title,
            fix=f"Give at least two classes: for a folder, at least two folders of {store.kind}s",
        )
    return usable


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
    grey = spec.colour == "grey" or (
        spec.colour == "auto" and bool(store.numbers("is_grey")[train].all())
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
    if spec.normalise == "none":
        return (0.0,) * channels, (1.0,) * channels
    if spec.normalise == "half":
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
        DataError: the data can't be used, or holds a label that the model doesn't know.
    """
    listing = _list_any(path, input, like, observe, target, tuple(labels))
    if not any(listing.splits) and listing.title == "digits":
        note = "All of `digits` is measured, images that a model was trained on among them"
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, observe=observe)
    given, held = np.array(store.strings("split")), store.strings("label")
    if like is not None and target in ("label", "letters"):
        held = [like.rename.get(label, label) for label in held]
    broken = store.errors()
    chosen = given == "test" if (given == "test").any() else np.ones(len(store), dtype=bool)
    rows = np.array([row for row in np.flatnonzero(chosen) if row not in broken], dtype=np.int64)
    if not len(rows):
        raise DataError(f"there is no {store.kind} that can be used", where=str(path))
    if broken:
        note = f"{len(broken):,} {store.kind}s can't be used and are left out"
        observe(Progress("note", 0, 0, note=note))
    encoded = encode(store, input, observe=observe)
    for note in _cut_notes(encoded.cut, store, {"test": rows}):
        observe(Progress("note", 0, 0, note=note))
    mark = root(store.fixed("content_digest")[rows], [held[row] for row in rows.tolist()])
    if target == "label":
        return Split("test", encoded.inputs, rows, _known_classes(store, held, rows, labels)), mark
    names = tuple(labels)
    asked = _asked(target, encoded, held, {"test": rows}, names=names, known=names)
    for note in asked.notes:
        observe(Progress("note", 0, 0, note=note))
    if asked.windows is not None:
        rows = asked.windows.of(rows)
    pairs = _pairs(store, rows) if target == "text" else None
    return Split("test", asked.inputs, rows, taken(asked.targets, rows), pairs), mark


def _pairs(store: Store, rows: Rows) -> Callable[[], tuple[list[str], list[str]]]:
    """Return a function that reads the texts of rows, and those that are wanted for them."""

    def read() -> tuple[list[str], list[str]]:
        held = store.strings("label")
        return [store.original(row).decode() for row in rows.tolist()], [held[row] for row in rows]

    return read


def _known_classes(
    store: Store, held: Sequence[str], rows: Rows, labels: Sequence[str]
) -> NDArray[np.int64]:
    """Return the class numbers of rows by a model's labels.

    Raises:
        DataError: it doesn't know one of theirs.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    for row in rows.tolist():
        if held[row] not in numbers:
            raise DataError(
                f"the model doesn't know the label `{held[row]}`",
                where=store.strings("origin")[row],
                why=nearest(held[row], numbers)
                or f"It knows {', '.join(list(numbers)[:8])}{', …' if len(numbers) > 8 else ''}",
            )
    return np.array([numbers[held[row]] for row in rows.tolist()], dtype=np.int64)


def _list_any(
    path: Path,
    input: Input,
    like: DataSpec | None,
    observe: Observe,
    target: Target,
    labels: tuple[str, ...],
) -> Listing:
    base, kind = Path.cwd(), KINDS[type(input)]
    if str(path) == "digits" and not path.exists():
        return list_digits()
    if str(path) == "cifar10" and not path.exists():
        return list_cifar10(None, base=base, observe=observe)
    is_binary = path.is_dir() and (path / "data_batch_1.bin").is_file()
    if is_binary or path.name.endswith(".tar.gz"):
        return list_cifar10(str(path), base=base, observe=observe)
    if path.suffix.lower() == ".npz":
        return list_arrays(ArraysData(source="arrays", path=str(path)), base=base)
    if target == "boxes":
        chosen_boxes = like if isinstance(like, BoxesData) else BoxesData(source="boxes", path="")
        update = {"path": str(path), "split": SplitSpec(), "images": None}
        return list_boxes(chosen_boxes.model_copy(update=update), base=base)
    if is_table(path) or is_table_folder(path):
        columns = (
            like
            if isinstance(like, TableData)
            else TableData.model_validate(
                {"source": "table", "path": str(path), **guess_table(path, kind)[1]}
            )
        )
        chosen = columns.model_copy(
            update={
                "path": str(path),
                "split": SplitSpec(),
                "split_column": None,
                "numbers": labels if target == "numbers" else columns.numbers,
            }
        )
        return list_table(chosen, base=base, kind=kind, target=target)
    if target == "text" and path.is_file():
        suffix = Path(like.target).suffix if isinstance(like, PairsData) else ""
        other = path.with_suffix(suffix) if suffix else path
        if other == path or not other.is_file():
            raise DataError(
                "there is no file beside it with the texts that are wanted",
                where=str(path),
                fix="Give a table with a column of texts and one of those wanted, or two files "
                f"such as test.en and test{suffix or '.de'}",
            )
        pairs = PairsData(source="pairs", path=str(path), target=str(other))
        return list_pairs(pairs, base=base)
    if target == "next":
        return list_documents(DocumentsData(source="documents", path=str(path)), base=base)
    if path.is_dir() and target == "letters":
        return list_transcripts(str(path), base=base, group=None)
    if path.is_file() and kind == "text":
        return list_lines(LinesData(source="lines", path=str(path)), base=base)
    return list_folder(str(path), base=base, group=None, kind=kind)


KINDS: dict[type[Input], Kind] = {ImageInput: "image", TextInput: "text", SoundInput: "sound"}
"""What the samples of each input are."""
