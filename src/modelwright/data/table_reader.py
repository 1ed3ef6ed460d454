"""The files of tables: CSV, TSV, JSON lines and Parquet, plain or gzipped, as columns of cells."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast, overload

import pyarrow as pa
import pyarrow.parquet as pq

from modelwright.data import label_studio
from modelwright.data.encodings import decode_text
from modelwright.data.formats import foreign_file
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.listing import SPLITS
from modelwright.data.sealed import is_unsealing, plain_name, read_bytes
from modelwright.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
"""How the names of tables end; a `.json` file that holds a list is one as well."""
FRAME_FOLDER = b"modelwright.folder"
"""Where a Parquet file that holds a DataFrame says which folder paths in it start from."""
csv.field_size_limit(1 << 24)


class RepeatedColumnError(DataError):
    """Two columns of a table have one name."""

    def __init__(self, what: str, *, where: str, fix: str, name: str, count: int) -> None:
        super().__init__(what, where=where, fix=fix)
        self.name = name
        self.count = count
        """Of the table's columns."""


class Column(Protocol):
    """One column, read when it is asked for."""

    def __call__(self, rows: Sequence[int] | None = None, /) -> Sequence[Any]:
        """Return its cells, or those of some rows."""


@dataclass(frozen=True, slots=True)
class Places(Sequence[str]):
    """Where each row of a table stands, written when it is asked for: a million take long."""

    name: str
    """The file's; empty of a DataFrame."""
    num_rows: int
    lines: Sequence[int] | None
    """The line that each row begins in, where the file has lines."""

    def __len__(self) -> int:
        return self.num_rows

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return the places of some rows."""
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(self.num_rows))]
        if not 0 <= row < self.num_rows:
            raise IndexError(row)
        return self.place(row)

    def place(self, row: int) -> str:
        """Return the place of one row."""
        if not self.name:
            return f"row {row + 1}"
        if self.lines is None:
            return f"{self.name} row {row + 1}"
        return f"{self.name}:{self.lines[row]}"


@dataclass(frozen=True, slots=True)
class Table:
    """One file, opened."""

    path: Path
    columns: Mapping[str, Column]
    """A function for each column."""
    num_rows: int
    lines: Sequence[int] | None = None
    """The line that each row begins in, from 1, where the file has lines."""
    notes: tuple[str, ...] = ()
    """What was decided in reading it, for the user."""
    delimiter: str = ""
    """What stands between the cells of a text table."""
    frame_folder: Path | None = None
    """Of a DataFrame that was written to a file: the folder that its paths start from."""

    @property
    def folder(self) -> Path:
        """The folder that paths in cells start from: a DataFrame's, or else the file's."""
        return self.frame_folder or self.path.parent

    def sample(self, name: str, most: int) -> Sequence[Any]:
        """Return at most so many cells of a column, evenly from all of its rows."""
        step = max(1, math.ceil(self.num_rows / most))
        return self.columns[name](range(0, self.num_rows, step))

    @property
    def has_text_cells(self) -> bool:
        """Whether all cells are text, whatever they mean."""
        return suffix_of(self.path).removesuffix(".gz") in _DELIMITED

    def place(self, row: int) -> str:
        """Return where a row stands, for messages."""
        return self.places.place(row)

    @property
    def places(self) -> Places:
        """Where each row stands, for messages."""
        name = "" if self.frame_folder is not None else self.path.name
        return Places(name, self.num_rows, self.lines)


def is_table(path: Path) -> bool:
    """Say whether a file is a table, by its name and, of JSON, by its beginning."""
    if not path.is_file():
        return False
    return suffix_of(path) in SUFFIXES or (suffix_of(path) == ".json" and _is_list(path))


def _is_list(path: Path) -> bool:
    try:
        if is_unsealing():
            beginning = read_bytes(path)[:4096]
        else:
            with path.open("rb") as stream:
                beginning = stream.read(4096)
    except OSError:
        return False
    beginning = beginning.removeprefix(b"\xef\xbb\xbf")
    return re.match(rb"\s*\[\s*(\{|$)", beginning) is not None


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
        if suffix_of(item) in SUFFIXES and item.name.partition(".")[0].lower() in SPLITS
    ]
    return sorted(tables, key=lambda pair: (order[pair[1]], pair[0].name))


def columns_of(
    path: Path, names: Sequence[str] | None = None, *, encoding: str | None = None
) -> list[str]:
    """Return the names of the columns of a table, or of the first of a folder of tables.

    `names` and `encoding` are those that `open_table` takes.
    """
    return list(open_table(table_files(path)[0][0], names, encoding=encoding).columns)


def suffix_of(file: Path) -> str:
    """Return `.csv` or `.csv.gz`."""
    path = Path(plain_name(file.name))
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() + suffix if suffix == ".gz" else suffix


def open_table(
    file: Path, names: Sequence[str] | None = None, *, encoding: str | None = None
) -> Table:
    """Return the columns of a file.

    `names` are the names of its columns, where it has no header line; `encoding` is that of a text
    table that isn't UTF-8.

    Raises:
        DataError: it can't be read, or is no table.
    """
    kind = suffix_of(file)
    if names is not None and kind.removesuffix(".gz") not in _DELIMITED:
        raise DataError(
            f"`columns` names those of text tables, and this is `{kind}`",
            where=str(file),
            fix="Leave `data.columns` out",
        )
    try:
        match kind.removesuffix(".gz"):
            case ".txt" if names is not None:
                return _delimited(file, None, names, encoding)
            case ".parquet":
                return _parquet(file)
            case ".csv" | ".tsv":
                delimiter = "\t" if kind.startswith(".tsv") else None
                return _delimited(file, delimiter, names, encoding)
            case ".jsonl":
                return _json_lines(file, encoding)
            case ".json" if _is_list(file):
                return _json_list(file, encoding)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", where=str(file)) from error
    raise no_table(file)


def no_table(file: Path) -> DataError:
    """Return what to say of a file that is to be a table, and isn't one."""
    foreign = foreign_file(file)
    if foreign is not None:
        return foreign
    if file.suffix.lower() != ".json":
        return DataError(
            f"tables of the kind `{suffix_of(file)}` aren't read",
            where=str(file),
            fix=f"Use one of {', '.join(SUFFIXES)}",
        )
    text = read_maybe_packed(file)[: 1 << 20].decode("utf-8", "replace").strip()
    if text.startswith("{") and _is_json(text.partition("\n")[0]) and "\n" in text:
        return DataError(
            "this seems to be JSON lines, and its name says JSON",
            where=str(file),
            fix=f"Rename it to {file.with_suffix('.jsonl').name}",
        )
    return DataError(
        "this JSON is neither a table nor boxes",
        where=str(file),
        why="A table is a list of objects, or an object a line in a file called .jsonl; boxes come "
        "as COCO writes them, an object with the lists `images`, `annotations` and `categories`",
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parquet(file: Path) -> Table:
    try:
        table = pq.read_table(io.BytesIO(read_bytes(file)) if is_unsealing() else file)
        columns = table.column_names  # Their names may not be UTF-8.
    except (pa.ArrowException, ValueError) as error:
        raise DataError("this isn't a Parquet file, or it is damaged", where=str(file)) from error
    names = _class_names(table.schema)

    def column(name: str) -> Column:
        known = names.get(name)

        def cells(rows: Sequence[int] | None = None) -> Sequence[Any]:
            chosen = table[name] if rows is None else table[name].take(pa.array(rows, pa.int64()))
            values = _listed(chosen, file, name)
            return values if known is None else [_by_name(value, known) for value in values]

        return cells

    folder = (table.schema.metadata or {}).get(FRAME_FOLDER)
    return Table(
        file,
        {name: column(name) for name in columns},
        table.num_rows,
        frame_folder=None if folder is None else Path(os.fsdecode(folder)),
    )


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
    except (OverflowError, ValueError, pa.ArrowException) as error:
        raise unreadable_time(file, name, error) from error


def unreadable_time(file: Path, name: str, error: Exception) -> DataError:
    """Return the error for a column of times that lie outside the calendar, or in no time zone."""
    return DataError(
        f"the column `{name}` holds values that can't be read",
        where=str(file),
        why=str(error).split("\n")[0][:120],
        fix="Write them as text, or leave the column out",
    )


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


def _delimited(
    file: Path, delimiter: str | None, names: Sequence[str] | None, encoding: str | None
) -> Table:
    data = read_maybe_packed(file)
    foreign = foreign_file(file) if data[:2] == b"PK" or b"\0" in data[:64] else None
    if foreign is not None:
        raise foreign
    text = decode_text(data, where=str(file), what="table", encoding=encoding)
    del data  # The text is as large again, and its cells too.
    if delimiter is None or (delimiter not in text and text):
        delimiter = delimiter_of(text, ",;\t|" if names is None else ",;\t| ")
    (header, cells_of, lines, repeated), has_quotes = _read_cells(file, text, delimiter, names)
    used = [name for name in header if name != UNUSED]
    twice = next((name for name, count in Counter(used).items() if count > 1), None)
    if twice is not None:
        raise RepeatedColumnError(
            f"two columns have one name: `{twice}`",
            where="data.columns" if names else f"{file}:1",
            fix="Give each its own name",
            name=twice,
            count=len(header),
        )
    is_export = set(used) >= label_studio.MARKS

    def column(number: int) -> Column:
        held = cells_of[number]

        def cells(chosen: Sequence[int] | None = None) -> Sequence[Any]:
            values = held if chosen is None else [held[at] for at in chosen]
            return label_studio.tidied_cells(values, file.parent) if is_export else values

        return cells

    columns = {name: column(number) for number, name in enumerate(header) if name != UNUSED}
    is_plain = not has_quotes and '"' in text
    notes = [quotes_note(file)] if is_plain else []
    if repeated:
        notes.append(
            f"{file}:{repeated[0]}: the header stands here again, as where tables were joined; "
            f"rows that repeat it are left out ({len(repeated):,})"
        )
    return Table(file, columns, len(lines), lines, tuple(notes), delimiter)


def quotes_note(file: Path) -> str:
    """Return what to say of a table whose quotation marks are parts of its cells."""
    return (
        f"{file.name}: quotation marks are taken as they stand, since as quotes they would join "
        "rows or leave some unreadable"
    )


TRIED = 1 << 16
"""So much of a text table is looked at to tell what stands between its cells."""


def delimiter_of(text: str, signs: str = ",;\t|") -> str:
    """Return what stands between the cells: what gives most lines the same number of several.

    Only what occurs in the first line is tried, as it names the columns; blanks only where nothing
    else does.
    """
    said = separator_line(text)
    if said is not None:
        return said
    first = text.partition("\n")[0]
    whole = text if len(text) <= TRIED else text[: text.rfind("\n", 0, TRIED) + 1]
    best, most = ",", (0.0, 0)
    for sign in [sign for sign in signs.rstrip() if sign in first] or signs[-1]:
        rows = csv.reader(io.StringIO(whole, newline=""), delimiter=sign)
        try:
            counts = Counter(len(row) for row in rows if row)
        except csv.Error:
            continue
        if not counts:
            continue
        cells, lines = max(counts.items(), key=lambda item: (item[0] > 1, item[1]))
        score = (round(lines / counts.total(), 2), cells) if cells > 1 else (0.0, 0)
        if score > most:
            best, most = sign, score
    return best


def separator_line(text: str) -> str | None:
    r"""Return the separator that a first line `sep=;` names, as spreadsheets write it.

    >>> separator_line("sep=;\na;b\n"), separator_line("a;b\n")
    (';', None)
    """
    match = re.match(r"sep=(.)\r?\n", text)
    return match and match[1]


def header_names(cells: Sequence[str]) -> list[str]:
    """Return the names of columns; those without one are numbered, as pandas does.

    >>> header_names(["", " text"])
    ['Unnamed: 0', 'text']
    """
    return [cell.strip() or f"Unnamed: {at}" for at, cell in enumerate(cells)]


_Cells = tuple[list[str], list[list[str]], Sequence[int], Sequence[int]]
"""The names of the columns, the cells of each column, the line that each row begins in, and the
lines of rows that repeat the header."""
_REPEATED, _KINDS = 32, 10_000
"""Cells of so few characters are kept once each, up to so many kinds: labels repeat."""
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def _read_cells(
    file: Path, text: str, delimiter: str, names: Sequence[str] | None
) -> tuple[_Cells, bool]:
    """Return the cells, quotes read as they are meant, and whether quotation marks are quotes.

    Sentences begin with quotation marks, and tab-separated text is often not quoted at all. So a
    line is a row where each line has the right number of cells, quotes would join some lines, and
    no cell would be a quotation mark alone, which is the end of a quoted cell.
    """
    try:
        table = _cells(file, text, delimiter, names, quoting=csv.QUOTE_MINIMAL)
    except DataError as error:
        try:
            return _cells(file, text, delimiter, names, quoting=csv.QUOTE_NONE), False
        except DataError as plain:
            raise (plain if delimiter == "\t" else error) from None
    if any("\n" in cell for column in table[1] for cell in column):
        with contextlib.suppress(DataError):
            plain_table = _cells(file, text, delimiter, names, quoting=csv.QUOTE_NONE)
            if not any('"' in column for column in plain_table[1]):
                return plain_table, False
    return table, True


def _cells(
    file: Path, text: str, delimiter: str, names: Sequence[str] | None, *, quoting: Literal[0, 3]
) -> _Cells:
    """Return the cells, quotes read by the rule `quoting` of the `csv` module.

    Rows that repeat the header aren't among them; their lines are returned beside.

    Raises:
        DataError: a row can't be read, or has more or fewer cells than there are names.
    """
    # Line by line: a stream over the text would hold it again, at four bytes a character.
    text_lines = (match[0] for match in _LINES.finditer(text))
    reader = csv.reader(text_lines, delimiter=delimiter, strict=True, quoting=quoting)
    lines, repeated, kept = array("q"), list[int](), dict[str, str]()
    begin = 1
    try:
        if separator_line(text) is not None:
            next(reader, None)
        first = [] if names else next(reader, [])
        header = list(names) if names else header_names(first)
        columns: list[list[str]] = [[] for _ in header]
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
            if row == first and len(row) > 1:
                repeated.append(line)
                continue
            for column, cell in zip(columns, row, strict=True):
                if len(cell) <= _REPEATED:
                    cell = kept.get(cell, cell)
                    if len(kept) < _KINDS:
                        kept[cell] = cell
                column.append(cell)
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"this row can't be read: {error}", where=f"{file}:{begin}") from error
    return header, columns, lines, repeated


def _json_lines(file: Path, encoding: str | None) -> Table:
    numbered = list(_objects(file, encoding))
    return _of_objects(file, [row for _, row in numbered], [line for line, _ in numbered])


def _json_list(file: Path, encoding: str | None) -> Table:
    """Return the table of a JSON list of objects, such as JSON-MIN, or of Label Studio's tasks."""
    text = decode_text(read_maybe_packed(file), where=str(file), what="table", encoding=encoding)
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        why = f"this isn't JSON: {error.msg} at column {error.colno}"
        raise DataError(why, where=f"{file}:{error.lineno}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"this isn't JSON: {error}", where=str(file)) from error
    odd = next((at for at, item in enumerate(items, 1) if not isinstance(item, dict)), None)
    if odd is not None:
        raise DataError(f"item {odd:,} of this JSON list isn't an object", where=str(file))
    if label_studio.is_export(items):
        return _of_objects(file, label_studio.rows_of_tasks(items, file.parent))
    if items and items[0].keys() >= label_studio.MARKS:
        items = label_studio.tidied(items, file.parent)
    return _of_objects(file, items)


def _of_objects(
    file: Path, rows: Sequence[dict[str, Any]], lines: Sequence[int] | None = None
) -> Table:
    rows = [flat_object(row) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)

    def column(name: str) -> Column:
        def cells(chosen: Sequence[int] | None = None) -> Sequence[Any]:
            taken = rows if chosen is None else [rows[at] for at in chosen]
            return [row.get(name) for row in taken]

        return cells

    return Table(file, {name: column(name) for name in names}, len(rows), lines)


def flat_object(row: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the fields of objects in it as its own.

    Images that are kept as objects of bytes and path stay as they are, and so does an object with
    a field whose name would come twice.

    >>> flat_object({"id": 1, "data": {"text": "a"}})
    {'id': 1, 'data.text': 'a'}
    """
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    flat: dict[str, Any] = {}
    for name, value in row.items():
        inner: dict[str, Any] = {}
        if isinstance(value, dict) and not {"bytes", "path"} & value.keys():
            inner = {f"{name}.{of}": cell for of, cell in flat_object(value).items()}
        is_flat = inner and not inner.keys() & (row.keys() | flat.keys())
        flat |= inner if is_flat else {name: value}
    return flat


def _objects(file: Path, encoding: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each object with the number of its line."""
    text = decode_text(read_maybe_packed(file), where=str(file), what="table", encoding=encoding)
    for number, line in enumerate(text.split("\n"), start=1):
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
