"""Infers the task and the columns of a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from modelwright.data.encodings import detect_encoding
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.numbers import read_numbers
from modelwright.data.table import file_of, pattern_of
from modelwright.data.table_reader import RepeatedColumnError, Table, open_table, table_files
from modelwright.errors import DataError, RequestError, nearest
from modelwright.files import is_file
from modelwright.kinds import TASK_KINDS, InputKind, OutputKind
from modelwright.scaffold.box_columns import find_box_columns, headerless_names
from modelwright.scaffold.columns import (
    SENTENCE,
    ColumnProfile,
    ColumnRole,
    Find,
    Settings,
    generated,
    is_category,
    is_group,
    is_numbered_split,
    named_like,
    profile_table,
    rank_inputs,
    rank_targets,
    separator_of,
    spoken,
)
from modelwright.scaffold.inferred import CLASSIFICATION, SHOWN, DataOptions, Inferred, listed
from modelwright.scaffold.samples import FileIndex
from modelwright.transforms.scripts import count_words

_TRIED = 20
"""So many cells of a split's table are looked for among the files."""
_DESCRIBED = 8
"""So many columns are described in a message."""
_PIXELS = 16
"""A table with so many columns of numbers and no input may hold the pixels of images."""
_LABELS = ("label", "class", "category", "sentiment", "topic", "标签", "类别", "分类")
"""Columns that are called so are labels, even beside texts that could be written from others."""
_HEADER_WORDS = 5
"""A column's name of so many words is no name."""


def infer_table(
    path: Path, shown: str, options: DataOptions, *, find: Find | None = None
) -> Inferred:
    """Infer the columns of a table, or of a folder with one for each split.

    `find` finds the files that cells name; by default below the table's folder.
    """
    files = [file for file, _ in table_files(path)]
    file = files[0]
    encoding, notes = encoding_of(file)
    table, has_header = _opened(file, encoding)
    if not table.columns:
        raise DataError("this table is empty", where=str(file), fix="Look at it")
    if not table.num_rows:
        raise DataError(
            f"this table names its columns, {listed(list(table.columns))}, and has no rows",
            where=str(file),
            fix="Look at it",
        )
    if find is None:
        find = FileIndex(table.folder, is_listed=table.frame_folder is None).find
    profiles = profile_table(table, find)
    data: Settings = {"source": "table", "path": shown}
    if encoding is not None:
        data["encoding"] = encoding
    names = None
    if not has_header or _has_no_header(table, profiles):
        names = headerless_names(profiles) or _column_names(profiles)
        table = open_table(file, names, encoding=encoding)
        profiles = profile_table(table, find)
        data["columns"] = names
        notes += (
            "The first line looks like data, not like names of columns, so they are called "
            f"{listed(names)}",
        )
    boxes = _boxes(table, profiles, options, {**data}, notes)
    if boxes is not None:
        return boxes
    inferred, used = _columns(table, profiles, data, options, notes)
    return (
        inferred
        if len(files) == 1
        else _of_splits(inferred, used, files, shown, names=names, encoding=encoding)
    )


def _opened(file: Path, encoding: str | None) -> tuple[Table, bool]:
    """Return a table, and whether its first line may name the columns: no number is twice there."""
    try:
        return open_table(file, encoding=encoding), True
    except RepeatedColumnError as error:
        if read_numbers([error.name], "").values == [None]:
            raise
        names = [f"column_{number}" for number in range(1, error.count + 1)]
        return open_table(file, names, encoding=encoding), False


def _of_splits(
    inferred: Inferred, used: Sequence[str], files: Sequence[Path], shown: str, **opened: Any
) -> Inferred:
    """Return what is inferred of a folder's first table, as it fits the others."""
    first, *others = files
    tables = [open_table(file, **opened) for file in others]
    lacking = [(table, name) for table in tables for name in used if name not in table.columns]
    if lacking and len({table.path for table, _ in lacking}) == len(others):
        notes = [
            f"`{table.path.name}` has no column `{name}`, so it is left aside: once there is a "
            "model, `modelwright predict` answers it"
            for table, name in {table.path: (table, name) for table, name in lacking}.values()
        ]
        data = {**inferred.data, "path": str(PurePosixPath(shown) / first.name)}
        return replace(inferred, data=data, notes=(*inferred.notes, *notes))
    if lacking:
        table, name = lacking[0]
        raise DataError(
            f"the table has no column `{name}`, which {first.name} has",
            where=str(table.path),
            fix="Move it to another folder; a model answers it by `modelwright predict`",
        )
    pattern = str(inferred.data.get("files", "{}"))
    by_table = pattern.replace(f"{first.name.partition('.')[0]}/", "{table}/", 1)
    if by_table != pattern and all(_holds(table, used[0], by_table) for table in tables):
        return replace(inferred, data={**inferred.data, "files": by_table})
    return inferred


def _holds(table: Table, column: str, files: str) -> bool:
    """Say whether most of some cells name files by a pattern."""
    cells = [str(cell) for cell in table.sample(column, _TRIED)]
    pattern = pattern_of(files, table.path)
    named = sum(is_file(file_of(table.folder, pattern, cell)) for cell in cells)
    return 2 * named > len(cells)


def _boxes(
    table: Table,
    profiles: Sequence[ColumnProfile],
    options: DataOptions,
    data: Settings,
    notes: tuple[str, ...],
) -> Inferred | None:
    """Infer a table of images with boxes: a column of all of an image's, or a box a row."""
    is_asked = options.task == "object-detection"
    if not is_asked and (options.task or options.target or options.kind is not None):
        return None
    data = {**data, "source": "boxes"}
    split = next((item for item in profiles if item.role == ColumnRole.SPLIT), None)
    if split is not None:
        data["split_column"] = split.name
    boxes = next((item for item in profiles if item.role == ColumnRole.BOXES), None)
    if boxes is not None:
        images = [item for item in profiles if item.role == ColumnRole.IMAGE]
        image = images[0].name if images else "image"
        columns = {
            key: name for key, name in (("image", image), ("boxes", boxes.name)) if name != key
        }
        files = dict(images[0].settings) if images else {}
        return Inferred("object-detection", {**data, **columns, **files}, notes)
    rows = find_box_columns(table, profiles)
    if rows is None:
        return None
    what = {"xyxy": "two corners", "xywh": "a corner and a size", "cxcywh": "a centre and a size"}
    seen = (
        f"Each row is a box of the image in `{rows.image.name}`: {listed(rows.columns)} are "
        f"{what[rows.form]}, `{rows.label.name}` is what is in it"
    )
    choices = [f"To classify whole images: --target {shlex.quote(rows.label.name)}"]
    if len(rows.columns) == 1:
        other = "xywh" if rows.form == "xyxy" else "xyxy"
        choices.append(f"`{rows.columns[0]}` may hold {what[other]}: `data.box_format: {other}`")
    return Inferred("object-detection", {**data, **rows.settings}, (*notes, seen), tuple(choices))


def encoding_of(file: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the encoding to be named for a text table, with a note; `None` where it is UTF-8."""
    if file.name.lower().removesuffix(".gz").endswith(".parquet"):
        return None, ()
    detected = detect_encoding(read_maybe_packed(file))
    if detected is None:
        return None, ()
    return detected.encoding, (
        f"{file.name} isn't UTF-8; it is read as {detected.encoding} (`data.encoding`). "
        f"So its lines read: {detected.shown}",
    )


def _has_no_header(table: Table, profiles: Sequence[ColumnProfile]) -> bool:
    """Say whether the names of columns are a row of data."""
    if not table.has_text_cells or table.lines is None:
        return False
    for item in profiles:
        if (
            count_words(item.name) >= _HEADER_WORDS
            and item.role == ColumnRole.STRING
            and item.is_varied
        ):
            return True
        is_label = item.role == ColumnRole.STRING and not item.is_varied
        if is_label and item.name in set(table.sample(item.name, 1000)):
            return True
    return False


def _column_names(profiles: Sequence[ColumnProfile]) -> list[str]:
    inputs = rank_inputs(profiles)
    targets = rank_targets(profiles, inputs[0][1]) if inputs else []
    names = [f"column_{number}" for number in range(1, len(profiles) + 1)]
    if inputs:
        names[profiles.index(inputs[0][1])] = str(inputs[0][0])
    if targets:
        is_number = targets[0].role == ColumnRole.NUMBER and not is_category(targets[0])
        names[profiles.index(targets[0])] = "target" if is_number else "label"
    return names


def _columns(
    table: Table,
    profiles: Sequence[ColumnProfile],
    data: Settings,
    options: DataOptions,
    notes: tuple[str, ...],
) -> tuple[Inferred, list[str]]:
    """Return what is inferred of the columns, and the names of those that are used."""
    kind, input, other_inputs = _input(table, profiles, options)
    targets = _targets(table, profiles, input, options)
    task, target, settings = _task(table, profiles, kind, input, targets, options)
    split = next((item for item in profiles if item.role == ColumnRole.SPLIT), None)
    named = {str(kind): input.name} if input.name != kind else {}
    data = {**data, **named, **input.settings, **settings}
    if split is not None:
        data["split_column"] = split.name
    seen = [f"`{input.name}` is taken as the {kind.noun}"]
    if target:
        what = "target" if task == "regression" else "label" if task.endswith("cation") else "text"
        seen.append(f"{listed([item.name for item in target])} as the {what}")
    if split is not None:
        seen.append(f"`{split.name}` as the split")
    choices = [
        f"`{item.name}` could be the input as well: --input {shlex.quote(item.name)}"
        for item in other_inputs[:SHOWN]
    ]
    choices += [
        f"`{item.name}` holds numbers, so it isn't taken as the split: write train, val and test "
        "in it, or keep the rows of each number together by "
        f"`data.split: {{by: group, column: {item.name}}}`"
        for item in profiles
        if is_numbered_split(item) and item not in target
    ]
    groups = [item for item in profiles if is_group(item) and item not in (input, *target)]
    if split is None:
        choices += [
            f"`{item.name}` comes again in several rows ({item.distinct:,} values): to keep each "
            f"value's on one side of the split: `data.split: {{by: group, column: {item.name}}}`"
            for item in groups[:SHOWN]
        ]
    if not options.target:
        choices += [
            f"`{item.name}` ({_values(item)}) could be the target as well: "
            f"--target {shlex.quote(item.name)}"
            for item in targets[:SHOWN]
            if item not in target and item not in groups
        ]
    used = [input.name, *(item.name for item in target)]
    return Inferred(task, data, (*notes, " and ".join(seen)), tuple(choices)), used


def _values(item: ColumnProfile) -> str:
    return (
        "numbers"
        if item.role == ColumnRole.NUMBER and not is_category(item)
        else (f"{item.distinct:,} different values")
    )


def _named(
    table: Table, profiles: Sequence[ColumnProfile], name: str, option: str
) -> ColumnProfile:
    chosen = next((item for item in profiles if item.name == name), None)
    if chosen is None:
        raise DataError(
            f"the table has no column `{name}`",
            where=f"{table.path} ({option})",
            why=nearest(name, table.columns) or f"Its columns are {listed(list(table.columns))}",
        )
    return chosen


def _input(
    table: Table, profiles: Sequence[ColumnProfile], options: DataOptions
) -> tuple[InputKind, ColumnProfile, list[ColumnProfile]]:
    """Return the kind of input, its column, and the columns that could be it as well."""
    allowed = TASK_KINDS[options.task].inputs if options.task else tuple(InputKind)
    if options.kind is not None:
        allowed = (options.kind,)
    ranked = [
        (kind, item)
        for kind, item in rank_inputs(profiles)
        if kind in allowed and item.name not in options.target
    ]
    if options.input is not None:
        item = _named(table, profiles, options.input, "--input")
        media = {ColumnRole.IMAGE: InputKind.IMAGE, ColumnRole.AUDIO: InputKind.AUDIO}
        return media.get(item.role, InputKind.TEXT), item, []
    _refuse_written(table, profiles, ranked)
    if ranked:
        (kind, item), *rest = ranked
        return kind, item, [other for of, other in rest if of == kind]
    addresses = [item.name for item in profiles if item.role == ColumnRole.ADDRESS]
    if addresses:
        raise DataError(
            f"the column `{addresses[0]}` holds addresses, and files aren't fetched from them",
            where=str(table.path),
            fix="Download the files into a folder beside the table, and write their names there. "
            "If the addresses themselves are the texts, say so with "
            f"--input {shlex.quote(addresses[0])}",
        )
    if sum(item.role in (ColumnRole.NUMBER, ColumnRole.CONSTANT) for item in profiles) > _PIXELS:
        raise DataError(
            "no column holds images, texts or recordings, and numbers in columns aren't an input",
            where=str(table.path),
            why=_described(profiles),
            fix="Where they are pixels, write the images as an .npz archive with `images` "
            "(samples, height, width) and `labels`, and give that",
        )
    raise DataError(
        "no column holds images, texts or recordings",
        where=str(table.path),
        why=f"{_described(profiles)}. Numbers and categories in columns aren't supported as inputs",
        fix="Where a column holds texts or paths after all (which start from the table's folder), "
        "name it with --input COLUMN; for numbers and categories, use gradient-boosted trees, for "
        "example scikit-learn's `HistGradientBoostingClassifier`",
    )


_WRITTEN = {
    ColumnRole.BASE64: "Write the table anew, with the files' bytes, as Parquet; with pandas: "
    "`table[{0!r}] = table[{0!r}].map(base64.b64decode)`, then `table.to_parquet('table.parquet')`",
    ColumnRole.PIXELS: "Write the images as an .npz archive with `images` (samples, height, width) "
    "and `labels`; with pandas and 48 pixels a side: `images = numpy.stack([numpy.array(re.findall("
    "'[0-9]+', row), 'uint8').reshape(48, 48) for row in table[{0!r}]])`, then "
    "`numpy.savez('images.npz', images=images, labels=LABELS)`",
}
"""What to do with a column of files that are written as text."""


def _refuse_written(
    table: Table,
    profiles: Sequence[ColumnProfile],
    ranked: Sequence[tuple[InputKind, ColumnProfile]],
) -> None:
    """Refuse a table whose input is written in a way that isn't read.

    Raises:
        DataError: a column holds such, and no other holds images or recordings.
    """
    written = next((item for item in profiles if item.role in _WRITTEN), None)
    if written is not None and not any(kind != InputKind.TEXT for kind, _ in ranked):
        raise DataError(
            f"the column `{written.name}` holds {written.role}, which aren't read",
            where=str(table.path),
            fix=_WRITTEN[written.role].format(written.name),
        )


def _described(profiles: Sequence[ColumnProfile]) -> str:
    shown = ", ".join(f"`{item.name}` ({item.role})" for item in profiles[:_DESCRIBED])
    more = len(profiles) - _DESCRIBED
    return f"Its columns are {shown}" + (f" and {more:,} more" if more > 0 else "")


def _targets(
    table: Table, profiles: Sequence[ColumnProfile], input: ColumnProfile, options: DataOptions
) -> list[ColumnProfile]:
    if options.target:
        chosen = [_named(table, profiles, name, "--target") for name in options.target]
        if input in chosen:
            raise RequestError(f"`{input.name}` is the input and the target", where="--target")
        return chosen
    return rank_targets(profiles, input)


def _task(
    table: Table,
    profiles: Sequence[ColumnProfile],
    kind: InputKind,
    input: ColumnProfile,
    targets: Sequence[ColumnProfile],
    options: DataOptions,
) -> tuple[str, Sequence[ColumnProfile], Settings]:
    """Return the task, the columns of its targets, and the settings that name them."""
    outputs = set(TASK_KINDS[options.task].outputs) if options.task else set(OutputKind)
    classification = CLASSIFICATION[kind]
    one_hot = [item for item in targets if item.role == ColumnRole.ONE_HOT]
    best = targets[0] if targets else None
    if options.task and OutputKind.CAUSAL_LM in outputs:
        return options.task, (), {}
    if options.target and len(targets) > 1 and len(one_hot) < len(targets):
        return "regression", targets, _numbers(targets, kind)
    is_set = len(one_hot) > 1 and OutputKind.MULTI_LABEL in outputs
    if is_set and (best in one_hot or best is None):
        names = [item.name for item in one_hot]
        return classification, one_hot, {"multi_label": True, "target_columns": names}
    texts = _text_target(profiles, kind, input, targets, options)
    if texts is not None and outputs & {OutputKind.SEQ2SEQ, OutputKind.CTC}:
        target, task = texts
        return options.task or task, [target], _label(target)
    if best is None:
        raise DataError(
            "no column holds the targets: labels or numbers",
            where=str(table.path),
            why=_described(profiles),
            fix="Name it with --target COLUMN, or write --task language-modeling for a model that "
            "continues texts",
        )
    if best.role == ColumnRole.LISTS and OutputKind.MULTI_LABEL in outputs:
        return classification, [best], {**_label(best), "multi_label": True}
    if best.role == ColumnRole.STRING and OutputKind.MULTI_LABEL in outputs:
        separator = separator_of(table.sample(best.name, 1000))
        if separator is not None:
            own = {} if separator == "|" else {"separator": separator}
            return classification, [best], {**_label(best), "multi_label": True, **own}
    if OutputKind.REGRESSION in outputs and (options.task == "regression" or not is_category(best)):
        if best.role not in (ColumnRole.NUMBER, ColumnRole.ONE_HOT, ColumnRole.ID):
            raise DataError(
                f"the column `{best.name}` holds {best.role}, not numbers",
                where=str(table.path),
                fix="Name a column of numbers with --target COLUMN",
            )
        return "regression", [best], _numbers([best], kind)
    return classification, [best], _label(best)


def _label(target: ColumnProfile) -> Settings:
    return {"label": target.name} if target.name != "label" else {}


def _numbers(targets: Sequence[ColumnProfile], kind: InputKind) -> Settings:
    names = [item.name for item in targets]
    columns = {"target_columns": names} if names != ["target"] else {}
    return {**columns, "input_kind": str(kind)} if kind != InputKind.IMAGE else columns


def _text_target(
    profiles: Sequence[ColumnProfile],
    kind: InputKind,
    input: ColumnProfile,
    targets: Sequence[ColumnProfile],
    options: DataOptions,
) -> tuple[ColumnProfile, str] | None:
    """Return a column of texts that are to be written, and the task."""
    if options.target:
        is_text = targets[0].role == ColumnRole.STRING and targets[0].is_varied
        writes = {OutputKind.SEQ2SEQ, OutputKind.CTC}
        if not is_text and not (options.task and writes & set(TASK_KINDS[options.task].outputs)):
            return None
        if kind == InputKind.AUDIO:
            return targets[0], "speech-recognition"
        shorter = 2 * targets[0].words < input.words
        return targets[0], "summarization" if shorter else "translation"
    if kind == InputKind.AUDIO:
        # What is spoken differs from recording to recording; a class doesn't.
        text = spoken(profiles, input)
        has_label = any(not item.is_varied for item in targets)
        return None if text is None or has_label else (text, "speech-recognition")
    has_label = any(
        item.role == ColumnRole.NUMBER or named_like(item.name, _LABELS) for item in targets
    )
    if kind != InputKind.TEXT or has_label:
        return None
    found = generated(profiles, input)
    is_text = found is not None and (found[0].is_varied or found[0].words >= SENTENCE)
    return found if is_text else None
