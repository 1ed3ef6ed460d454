"""The source `table`: CSV, TSV, JSON lines or Parquet with a column of inputs and one of labels."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from modelwright.data.documents import WHOLE
from modelwright.data.folder import SUFFIXES as FILE_SUFFIXES
from modelwright.data.labelled_lines import decoded, read_maybe_packed
from modelwright.data.listing import SPLITS, Kind, Listing, find_path, read_file
from modelwright.data.multi_label import read_cells
from modelwright.errors import DataError, nearest
from modelwright.files import digest
from modelwright.recipe.data import TableData
from modelwright.tasks import Target

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
csv.field_size_limit(1 << 24)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The columns that were asked for, of one file."""

    path: Path
    inputs: Sequence[Any]
    labels: Sequence[str]
    splits: Sequence[str]
    extras: Sequence[str]
    lines: Sequence[int] | None
    """The line that each row begins in, where the file has lines."""
    notes: tuple[str, ...] = ()
    """What is worth saying of its labels."""

    def place(self, row: int) -> str:
        """Return where a row stands, for messages."""
        if self.lines is None:
            return f"{self.path.name} row {row + 1}"
        return f"{self.path.name}:{self.lines[row]}"


def list_table(
    spec: TableData, *, base: Path, kind: Kind = "image", target: Target = "label"
) -> Listing:
    """Return the rows of a table, or of a folder with a table for each split.

    Args:
        spec: the section.
        base: where a relative path starts.
        kind: what its rows hold.
        target: what is wanted of them.

    Raises:
        DataError: the table can't be read, a column is missing, or a row is torn.
    """
    path = find_path(spec.path, base)
    files = _files(path)
    numbers = target == "numbers"
    targets = spec.numbers if numbers else () if target == "next" else (spec.label,)
    tables = [_read(file, split, spec, kind, targets, target) for file, split in files]
    starts: list[int] = []
    total = 0
    for rows in tables:
        starts.append(total)
        total += len(rows.labels)
    if total == 0:
        raise DataError("the table holds no rows", where=str(path))

    def locate(row: int) -> tuple[_Rows, int]:
        number = max(index for index, start in enumerate(starts) if start <= row)
        return tables[number], row - starts[number]

    def read(row: int) -> bytes:
        rows, at = locate(row)
        if kind == "text":
            return _text_bytes(rows.inputs[at])
        return _bytes_of(rows.inputs[at], rows.path.parent)

    labels = [label for rows in tables for label in rows.labels]
    paths = [item for rows in tables for item in rows.inputs] if kind != "text" else []
    return Listing(
        title=f"table {path.name}",
        key=_key(spec, files, paths, path, kind, targets, target),
        labels=labels,
        splits=[split for rows in tables for split in rows.splits],
        origins=[
            item if isinstance(item, str) and kind != "text" else rows.place(at)
            for rows in tables
            for at, item in enumerate(rows.inputs)
        ],
        extras=[extra for rows in tables for extra in rows.extras],
        read=read,
        notes=tuple(dict.fromkeys(note for rows in tables for note in rows.notes)),
        kind=kind,
        faults={at: _NO_TARGET[target] for at, label in enumerate(labels) if not label.strip()}
        if target in _NO_TARGET
        else {},
        sampling_rate=spec.sampling_rate if kind == "audio" else None,
    )


def is_table(path: Path) -> bool:
    """Say whether a file is a table, by its name."""
    return path.is_file() and _suffix(path) in SUFFIXES


def is_table_folder(path: Path) -> bool:
    """Say whether a folder holds tables named after splits."""
    return path.is_dir() and bool(_split_tables(path))


_LIKELY = {
    "image": ("image", "img", "path", "file", "picture", "photo"),
    "text": ("text", "sentence", "review", "comment", "document"),
    "audio": ("audio", "audio", "wav", "clip", "pcm"),
    "label": ("label", "class", "category", "species"),
    "numbers": ("target", "number", "value", "reading", "score", "price", "age", "y"),
}

_SPOKEN = ("transcript", "transcription", "sentence", "text")
"""Columns that hold what is spoken in a recording."""


def guess_table(path: Path, kind: Kind | None = None) -> tuple[Kind, dict[str, Any]]:
    """Return what a table holds, and the settings that are likely meant where they aren't defaults.

    Without a column of labels, one that is named like a number and holds some is `numbers`.

    Args:
        path: a table, or a folder of tables.
        kind: what it holds, if that is known.
    """
    file = path if path.is_file() else _split_tables(path)[0][0]
    columns = _open(file).columns
    kind = kind or _likely_kind(columns)
    found: dict[str, Any] = {}
    likely = {**_LIKELY, "label": (*_LIKELY["label"], *_SPOKEN)} if kind == "audio" else _LIKELY
    names = {key: _likeliest(list(columns), likely[key]) for key in (kind, "label", "numbers")}
    number = names.pop("numbers")
    if names["label"] is None and number is not None and _numbers(columns[number]()[:1]):
        del names["label"]
        found = {"numbers": [number], "holds": kind}
    elif names["label"] is None:
        names["label"] = number
    for key, chosen in names.items():
        if chosen is not None and chosen != key:
            found[key] = chosen
    split = next((name for name in columns if name.lower() in ("split", "set", "subset")), None)
    if split is not None:
        found["split_column"] = split
    return kind, found


def columns_of(path: Path) -> list[str]:
    """Return the names of the columns of a table, or of the first of a folder of tables."""
    return list(_open(path if path.is_file() else _split_tables(path)[0][0]).columns)


def first_values(path: Path, name: str, most: int) -> Sequence[Any]:
    """Return the first values of a column of a table, or of the first of a folder of tables."""
    table = _open(path if path.is_file() else _split_tables(path)[0][0])
    return table.columns[name]()[:most]


def _likely_kind(columns: Mapping[str, Column]) -> Kind:
    """Tell what the rows are: by a column's name and its first value, else images."""
    kinds: tuple[Kind, ...] = ("image", "audio", "text")
    for fits in (str.__eq__, str.__contains__):
        for kind in kinds:
            for word in _LIKELY[kind]:
                for name in columns:
                    if fits(name.lower(), word):
                        return _by_value(kind, next(iter(columns[name]()), None))
    return "image"


def _by_value(kind: Kind, value: Any) -> Kind:
    """Correct a column's name, such as `file`, by what its first value is."""
    suffix = Path(value).suffix.lower() if isinstance(value, str) and len(value) < 500 else ""
    return next((held for held, suffixes in FILE_SUFFIXES.items() if suffix in suffixes), kind)


def _likeliest(columns: list[str], likely: tuple[str, ...]) -> str | None:
    """Return the column that is named most like it: just so, else beginning so, else holding it."""
    for fits in (str.__eq__, str.startswith, str.__contains__):
        for word in likely:
            for name in columns:
                if fits(name.lower(), word):
                    return name
    return None


def _files(path: Path) -> list[tuple[Path, str]]:
    if path.is_file():
        return [(path, "")]
    if not path.is_dir():
        raise DataError("this is neither a file nor a folder", where=str(path))
    found = _split_tables(path)
    if not found:
        raise DataError(
            "there is no table in this folder",
            where=str(path),
            fix="Name the table itself, or name tables train.csv, val.csv and test.csv "
            f"({', '.join(SUFFIXES)})",
        )
    return found


def _split_tables(folder: Path) -> list[tuple[Path, str]]:
    order = {"train": 0, "validation": 1, "test": 2}
    found = [
        (item, SPLITS[item.name.partition(".")[0].lower()])
        for item in folder.iterdir()
        if _suffix(item) in SUFFIXES and item.name.partition(".")[0].lower() in SPLITS
    ]
    return sorted(found, key=lambda pair: (order[pair[1]], pair[0].name))


def _key(
    spec: TableData,
    files: list[tuple[Path, str]],
    paths: list[Any],
    path: Path,
    kind: Kind,
    targets: Sequence[str],
    target: Target,
) -> str:
    column = getattr(spec, kind)
    marks = [
        kind,
        column,
        str(spec.sampling_rate),
        *targets,
        spec.split_column or "",
        spec.split.column or "",
        *(spec.columns or ()),
    ]
    marks += [f"labels apart by {spec.separator}"] if target == "labels" else []
    marks += [digest(file.read_bytes()) for file, _ in files]
    root = path if path.is_dir() else path.parent
    for item in paths:
        if isinstance(item, str):
            file = root / item
            try:
                facts = file.stat()
                marks.append(f"{item} {facts.st_size} {facts.st_mtime_ns}")
            except (OSError, ValueError):
                marks.append(f"{item} missing")
    return digest("\n".join(["table 3", *marks]).encode(errors="surrogatepass"))


def _text_bytes(text: Any) -> bytes:
    if isinstance(text, list) and all(isinstance(part, str) for part in text):
        text = " ".join(text)  # A text that comes sentence by sentence.
    if isinstance(text, bytes):
        return text
    if text is None or not isinstance(text, str):
        raise OSError("the cell is empty" if text is None else "the cell holds no text")
    return text.encode("utf-8", "surrogatepass")


def _bytes_of(image: Any, folder: Path) -> bytes:
    if isinstance(image, dict):  # As Hugging Face's datasets keep images: bytes, or else a path.
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return image
    if isinstance(image, str) and image:
        try:
            return read_file(folder / image)
        except ValueError as error:  # A NUL in the path.
            raise OSError(str(error)) from error
    raise OSError("the cell is empty")


def _read(
    file: Path, split: str, spec: TableData, kind: Kind, targets: Sequence[str], target: Target
) -> _Rows:
    column, numbers = str(getattr(spec, kind)), target == "numbers"
    table = _open(file, spec.columns)
    columns = table.columns
    if not columns:
        raise DataError("the table is empty", where=str(file))
    setting = target if target in ("numbers", "boxes") else "label"
    wanted: dict[str, str] = {kind: column}
    wanted.update((setting, name) for name in targets)
    if spec.split_column is not None:
        wanted["split_column"] = spec.split_column
    if spec.split.column is not None:
        wanted["split.column"] = spec.split.column
    extra = [("numbers", name) for name in targets] if numbers else []
    for key, name in [*wanted.items(), *extra]:
        if name not in columns:
            raise DataError(
                f"the table has no column `{name}`",
                where=f"{file} (data.{key})",
                why=nearest(name, columns) or f"Its columns are {', '.join(map(str, columns))}",
            )
    inputs = columns[column]()
    count = len(inputs)
    columns_of_targets = [columns[name]() for name in targets]
    notes: tuple[str, ...] = ()
    if target == "labels":
        separator = spec.separator if _is_delimited(file) else None
        cells = read_cells(columns_of_targets[0], separator, column=targets[0])
        labels, notes = cells.held, cells.notes
    elif numbers:
        labels = [_numbers(values) for values in zip(*columns_of_targets, strict=True)]
    elif targets:
        labels = [_wanted(value) for value in columns_of_targets[0]]
    else:
        labels = [WHOLE] * count
    rows = _Rows(
        path=file,
        inputs=inputs,
        labels=labels,
        splits=[split] * count,
        extras=[_text(v) for v in columns[spec.split.column]()]
        if spec.split.column
        else [""] * count,
        lines=table.lines,
        notes=notes,
    )
    if target == "label":
        _refuse_lists(columns_of_targets[0], rows, targets[0])
    if spec.split_column is None:
        return rows
    named = [_split(value, rows, at) for at, value in enumerate(columns[spec.split_column]())]
    return replace(rows, splits=named)


def _refuse_lists(cells: Sequence[Any], rows: _Rows, column: str) -> None:
    """Refuse lists where each sample has one label: joined, each list would become a class."""
    at = next((at for at, cell in enumerate(cells) if isinstance(cell, list)), None)
    if at is not None:
        raise DataError(
            f"the column `{column}` holds lists, and each sample has one label here",
            where=rows.place(at),
            fix="Give one label a row; for text classification, `data: {multi_label: true}` takes "
            "lists",
        )


_NO_TARGET: dict[Target, str] = {
    "labels": "its labels aren't a list of texts; one without a label has an empty list",
    "numbers": "its target isn't a finite number",
    "letters": "its text is empty",
    "text": "its target is empty",
}


def _wanted(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return " ".join(value)  # A text that comes sentence by sentence.
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return json.dumps(value, default=str)  # Boxes.
    return _text(value)


_LARGEST = 1e38


def _numbers(values: Sequence[Any]) -> str:
    """Return numbers as a JSON list; empty where one of them isn't a finite number."""
    try:
        found = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError):
        return ""
    # Networks count in 32 bits, where more is infinite.
    is_whole = len(found) == len(values) and all(abs(number) < _LARGEST for number in found)
    return json.dumps(found) if is_whole else ""


def _split(value: Any, rows: _Rows, at: int) -> str:
    text = _text(value).strip().lower()
    if text == "":
        return ""
    if text not in SPLITS:
        raise DataError(
            f"`{_text(value)}` isn't the name of a split",
            where=rows.place(at),
            why=nearest(text, SPLITS),
            fix="Write train, val or test",
        )
    return SPLITS[text]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def _suffix(file: Path) -> str:
    """Return `.csv` or `.csv.gz`."""
    suffix = file.suffix.lower()
    return file.with_suffix("").suffix.lower() + suffix if suffix == ".gz" else suffix


def _is_delimited(file: Path) -> bool:
    """Say whether a file's cells are all text, by its name."""
    return _suffix(file).removesuffix(".gz") in (".csv", ".tsv")


Column = Callable[[], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class _Table:
    """One file, opened."""

    columns: Mapping[str, Column]
    """A function for each column."""
    lines: Sequence[int] | None = None
    """The line that each row begins in, from 1, where the file has lines."""


def _open(file: Path, names: Sequence[str] | None = None) -> _Table:
    """Return the columns of a file.

    Args:
        file: the table.
        names: what its columns are called, where no line of it says so.
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
    held = decoded(read_maybe_packed(file), file, "file").strip()
    if held.startswith("["):
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
    if held.startswith("{") and _is_json(held.partition("\n")[0]) and "\n" in held:
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


def _parquet(file: Path) -> _Table:
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

    return _Table({name: column(name) for name in table.column_names})


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
        held = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = {
            name: _feature_of_items(feature) for name, feature in held["info"]["features"].items()
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


def _delimited(file: Path, delimiter: str | None, names: Sequence[str] | None) -> _Table:
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

    return _Table(
        {name: column(number) for number, name in enumerate(header) if name != UNUSED}, lines
    )


_Cells = tuple[list[str], list[list[str]], list[int]]
"""The names of the columns, the cells of each row, and the line that each row begins in."""


def _read_cells(file: Path, text: str, delimiter: str, names: Sequence[str] | None) -> _Cells:
    """Return the cells, quotes read as they are meant.

    Sentences begin with quotation marks, and tab-separated text is often not quoted at all. So a
    line is a row where each line has the right number of cells, and quotes would join some lines.
    """
    try:
        found = _cells(file, text, delimiter, names, quoting=csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t":
            raise
        return _cells(file, text, delimiter, names, quoting=csv.QUOTE_NONE)
    if any("\n" in cell for row in found[1] for cell in row):
        with contextlib.suppress(DataError):
            return _cells(file, text, delimiter, names, quoting=csv.QUOTE_NONE)
    return found


def _cells(
    file: Path, text: str, delimiter: str, names: Sequence[str] | None, *, quoting: Literal[0, 3]
) -> _Cells:
    """Return the cells, quotes read as told.

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


def _json_lines(file: Path) -> _Table:
    numbered = list(_objects(file))
    rows = [row for _, row in numbered]
    names = dict.fromkeys(name for row in rows for name in row)

    def column(name: str) -> Column:
        return lambda: [row.get(name) for row in rows]

    return _Table({name: column(name) for name in names}, [line for line, _ in numbered])


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
