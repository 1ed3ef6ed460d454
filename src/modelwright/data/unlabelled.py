"""Texts without labels, beside the samples: tables, text files, and folders of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelwright.data.documents import SUFFIXES as TEXT_SUFFIXES
from modelwright.data.labelled_lines import decoded, read_maybe_packed
from modelwright.data.table_reader import columns_of, is_table, no_table, values_of
from modelwright.errors import DataError, nearest
from modelwright.files import find_path
from modelwright.recipe.data import UnlabelledSpec

_KINDS: dict[type, str] = {
    bytes: "bytes that aren't UTF-8",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list of other things than texts",
    dict: "a record",
}


def unlabelled_files(spec: UnlabelledSpec, *, base: Path) -> list[Path]:
    """Return the files that a recipe names, each once, those of a folder by name.

    Raises:
        DataError: one isn't there, or a folder holds none that can be read.
    """
    found: dict[Path, Path] = {}
    for name in spec.path:
        root = find_path(name, base)
        files = [root] if not root.is_dir() else _in_folder(root)
        if not files:
            raise DataError(
                "this folder holds neither tables nor texts",
                where=f"{root} (text.unlabelled.path)",
                fix=f"Texts end in {', '.join(TEXT_SUFFIXES)}, tables in .csv, .jsonl, .parquet",
            )
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def unlabelled_texts(file: Path, *, column: str) -> Iterator[str]:
    """Yield the texts of a file; empty ones are passed over.

    Args:
        file: a table, or a file of which each line is a text.
        column: of a table, that with the text.

    Raises:
        DataError: it can't be read, or has no such column.
    """
    if not is_table(file):
        if file.suffix.lower() == ".json":
            raise no_table(file)
        # As sources are cut: other characters that end a line for Python stand within texts.
        lines = decoded(read_maybe_packed(file), file).split("\n")
        yield from (line.rstrip("\r") for line in lines if line.strip())
        return
    columns = columns_of(file)
    if not columns:
        raise DataError("the table is empty", where=str(file))
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
                f"the cell holds {_KINDS.get(type(cell), 'no text')}, and texts are read",
                where=f"{file} row {number}, column `{column}`",
                fix="Name the column with the texts in `text.unlabelled.text`",
            )
        if text.strip():
            yield text


def _in_folder(root: Path) -> list[Path]:
    """Return the tables and texts of a folder, but for what is hidden."""
    return sorted(
        path
        for path in root.rglob("*")
        if (is_table(path) or (path.is_file() and path.name.lower().endswith(TEXT_SUFFIXES)))
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def _text(cell: Any) -> str | None:
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):
        return " ".join(cell)  # A text that comes sentence by sentence.
    return cell if isinstance(cell, str) else None
