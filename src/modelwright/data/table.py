"""The source `table`: columns of inputs and targets, in one file or in several."""

from __future__ import annotations

import glob
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from modelwright.data.adapters import TargetAdapter, TargetCells
from modelwright.data.cells import are_texts, cell_text, is_address
from modelwright.data.listing import Listing, read_file, split_names, stamp
from modelwright.data.table_reader import Column, Table, open_table, table_files
from modelwright.data.targets import TARGETS
from modelwright.errors import DataError, nearest
from modelwright.files import digest, file_digest, find_path
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.data import TableData


@dataclass(frozen=True, slots=True)
class _Rows:
    """The columns of one file that are used."""

    table: Table
    inputs: Sequence[Any]
    labels: Sequence[str]
    splits: Sequence[str]
    metadata: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]
    """Notes on its labels, for the user."""


def list_table(
    spec: TableData,
    *,
    base: Path,
    kind: InputKind = InputKind.IMAGE,
    output_kind: OutputKind = OutputKind.SINGLE_LABEL,
) -> Listing:
    """Return the rows of a table, or of a folder with a table for each split.

    Raises:
        DataError: the table can't be read, a column is missing, or a row is torn.
    """
    path, adapter = find_path(spec.path, base), TARGETS[output_kind]
    files = table_files(path)
    parts = [_read(file, split, spec, kind, adapter) for file, split in files]
    if not any(len(rows.inputs) for rows in parts):
        raise DataError("the table holds no rows", where=str(path))
    # Rows are numbered through all files; a file's rows begin at its start.
    starts = list(accumulate((len(rows.inputs) for rows in parts[:-1]), initial=0))

    def read(row: int) -> bytes:
        number = bisect_right(starts, row) - 1
        rows, at = parts[number], row - starts[number]
        if kind == InputKind.TEXT:
            return text_bytes(rows.inputs[at])
        return file_bytes(
            rows.inputs[at], rows.table.folder, pattern_of(spec.files, rows.table.path)
        )

    labels = _joined([rows.labels for rows in parts])
    is_text = kind == InputKind.TEXT
    paths = (
        []
        if is_text
        else [
            (rows.table.folder, pattern_of(spec.files, rows.table.path), cell)
            for rows in parts
            for cell in rows.inputs
        ]
    )
    places = _joined([rows.table.places for rows in parts])
    return Listing(
        title=f"table {path.name}",
        key=_key(spec, [rows.table for rows in parts], paths, kind, output_kind),
        labels=labels,
        splits=_joined([rows.splits for rows in parts]),
        origins=places
        if is_text
        else [_origin(cell, at, places) for at, (_, _, cell) in enumerate(paths)],
        metadata={
            name: _joined([rows.metadata[name] for rows in parts]) for name in parts[0].metadata
        },
        read=read,
        notes=tuple(
            dict.fromkeys(note for rows in parts for note in (*rows.table.notes, *rows.notes))
        ),
        places=places,
        kind=kind,
        faults={
            at: adapter.missing
            for at, label in enumerate(labels)
            if adapter.missing and not label.strip()
        },
        sampling_rate=spec.sampling_rate if kind == InputKind.AUDIO else None,
    )


def _joined(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return the rows of all files; those of one file as they are."""
    return parts[0] if len(parts) == 1 else [item for part in parts for item in part]


def _origin(item: Any, at: int, places: Sequence[str]) -> str:
    return item if isinstance(item, str) else places[at]


def _key(
    spec: TableData,
    tables: Sequence[Table],
    paths: Sequence[tuple[Path, str, Any]],
    kind: InputKind,
    output_kind: OutputKind,
) -> str:
    marks = [
        kind,
        getattr(spec, kind),
        str(spec.sampling_rate),
        output_kind,
        *TARGETS[output_kind].columns(spec),
        spec.separator,
        spec.split_column or "",
        spec.files,
        spec.encoding or "",
        *(spec.columns or ()),
    ]
    marks += [file_digest(table.path) for table in tables]
    marks += [
        f"{item} {stamp(file_of(folder, pattern, str(item)))}"
        for folder, pattern, item in paths
        if isinstance(item, str | int)
    ]
    return digest("\n".join(["table 5", *marks]).encode(errors="surrogatepass"))


def text_bytes(text: Any) -> bytes:
    """Return the text of a cell, in UTF-8.

    Raises:
        OSError: the cell holds none.
    """
    if are_texts(text):
        text = " ".join(text)  # A text that comes sentence by sentence.
    if isinstance(text, bytes):
        return text
    if text is None or not isinstance(text, str):
        raise OSError("the cell is empty" if text is None else "the cell holds no text")
    return text.encode("utf-8", "surrogatepass")


def pattern_of(files: str, table: Path) -> str:
    """Return the pattern of the paths of a table's files: `{table}` stands for the table's name."""
    return files.replace("{table}", table.name.partition(".")[0])


def file_of(folder: Path, pattern: str, name: str) -> Path:
    """Return the file that a cell names by a pattern: `{}` is the cell, `*` any one folder."""
    if "*" not in pattern:
        return folder / pattern.replace("{}", name)
    matching = folder.glob(pattern.replace("{}", glob.escape(name)))
    return min(matching, default=folder / pattern.replace("{}", name))


def file_bytes(cell: Any, folder: Path, pattern: str) -> bytes:
    """Return the bytes of the file that a cell names or holds.

    Paths start from `folder`; in `pattern`, `{}` stands for the cell.

    Raises:
        DataError: it names an address, or no plain file.
        OSError: it is empty, or the file can't be read.
    """
    if isinstance(cell, dict):  # As Hugging Face's datasets keep images: bytes, or else a path.
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return cell
    name = cell_text(cell)
    if is_address(name):
        raise DataError("this is an address, and files aren't fetched from them")
    if name:
        try:
            return read_file(file_of(folder, pattern, name))
        except ValueError as error:  # A NUL in the path.
            raise OSError(str(error)) from error
    raise OSError("the cell is empty")


def _read(
    file: Path, split: str, spec: TableData, kind: InputKind, adapter: TargetAdapter
) -> _Rows:
    table = open_table(file, spec.columns, encoding=spec.encoding)
    if not table.columns:
        raise DataError("the table is empty", where=str(file))
    input, targets = str(getattr(spec, kind)), adapter.columns(spec)
    grouped = [("split.column", spec.split.column)] if spec.split.column is not None else []
    more = [("metadata_columns", name) for name in spec.metadata_columns]
    split_column = [("split_column", spec.split_column)] if spec.split_column is not None else []
    required = [(kind, input), *((adapter.setting, name) for name in targets), *split_column]
    _require_columns(table, [*required, *grouped, *more])
    inputs = table.columns[input]()
    cells = TargetCells(
        columns=[table.columns[name]() for name in targets],
        names=targets,
        count=len(inputs),
        separator=spec.separator if table.has_text_cells else None,
        place=table.place,
        is_comma_decimal=table.delimiter == ";",
    )
    labels, notes = adapter.read(cells)
    splits = [split] * len(inputs)
    if spec.split_column is not None:
        splits, more_notes = _splits(table, spec.split_column)
        notes = (*notes, *more_notes)
    return _Rows(
        table=table,
        inputs=inputs,
        labels=labels,
        splits=splits,
        metadata={
            name: [cell_text(cell) for cell in table.columns[name]()]
            for _, name in (*grouped, *more)
        },
        notes=notes,
    )


def _require_columns(table: Table, required: Sequence[tuple[str, str]]) -> None:
    """Refuse a table without a column that a setting names."""
    columns: Mapping[str, Column] = table.columns
    for key, name in required:
        if name not in columns:
            raise DataError(
                f"the table has no column `{name}`",
                where=f"{table.path} (data.{key})",
                why=nearest(name, columns) or f"Its columns are {', '.join(map(str, columns))}",
            )


def _splits(table: Table, column: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the split that each row names, empty where it names none, and what to say of it.

    Raises:
        DataError: a cell names something else.
    """
    known = split_names(column)
    names = [cell_text(cell).strip().lower() for cell in table.columns[column]()]
    odd = next((at for at, name in enumerate(names) if name not in known), None)
    if odd is not None:
        raise DataError(
            f"`{cell_text(table.columns[column]([odd])[0])}` isn't the name of a split",
            where=table.place(odd),
            why=nearest(names[odd], known),
            fix="Write train, val or test",
        )
    empty = names.count("")
    splits = [known[name] for name in names]
    if not empty:
        return splits, ()
    use = "for training" if "test" in splits else "for training, and a test split is drawn of them"
    note = f"{empty:,} of {len(names):,} cells of `{column}` are empty: these rows are {use}"
    return splits, (note,)
