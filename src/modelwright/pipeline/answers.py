"""Answers of a model beside the rows that they are of, as CSV, JSON lines or Parquet.

A writer takes chunks of rows and keeps none of them, so a file of any size is written in bounded
memory.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from modelwright.data.table_stream import Chunk, TableStream, cell_json, valid_text, without_bytes
from modelwright.errors import RequestError
from modelwright.files import Json, atomic_write
from modelwright.kinds import OutputKind
from modelwright.tasks import Prediction

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""How files of answers may end."""
_ROW_GROUP_BYTES = 16 << 20
"""So much is gathered before a row group of Parquet is written."""
_ROW_GROUP_ROWS = 1 << 16
_FORMULA = re.compile(r"[=+\-@\t\r]")
"""Spreadsheets take a cell that begins so for a formula (OWASP, CSV injection)."""
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)*|\.\d+)([eE][+-]?\d+)?%?")
_BOX = pa.struct(
    [("label", pa.string()), ("probability", pa.float64()), ("box", pa.list_(pa.float64()))]
)


Column = tuple[str, pa.DataType]


class _Form(NamedTuple):
    """How answers of a kind stand in a table."""

    columns: Callable[[Sequence[str], int], list[Column]]
    """Returns the columns for some labels, and how many answers are asked for."""
    cells: Callable[[Sequence[Prediction]], list[Any]]
    """Returns the cells of one row's answers."""
    takes_top: bool = False


def _of_one_label(labels: Sequence[str], top: int) -> list[Column]:
    endings = ["", *(f"_{number}" for number in range(2, min(top, len(labels)) + 1))]
    return [
        (f"{name}{ending}", kind)
        for ending in endings
        for name, kind in (("prediction", pa.string()), ("probability", pa.float64()))
    ]


def _of_numbers(labels: Sequence[str], _: int) -> list[Column]:
    names = ["prediction"] if len(labels) == 1 else [f"prediction_{name}" for name in labels]
    return [(name, pa.float64()) for name in names]


def _predicted_labels(predictions: Sequence[Prediction]) -> list[Any]:
    chosen = [item for item in predictions if item["predicted"]]
    return [[item[key] for item in chosen] for key in ("label", "probability")]


_FORMS: dict[OutputKind, _Form] = {
    OutputKind.SINGLE_LABEL: _Form(
        _of_one_label,
        lambda predictions: [item[key] for item in predictions for key in ("label", "probability")],
        takes_top=True,
    ),
    OutputKind.MULTI_LABEL: _Form(
        lambda *_: [("prediction", pa.list_(pa.string())), ("probability", pa.list_(pa.float64()))],
        _predicted_labels,
        takes_top=True,
    ),
    OutputKind.REGRESSION: _Form(
        _of_numbers, lambda predictions: [item["value"] for item in predictions]
    ),
    OutputKind.BOXES: _Form(
        lambda *_: [("prediction", pa.list_(_BOX))], lambda predictions: [list(predictions)]
    ),
}
_TEXT = _Form(
    lambda *_: [("prediction", pa.string())], lambda predictions: [predictions[0]["text"]]
)
"""How answers of the other kinds stand there."""


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """The columns that a model's answers take, under names that the table doesn't have."""

    output_kind: OutputKind
    fields: tuple[pa.Field, ...]
    top: int | None
    """How many answers are asked of the model."""

    @property
    def names(self) -> list[str]:
        """The columns."""
        return [item.name for item in self.fields]

    def cells(self, predictions: Sequence[Prediction]) -> list[Any]:
        """Return the cells of one row's answers."""
        return _FORMS.get(self.output_kind, _TEXT).cells(predictions)


def answer_columns(
    output_kind: OutputKind, labels: Sequence[str], taken: Sequence[str], *, top: int | None = None
) -> AnswerColumns:
    """Return the columns of a model's answers.

    One label is `prediction` and `probability`, and with `top` also `prediction_2`,
    `probability_2`, …; several labels are lists. Numbers are `prediction`, or `prediction_NAME`
    each. Boxes are a list, texts a text. Where the table has one of these names already, all begin
    with `model_`, or `model_2_`, and so on; names that differ in case alone count as the same.

    Raises:
        RequestError: `top` has no effect on such a model, or is less than 1.
    """
    if top is not None and top < 1:
        raise RequestError(f"`top` is how many answers to give, at least 1; got {top}")
    form = _FORMS.get(output_kind, _TEXT)
    if top is not None and not form.takes_top:
        raise RequestError(
            f"--top has no effect where {output_kind.noun} are written to a table",
            fix="Leave it out",
        )
    plain = form.columns(labels, top or 1)
    if output_kind == OutputKind.SINGLE_LABEL:
        top = min(top or 1, len(labels))
    known = {name.casefold() for name in taken}
    prefix = next(
        prefix
        for prefix in chain(("", "model_"), (f"model_{number}_" for number in count(2)))
        if not known & {f"{prefix}{n}".casefold() for n, _ in plain}
    )
    fields = tuple(pa.field(f"{prefix}{name}", kind) for name, kind in plain)
    return AnswerColumns(output_kind, fields, top)


def about_bytes(path: Path, schema: pa.Schema) -> tuple[str, ...]:
    """Return a note on the columns of bytes of which a file can only hold paths, or nothing."""
    held = [item.name for item in schema if _holds_bytes(item.type)]
    if not held or path.suffix.lower() == ".parquet":
        return ()
    names = ", ".join(f"`{name}`" for name in held)
    return (f"The bytes in {names} are left out; a .parquet file keeps them",)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(at).type) for at in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class Writer(ABC):
    """Writes rows beside their answers."""

    @abstractmethod
    def write(self, chunk: Chunk, positions: Sequence[int], answers: Sequence[list[Any]]) -> None:
        """Write the rows of a chunk that are answered, with the cells of their answers."""

    def notes(self) -> tuple[str, ...]:
        """Return what is to be said at the end."""
        return ()

    def end(self) -> None:  # noqa: B027 (most writers have nothing left to write)
        """Write what is left."""


@contextmanager
def write_answers(
    path: Path, source: TableStream, columns: AnswerColumns, *, separator: str = "|"
) -> Iterator[Writer]:
    """Yield a writer of the kind that the path's ending says; the file is written aside.

    Args:
        path: the file, which is renamed to its place at the end.
        source: the table that is answered, whose columns are kept.
        columns: those of the answers.
        separator: what stands between several labels in a cell of CSV.

    Raises:
        ResourceError: the disk is full, or the file can't be written.
    """
    with atomic_write(path) as stream:
        writer: Writer
        match path.suffix.lower():
            case ".csv":
                writer = _CsvWriter(stream, source, columns, separator)
            case ".jsonl":
                writer = _JsonWriter(stream, source, columns)
            case _:
                writer = _ParquetWriter(stream, source, columns)
        yield writer
        writer.end()


class _CsvWriter(Writer):
    """CSV in UTF-8, with a byte order mark where the table wasn't plain UTF-8.

    Cells of a text table are written as they stand. Others, and the answers, get an apostrophe
    where a spreadsheet would take them for a formula.
    """

    def __init__(
        self, stream: BinaryIO, source: TableStream, columns: AnswerColumns, separator: str
    ) -> None:
        encoding = "utf-8-sig" if source.is_marked else "utf-8"
        self._text = io.TextIOWrapper(stream, encoding, errors="replace", newline="")
        self._names, self._is_kept = source.names, source.is_text
        self._separator = separator
        self._has_lists = columns.output_kind == OutputKind.MULTI_LABEL
        self._guarded = 0
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow([*map(self._kept, self._names), *map(self._guard, columns.names)])

    def write(self, chunk: Chunk, positions: Sequence[int], answers: Sequence[list[Any]]) -> None:
        """Write rows."""
        for record, cells in zip(chunk.records(positions), answers, strict=True):
            kept = [self._kept(record.get(name)) for name in self._names]
            self._writer.writerow([*kept, *map(self._answer, cells)])

    def _kept(self, cell: Any) -> str:
        text = cell_json(without_bytes(cell))
        return text if self._is_kept else self._guard(text)

    def _answer(self, cell: Any) -> str:
        if isinstance(cell, float):
            return f"{cell:.6g}"
        if self._has_lists and all(isinstance(item, str) for item in cell):
            is_plain = not any(self._separator in item for item in cell)
            return self._guard(self._separator.join(cell) if is_plain else cell_json(cell))
        if self._has_lists:
            return self._separator.join(f"{item:.6g}" for item in cell)
        return self._guard(cell_json(cell))

    def _guard(self, text: str) -> str:
        if _FORMULA.match(text) is None or _NUMBER.fullmatch(text):
            return text
        self._guarded += 1
        return f"'{text}"

    def notes(self) -> tuple[str, ...]:
        """Return how many cells a spreadsheet would have taken for formulas."""
        if not self._guarded:
            return ()
        count = f"{self._guarded:,} cell" + ("s begin" if self._guarded > 1 else " begins")
        return (
            f"{count} with a sign that a spreadsheet takes for a formula, and got an apostrophe "
            "before it; in JSON lines and Parquet they stand as they are",
        )

    def end(self) -> None:
        """Write what is left."""
        self._text.flush()
        self._text.detach()


class _JsonWriter(Writer):
    """JSON lines in UTF-8."""

    def __init__(self, stream: BinaryIO, source: TableStream, columns: AnswerColumns) -> None:
        self._stream, self._names = stream, columns.names

    def write(self, chunk: Chunk, positions: Sequence[int], answers: Sequence[list[Any]]) -> None:
        """Write rows."""
        lines = [
            {**record, **dict(zip(self._names, cells, strict=True))}
            for record, cells in zip(chunk.records(positions), answers, strict=True)
        ]
        self._stream.write(b"".join(_json_line(line) for line in lines))


def _json_line(line: Mapping[str, Json]) -> bytes:
    text = json.dumps(_finite(line), ensure_ascii=False, allow_nan=False, default=_other)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # Half of a character, which only an escape can hold.
        text = json.dumps(_finite(line), allow_nan=False, default=_other)
        return f"{text}\n".encode()


def _other(cell: Any) -> Any:
    """Return what JSON has no form for as text, and of bytes nothing."""
    return None if isinstance(cell, bytes) else str(cell)


def _finite(value: Json) -> Any:
    """Return a value with `None` for numbers that JSON can't hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


class _ParquetWriter(Writer):
    """Parquet; the columns of a Parquet table keep their types."""

    def __init__(self, stream: BinaryIO, source: TableStream, columns: AnswerColumns) -> None:
        self._fields = columns.fields
        # What a library wrote beside its schema speaks of these columns alone.
        self._schema = pa.schema([*source.schema, *columns.fields])
        self._writer = pq.ParquetWriter(stream, self._schema)
        self._waiting: list[pa.RecordBatch] = []

    def write(self, chunk: Chunk, positions: Sequence[int], answers: Sequence[list[Any]]) -> None:
        """Gather rows, and write them when they are many."""
        kept = chunk.arrow(positions)
        arrays = [
            pa.array([_valid(cells[at]) for cells in answers], item.type)
            for at, item in enumerate(self._fields)
        ]
        batch = pa.RecordBatch.from_arrays([*kept.columns, *arrays], schema=self._schema)
        self._waiting.append(batch)
        rows = sum(item.num_rows for item in self._waiting)
        if rows >= _ROW_GROUP_ROWS or sum(map(_size, self._waiting)) >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting = []

    def end(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._writer.close()


def _size(batch: pa.RecordBatch) -> int:
    return int(batch.get_total_buffer_size())


def _valid(cell: Any) -> Any:
    if isinstance(cell, str):
        return valid_text(cell)
    return [_valid(item) for item in cell] if isinstance(cell, list) else cell
