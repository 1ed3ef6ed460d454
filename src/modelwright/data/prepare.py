"""From a recipe's section `data` to splits of fixed-size pixels, audited and described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.audit import AuditReport, audit
from modelwright.data.cifar10 import list_cifar10
from modelwright.data.dataset import Dataset, Split
from modelwright.data.digits import list_digits
from modelwright.data.folder import list_folder
from modelwright.data.listing import Listing
from modelwright.data.splits import draw_splits, limited, root, write_splits
from modelwright.data.store import Store, open_store
from modelwright.data.table import is_table_folder, list_table
from modelwright.data.views import derived_view
from modelwright.errors import DataError, RecipeError, nearest
from modelwright.recipe import Recipe
from modelwright.recipe.data import (
    Cifar10Data,
    DataSpec,
    DigitsData,
    FolderData,
    TableData,
    TransformsSpec,
)
from modelwright.run import Observe, Progress
from modelwright.transforms import ImageInput

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
    input: ImageInput
    labels: tuple[str, ...]
    rows: Mapping[str, Rows]
    """The rows of each split."""
    targets: NDArray[np.int64]
    """The class number of each row; −1 where the row isn't used."""
    pixels: NDArray[np.uint8]
    """`[N, H, W, C]`, memory-mapped, a row a sample of the store."""
    report: AuditReport
    mean: tuple[float, ...]
    """Of each channel of the training split, pixels in 0…1."""
    std: tuple[float, ...]

    def split(self, name: str) -> Split | None:
        """Return a split, or `None` where it is empty."""
        rows = self.rows[name]
        return Split(name, self.pixels, rows, self.targets[rows]) if len(rows) else None

    def dataset(self) -> Dataset:
        """Return what training may see."""
        train = self.split("train")
        assert train is not None  # Drawing splits refuses an empty one.
        return Dataset(train, self.split("validation"), self.labels)

    def test(self) -> Split | None:
        """Return the test split."""
        return self.split("test")

    def fingerprint(self, name: str) -> str:
        """Return the digest of a split's samples and labels, whatever their order."""
        rows = self.rows[name]
        labels = [self.labels[number] for number in self.targets[rows].tolist()]
        return root(self.store.fixed("pixel_digest")[rows], labels)

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
        """Samples a class, of each split."""
        return {
            name: np.bincount(self.targets[rows], minlength=len(self.labels)).tolist()
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
            "classes": len(self.labels),
            "training_counts": self.counts["train"] if len(self.labels) <= 1000 else None,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def list_source(spec: DataSpec, *, base: Path, observe: Observe) -> Listing:
    """Return what a source holds; its table is the `match` below.

    Raises:
        DataError: the source can't be used.
    """
    match spec:
        case DigitsData():
            return list_digits()
        case Cifar10Data():
            return list_cifar10(spec.path, base=base, observe=observe)
        case FolderData():
            group = spec.split.column if spec.split.by == "group" else None
            return list_folder(spec.path, base=base, group=group)
        case TableData():
            return list_table(spec, base=base)


def prepare(
    recipe: Recipe,
    *,
    base: Path,
    like: ImageInput | None = None,
    run_folder: Path | None = None,
    observe: Observe,
) -> Prepared:
    """Build or open the store, split, audit, decode at training size, and take statistics.

    Args:
        recipe: what is asked.
        base: where the recipe's relative paths start.
        like: how the model file that training starts from takes images, if there is one.
        run_folder: where `splits.parquet` goes; `None` writes nothing.
        observe: called with progress.

    Raises:
        DataError: the data can't be used, or identical samples stand in two splits.
        RecipeError: the transforms contradict the model file that training starts from.
        ResourceError: the disk is full.
    """
    spec = recipe.data
    listing = list_source(spec, base=base, observe=observe)
    for note in listing.notes:
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, observe=observe)
    labels_by_row, keys = store.strings("label"), store.fixed("pixel_digest")
    usable = _usable(store, labels_by_row)
    splits = draw_splits(
        spec.split,
        rows=usable,
        given=store.strings("split"),
        labels=labels_by_row,
        extras=store.strings("extra"),
        keys=keys,
    )
    splits = {
        name: limited(rows, spec.limit, seed=spec.split.seed, keys=keys)
        for name, rows in splits.items()
    }
    observe(Progress("audit", 0, 1))
    report = audit(store, splits, allow_leaks=spec.allow_leaks)
    observe(Progress("audit", 1, 1))
    _refuse_leaks(report, allowed=spec.allow_leaks)
    for finding in report.findings:
        if finding.severity == "warning":
            observe(Progress("note", 0, 0, note=f"Data: {finding.message}"))
    labels = tuple(
        sorted({labels_by_row[row] for rows in splits.values() for row in rows.tolist()})
    )
    numbers = {label: number for number, label in enumerate(labels)}
    targets = np.full(len(store), -1, dtype=np.int64)
    for rows in splits.values():
        targets[rows] = [numbers[labels_by_row[row]] for row in rows.tolist()]
    if like is None:
        input = resolve_input(recipe.transforms, store, splits["train"])
    else:
        input = _input_like(like, recipe)
        shown = f"{input.height}×{input.width} pixels, {input.resize}, {input.interpolation}"
        note = f"Images are taken as the model file of `model.init` takes them: {shown}"
        observe(Progress("note", 0, 0, note=note))
    pixels = derived_view(store, input, observe=observe)
    mean, std = _statistics(recipe.transforms, pixels, splits["train"])
    if run_folder is not None:
        write_splits(
            run_folder / "splits.parquet",
            splits,
            origins=store.strings("origin"),
            labels=labels_by_row,
        )
    return Prepared(store, input, labels, splits, targets, pixels, report, mean, std)


def _usable(store: Store, labels: Sequence[str]) -> Rows:
    broken = store.errors()
    usable = np.array([row for row in range(len(store)) if row not in broken], dtype=np.int64)
    if not len(usable):
        first = min(broken)
        raise DataError(
            f"none of the {len(store):,} images can be used",
            where=store.strings("origin")[first],
            why=broken[first],
            fix="Open it in an image viewer; the paths in a table start from its folder",
        )
    kinds = {labels[row] for row in usable.tolist()}
    if len(kinds) < 2:
        raise DataError(
            f"all samples have one label, `{next(iter(kinds))}`, so there is nothing to tell apart",
            where=store.title,
            fix="Give at least two classes: for a folder, at least two folders of images",
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
    path: Path, *, input: ImageInput, labels: Sequence[str], observe: Observe
) -> tuple[Split, str]:
    """Return labelled data as a split for an existing model, and its fingerprint.

    A folder's or table's test part is taken where it has one, else all of it.

    Args:
        path: a folder of class folders, a table, or CIFAR-10's folder or archive; or the name of a
            known source, `digits` or `cifar10`.
        input: how the model takes images.
        labels: the model's labels.
        observe: called with progress.

    Raises:
        DataError: the data can't be used, or holds a label that the model doesn't know.
    """
    listing = _list_any(path, observe)
    if not any(listing.splits) and listing.title == "digits":
        note = "All of `digits` is measured, images that a model was trained on among them"
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, observe=observe)
    given, held = np.array(store.strings("split")), store.strings("label")
    broken = store.errors()
    chosen = given == "test" if (given == "test").any() else np.ones(len(store), dtype=bool)
    rows = np.array([row for row in np.flatnonzero(chosen) if row not in broken], dtype=np.int64)
    if not len(rows):
        raise DataError("there is no image that can be used", where=str(path))
    if broken:
        note = f"{len(broken):,} files can't be used and are left out"
        observe(Progress("note", 0, 0, note=note))
    numbers = {label: number for number, label in enumerate(labels)}
    for row in rows.tolist():
        if held[row] not in numbers:
            raise DataError(
                f"the model doesn't know the label `{held[row]}`",
                where=store.strings("origin")[row],
                why=nearest(held[row], numbers)
                or f"It knows {', '.join(list(numbers)[:8])}{', …' if len(numbers) > 8 else ''}",
            )
    targets = np.array([numbers[held[row]] for row in rows.tolist()], dtype=np.int64)
    pixels = derived_view(store, input, observe=observe)
    mark = root(store.fixed("pixel_digest")[rows], [held[row] for row in rows.tolist()])
    return Split("test", pixels, rows, targets), mark


def _list_any(path: Path, observe: Observe) -> Listing:
    base = Path.cwd()
    if str(path) == "digits" and not path.exists():
        return list_digits()
    if str(path) == "cifar10" and not path.exists():
        return list_cifar10(None, base=base, observe=observe)
    is_binary = path.is_dir() and (path / "data_batch_1.bin").is_file()
    if is_binary or path.name.endswith(".tar.gz"):
        return list_cifar10(str(path), base=base, observe=observe)
    if path.is_file() or is_table_folder(path):
        return list_table(TableData(source="table", path=str(path)), base=base)
    return list_folder(str(path), base=base, group=None)
