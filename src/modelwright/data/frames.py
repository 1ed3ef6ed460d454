"""DataFrames as a source: each is written to a Parquet file, and read as any table from there on.

So audits, splits, the cache and a run that goes on after a stop know nothing of frames. No library
of frames is imported: pandas' are read column by column, polars' and others through Arrow.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Number
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelwright.data.cells import cell_text
from modelwright.data.table_reader import FRAME_FOLDER
from modelwright.errors import DataError, RequestError
from modelwright.files import JsonObject, cache_folder, digest, file_digest, write_bytes

WHERE = "the DataFrame"
_DIGITS = 16
"""So many digits of its digest name a frame in the cache."""


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A DataFrame as a file of the cache."""

    path: Path
    """Its name is made from the content."""
    notes: tuple[str, ...]
    """What was converted, for the user."""


def is_frame(value: object) -> bool:
    """Say whether something is a DataFrame: pandas', polars', or a table of Arrow's."""
    is_columnar = hasattr(value, "__arrow_c_stream__") or hasattr(value, "__dataframe__")
    return is_columnar and hasattr(value, "columns")


def keep_frame(frame: object) -> KeptFrame:
    """Write a DataFrame into the cache, once, under a name that its content decides.

    Paths in its cells start from the current folder.

    Raises:
        RequestError: it is no DataFrame.
        DataError: a column's name or cells can't stand in a table.
        ResourceError: the cache can't be written.
    """
    table, notes = to_table(frame)
    name = digest(_parquet(table)).removeprefix("sha256:")[:_DIGITS]
    folder = Path.cwd()
    place = digest(os.fsencode(folder)).removeprefix("sha256:")[:_DIGITS]
    path = cache_folder() / "frames" / place / f"frame-{name}.parquet"
    data = _parquet(_with_folder(table, folder))
    if not path.exists() or file_digest(path) != digest(data):  # Missing, or damaged.
        write_bytes(path, data)
    return KeptFrame(path, notes)


def write_frame(frame: object, path: Path) -> tuple[str, ...]:
    """Write a DataFrame to a Parquet file, and return what was converted; see `keep_frame`."""
    table, notes = to_table(frame)
    is_here = path.resolve().parent == Path.cwd()  # Then the files may be moved together.
    write_bytes(path, _parquet(table if is_here else _with_folder(table, Path.cwd())))
    return notes


def to_table(frame: object) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a DataFrame as a table of Arrow's, and notes on what was converted.

    Missing values (`None`, `NaN`, `NaT`, `pd.NA`) become empty cells, paths text. A column of texts
    and numbers becomes text, as in a CSV file. The index is left out.

    Raises:
        RequestError: it is no DataFrame.
        DataError: a column's name isn't text or occurs twice, or its cells can't stand in a table.
    """
    if not is_frame(frame):
        raise RequestError(
            f"a {type(frame).__name__} isn't a DataFrame",
            fix="Where the data is in files, give their path; in a recipe it is `data.path`",
        )
    columns: JsonObject = {}
    notes: list[str] = []
    for name, cells in _columns(frame):
        if not isinstance(name, str):
            raise DataError(
                f"the name of a column isn't text: {name!r:.60} is of the type "
                f"{type(name).__name__}",
                where=WHERE,
                fix="Rename the columns; in pandas: frame.columns = frame.columns.map(str)",
            )
        if name in columns:
            raise DataError(
                f"two columns have one name: `{name}`", where=WHERE, fix="Rename or drop one"
            )
        columns[name] = _array(name, cells, notes)
    return pa.table(columns), tuple(notes)


def _columns(frame: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the name and the cells of each column."""
    if hasattr(frame, "iloc"):  # pandas
        yield from ((name, frame.iloc[:, at]) for at, name in enumerate(frame.columns))
        return
    try:
        # Polars' own conversion gives types that Parquet has; its stream gives views of texts.
        table = frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError("it can't be read through Arrow", where=WHERE, why=str(error)) from error
    yield from zip(table.column_names, table.columns, strict=True)


def _array(name: str, cells: Any, notes: list[str]) -> Any:
    """Return a column's cells as Arrow holds them."""
    if isinstance(cells, pa.ChunkedArray):
        return cells
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _mixed(name, list(cells), notes)


def _mixed(name: str, cells: Sequence[Any], notes: list[str]) -> Any:
    """Return cells of several types as text.

    Raises:
        DataError: a cell is neither text nor a number nor a path.
    """
    kinds: Counter[str] = Counter()
    texts: list[str | None] = []
    for row, cell in enumerate(cells, 1):
        if _is_missing(cell):
            texts.append(None)
            continue
        value = cell.item() if hasattr(cell, "dtype") and getattr(cell, "ndim", 1) == 0 else cell
        if not isinstance(value, str | Number | PurePath):
            raise DataError(
                f"the column `{name}` holds a {type(cell).__name__} in row {row:,}, which has no "
                "place in a table",
                where=WHERE,
                why="; ".join(f"above it are {count:,} × {kind}" for kind, count in kinds.items()),
                fix="Cells are texts, numbers, lists of one of these, bytes, or paths of files",
            )
        kinds["path" if isinstance(value, PurePath) else type(value).__name__] += 1
        texts.append(cell_text(value) if not isinstance(value, PurePath) else os.fspath(value))
    if len(kinds) > 1:
        shown = ", ".join(f"{count:,} × {kind}" for kind, count in kinds.most_common())
        notes.append(f"The column `{name}` holds values of several types ({shown}), taken as text")
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        raise DataError(
            f"the column `{name}` holds text that isn't Unicode", where=WHERE
        ) from error


def _is_missing(cell: object) -> bool:
    is_nan = isinstance(cell, float) and cell != cell
    return cell is None or is_nan or type(cell).__name__ in ("NAType", "NaTType")


def _with_folder(table: pa.Table, folder: Path) -> pa.Table:
    return table.replace_schema_metadata({FRAME_FOLDER: os.fsencode(folder)})


def _parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    try:
        pq.write_table(table, stream)
    except (pa.ArrowException, ValueError) as error:
        raise DataError("it can't be written as a table", where=WHERE, why=str(error)) from error
    return stream.getvalue()
