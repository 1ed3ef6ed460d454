"""Samples with several labels or none: how their cells are read, kept and split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelwright.data.listing import Rows
from modelwright.errors import DataError

FEWEST_ALIKE = 10
"""A set of labels that fewer samples have isn't kept in its share by each split: a tenth of them
would be none."""


# -- cells -----------------------------------------------------------------------------------


def read_cells(
    cells: Sequence[Any], separator: str | None, *, column: str
) -> tuple[list[str], tuple[str, ...]]:
    """Return what `write_labels` returns for each cell of a column, and notes for the user.

    A cell without labels that can be read gives an empty text.

    A label that a cell names twice counts once, and a blank one is passed over; both are said.

    Cells are lists where `separator` is `None`, else texts with the separator between labels.

    Raises:
        DataError: the cells are lists that were written out as text.
    """
    if separator is not None:
        _refuse_written_lists(cells, separator, column)
    stored, repeats, blanks = [], 0, 0
    for cell in cells:
        names = _names(cell) if separator is None else _separated(cell, separator)
        if names is None:
            stored.append("")
            continue
        full = [name for name in names if name.strip()]
        blanks += len(full) < len(names)
        repeats += len(set(full)) < len(full)
        stored.append(write_labels(full))
    notes = []
    if repeats:
        notes.append(f"Data: {_cells(repeats)} `{column}` a label twice, which counts once")
    if blanks:
        notes.append(f"Data: {_cells(blanks)} `{column}` a blank label, which is passed over")
    if separator is not None and not any(separator in str(cell) for cell in cells):
        notes.append(
            f"Data: no cell of `{column}` holds the separator `{separator}`, so no sample has "
            "several labels"
        )
    return stored, tuple(notes)


_ABSENT, _PRESENT = frozenset({"0", "0.0", "false", ""}), frozenset({"1", "1.0", "true"})


def read_one_hot(columns: Sequence[Sequence[Any]], names: Sequence[str]) -> list[str]:
    """Read columns of 0 and 1, one a label.

    An empty cell is 0.

    Returns:
        What `write_labels` returned for each row; empty where a cell is neither 0 nor 1.
    """
    rows = []
    for cells in zip(*columns, strict=True):
        words = ["" if cell is None else str(cell).strip().lower() for cell in cells]
        is_whole = all(word in _ABSENT or word in _PRESENT for word in words)
        present = (name for name, word in zip(names, words, strict=True) if word in _PRESENT)
        rows.append(write_labels(present) if is_whole else "")
    return rows


def are_one_hot(cells: Iterable[Any]) -> bool:
    """Say whether cells are 0 and 1, and both occur."""
    words = {"" if cell is None else str(cell).strip().lower() for cell in cells}
    return bool(words & _PRESENT) and bool(words - _PRESENT) and words <= _ABSENT | _PRESENT


def _cells(count: int) -> str:
    return "one cell names in" if count == 1 else f"{count:,} cells name in"


def _refuse_written_lists(cells: Sequence[Any], separator: str, column: str) -> None:
    full = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if full and all(cell.startswith("[") and cell.endswith("]") for cell in full):
        raise DataError(
            f"the cells of `{column}` are lists that were written out as text, such as "
            f"`{full[0][:40]}`",
            where="data.label",
            fix=f"Write labels with `{separator}` between them, or the table as JSONL or Parquet",
        )


def _separated(cell: Any, separator: str) -> list[str] | None:
    """Return the labels in a text; an empty one has none, and one separator too many adds none."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    if not isinstance(cell, str):
        return None
    return [part.strip() for part in cell.split(separator)]


def _names(cell: Any) -> list[str] | None:
    """Return the labels in a list of texts or whole numbers; `None` where it isn't one."""
    if not isinstance(cell, list):
        return None
    are_names = all(isinstance(item, str | int) and not isinstance(item, bool) for item in cell)
    return [str(item) for item in cell] if are_names else None


def are_lists(cells: Iterable[Any]) -> bool:
    """Say whether cells hold lists of labels: at least one label, and nothing else."""
    names_of_cells = [_names(cell) for cell in cells]
    return any(names_of_cells) and all(names is not None for names in names_of_cells)


# -- as the store keeps them -----------------------------------------------------------------


def write_labels(labels: Iterable[str]) -> str:
    r"""Return the labels of a sample as the store keeps them: each once, in order.

    >>> write_labels(["b", "a", "b"])
    '["a", "b"]'
    """
    # Halves of signs can't be written to a file, and would come back from their escapes.
    whole = {label.encode("utf-8", "backslashreplace").decode() for label in labels}
    return json.dumps(sorted(whole), ensure_ascii=False)


def read_labels(stored: str) -> tuple[str, ...]:
    """Read what `write_labels` returned; of a sample that can't be used, nothing."""
    return tuple(json.loads(stored)) if stored else ()


def rename_labels(stored: str, names: Mapping[str, str]) -> str:
    """Return what `write_labels` returned, with the labels under other names."""
    return write_labels(names.get(label, label) for label in read_labels(stored)) if stored else ""


# -- splits ----------------------------------------------------------------------------------


def strata(stored: Sequence[str], usable: Rows) -> tuple[list[str], str]:
    """Return what each row's share is kept by in splits, and what to say of it.

    That is its set of labels; all sets that only few rows have are one.
    """
    counts = Counter(stored[row] for row in usable.tolist())
    rare = {labels for labels, count in counts.items() if count < FEWEST_ALIKE}
    if not rare:
        return list(stored), ""
    samples = sum(counts[labels] for labels in rare)
    note = (
        f"Data: {len(rare):,} of {len(counts):,} sets of labels occur fewer than {FEWEST_ALIKE} "
        f"times; the {samples:,} samples that have them are split at random"
    )
    return ["" if labels in rare else labels for labels in stored], note
