"""From a recipe's section `data` to splits of what a network takes, audited and described.

What differs between kinds of input and of target stands in their adapters (`inputs`, `targets`);
here every kind goes the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelwright.data.adapters import NO_ROWS, Encoded, TargetAdapter, TargetRequest, Targets
from modelwright.data.audit import LEAK_FIX, audit, identical, similarity_groups
from modelwright.data.dataset import Dataset, Inputs, Split, Strings, taken
from modelwright.data.findings import AuditReport, Finding, counted, origins_of
from modelwright.data.inputs import INPUTS
from modelwright.data.labels import about_unknown, count_labels
from modelwright.data.listing import UNLABELLED_SPLIT, Listing, Rows
from modelwright.data.overlap import Digests, Overlap, RunSplits, overlap_with
from modelwright.data.sealed import listed
from modelwright.data.sources import (
    Existing,
    GuessColumns,
    list_like,
    list_source,
    usual_columns,
)
from modelwright.data.splits import SPLITS_FILE, draw_splits, limited, root, write_splits
from modelwright.data.store import Store, StoredSplit, open_store
from modelwright.data.targets import TARGETS
from modelwright.data.unlabelled import unlabelled_rows, with_unlabelled
from modelwright.errors import DataError
from modelwright.files import find_path
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe import Recipe
from modelwright.recipe.data import DataSpec, SplitSpec, TableData
from modelwright.run import Observe, Progress, silent
from modelwright.security.sealing import is_sealed_path
from modelwright.transforms import ImageInput
from modelwright.transforms.inputs import Input


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe's data, ready to train on."""

    store: Store
    input: Input
    rows: Mapping[str, Rows]
    """The rows of the store in each split."""
    targets: Targets
    """The target of each row, and the network's inputs for it."""
    report: AuditReport
    output_kind: OutputKind = OutputKind.SINGLE_LABEL
    """What the targets are."""
    audited: AuditReport = field(default_factory=lambda: AuditReport(()))
    """The part of `report` that doesn't depend on how a model takes samples."""
    mean: tuple[float, ...] = ()
    """Of images: of each channel of the training split, pixels in 0…1."""
    std: tuple[float, ...] = ()
    unlabelled: Rows = field(default_factory=lambda: NO_ROWS)
    """The rows of the store that have no target, and are only for training."""

    @property
    def adapter(self) -> TargetAdapter:
        """The adapter of this kind of target."""
        return TARGETS[self.output_kind]

    @property
    def input_kind(self) -> InputKind:
        """What one sample is."""
        return self.store.kind

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of the training split."""
        return self.targets.labels

    @property
    def inputs(self) -> Inputs:
        """A row a sample of the store: pixels `[N, H, W, C]`, or token ids or recording samples."""
        return self.targets.inputs

    @property
    def image(self) -> ImageInput:
        """How images are taken."""
        assert isinstance(self.input, ImageInput)
        return self.input

    def split(self, name: str) -> Split | None:
        """Return a split, or `None` where it is empty."""
        rows = self.rows[name]
        return _split(name, self.store, rows, self.targets, self.adapter) if len(rows) else None

    def dataset(self) -> Dataset:
        """Return what training may see."""
        train = self.split("train")
        assert train is not None  # Drawing splits refuses an empty one.
        more = None
        if len(self.unlabelled):
            more = _split(UNLABELLED_SPLIT, self.store, self.unlabelled, self.targets, self.adapter)
        origin = replace(self, rows={**self.rows, "test": NO_ROWS})
        return Dataset(train, self.split("validation"), self.labels, more, origin)

    def test(self) -> Split | None:
        """Return the test split."""
        return self.split("test")

    @property
    def has_classes(self) -> bool:
        """Whether each sample is of one class."""
        return self.output_kind == OutputKind.SINGLE_LABEL

    @property
    def num_outputs(self) -> int:
        """The size of the network's output: classes, numbers, characters or tokens."""
        return self.adapter.num_outputs(self.labels, self.input)

    def fingerprint(self, name: str) -> str:
        """Return the digest of a split's samples and targets, whatever their order."""
        split = StoredSplit(self.store, self.rows[name])
        return root(self.store.fixed("content_digest")[split.rows], split.strings("label"))

    def digests(self, name: str) -> Digests:
        """Return the digests of the contents of a split's samples `[N, 16]`."""
        return self.store.fixed("content_digest")[StoredSplit(self.store, self.rows[name]).rows]

    @property
    def source(self) -> str:
        """The data in a few words."""
        return self.store.title

    @property
    def counts(self) -> dict[str, list[int]]:
        """Samples a class, of each split; where they have no classes, all samples as one."""
        values = self.targets.values
        return {
            name: np.bincount(values[rows], minlength=len(self.labels)).tolist()
            if self.has_classes
            else [len(rows)]
            for name, rows in self.rows.items()
            if len(rows)
        }

    @property
    def record(self) -> dict[str, Any]:
        """The model file's record of the data: counts and digests, nothing about single samples."""
        return {
            "source": self.source,
            "splits": {
                name: {"samples": sum(counts), "root": self.fingerprint(name)}
                for name, counts in self.counts.items()
            },
            **self.adapter.describe(self.labels, self.dataset().train, self.num_outputs),
            **({"mean": list(self.mean), "std": list(self.std)} if self.mean else {}),
        }


def _split(name: str, store: Store, rows: Rows, built: Targets, adapter: TargetAdapter) -> Split:
    windows, unknown = built.windows, built.unknown.get(name, ())
    inputs = rows if windows is None else windows.of(rows)
    samples = rows if windows is None else windows.samples(rows)
    values = adapter.of_split(taken(built.values, inputs), len(built.labels) + len(unknown))
    return Split(
        name,
        built.inputs,
        inputs,
        values,
        partial(_text_pairs, store, samples) if adapter.text_kind == "source" else None,
        unknown,
        None if windows is None else windows.texts[inputs],
        {column: _strings(cells, samples) for column, cells in store.metadata.items()},
    )


def _strings(cells: Sequence[str], rows: Rows) -> Strings:
    strings: Strings = np.empty(len(rows), dtype=np.object_)
    strings[:] = [cells[row] for row in rows.tolist()]
    return strings


def _text_pairs(store: Store, rows: Rows) -> tuple[list[str], list[str]]:
    """Return the source texts of rows and their references."""
    split = StoredSplit(store, rows)
    return [data.decode() for data in split.originals()], split.strings("label")


def prepare(
    recipe: Recipe,
    *,
    base: Path,
    like: Input | None = None,
    run_folder: Path | None = None,
    observe: Observe,
) -> Prepared:
    """Build or open the store, split, audit, decode at training size, and take statistics.

    Relative paths start at `base`. `like` is how the model file that training starts from takes
    samples. The splits are written to `splits.parquet` in `run_folder`, if it is given.

    Raises:
        DataError: the data can't be used, or identical samples stand in two splits.
        RecipeError: the transforms contradict the model file that training starts from.
        ResourceError: the disk is full.
    """
    store, splits, report = _looked_at(recipe, base, observe, is_run=run_folder is not None)
    measured = np.concatenate([rows for name, rows in splits.items() if name != "train"])
    more = unlabelled_rows(recipe.data, store, measured, observe=observe)
    if run_folder is not None:
        named = {**splits, UNLABELLED_SPLIT: more} if len(more) else splits
        write_splits(run_folder / SPLITS_FILE, named, store)
    return _encoded(recipe, store, splits, report, like, observe, unlabelled=more)


def prepare_again(
    prepared: Prepared, recipe: Recipe, *, like: Input | None = None, observe: Observe
) -> Prepared:
    """Return the same samples in the same splits as another model takes them.

    `recipe` may differ from that of `prepared` in all but its section `data`. Nothing is read,
    drawn or audited again.
    """
    return _encoded(
        recipe,
        prepared.store,
        prepared.rows,
        prepared.audited,
        like,
        observe,
        unlabelled=prepared.unlabelled,
    )


def _looked_at(
    recipe: Recipe, base: Path, observe: Observe, *, is_run: bool
) -> tuple[Store, dict[str, Rows], AuditReport]:
    """Return the samples of the source, their splits, and what is odd about them."""
    spec, adapter = recipe.data, TARGETS[recipe.output_kind]

    def make() -> Listing:
        kind, output_kind = recipe.input_kind, recipe.output_kind
        own = list_source(spec, base=base, observe=observe, kind=kind, output_kind=output_kind)
        return with_unlabelled(own, spec, base=base)

    path = getattr(spec, "path", None)  # Those without one come with the install.
    where = None if path is None else find_path(path, base)
    listing = make() if where is None else listed(make, where=where, sealed=spec.sealed)
    for note in listing.notes:
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, INPUTS[listing.kind].facts, observe=observe)
    places, findings, title = listing.places, listing.findings, listing.title
    del listing  # Of a table it holds every cell, and the store has them now.
    _refuse_void_split(spec, store)
    splits = _drawn(spec, store, adapter, observe, places=places)
    _require_variety(StoredSplit(store, splits["train"]), adapter)
    report = _audited(spec, store, splits, adapter, observe, places=places)
    stop = next((item for item in findings if item.severity == "error"), None)
    if stop is not None and is_run:
        raise DataError(stop.message, where=title, fix=stop.fix)
    _say(findings, observe)
    return store, splits, replace(report, findings=(*report.findings, *findings))


def _encoded(
    recipe: Recipe,
    store: Store,
    splits: Mapping[str, Rows],
    report: AuditReport,
    like: Input | None,
    observe: Observe,
    *,
    unlabelled: Rows,
) -> Prepared:
    """Return samples as a model takes them, with their targets."""
    adapter = TARGETS[recipe.output_kind]
    input = _input(recipe, StoredSplit(store, splits["train"]), like, observe)
    encoded = INPUTS[store.kind].encode(store, input, observe)
    names = recipe.data.target_columns if isinstance(recipe.data, TableData) else ()
    built = adapter.build(TargetRequest(encoded, store.strings("label"), splits, names=names))
    findings = (*encoded.findings, *_cut(encoded, store, splits), *built.findings)
    _say(findings, observe)
    prepared = Prepared(
        store=store,
        input=encoded.input,
        rows=splits,
        targets=built,
        report=replace(report, findings=(*report.findings, *findings)),
        output_kind=recipe.output_kind,
        audited=report,
        unlabelled=unlabelled,
    )
    mean, std = INPUTS[store.kind].fit_statistics(prepared.dataset().train, recipe)
    return replace(prepared, mean=mean, std=std)


def _refuse_void_split(spec: DataSpec, store: Store) -> None:
    """Refuse settings of drawing a split that the source comes with.

    Raises:
        DataError: there is one.
    """
    given = set(store.strings("split"))
    void = [key for key, name in (("val", "validation"), ("test", "test")) if name in given]
    if len(void) == 2 and spec.limit is None:
        void.append("seed")
    for key in void:
        if getattr(spec.split, key) != getattr(SplitSpec(), key):
            raise DataError(
                f"`data.split.{key}` has no effect: the source comes split already",
                where=f"{store.title} (data.split.{key})",
                fix="Leave it out",
            )


def _drawn(
    spec: DataSpec,
    store: Store,
    adapter: TargetAdapter,
    observe: Observe,
    *,
    places: Sequence[str] = (),
) -> dict[str, Rows]:
    usable, source_splits = _usable(store, places), store.strings("split")
    keys = store.fixed("content_digest")
    strata, note = adapter.strata(store.strings("label"), usable)
    is_drawn = spec.split.by == "stratified" and not {"validation", "test"} <= set(source_splits)
    if note and is_drawn:
        observe(Progress("note", 0, 0, note=note))
    column = spec.split.column
    splits = draw_splits(
        spec.split,
        rows=usable,
        source_splits=source_splits,
        labels=strata,
        extras=[""] * len(store) if column is None else store.metadata[column],
        keys=keys,
        groups=similarity_groups(store, usable) if is_drawn else np.arange(len(store)),
    )
    if spec.leaks == "drop_from_train":
        splits = _without_leaks(splits, store, observe)
    return {
        name: limited(rows, spec.limit, seed=spec.split.seed, keys=keys)
        for name, rows in splits.items()
    }


def _without_leaks(splits: Mapping[str, Rows], store: Store, observe: Observe) -> dict[str, Rows]:
    """Take samples out of the training split that stand in another one as well."""
    train = splits["train"]
    measured = np.concatenate([rows for name, rows in splits.items() if name != "train"])
    in_both = [
        row
        for group in identical(store, np.sort(np.concatenate([train, measured])))
        if np.isin(group, measured).any()
        for row in group
    ]
    kept = np.setdiff1d(train, in_both)
    if not len(kept):
        raise DataError(
            "all training samples stand in another split as well",
            where="data.leaks",
            fix="Look at the splits; with `drop_from_train` nothing is left to train on",
        )
    if len(kept) < len(train):
        dropped = counted(len(train) - len(kept), store.kind.noun)
        note = f"Data: {dropped} of the training split stand in another one too and are left out"
        observe(Progress("note", 0, 0, note=note))
    return {**splits, "train": kept}


def _usable(store: Store, places: Sequence[str]) -> Rows:
    broken = store.errors()
    labelled = np.flatnonzero(np.array(store.strings("split")) != UNLABELLED_SPLIT)
    usable = np.setdiff1d(labelled, [*broken])
    if not len(usable):
        first = min(broken)
        origin = store.strings("origin")[first]
        where = f"{places[first]}: {origin}" if places and places[first] != origin else origin
        raise DataError(
            f"none of the {len(store):,} {store.kind.plural} can be used",
            where=where,
            why=broken[first],
            fix="Look at it; the paths in a table start from its folder",
        )
    return usable


def _require_variety(train: StoredSplit, adapter: TargetAdapter) -> None:
    targets = set(train.strings("label"))
    if adapter.without_variety is not None and len(targets) == 1:
        what, fix = adapter.without_variety(targets.pop(), train.store.kind.noun)
        raise DataError(what, where=train.store.title, fix=fix)


def _audited(
    spec: DataSpec,
    store: Store,
    splits: Mapping[str, Rows],
    adapter: TargetAdapter,
    observe: Observe,
    *,
    places: Sequence[str],
) -> AuditReport:
    """Return what is odd about the data; refuse samples in two splits where they aren't allowed."""
    observe(Progress("audit", 0, 1))
    report = audit(store, splits, adapter, leaks=spec.leaks, places=places)
    observe(Progress("audit", 1, 1))
    if report.leaks and spec.leaks == "refuse":
        raise DataError(
            report.leaks[0].message,
            where="data",
            why="What is measured on samples that were learned by heart is too good",
            fix=f"{LEAK_FIX}. `modelwright check RECIPE --findings FILE.csv` lists them all",
        )
    _say([finding for finding in report.findings if finding.severity == "warning"], observe)
    return report


def _input(recipe: Recipe, train: StoredSplit, like: Input | None, observe: Observe) -> Input:
    """Return how samples are taken: as a model file takes them, or fitted to the training split."""
    input: Input
    if like is None:
        input = INPUTS[train.store.kind].fit(train, recipe)
        return input
    input, note = INPUTS[like.input_kind].resume(like, recipe)
    if note:
        observe(Progress("note", 0, 0, note=note))
    return input


def _say(findings: Sequence[Finding], observe: Observe) -> None:
    for finding in findings:
        observe(Progress("note", 0, 0, note=f"Data: {finding.message}"))


def _cut(encoded: Encoded, store: Store, splits: Mapping[str, Rows]) -> Iterator[Finding]:
    """Yield how many samples are longer than what is taken of them."""
    key = INPUTS[store.kind].length_setting
    for name, rows in splits.items():
        cut = np.intersect1d(encoded.cut, rows)
        if len(cut):
            origins = store.strings("origin")
            yield Finding(
                kind="cut",
                severity="warning",
                rows=origins_of(cut.tolist(), origins),
                message=f"{len(cut):,} of {len(rows):,} {store.kind.plural} of the {name} split "
                f"are longer than `{key}` allows, and their ends are cut off; the first is "
                f"{origins[int(cut[0])]}",
                fix=f"Raise `{key}`, if what matters may stand at the end",
            )


MEASURED = "measured"
"""The name of a split of samples of which the model has seen some: neither a test nor another."""


class Labelled(NamedTuple):
    """Labelled data for an existing model."""

    split: Split
    fingerprint: str
    """The digest of its samples and targets, whatever their order."""
    overlap: Overlap | None
    """How many of them the model's own run has seen, where its splits are known."""
    digests: Digests
    """Of the contents of its samples `[N, 16]`."""


def labelled_split(
    path: Path,
    *,
    input: Input,
    labels: Sequence[str],
    observe: Observe,
    like: DataSpec | None = None,
    output_kind: OutputKind = OutputKind.SINGLE_LABEL,
    guess: GuessColumns = usual_columns,
    known: RunSplits | None = None,
) -> Labelled:
    """Return labelled data as a split for an existing model.

    A folder's or table's test part is taken where it has one, else all of it.

    Args:
        path: a folder of class folders, a table, or CIFAR-10's folder or archive; or the name of a
            known source, `digits` or `cifar10`.
        input: how the model takes its samples.
        labels: the model's labels.
        observe: called with progress.
        output_kind: what is predicted; numbers are called as the model's labels.
        like: the section `data` that the model was made from: a table's columns are taken to be
            called as there, and labels to be renamed so.
        guess: returns the settings that are likely meant for a table, where `like` is none.
        known: the splits of the run that made the model, whose samples are no test of it.

    Raises:
        DataError: the data can't be used, or has no label that the model knows.
    """
    names, adapter = tuple(labels), TARGETS[output_kind]
    model = Existing(input.input_kind, output_kind, names, like)
    make = partial(list_like, path, model, guess=guess, observe=observe)
    listing = listed(make, where=path, sealed=is_sealed_path(path))
    for note in listing.notes:
        observe(Progress("note", 0, 0, note=note))
    store = open_store(listing, INPUTS[listing.kind].facts, observe=observe)
    names_of = like.rename if like is not None else {}
    stored = [adapter.rename(label, names_of) for label in store.strings("label")]
    rows = _measured(store, path, observe)
    encoded = INPUTS[store.kind].encode(store, input, observe)
    _say([*listing.findings, *_cut(encoded, store, {"test": rows})], observe)
    digests = store.fixed("content_digest")
    mark = root(digests[rows], [stored[row] for row in rows.tolist()])
    overlap = None
    if known is not None:
        overlap = overlap_with(
            known,
            rows,
            digests=digests,
            labels=np.array(stored, dtype=np.object_),
            candidates=_candidates(like, store, adapter),
        )
        if overlap.note(store.kind):
            observe(Progress("note", 0, 0, note=overlap.note(store.kind)))
    request = TargetRequest(
        encoded, stored, {"test": rows}, names=names, known=names, where=str(path)
    )
    built = adapter.build(request)
    _say(built.findings, observe)
    if adapter.has_labels:
        becomes = adapter.unknown_labels.format(store.kind.noun)
        note = about_unknown(
            count_labels(adapter.labels_of, stored, request.splits), names, becomes
        )
        if note:
            observe(Progress("note", 0, 0, note=note))
    name = MEASURED if overlap else "test"
    split = replace(_split("test", store, rows, built, adapter), name=name)
    return Labelled(split, mark, overlap, digests[rows])


def _candidates(
    like: DataSpec | None, store: Store, adapter: TargetAdapter
) -> Iterator[dict[str, Rows]]:
    """Yield how a model's own run may have split a store: as the source says, or as it would draw.

    What is drawn by a column can't be drawn again, as only the recipe names it.
    """
    given, broken = np.array(store.strings("split"), dtype=np.str_), store.errors()
    usable = np.array([row for row in range(len(store)) if row not in broken], dtype=np.int64)
    yield {name: usable[given[usable] == name] for name in ("train", "validation")}
    if like is None or like.split.by != "stratified" or like.rename:
        return
    with contextlib.suppress(DataError):  # Too few samples, say.
        yield _drawn(like, store, adapter, silent)


def _measured(store: Store, path: Path, observe: Observe) -> Rows:
    """Return the rows of a store that a model is measured on."""
    source_splits, broken = np.array(store.strings("split")), store.errors()
    is_test = source_splits == "test"
    if is_test.any() and not is_test.all():
        note = f"Of the {len(store):,} {store.kind.plural} the {is_test.sum():,} of the test split "
        observe(Progress("note", 0, 0, note=f"{note}are measured"))
    chosen = np.flatnonzero(is_test) if is_test.any() else np.arange(len(store))
    rows = np.array([row for row in chosen.tolist() if row not in broken], dtype=np.int64)
    if not len(rows):
        raise DataError(f"there is no {store.kind.noun} that can be used", where=str(path))
    left_out = [row for row in chosen.tolist() if row in broken]
    if left_out:
        origin, why = store.strings("origin")[left_out[0]], broken[left_out[0]]
        are = "is" if len(left_out) == 1 else "are"
        noun = store.kind.noun if len(left_out) == 1 else store.kind.plural
        note = f"{len(left_out):,} {noun} can't be used and {are} left out ({origin}: {why})"
        observe(Progress("note", 0, 0, note=note))
    return rows
