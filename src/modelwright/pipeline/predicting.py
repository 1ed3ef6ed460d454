"""Answering a whole table or folder into a file, in bounded memory.

Rows are read ahead by threads, which decode images and recordings and cut texts into tokens, while
the model answers those before them.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelwright import modelfile
from modelwright.data.findings import counted
from modelwright.data.inputs import INPUTS
from modelwright.data.listing import files_below
from modelwright.data.parallel import in_order
from modelwright.data.table import file_bytes, pattern_of, text_bytes
from modelwright.data.table_reader import is_table
from modelwright.data.table_stream import (
    FILE_COLUMN,
    Chunk,
    Row,
    TableStream,
    stream_files,
    stream_table,
)
from modelwright.errors import DataError, RequestError, nearest
from modelwright.files import JsonObject, atomic_write
from modelwright.kinds import InputKind
from modelwright.modelfile.inputs import Sample
from modelwright.modelfile.model import chunk_samples
from modelwright.pipeline.answers import SUFFIXES, about_bytes, answer_columns, write_answers
from modelwright.pipeline.measuring import data_spec
from modelwright.recipe.data import DataSpec, TableData
from modelwright.run import Observe, Progress, silent
from modelwright.scaffold import guess_input

_SHOWN = 5
"""So many rows that were skipped are shown; the list has them all."""
_TEXTS = 128
"""Texts are mostly far shorter than they may be, so that a chunk may hold more of them."""
_EVERY_S = 0.1
"""The shortest time between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that isn't answered."""

    place: str
    row: int
    why: str


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What became of a table or folder that was answered into a file."""

    out: Path
    columns: tuple[str, ...]
    """Those that were added."""
    rows: int
    answered: int
    skipped: tuple[Skipped, ...] = ()
    """The first rows that were skipped."""
    skipped_list: Path | None = None
    """The CSV file that lists all rows that were skipped."""

    def to_json(self) -> JsonObject:
        """Return it as `predict --json` prints it."""
        return {
            "out": str(self.out),
            "columns": list(self.columns),
            "rows": self.rows,
            "answered": self.answered,
            "skipped": self.rows - self.answered,
            "skipped_list": None if self.skipped_list is None else str(self.skipped_list),
        }


def predict_file(
    model: modelfile.Model,
    source: Path | str,
    out: Path | str,
    *,
    column: str | None = None,
    encoding: str | None = None,
    top: int | None = None,
    skip_bad: bool = False,
    observe: Observe = silent,
) -> PredictReport:
    """Answer each row of a table, or each file of a folder, and write them with the answers.

    Args:
        model: the model, as `modelfile.load` gives it.
        source: a CSV, TSV, JSON lines or Parquet table, or a folder of images, recordings or texts.
            Paths in a table start from its folder.
        out: the file that is written: CSV, JSON lines or Parquet by its ending. It has all columns
            of the table (of a folder `file`), and the answers in further ones.
        column: the column of the table that is the input; by default that which the model was
            trained on, or else the one that is likely meant.
        encoding: of a text table; by default it is found out.
        top: how many labels to give; by default 1, of several labels those that are predicted.
        skip_bad: rows that can't be read are left out and listed in a file beside `out`.
        observe: called with progress.

    Raises:
        RequestError: what is asked makes no sense.
        DataError: the table can't be read, or a row can't and `skip_bad` is false, or none can.
        ResourceError: the disk is full, or `out` can't be written; nothing there was changed.
    """
    source, out = Path(source), Path(out)
    listing = out.with_name(f"{out.stem}.bad.csv") if skip_bad else None
    asked = _Request(model, source, out, column, encoding, listing)
    asked.check()
    stream = asked.open()
    for note in (*stream.notes, *about_bytes(out, stream.schema)):
        observe(Progress("note", 0, 0, note=note))
    if not stream.num_rows:
        raise DataError("the table holds no rows", where=str(source))
    name, files, separator = asked.input_of(stream)
    columns = answer_columns(model.spec.output_kind, model.labels, stream.names, top=top)
    reader = _RowReader(model, name, source, files)
    rows = _Answered()
    clock = _Clock(stream.num_rows, observe)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(write_answers(out, stream, columns, separator=separator))
        bad = None if listing is None else stack.enter_context(_bad_rows(listing))
        for chunk, samples in in_order(reader.read, stream.chunks(_rows_at_once(model))):
            positions, usable = rows.take(chunk, samples, bad, source)
            answers = model.answer(usable, top=columns.top)
            writer.write(chunk, positions, [columns.cells(answer) for answer in answers])
            clock.tick(rows.done)
        if rows.done == rows.num_skipped:
            raise DataError("no row can be answered", where=str(source), why=rows.first())
        notes = writer.notes()
    for note in (*reader.notes(), *notes):
        observe(Progress("note", 0, 0, note=note))
    answered, skipped = rows.done - rows.num_skipped, tuple(rows.skipped)
    return PredictReport(out, tuple(columns.names), rows.done, answered, skipped, listing)


@dataclass(slots=True)
class _Answered:
    """How many rows were read, and which were skipped."""

    done: int = 0
    num_skipped: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def first(self) -> str:
        """Return why the first row was skipped."""
        first = next(iter(self.skipped), None)
        return "" if first is None else f"The first is {first.place}: {first.why}"

    def take(
        self, chunk: Chunk, samples: Sequence[Sample | DataError], bad: Any, source: Path
    ) -> tuple[list[int], list[Sample]]:
        """Return which rows of a chunk can be answered, and their samples; list the others.

        Raises:
            DataError: there is no list, and a row can't be answered.
        """
        positions, usable = [], []
        for at, (row, sample) in enumerate(zip(chunk.rows, samples, strict=True)):
            if isinstance(sample, Sample):
                positions.append(at)
                usable.append(sample)
                continue
            if bad is None:
                raise _refused(row, sample)
            skipped = Skipped(row.place, row.number, _reason(sample))
            bad.writerow([*_file_and_line(skipped.place, source), row.number, skipped.why])
            self.num_skipped += 1
            if len(self.skipped) < _SHOWN:
                self.skipped.append(skipped)
        self.done += len(chunk.rows)
        return positions, usable


def _rows_at_once(model: modelfile.Model) -> int:
    """Return how many rows a chunk has: as many as memory allows, of texts at least some."""
    is_short = model.input.input_kind == InputKind.TEXT and not model.spec.output_kind.is_generative
    return max(chunk_samples(model.spec), _TEXTS if is_short else 1)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be answered, and into which file."""

    model: modelfile.Model
    source: Path
    out: Path
    column: str | None
    encoding: str | None
    listing: Path | None
    """Where rows that are skipped are listed, if they may be."""

    @property
    def kind(self) -> InputKind:
        """What the model takes."""
        kind: InputKind = self.model.input.input_kind
        return kind

    def check(self) -> None:
        """Refuse what makes no sense before anything is read."""
        if self.out.suffix.lower() not in SUFFIXES:
            raise RequestError(
                f"answers are written as {', '.join(SUFFIXES)}",
                where=f"--out {self.out}",
                fix=f"Write --out {self.out.stem or 'answers'}.csv",
            )
        if not self.source.exists():
            folder = self.source.parent
            beside = [str(item) for item in folder.iterdir()] if folder.is_dir() else []
            raise DataError(
                "there is no such file or folder",
                where=str(self.source),
                why=nearest(str(self.source), beside) if beside else "",
            )
        if self.out.is_dir():
            raise RequestError("this is a folder, and --out names a file", where=str(self.out))
        if _is_same(self.out, self.source):
            raise RequestError(
                "the answers would replace the table that is read",
                where=f"--out {self.out}",
                fix="Choose another name",
            )
        if self.listing is not None and _is_same(self.listing, self.source):
            raise RequestError(
                "the list of rows that are skipped would replace the table that is read",
                where=str(self.listing),
                fix="Choose another name with --out",
            )
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise RequestError(
                    f"there is no encoding `{self.encoding}`",
                    where="--encoding",
                    fix="Use a name such as utf-8, gb18030, big5, cp1252",
                ) from error
        if self.source.is_dir() and (self.column is not None or self.encoding is not None):
            raise RequestError(
                "--column and --encoding are for tables, and this is a folder",
                where=str(self.source),
                fix="Leave them out",
            )

    def open(self) -> TableStream:
        """Open the table, or the folder."""
        if self.source.is_dir():
            return self._folder()
        spec = self._trained_on()
        if not is_table(self.source) and (spec is None or spec.columns is None):
            suffix = self.source.suffix.lower()
            if suffix in INPUTS[self.kind].suffixes:
                raise RequestError(
                    f"this is one {self.kind.noun}, and --out takes a table or a folder",
                    where=str(self.source),
                    fix="Leave --out out, or give the folder",
                )
        return stream_table(
            self.source,
            encoding=self.encoding,
            likely=None if spec is None else spec.encoding,
            columns=None if spec is None else spec.columns,
        )

    def _folder(self) -> TableStream:
        suffixes = INPUTS[self.kind].suffixes
        below = list(files_below(self.source))
        files = [name for name in below if Path(name).suffix.lower() in suffixes]
        if not files:
            endings = ", ".join(sorted(suffixes))
            raise DataError(
                f"there are no {self.kind.plural} in this folder",
                where=str(self.source),
                why=f"Their names end in {endings}",
                fix="Of a folder of tables, name one of them",
            )
        passed = len(below) - len(files)
        stream = stream_files(self.source, files)
        if not passed:
            return stream
        note = (
            f"{counted(passed, 'file')} of another kind {'is' if passed == 1 else 'are'} left out"
        )
        return TableStream(
            stream.path, stream.schema, stream.num_rows, stream.chunks, notes=(note,)
        )

    def _trained_on(self) -> TableData | None:
        spec: DataSpec | None = data_spec(self.model)
        return spec if isinstance(spec, TableData) else None

    def input_of(self, stream: TableStream) -> tuple[str, str, str]:
        """Return the column of inputs, the pattern of paths, and the separator of labels."""
        if self.source.is_dir():
            return FILE_COLUMN, "{}", "|"
        spec = self._trained_on()
        pattern, separator = "{}", "|"
        if spec is not None:
            pattern, separator = pattern_of(spec.files, self.source), spec.separator
        if self.column is not None:
            if self.column not in stream.names:
                raise RequestError(
                    f"the table has no column `{self.column}`",
                    where=f"{self.source} (--column)",
                    fix=nearest(self.column, stream.names),
                )
            return self.column, pattern, separator
        known = None if spec is None else str(getattr(spec, self.kind))
        if known in stream.names:
            return str(known), pattern, separator
        if len(stream.names) == 1:
            return stream.names[0], pattern, separator
        first = next(stream.chunks(_LOOKED_AT), None)
        cells = {} if first is None else {name: first.column(name) for name in stream.names}
        name, files = guess_input(cells, self.kind, self.source.parent)
        if name is None:
            trained = "" if known is None else f"The model was trained on the column `{known}`. "
            raise DataError(
                f"no column of this table is told to hold {self.kind.plural}",
                where=str(self.source),
                why=f"{trained}Its columns are {', '.join(f'`{item}`' for item in stream.names)}",
                fix="Name it with --column COLUMN; paths of files start from the table's folder",
            )
        return name, files, separator


_LOOKED_AT = 1000
"""Rows from which the column of inputs is told where the model doesn't say it."""


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.exists() and one.samefile(other)
    return False


class _RowReader:
    """Takes the rows of a chunk through the host steps; several threads use it at once."""

    def __init__(self, model: modelfile.Model, column: str, source: Path, files: str) -> None:
        self._model, self._column, self._files = model, column, files
        self._kind: InputKind = model.input.input_kind
        self._is_folder = source.is_dir()
        self._folder = source if self._is_folder else source.parent
        self._num_cut = 0
        self._lock = threading.Lock()

    def read(self, chunk: Chunk) -> tuple[Chunk, list[Sample | DataError]]:
        """Return a chunk with the sample of each row, or the error why there is none."""
        cells = chunk.column(self._column)
        found: list[Any] = [
            DataError(row.fault) if row.fault else self._item(cell)
            for row, cell in zip(chunk.rows, cells, strict=True)
        ]
        positions = [at for at, item in enumerate(found) if not isinstance(item, DataError)]
        samples = self._model.read([found[at] for at in positions], observe=self._note)
        for at, sample in zip(positions, samples, strict=True):
            if isinstance(sample, DataError):
                sample = self._named(cells[at], sample.what, sample.why)
            found[at] = sample
        return chunk, found

    def _item(self, cell: Any) -> Any:
        """Return what the model reads of a cell: a text, or a file's bytes; or why it can't."""
        try:
            if self._kind != InputKind.TEXT:
                return file_bytes(cell, self._folder, self._files)
            if self._is_folder:
                return self._folder / str(cell)
            return text_bytes(cell).decode()
        except UnicodeDecodeError:
            return DataError("the text isn't UTF-8")
        except DataError as error:
            return self._named(cell, error.what, error.why)
        except FileNotFoundError:
            return self._named(cell, "there is no such file")
        except OSError as error:
            return self._named(cell, str(error.strerror or error))

    def _named(self, cell: Any, what: str, why: str = "") -> DataError:
        """Return an error about a row, with the file that its cell names."""
        names_file = self._kind != InputKind.TEXT and not self._is_folder
        is_path = names_file and isinstance(cell, str) and cell.strip()
        return DataError(f"{cell}: {what}" if is_path else what, why=why)

    def _note(self, progress: Progress) -> None:
        """Count the texts and recordings that are cut off, where there would be a note of each."""
        with self._lock:
            self._num_cut += 1

    def notes(self) -> tuple[str, ...]:
        """Return how many inputs were cut off."""
        if not self._num_cut:
            return ()
        are = "is" if self._num_cut == 1 else "are"
        return (
            f"{counted(self._num_cut, self._kind.noun)} {are} longer than the model takes; what is "
            "beyond that was left out",
        )


def _reason(error: DataError) -> str:
    return ". ".join(part for part in (error.what, error.why) if part)


def _refused(row: Row, error: DataError) -> DataError:
    return DataError(
        error.what,
        where=row.place,
        why=error.why,
        fix="Mend it, or leave out and list all such rows with --skip-bad",
    )


def _file_and_line(place: str, source: Path) -> tuple[str, str]:
    """Return the two parts of `data.csv:17`; of other places the line is empty."""
    if source.is_dir():
        return place, ""
    name, _, line = place.rpartition(":")
    return (name, line) if line.isdigit() and name else (place.partition(" row ")[0], "")


@contextlib.contextmanager
def _bad_rows(path: Path) -> Any:
    """Yield a CSV writer of rows that are skipped, written aside."""
    with atomic_write(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file", "line", "row", "why"])
        yield writer
        text.flush()
        text.detach()


class _Clock:
    """Reports progress now and again, with the speed and the time that is left."""

    def __init__(self, total: int, observe: Observe) -> None:
        self._total, self._observe = total, observe
        self._begun = self._spoke = time.monotonic()
        observe(Progress("predict", 0, total))

    def tick(self, done: int) -> None:
        """Say how many rows are done."""
        now = time.monotonic()
        if now - self._spoke < _EVERY_S and done < self._total:
            return
        self._spoke = now
        rate = done / max(now - self._begun, 1e-6)
        left = max(self._total - done, 0) / max(rate, 1e-6)
        values = {"samples_per_s": rate, "left_s": left}
        self._observe(Progress("predict", done, self._total, values))
