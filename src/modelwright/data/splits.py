"""Which sample belongs to which split: given, or drawn by label, by group or by time.

Draws depend on each sample's content and on the seed, not on the order of files, so that the same
data gives the same splits on any machine.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modelwright.data.listing import Rows
from modelwright.data.store import Store
from modelwright.errors import DataError
from modelwright.files import write_bytes
from modelwright.recipe.data import SplitSpec

SPLITS_FILE = "splits.parquet"
"""The file in a run's folder that says which sample went where."""
DIGEST = "content_digest"
"""Its column of the samples' digests."""


def draw_splits(
    spec: SplitSpec,
    *,
    rows: Rows,
    source_splits: Sequence[str],
    labels: Sequence[str],
    extras: Sequence[str],
    keys: NDArray[np.uint8],
    groups: NDArray[np.int64],
) -> dict[str, Rows]:
    """Return the rows of each split, each in the source's order.

    A sample whose source names its split stays there, unless the source has no split but that of
    training. Of the others, a test split is drawn where the source has none, and a validation split
    where it has none; the rest are for training.

    `rows` are those that may be used. `labels`, `extras` (the group or the time) and `keys` (the
    digests of the contents `[N, bytes]`, which a draw depends on) are by row. So are `groups`, of
    which a draw by label takes all rows or none.

    Raises:
        DataError: there are too few samples for the requested splits.
    """
    split_of_row = np.array([source_splits[row] for row in rows.tolist()], dtype=np.str_)
    test, validation = rows[split_of_row == "test"], rows[split_of_row == "validation"]
    # Rows that the source assigns to training are never used as test rows, unless it has one split
    # alone: whoever keeps all samples in a folder `train` wants a test as well.
    has_others = len(test) or len(validation)
    unassigned = rows[split_of_row == ""] if has_others else rows
    pool = rows[(split_of_row != "test") & (split_of_row != "validation")]
    if not len(test) and len(unassigned):
        spare = 1 if len(validation) or not spec.val else 2
        test = _draw(spec, unassigned, spec.test, "test", labels, extras, keys, groups, spare=spare)
        pool = np.setdiff1d(pool, test)
    if not len(validation):
        validation = _draw(spec, pool, spec.val, "validation", labels, extras, keys, groups)
        pool = np.setdiff1d(pool, validation)
    if not len(pool):
        raise DataError(
            "no sample is left to train on",
            where="data.split",
            why=f"{len(rows)} samples, of which {len(validation)} are for validation and "
            f"{len(test)} for the test",
            fix="Lower `data.split.val` and `data.split.test`",
        )
    return {"train": np.sort(pool), "validation": np.sort(validation), "test": np.sort(test)}


def _draw(
    spec: SplitSpec,
    pool: Rows,
    share: float | int,
    name: str,
    labels: Sequence[str],
    extras: Sequence[str],
    keys: NDArray[np.uint8],
    groups: NDArray[np.int64],
    *,
    spare: int = 1,
) -> Rows:
    """Draw a split's rows; by group, at least `spare` groups are left for the splits after it."""
    size = share if isinstance(share, int) else round(share * len(pool))
    if size >= len(pool) > 0:
        raise DataError(
            f"{size:,} samples are requested for the {name} split, and there are {len(pool):,}",
            where="data.split",
            fix="Write a smaller count, or a share such as 0.2",
        )
    if size == 0 or not len(pool):
        return np.empty(0, dtype=np.int64)
    if spec.by == "time":
        times = _times([extras[row] for row in pool])
        order = sorted(
            range(len(pool)), key=lambda at: (times[at], _mark(spec.seed, keys[pool[at]]))
        )
        return pool[order[-size:]]
    if spec.by == "group":
        return _draw_groups(spec, pool, size, name, extras, spare=spare)
    return _draw_stratified(spec, pool, size, name, labels, keys, groups)


def _draw_stratified(
    spec: SplitSpec,
    pool: Rows,
    size: int,
    name: str,
    labels: Sequence[str],
    keys: NDArray[np.uint8],
    groups: NDArray[np.int64],
) -> Rows:
    """Draw from each label its share, by largest remainders; each label keeps one for training.

    A group is drawn whole, with the label of its first row, as long as it fits into the share.
    """
    members: dict[int, list[int]] = {}
    for row in pool.tolist():
        members.setdefault(int(groups[row]), []).append(row)
    by_label: dict[str, list[list[int]]] = {}
    for group in members.values():
        by_label.setdefault(labels[group[0]], []).append(group)
    names = sorted(by_label)
    sizes = {label: sum(map(len, by_label[label])) for label in names}
    exact = np.array([size * sizes[label] / len(pool) for label in names])
    most = np.array([sizes[label] - 1 for label in names])
    counts = np.minimum(np.floor(exact).astype(np.int64), most)
    for at in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        if counts.sum() >= size:
            break
        if counts[at] < most[at]:
            counts[at] += 1
    drawn: list[int] = []
    for label, count in zip(names, counts.tolist(), strict=True):
        order = sorted(by_label[label], key=lambda group: _mark(spec.seed, keys[group[0]], name))
        for group in order:
            if len(group) <= count:
                drawn += group
                count -= len(group)
    return np.array(sorted(drawn), dtype=np.int64)


def _draw_groups(
    spec: SplitSpec, pool: Rows, size: int, name: str, extras: Sequence[str], *, spare: int
) -> Rows:
    """Draw whole groups until the count is reached as nearly as groups allow."""
    groups: dict[str, list[int]] = {}
    for row in pool.tolist():
        groups.setdefault(extras[row], []).append(row)
    if len(groups) <= spare:
        raise DataError(
            f"{len(groups)} group{'' if len(groups) == 1 else 's'} can't be split into a {name} "
            f"split and {spare} more",
            where="data.split.column",
            fix="Split by another column or `by: stratified`, or set the share of a split to 0",
        )
    order = sorted(groups, key=lambda group: _mark(spec.seed, group.encode(), name))
    drawn: list[int] = []
    taken = 0
    for group in order:
        if len(drawn) >= size or taken == len(groups) - spare:
            break
        if drawn and abs(len(drawn) + len(groups[group]) - size) > size - len(drawn):
            continue
        drawn += groups[group]
        taken += 1
    return np.array(sorted(drawn), dtype=np.int64)


def _mark(seed: int, key: NDArray[np.uint8] | bytes, name: str = "") -> bytes:
    content = key if isinstance(key, bytes) else key.tobytes()
    return hashlib.sha256(f"{seed} {name} ".encode() + content).digest()


def _times(values: list[str]) -> list[tuple[float, str]]:
    """Return keys that sort times: all as numbers where they are, else as text (ISO 8601 sorts)."""
    if "" in values:
        raise DataError(
            f"{values.count('')} of {len(values):,} samples have no time to split by",
            where="data.split.column",
            fix="Fill the empty cells of that column, or take their rows out",
        )
    numbers = [number for number in map(_number, values) if number is not None]
    if len(numbers) == len(values):
        return [(number, "") for number in numbers]
    if numbers:
        odd = next(value for value in values if _number(value) is None)
        raise DataError(
            f"times are numbers here but for some, such as `{odd[:40]}`",
            where="data.split.column",
            fix="Write all of them as numbers, or all as dates like 2026-11-26",
        )
    return [(0.0, value) for value in values]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def limited(rows: Rows, limit: int | None, *, seed: int, keys: NDArray[np.uint8]) -> Rows:
    """Return at most so many rows: the first of an order drawn from content and seed."""
    if limit is None or len(rows) <= limit:
        return rows
    order = sorted(rows.tolist(), key=lambda row: _mark(seed, keys[row], "limit"))
    return np.sort(np.array(order[:limit], dtype=np.int64))


def write_splits(path: Path, splits: Mapping[str, Rows], store: Store) -> None:
    """Write which sample went where, as Parquet.

    Its columns are `origin`, `label`, `split` and `content_digest`, and `metadata.NAME` for each
    column of metadata. It stays in the run's folder: who has the digests can tell whether some
    sample was trained on. Of sealed data it is sealed.
    """
    rows = np.concatenate([*splits.values()])
    chosen = pa.array(rows)
    names = np.repeat(np.arange(len(splits)), [*map(len, splits.values())])
    metadata = {
        f"metadata.{name}": [values[row] for row in rows.tolist()]
        for name, values in store.metadata.items()
    }
    table = pa.table(
        {
            "origin": store.table["origin"].take(chosen),
            "label": store.table["label"].take(chosen),
            **metadata,
            "split": pa.DictionaryArray.from_arrays(names, [*splits]),
            DIGEST: store.table[DIGEST].take(chosen),
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream)
    data = stream.getvalue()
    write_bytes(path, data if store.sealing is None else store.sealing.seal(data))


def root(digests: NDArray[np.uint8], labels: Sequence[str]) -> str:
    """Return one digest of a set of samples, whatever their order.

    It is salted with the set itself, so that equal sets agree, and a single sample can't be looked
    for in it without all the others.
    """
    marks = sorted(
        hashlib.sha256(content.tobytes() + label.encode()).digest()
        for content, label in zip(digests, labels, strict=True)
    )
    salt = hashlib.sha256(b"modelwright set 1" + b"".join(marks)).digest()
    return "sha256:" + hashlib.sha256(salt + b"".join(marks)).hexdigest()
