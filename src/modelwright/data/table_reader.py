"""The files of tables: CSV, TSV, JSON lines and Parquet, plain or gzipped, as columns of cells."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from modelwright.data.labelled_lines import decoded, read_maybe_packed
from modelwright.data.listing import SPLITS
from modelwright.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
csv.field_size_limit(1 << 24)
Column = Callable[[], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Table:
    """One file, opened."""

    path: Path
    columns: Mapping[str, Column]
    """A function for each column."""
    lines: Sequence[int] | None = None
    """The line that each row begins in, from 1, where the file has lines."""

    @property
    def has_text_cells(self) -> bool:
        """Whether all cells are text, whatever they mean."""
        return _suffix(self.path).removesuffix(".gz") not in (".jsonl", ".parquet")

    def place(self, row: int) -> str:
        """Return where a row stands, for messages."""
        if self.lines is None:
            return f"{self.path.name} row {row + 1}"
        return f"{self.path.name}:{self.lines[row]}"


def is_table(path: Path) -> bool:
    """Say whether a file is a table, by its name."""
    return path.is_file() and _suffix(path) in SUFFIXES


def is_table_folder(path: Path) -> bool:
    """Say whether a folder holds tables named after splits."""
    return path.is_dir() and bool(_split_tables(path))


def table_files(path: Path) -> list[tuple[Path, str]]:
    """Return the files of a table with their splits: one, or a folder's tables.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [(path, "")]
    if not path.is_dir():
        raise DataError("this is neither a file nor a folder", where=str(path))
    tables = _split_tables(path)
    if not tables:
        raise DataError(
            "there is no table in this folder",
            where=str(path),
            fix="Name the table itself, or name tables train.csv, val.csv and test.csv "
            f"({', '.join(SUFFIXES)})",
        )
    return tables


def _split_tables(folder: Path) -> list[tuple[Path, str]]:
    order = {"train": 0, "validation": 1, "test": 2}
    tables = [
        (item, SPLITS[item.name.partition(".")[0].lower()])
        for item in folder.iterdir()
        if _suffix(item) in SUFFIXES and item.name.partition(".")[0].lower() in SPLITS
    ]
    return sorted(tables, key=lambda pair: (order[pair[1]], pair[0].name))


def columns_of(path: Path) -> list[str]:
    """Return the names of the columns of a table, or of the first of a folder of tables."""
    return list(open_table(table_files(path)[0][0]).columns)


def first_values(path: Path, name: str, most: int) -> Sequence[Any]:
    """Return the first values of a column of a table, or of the first of a folder of tables."""
    table = open_table(table_files(path)[0][0])
    return table.columns[name]()[:most]


def _suffix(file: Path) -> str:
    """Return `.csv` or `.csv.gz`."""
    suffix = file.suffix.lower()
    return file.with_suffix("").suffix.lower() + suffix if suffix == ".gz" else suffix


def open_table(file: Path, names: Sequence[str] | None = None) -> Table:
    """Return the columns of a file.

    `names` are the names of its columns, where it has no header line.

    Raises:
        DataError: it can't be read, or is no table.
    """
    kind = _suffix(file)
    if names is not None and kind.removesuffix(".gz") not in _DELIMITED:
        raise DataError(
            f"`columns` names those of text tables, and this is `{kind}`",
            where=str(file),
            fix="Leave `data.columns` out",
        )
    try:
        match kind.removesuffix(".gz"):
            case ".txt" if names is not None:
                return _delimited(file, None, names)
            case ".parquet":
                return _parquet(file)
            case ".csv" | ".tsv":
                return _delimited(file, "\t" if kind.startswith(".tsv") else None, names)
            case ".jsonl":
                return _json_lines(file)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", where=str(file)) from error
    if kind == ".json":
        raise no_table(file)
    raise DataError(
        f"tables of the kind `{kind}` aren't read",
        where=str(file),
        fix=f"Use one of {', '.join(SUFFIXES)}",
    )


def no_table(file: Path) -> DataError:
    """Return what to say of a JSON file that is to be a table: how it becomes JSON lines."""
    text = decoded(read_maybe_packed(file), file, "file").strip()
    if text.startswith("["):
        made = file.with_suffix(".jsonl").name
        program = (
            "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin.buffer)]"
        )
        # It will be pasted into a shell, and a file may have any name.
        ends = f"< {shlex.quote(file.name)} > {shlex.quote(made)}"
        return DataError(
            "this is one JSON list, and tables are read from JSON lines, an object a line",
            where=str(file),
            fix=f'Turn it into them (python -c "{program}" {ends}), and use {made}',
        )
    if text.startswith("{") and _is_json(text.partition("\n")[0]) and "\n" in text:
        return DataError(
            "this seems to be JSON lines, and its name says JSON",
            where=str(file),
            fix=f"Rename it to {file.with_suffix('.jsonl').name}",
        )
    return DataError(
        "this JSON is neither a table nor boxes",
        where=str(file),
        why="A table is JSON lines, an object a line, called .jsonl; boxes come as COCO writes "
        "them, an object with the lists `images`, `annotations` and `categories`",
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parquet(file: Path) -> Table:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, ValueError) as error:
        raise DataError("this isn't a Parquet file, or it is damaged", where=str(file)) from error
    names = _class_names(table.schema)

    def column(name: str) -> Column:
        known = names.get(name)
        if known is None:
            return lambda: _listed(table[name], file, name)
        return lambda: [_by_name(value, known) for value in _listed(table[name], file, name)]

    return Table(file, {name: column(name) for name in table.column_names})


def _listed(column: pa.ChunkedArray, file: Path, name: str) -> list[Any]:
    try:
        return cast("list[Any]", column.to_pylist())
    except UnicodeDecodeError as error:
        raise DataError(
            f"the column `{name}` is declared as text, and isn't UTF-8",
            where=str(file),
            why=f"A value has the byte 0x{error.object[error.start]:02x}",
            fix="Write the table anew, as UTF-8",
        ) from error


def _by_name(value: Any, known: list[str]) -> Any:
    """Return the name of a numbered class, or those of a list of them."""
    if isinstance(value, list):
        return [_by_name(item, known) for item in value]
    return known[value] if isinstance(value, int) and 0 <= value < len(known) else value


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of numbered classes that a Hugging Face file carries along."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = {
            name: _feature_of_items(feature)
            for name, feature in metadata["info"]["features"].items()
        }
        return {
            name: [str(item) for item in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _feature_of_items(feature: Any) -> Any:
    """Return what a Hugging Face file says of the items of a list, or else of the column."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        return feature["feature"]
    return feature


_DELIMITED = (".csv", ".tsv", ".txt")
UNUSED = "-"
"""The name of a column that is left out."""


def _delimited(file: Path, delimiter: str | None, names: Sequence[str] | None) -> Table:
    text = decoded(read_maybe_packed(file), file, "table")
    if delimiter is None:
        first = text.partition("\n")[0]
        delimiter = max(",;\t|", key=first.count) if any(sign in first for sign in ",;\t|") else ","
    header, rows, lines = _read_cells(file, text, delimiter, names)
    used = [name for name in header if name != UNUSED]
    if len(set(used)) != len(used):
        where = "data.columns" if names else f"{file}:1"
        raise DataError("two columns have one name", where=where)

    def column(number: int) -> Column:
        return lambda: [row[number] for row in rows]

    return Table(
        file, {name: column(number) for number, name in enumerate(header) if name != UNUSED}, lines
    )


_Cells = tuple[list[str], list[list[str]], list[int]]
"""The names of the columns, the cells of each row, and the line that each row begins in."""


def _read_cells(file: Path, text: str, delimiter: str, names: Sequence[str] | None) -> _Cells:
    """Return the cells, quotes read as they are meant.

    Sentences begin with quotation marks, and tab-separated text is often not quoted at all. So a
    line is a row where each line has the right number of cells, and quotes would join some lines.
    """
    try:
        table = _cells(file, text, delimiter, names, quoting=csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t":
            raise
        return _cells(file, text, delimiter, names, quoting=csv.QUOTE_NONE)
    if any("\n" in cell for row in table[1] for cell in row):
        with contextlib.suppress(DataError):
            return _cells(file, text, delimiter, names, quoting=csv.QUOTE_NONE)
    return table


def _cells(
    file: Path, text: str, delimiter: str, names: Sequence[str] | None, *, quoting: Literal[0, 3]
) -> _Cells:
    """Return the cells, quotes read by the rule `quoting` of the `csv` module.

    Raises:
        DataError: a row can't be read, or has more or fewer cells than there are names.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting
    )
    rows: list[list[str]] = []
    lines: list[int] = []
    begin = 1
    try:
        header = list(names) if names else [name.strip() for name in next(reader, [])]
        begin = reader.line_num + 1
        for row in reader:
            line, begin = begin, reader.line_num + 1
            if not row:
                continue
            if len(row) != len(header):
                named = "`data.columns`" if names else "the header"
                raise DataError(
                    f"this row has {len(row)} cells and {named} {len(header)}",
                    where=f"{file}:{line}",
                    fix='Put cells that hold the separator into double quotes: "a, b"',
                )
            rows.append(row)
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"this row can't be read: {error}", where=f"{file}:{begin}") from error
    return header, rows, lines


def _json_lines(file: Path) -> Table:
    numbered = list(_objects(file))
    rows = [row for _, row in numbered]
    names = dict.fromkeys(name for row in rows for name in row)

    def column(name: str) -> Column:
        return lambda: [row.get(name) for row in rows]

    return Table(file, {name: column(name) for name in names}, [line for line, _ in numbered])


def _objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each object with the number of its line."""
    for number, line in enumerate(
        decoded(read_maybe_packed(file), file, "table").split("\n"), start=1
    ):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            why = f"this line isn't JSON: {error.msg} at column {error.colno}"
            raise DataError(why, where=f"{file}:{number}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"this line isn't JSON: {error}", where=f"{file}:{number}") from error
        if not isinstance(value, dict):
            raise DataError("this line isn't a JSON object", where=f"{file}:{number}")
        yield number, value
