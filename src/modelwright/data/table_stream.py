"""The rows of a table one after another, in bounded memory, whatever the table's size.

What is trained on is opened whole (`table_reader`); what is only predicted may not fit into memory.
A first pass over a text table settles what a single row can't tell: its encoding, whether its
quotation marks are quotes, its columns, and how many rows there are. A row that can't be read is
given with the reason, so that the others can be answered.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelwright.data.encodings import (
    DetectedEncoding,
    decodes,
    detect_of_lines,
    marked_encoding,
)
from modelwright.data.formats import foreign_file
from modelwright.data.table_reader import (
    TRIED,
    delimiter_of,
    flat_object,
    header_names,
    no_table,
    open_table,
    quotes_note,
    separator_line,
    suffix_of,
    unreadable_time,
)
from modelwright.errors import DataError

Record = dict[str, Any]
"""One row: its cells by their columns, as plain values."""
_PARQUET_BUFFER = 1 << 20
_MOST_LINE = 1 << 24
"""Bytes that are read as one line."""
_MOST_LIST_BYTES = 256 << 20
"""A JSON list is read whole, so a longer one is refused."""
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Row:
    """Where a row stands, and why it can't be read."""

    number: int
    """From 1, the header not counted."""
    place: str
    """`data.csv:17`, by its line, or `data.parquet row 17`."""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows."""

    rows: Sequence[Row]
    records: Callable[[Sequence[int]], list[Record]]
    """Returns some of the rows as plain values."""
    arrow: Callable[[Sequence[int]], pa.RecordBatch]
    """Returns some of the rows as Arrow has them, in the stream's schema."""
    column: Callable[[str], Sequence[Any]]
    """Returns the cells of a column of all rows; `None` of those that can't be read."""


@dataclass(frozen=True, slots=True)
class TableStream:
    """A table that is read in chunks."""

    path: Path
    schema: pa.Schema
    num_rows: int
    """All rows, those that can't be read among them."""
    chunks: Callable[[int], Iterator[Chunk]]
    """Returns all rows, at most so many at once."""
    is_text: bool = False
    """Whether it is a text table, of which each cell is kept as it stands."""
    is_marked: bool = False
    """Whether it is a text table in another encoding than plain UTF-8."""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self.schema.names)


def stream_table(
    file: Path,
    *,
    encoding: str | None = None,
    likely: str | None = None,
    columns: Sequence[str] | None = None,
) -> TableStream:
    """Open a table to read it row by row.

    Args:
        file: a CSV, TSV, JSON lines or Parquet file, those of text also gzipped; or a JSON list,
            which is read whole.
        encoding: of a text table. By default a byte order mark decides, or else UTF-8 is taken
            where it fits, or else `likely` where that fits, or else what is recognised.
        likely: the encoding of a text table that isn't UTF-8.
        columns: the names of the columns of a text table that may have no header. It has none where
            its first row has as many cells and isn't these names.

    Raises:
        DataError: it can't be read, or is no table.
    """
    kind = suffix_of(file).removesuffix(".gz")
    try:
        match kind:
            case ".parquet":
                return _parquet(file)
            case ".csv" | ".tsv" | ".txt":
                _refuse_foreign(file)
                return _delimited(
                    file, (encoding, likely), columns, "\t" if kind == ".tsv" else None
                )
            case ".jsonl":
                return _json_lines(file, (encoding, likely))
            case ".json":
                return _json_list(file, encoding)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError("this gzip file is damaged", where=str(file), why=str(error)) from error
    except UnicodeDecodeError as error:  # Of UTF-16, a part that is no character has no stand-in.
        raise DataError(
            f"this table isn't {error.encoding}", where=str(file), why=error.reason.capitalize()
        ) from error
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", where=str(file)) from error
    raise no_table(file)


def _refuse_foreign(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(64)
    is_marked = marked_encoding(start) is not None
    foreign = foreign_file(file) if start[:2] == b"PK" or b"\0" in start else None
    if foreign is not None and not is_marked:
        raise foreign


# -- text ------------------------------------------------------------------------------------


def _binary(file: Path) -> BinaryIO:
    with file.open("rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(file, "rb") if is_packed else file.open("rb")  # type: ignore[return-value]


def _text(file: Path, encoding: str) -> TextIO:
    """Open a text file; bytes that can't be decoded become lone surrogates."""
    return io.TextIOWrapper(_binary(file), encoding, errors="surrogateescape", newline="")


_Asked = tuple["str | None", "str | None"]
"""The encoding of a text table that is said, and the one that is likely."""


def _encoding(file: Path, asked: _Asked) -> tuple[str, DetectedEncoding | None]:
    """Return a text file's encoding, and what was detected where it isn't certain."""
    with _binary(file) as stream:
        marked = marked_encoding(stream.read(4))
    said, likely = asked
    if marked is not None or said is not None:
        return marked or str(said), None
    with _binary(file) as stream:
        detected = detect_of_lines(_lines(stream))
    if detected is not None and likely is not None:
        with _binary(file) as stream:
            if all(decodes(line, likely) for line in _lines(stream)):
                return likely, None
    return ("utf-8", None) if detected is None else (detected.encoding, detected)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    return iter(partial(stream.readline, _MOST_LINE), b"")


def _undecoded(text: str) -> str:
    """Return why a text can't be taken, where some of its bytes weren't decoded."""
    odd = next((char for char in text if "\udc80" <= char <= "\udcff"), None)
    return "" if odd is None else f"the byte 0x{ord(odd) - 0xDC00:02x} can't be decoded"


def _notes(file: Path, detected: DetectedEncoding | None) -> tuple[str, ...]:
    if detected is None:
        return ()
    return (
        f"{file.name} isn't UTF-8; it is read as {detected.encoding} (--encoding says another). "
        f"So its lines read: {detected.shown}",
    )


Quoting = Literal[0, 3]
"""`csv.QUOTE_MINIMAL` or `csv.QUOTE_NONE`."""
_Cells = tuple[Row, "list[str] | None"]
"""A row, and its cells where it can be read."""


def _delimited(
    file: Path, asked: _Asked, columns: Sequence[str] | None, delimiter: str | None
) -> TableStream:
    encoding, detected = _encoding(file, asked)
    with _text(file, encoding) as stream:
        start = stream.read(TRIED + 1)
    if delimiter is None or (delimiter not in start and start):
        delimiter = delimiter_of(start)
    skipped = int(separator_line(start) is not None)

    def header_of(quoting: Quoting) -> tuple[list[str], bool]:
        """Return the names of the columns, and whether the first line holds them."""
        rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter, quoting=quoting)
        first = header_names(next(itertools.islice(rows, skipped, None), []))
        if columns is not None and len(columns) == len(first) and list(columns) != first:
            return list(columns), False
        return first, True

    def numbered(quoting: Quoting) -> Iterator[_Cells]:
        names, has_header = header_of(quoting)
        return _numbered(
            file, encoding, delimiter, len(names), quoting=quoting, skipped=skipped + has_header
        )

    quoting, num_rows = _quoting(numbered, delimiter)
    header, _ = header_of(quoting)
    if not header:
        raise DataError("the table is empty", where=str(file))
    if len(set(header)) != len(header):
        raise DataError("two columns have one name", where=f"{file}:1")
    if fault := next(filter(None, map(_undecoded, header)), ""):
        raise DataError("the names of the columns can't be read", where=f"{file}:1", why=fault)
    notes = _notes(file, detected)
    if quoting == csv.QUOTE_NONE and _has_quotes(file, encoding):
        notes += (quotes_note(file),)

    def chunks(size: int) -> Iterator[Chunk]:
        pairs = (
            (row, None if cells is None else dict(zip(header, cells, strict=True)))
            for row, cells in numbered(quoting)
        )
        yield from _chunked(pairs, size, schema)

    schema = pa.schema([(name, pa.string()) for name in header])
    return TableStream(
        file,
        schema,
        num_rows,
        chunks,
        is_text=True,
        is_marked=encoding.replace("_", "-").lower() not in ("utf-8", "utf8", "ascii"),
        notes=notes,
    )


def _numbered(
    file: Path, encoding: str, delimiter: str, width: int, *, quoting: Quoting, skipped: int
) -> Iterator[_Cells]:
    """Yield each row with its cells, or with the reason why it has none."""
    with _text(file, encoding) as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True, quoting=quoting)
        header: list[str] | None = None
        for _ in range(skipped):
            with contextlib.suppress(csv.Error):  # What is skipped may be broken.
                header = next(reader, None)
        for number in itertools.count(1):
            begin = reader.line_num + 1
            fault, cells = "", None
            # Lines that are blank are no rows, nor are those that repeat the header.
            while (not cells or (cells == header and width > 1)) and not fault:
                begin = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    fault, cells = f"this row can't be read: {error}", None
            if cells and len(cells) != width:
                fault = f"this row has {len(cells)} cells, and there are {width} columns"
            elif cells:
                fault = next(filter(None, map(_undecoded, cells)), "")
            yield Row(number, f"{file.name}:{begin}", fault), None if fault else cells


def _quoting(
    numbered: Callable[[Quoting], Iterator[_Cells]], delimiter: str
) -> tuple[Quoting, int]:
    """Return whether quotation marks are quotes, as `table_reader` decides, and the rows there are.

    They are, unless more rows can be read without quotes, or as many and quotes join lines. Of
    tables whose cells are separated by tabs, quotes are taken as they stand where that is no worse.
    """
    counts = _counts(numbered(csv.QUOTE_MINIMAL))
    if not counts.faults and not counts.joins:
        return csv.QUOTE_MINIMAL, counts.rows
    plain = _counts(numbered(csv.QUOTE_NONE), refused='"')
    is_better = plain.faults < counts.faults
    if counts.joins or delimiter == "\t":
        is_better |= plain.faults == counts.faults
    return (csv.QUOTE_NONE, plain.rows) if is_better else (csv.QUOTE_MINIMAL, counts.rows)


@dataclass(frozen=True, slots=True)
class _Counts:
    rows: int
    faults: int
    joins: bool
    """Whether a cell goes over several lines."""


def _counts(rows: Iterable[_Cells], *, refused: str | None = None) -> _Counts:
    """Count rows; one with a cell that is `refused` is a fault."""
    count = faults = 0
    joins = False
    for row, cells in rows:
        count += 1
        faults += bool(row.fault) or (refused is not None and refused in (cells or ()))
        joins = joins or any("\n" in cell for cell in cells or ())
    return _Counts(count, faults, joins)


def _has_quotes(file: Path, encoding: str) -> bool:
    with _text(file, encoding) as stream:
        return any('"' in line for line in iter(partial(stream.readline, _MOST_LINE), ""))


def _chunked(
    pairs: Iterable[tuple[Row, Record | None]], size: int, schema: pa.Schema
) -> Iterator[Chunk]:
    """Yield chunks of rows that are plain values."""
    rest = iter(pairs)
    while taken := list(itertools.islice(rest, size)):
        records = [record for _, record in taken]

        def chosen(
            positions: Sequence[int], records: list[Record | None] = records
        ) -> list[Record]:
            return [record for at in positions if (record := records[at]) is not None]

        def arrow(
            positions: Sequence[int],
            chosen: Callable[[Sequence[int]], list[Record]] = chosen,
        ) -> pa.RecordBatch:
            return _record_batch(chosen(positions), schema)

        def column(name: str, records: list[Record | None] = records) -> list[Any]:
            return [None if record is None else record.get(name) for record in records]

        yield Chunk([row for row, _ in taken], chosen, arrow, column)


def _record_batch(records: Sequence[Record], schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for item in schema:
        cells = [record.get(item.name) for record in records]
        if pa.types.is_string(item.type):
            cells = [None if cell is None else valid_text(cell_json(cell)) for cell in cells]
        arrays.append(pa.array(cells, item.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


# -- JSON ------------------------------------------------------------------------------------


def _json_lines(file: Path, asked: _Asked) -> TableStream:
    encoding, detected = _encoding(file, asked)
    pairs = partial(_json_rows, file, encoding)
    schema, num_rows = _json_schema(pairs())
    if not num_rows:
        raise DataError("the table holds no rows", where=str(file))
    return TableStream(
        file,
        schema,
        num_rows,
        lambda size: _chunked(pairs(), size, schema),
        notes=_notes(file, detected),
    )


def _json_rows(file: Path, encoding: str) -> Iterator[tuple[Row, Record | None]]:
    number = 0
    with _text(file, encoding) as stream:
        for line_number, line in enumerate(iter(partial(stream.readline, _MOST_LINE), ""), start=1):
            if not line.strip():
                continue
            number += 1
            fault, value = _undecoded(line), None
            try:
                value = None if fault else json.loads(line)
            except json.JSONDecodeError as error:
                fault = f"this line isn't JSON: {error.msg} at column {error.colno}"
            except (ValueError, RecursionError) as error:
                fault = f"this line isn't JSON: {error}"
            if not fault and not isinstance(value, dict):
                fault = "this line isn't a JSON object"
            record = None if fault or value is None else flat_object(value)
            yield Row(number, f"{file.name}:{line_number}", fault), record


def _json_schema(pairs: Iterable[tuple[Row, Record | None]]) -> tuple[pa.Schema, int]:
    """Return the columns that objects have, each with a type that holds all of its values."""
    kinds: dict[str, set[str]] = {}
    count = 0
    for _, record in pairs:
        count += 1
        for name, value in (record or {}).items():
            kinds.setdefault(name, set()).add(_json_kind(value))
    return pa.schema([(valid_text(name), _json_type(kinds[name])) for name in kinds]), count


def _json_kind(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if -_INT64 <= value < _INT64 else "large"
    return type(value).__name__


def _json_type(kinds: set[str]) -> pa.DataType:
    kinds = kinds - {""}
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds == {"int"}:
        return pa.int64()
    if kinds and kinds <= {"int", "float"}:
        return pa.float64()
    return pa.string()  # Lists and objects as JSON.


def _json_list(file: Path, encoding: str | None) -> TableStream:
    if file.stat().st_size > _MOST_LIST_BYTES:
        raise DataError(
            f"this JSON list is longer than {_MOST_LIST_BYTES:,} bytes, and it is read whole",
            where=str(file),
            fix="Write it as JSON lines, an object a line, in a file called .jsonl",
        )
    table = open_table(file, encoding=encoding)
    cells = {name: column() for name, column in table.columns.items()}

    def pairs() -> Iterator[tuple[Row, Record | None]]:
        for at in range(table.num_rows):
            record = {name: values[at] for name, values in cells.items()}
            yield Row(at + 1, table.place(at)), record

    schema, num_rows = _json_schema(pairs())
    return TableStream(file, schema, num_rows, lambda size: _chunked(pairs(), size, schema))


# -- Parquet ---------------------------------------------------------------------------------


def _parquet(file: Path) -> TableStream:
    try:
        opened = pq.ParquetFile(file, buffer_size=_PARQUET_BUFFER, pre_buffer=False)
        schema = opened.schema_arrow
        names = schema.names
    except (pa.ArrowException, ValueError) as error:
        raise DataError("this isn't a Parquet file, or it is damaged", where=str(file)) from error
    if len(set(names)) != len(names):
        raise DataError("two columns have one name", where=str(file))

    def chunks(size: int) -> Iterator[Chunk]:
        number = itertools.count(1)
        try:
            for batch in opened.iter_batches(batch_size=size):
                numbers = [next(number) for _ in range(batch.num_rows)]
                rows = [Row(at, f"{file.name} row {at}") for at in numbers]
                yield Chunk(
                    rows,
                    partial(_parquet_records, file, batch),
                    partial(_taken, batch),
                    partial(_parquet_column, file, batch),
                )
        except (pa.ArrowException, ValueError, OSError) as error:
            raise DataError("this Parquet file is damaged", where=str(file)) from error

    return TableStream(file, schema, opened.metadata.num_rows, chunks)


def _taken(batch: pa.RecordBatch, positions: Sequence[int]) -> pa.RecordBatch:
    if len(positions) == batch.num_rows:
        return batch
    return batch.take(pa.array(positions, pa.int64()))


def _parquet_records(file: Path, batch: pa.RecordBatch, positions: Sequence[int]) -> list[Record]:
    taken = _taken(batch, positions)
    columns = {name: _plain(taken[name], file, name) for name in taken.schema.names}
    return [{name: cells[at] for name, cells in columns.items()} for at in range(taken.num_rows)]


def _parquet_column(file: Path, batch: pa.RecordBatch, name: str) -> list[Any]:
    return _plain(batch[name], file, name, with_bytes=True)


def _plain(column: pa.Array, file: Path, name: str, *, with_bytes: bool = False) -> list[Any]:
    """Return cells as plain values: times as text, and of bytes nothing or, of a file, its path.

    Raises:
        DataError: they are times outside the calendar, or in a time zone that isn't known.
    """
    kind = column.type
    try:
        if pa.types.is_temporal(kind):
            return list(pc.cast(column, pa.string()).to_pylist())
        cells = list(column.to_pylist())
    except UnicodeDecodeError:
        cells = [_bytes_as_text(cell) for cell in pc.cast(column, pa.binary()).to_pylist()]
    except (OverflowError, ValueError, pa.ArrowException) as error:
        raise unreadable_time(file, name, error) from error
    return cells if with_bytes else [without_bytes(cell) for cell in cells]


def _bytes_as_text(cell: bytes | None) -> str | None:
    return None if cell is None else cell.decode("utf-8", "surrogateescape")


# -- files -----------------------------------------------------------------------------------

FILE_COLUMN = "file"
"""The column of paths that a folder has."""


def stream_files(folder: Path, files: Sequence[str]) -> TableStream:
    """Return the files of a folder as a table with one column, their paths in it."""
    schema = pa.schema([(FILE_COLUMN, pa.string())])

    def pairs() -> Iterator[tuple[Row, Record | None]]:
        for at, file in enumerate(files, 1):
            yield Row(at, str(folder / file)), {FILE_COLUMN: file}

    return TableStream(folder, schema, len(files), lambda size: _chunked(pairs(), size, schema))


# -- cells as text ---------------------------------------------------------------------------


def without_bytes(cell: Any) -> Any:
    """Return a cell without bytes, which neither CSV nor JSON can hold."""
    if isinstance(cell, bytes):
        return None
    if isinstance(cell, Mapping) and set(cell) == {"bytes", "path"}:
        return cell["path"]
    return cell


def cell_json(cell: Any) -> str:
    """Return a cell as text: texts as they are, numbers as JSON has them, lists as JSON."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    if not isinstance(cell, bool | int | float | list | dict):
        return str(cell)  # A decimal number.
    return json.dumps(cell, ensure_ascii=False, default=str)


def valid_text(text: str) -> str:
    """Return a text without lone surrogates, which UTF-8 can't hold."""
    return text.encode("utf-8", "replace").decode()
