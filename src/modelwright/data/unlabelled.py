"""Texts without labels, beside the samples: tables, text files, and folders of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelwright.data.documents import SUFFIXES as TEXT_SUFFIXES
from modelwright.data.lines import decoded, read_maybe_packed
from modelwright.data.listing import find_path
from modelwright.data.table import columns_of, is_table, values_of
from modelwright.errors import DataError, nearest
from modelwright.recipe.data import UnlabelledSpec


def unlabelled_files(spec: UnlabelledSpec, *, base: Path) -> list[Path]:
    """Return the files that a recipe names, those of a folder by name.

    Raises:
        DataError: one isn't there, or a folder holds none that can be read.
    """
    found: list[Path] = []
    for name in spec.path:
        root = find_path(name, base)
        files = [root] if not root.is_dir() else sorted(filter(_is_read, root.rglob("*")))
        if not files:
            raise DataError(
                "this folder holds neither tables nor texts",
                where=f"{root} (text.unlabelled.path)",
                fix=f"Texts end in {', '.join(TEXT_SUFFIXES)}, tables in .csv, .jsonl, .parquet",
            )
        found += [file for file in files if file not in found]
    return found


def unlabelled_texts(file: Path, *, column: str) -> Iterator[str]:
    """Yield the texts of a file; empty ones are passed over.

    Args:
        file: a table, or a file of which each line is a text.
        column: of a table, that with the text.

    Raises:
        DataError: it can't be read, or has no such column.
    """
    if not is_table(file):
        yield from filter(str.strip, decoded(read_maybe_packed(file), file).splitlines())
        return
    columns = columns_of(file)
    if column not in columns:
        raise DataError(
            f"the table has no column `{column}`",
            where=f"{file} (text.unlabelled.text)",
            why=nearest(column, columns) or f"Its columns are {', '.join(columns)}",
        )
    for number, cell in enumerate(values_of(file, column), 1):
        text = _text(cell)
        if text is None:
            raise DataError(
                f"the cell holds a {type(cell).__name__}, and no text",
                where=f"{file} row {number}, column `{column}`",
                fix="Name the column with the texts in `text.unlabelled.text`",
            )
        if text.strip():
            yield text


def _is_read(path: Path) -> bool:
    return is_table(path) or (path.is_file() and path.name.lower().endswith(TEXT_SUFFIXES))


def _text(cell: Any) -> str | None:
    if cell is None:
        return ""
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):
        return " ".join(cell)  # A text that comes sentence by sentence.
    return cell if isinstance(cell, str) else None
