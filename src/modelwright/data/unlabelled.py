"""Samples without labels: what `data.unlabelled` names, and what a model is asked about.

The former stand in the same store as a source's, in a split of their own, which no label, draw or
figure knows of; only `distill` trains on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelwright.arrays import Ints
from modelwright.data.audit import identical
from modelwright.data.dataset import Split
from modelwright.data.encodings import to_utf8
from modelwright.data.findings import counted
from modelwright.data.folder import holding
from modelwright.data.inputs import INPUTS
from modelwright.data.listing import UNLABELLED_SPLIT, Listing, Rows, files_below, read_file, stamp
from modelwright.data.sealed import listed, stored
from modelwright.data.sources import Existing, list_like, list_source, usual_columns
from modelwright.data.splits import limited
from modelwright.data.store import Store, open_store
from modelwright.data.table import list_table
from modelwright.data.table_reader import is_table
from modelwright.errors import DataError
from modelwright.files import digest, find_path, json_digest
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.data import DataSpec, FolderData, TableData
from modelwright.run import Observe, Progress
from modelwright.security.sealing import is_sealed_path
from modelwright.transforms.inputs import Input


def with_unlabelled(listing: Listing, spec: DataSpec, *, base: Path) -> Listing:
    """Return a listing with the samples behind it that `data.unlabelled` names, if it does.

    Raises:
        DataError: they can't be used.
    """
    path = spec.unlabelled_path
    if path is None:
        return listing
    more = _listed(find_path(path, base), spec, kind=listing.kind, of="data.unlabelled")
    first, count = len(listing), len(more)

    def read(row: int) -> bytes:
        return listing.read(row) if row < first else more.read(row - first)

    return replace(
        listing,
        key=json_digest([listing.key, "unlabelled 1", more.key]),
        labels=[*listing.labels, *[""] * count],
        splits=[*listing.splits, *[UNLABELLED_SPLIT] * count],
        origins=[*listing.origins, *more.origins],
        read=read,
        metadata={name: [*cells, *[""] * count] for name, cells in listing.metadata.items()},
        notes=(*listing.notes, *more.notes),
        places=[*listing.places, *(more.places or more.origins)] if listing.places else [],
    )


def _listed(path: Path, spec: DataSpec | None, *, kind: InputKind, of: str) -> Listing:
    if is_table(path):
        table = spec if isinstance(spec, TableData) else TableData(source="table", path="")
        update = {"path": str(path), "split_column": None, "metadata_columns": ()}
        plain = table.model_copy(update={**update, "split": type(table.split)()})
        # As for language modeling, no column of a target is read.
        return list_table(plain, base=path.parent, kind=kind, output_kind=OutputKind.CAUSAL_LM)
    if not path.is_dir():
        raise DataError(
            "unlabelled samples are a folder of files, or a table, and this is neither",
            where=f"{path} ({of})",
            fix=f"Give a folder of {kind.plural}, or a table with the column of {kind.plural}",
        )
    suffixes = INPUTS[kind].suffixes
    paths = [name for name in files_below(path) if Path(name).suffix.lower() in suffixes]
    if not paths:
        raise DataError(
            f"there are no {kind.plural} in this folder",
            where=f"{path} ({of})",
            why=holding(path) or "It is empty",
            fix=f"It should hold {INPUTS[kind].formats} files, in folders of any names",
        )
    encoding = spec.encoding if isinstance(spec, FolderData | TableData) else None
    marks = [f"{name} {stamp(path / name)}" for name in paths]

    def read(row: int) -> bytes:
        data = read_file(path / paths[row])
        if kind != InputKind.TEXT:
            return data
        return to_utf8(data, where=paths[row], encoding=encoding)

    return Listing(
        title=path.name,
        key=digest("\n".join([kind, encoding or "", *marks]).encode(errors="surrogateescape")),
        labels=[""] * len(paths),
        splits=[""] * len(paths),
        origins=paths,
        read=read,
        kind=kind,
    )


def unlabelled_rows(spec: DataSpec, store: Store, measured: Rows, *, observe: Observe) -> Rows:
    """Return the unlabelled samples that may teach: none that a split which is measured has too."""
    if spec.unlabelled_path is None:
        return np.empty(0, dtype=np.int64)
    all_rows = np.flatnonzero(np.array(store.strings("split")) == UNLABELLED_SPLIT)
    rows = np.setdiff1d(all_rows, [*store.errors()])
    held_out = [
        row
        for group in identical(store, np.sort(np.concatenate([rows, measured])))
        if np.isin(group, measured).any()
        for row in group
    ]
    kept = np.setdiff1d(rows, held_out)
    note = f"Data: {counted(len(kept), store.kind.noun)} without a label can teach"
    if len(kept) < len(rows):
        note += (
            f"; {len(rows) - len(kept):,} more are left out, as the validation or the test split "
            "has them too"
        )
    observe(Progress("note", 0, 0, note=note))
    if not len(kept):
        raise DataError(
            f"none of the {len(all_rows):,} unlabelled {store.kind.plural} can be used",
            where="data.unlabelled",
            why="They can't be read, or stand in the validation or the test split",
            fix="Give others, or leave `unlabelled` out",
        )
    return limited(kept, spec.limit, seed=spec.split.seed, keys=store.fixed("content_digest"))


class Unlabelled(NamedTuple):
    """Samples as an existing model takes them, of whose labels nothing is known."""

    split: Split
    """Its targets are empty."""
    texts: Callable[[Ints], list[str]]
    """Returns the texts in some rows of the store, where samples are texts."""


def unlabelled_split(
    path: Path | None,
    *,
    input: Input,
    like: DataSpec | None,
    output_kind: OutputKind,
    observe: Observe,
) -> Unlabelled:
    """Return the different samples of some data, once each, as an existing model takes them.

    Args:
        path: a folder of files or a table, whose labels aren't read, or the name of a known source;
            by default the data that `like` names, of which the test part where it has one.
        input: how the model takes its samples.
        like: the section `data` that the model was made from.
        output_kind: what the model predicts.
        observe: called with progress.

    Raises:
        DataError: there is no such data, or none of it can be used.
    """
    kind = input.input_kind
    if path is not None:
        make = partial(_asked, path, like, kind=kind, output_kind=output_kind, observe=observe)
        listing = listed(make, where=path, sealed=is_sealed_path(path))
    elif like is None:
        raise DataError("the model file doesn't say which data it was made from", fix=_DATA)
    else:
        base, own = Path.cwd(), getattr(like, "path", None)
        source = partial(
            list_source, like, base=base, observe=observe, kind=kind, output_kind=output_kind
        )
        try:
            where = None if own is None else find_path(own, base)
            listing = source() if where is None else listed(source, where=where, sealed=like.sealed)
        except DataError as error:
            error.fix = _DATA
            raise
    if listing.kind != kind:
        raise DataError(
            f"these are {listing.kind.plural}, and the model takes {kind.plural}",
            where=listing.title,
            fix=_DATA,
        )
    store = open_store(listing, INPUTS[kind].facts, observe=observe)
    is_test = np.array(store.strings("split")) == "test"
    if path is None and not is_test.any():
        note = f"Data: the model was trained on some of these {kind.plural}, and is surer of them"
        observe(Progress("note", 0, 0, note=note))
    chosen = np.flatnonzero(is_test if is_test.any() else ~is_test)
    _, first = np.unique(store.fixed("content_digest")[chosen], axis=0, return_index=True)
    rows = np.setdiff1d(chosen[first], [*store.errors()]).astype(np.int64)
    if not len(rows):
        raise DataError(f"there is no {kind.noun} that can be used", where=listing.title)
    inputs = INPUTS[kind].encode(store, input, observe).inputs
    return Unlabelled(
        Split("unlabelled", inputs, rows, np.zeros((len(rows), 0))),
        lambda rows: [store.original(row).decode() for row in rows.tolist()],
    )


def _asked(
    path: Path,
    like: DataSpec | None,
    *,
    kind: InputKind,
    output_kind: OutputKind,
    observe: Observe,
) -> Listing:
    is_binary = path.is_dir() and stored(path / "data_batch_1.bin").is_file()
    if is_binary or not (is_table(path) or path.is_dir()):
        model = Existing(kind, output_kind, (), like)
        return list_like(path, model, guess=usual_columns, observe=observe)
    listing = _listed(path, like, kind=kind, of="--data")
    return replace(
        listing,
        key=json_digest([listing.key, "asked 1"]),
        labels=[""] * len(listing),
        splits=[UNLABELLED_SPLIT] * len(listing),
    )


_DATA = "Say where samples are that the model can be asked about: --data PATH"
