"""Infers the source and the task of some data: from its layout first, then from its content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from modelwright.data.boxed_files import is_coco
from modelwright.data.encodings import detect_encoding
from modelwright.data.formats import foreign_among, foreign_file
from modelwright.data.inputs import INPUTS
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.labelme import is_labelme
from modelwright.data.table_reader import (
    Table,
    is_table,
    is_table_folder,
    no_table,
    open_table,
    table_files,
)
from modelwright.data.transcripts import LIBRISPEECH, recordings_below
from modelwright.data.yolo import is_yolo
from modelwright.errors import DataError, RequestError, nearest
from modelwright.kinds import TASK_KINDS, InputKind, OutputKind
from modelwright.scaffold.columns import (
    SENTENCE,
    ColumnProfile,
    ColumnRole,
    Settings,
    generated,
    is_category,
    named_like,
    profile,
    profile_table,
    rank_inputs,
    rank_targets,
    separator_of,
    spoken,
)
from modelwright.scaffold.layout import class_folders, name_pattern
from modelwright.scaffold.samples import Inventory
from modelwright.transforms.scripts import count_words

CLASSIFICATION = {
    InputKind.IMAGE: "image-classification",
    InputKind.TEXT: "text-classification",
    InputKind.AUDIO: "audio-classification",
}
_KNOWN = ("digits", "cifar10")
"""Sources that have a name and need no path."""
_LABELS = "labels.csv"
"""The table of several labels that a folder may hold."""
_LOOKED_AT = 1 << 20
"""The bytes of a file that are looked at."""
_MOST_LABELS = 0.1
"""Lines that begin with a label have at most so many labels a line."""
_SHOWN = 4
_HEADER_WORDS = 5
"""A column's name of so many words is no name."""
_ABOUT = re.compile(
    r"(readme|licen[sc]e|copying|classes|labels?|names|notes?|changelog|citation|about|credits|"
    r"requirements|metadata|index|info)([._\- ].*)?",
    re.IGNORECASE,
)
"""How files are called that say something about data."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says of the data."""

    input: str | None = None
    """The column of a table that is the input."""
    target: tuple[str, ...] = ()
    """The columns that are the target."""
    task: str | None = None
    kind: InputKind | None = None
    """What its samples are, where a model that exists says it."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """The inferred task and source of some data."""

    task: str
    data: Settings
    """The section `data` of its recipe."""
    notes: tuple[str, ...] = ()
    """What was seen, and taken for what."""
    choices: tuple[str, ...] = ()
    """What could be meant as well, and how to say so."""


def infer_task(source: Path | str, shown: str, hints: Hints | None = None) -> Inferred:
    """Return the task that some data is likely for, and its section `data`.

    Args:
        source: a folder, a table, a file, or the name of data that is known.
        shown: its path as the recipe is to have it.
        hints: what the user says of it.

    Raises:
        DataError: the data can't be read, or its task is unclear.
        RequestError: there is no such task, or a hint has no effect.
    """
    hints, path = hints or Hints(), Path(source)
    if hints.task is not None and hints.task not in TASK_KINDS:
        raise RequestError(
            f"there is no task `{hints.task}`", where="--task", fix=nearest(hints.task, TASK_KINDS)
        )
    if str(source) in _KNOWN and not path.exists():
        return Inferred(CLASSIFICATION[InputKind.IMAGE], {"source": str(source)})
    if not path.exists():
        raise DataError(
            "there is no such file or folder", where=str(path), fix=nearest(str(source), _KNOWN)
        )
    inferred = _folder(path, shown, hints) if path.is_dir() else _file(path, shown, hints)
    return _as_asked(inferred, hints, path)


def _as_asked(inferred: Inferred, hints: Hints, path: Path) -> Inferred:
    """Refuse hints that the data has no place for."""
    if inferred.data["source"] not in ("table", "boxes") and (hints.input or hints.target):
        raise RequestError(
            "--input and --target name columns, and this is no table",
            where=str(path),
            fix="Leave them out",
        )
    if hints.task is None or hints.task == inferred.task:
        return inferred
    kinds, asked = TASK_KINDS[inferred.task], TASK_KINDS[hints.task]
    if kinds.inputs[0] in asked.inputs and set(kinds.outputs) & set(asked.outputs):
        return replace(inferred, task=hints.task)
    raise DataError(
        f"this looks like data for {inferred.task}, not for {hints.task}",
        where=str(path),
        why=". ".join(inferred.notes),
        fix="Look at the data, or write a recipe that says how it is read",
    )


def guess_columns(path: Path, kind: InputKind) -> Settings:
    """Return the settings that are likely meant for a table that holds some kind of input.

    Raises:
        DataError: no column holds it, or none holds a target.
    """
    try:
        inferred = _table(path, "", Hints(kind=kind))
    except DataError as error:  # Its advice is for `new`, where columns can be named.
        error.fix = f"Call the columns as the training data does, or `{kind}` and `label`"
        raise
    return {key: value for key, value in inferred.data.items() if key not in ("source", "path")}


def guess_input(
    cells: Mapping[str, Sequence[Any]], kind: InputKind, folder: Path
) -> tuple[str | None, str]:
    """Return the column that likely holds some kind of input, and the pattern of its files' paths.

    Args:
        cells: some cells of each column.
        kind: what the input is.
        folder: where paths start from.
    """
    find = Inventory(folder).find
    profiles = [profile(name, column, find) for name, column in cells.items()]
    ranked = [item for of, item in rank_inputs(profiles) if of == kind]
    if not ranked:
        return None, "{}"
    return ranked[0].name, str(ranked[0].settings.get("files", "{}"))


def _file(path: Path, shown: str, hints: Hints) -> Inferred:
    foreign = foreign_file(path)
    if foreign is not None:
        raise foreign
    suffix = path.suffix.lower()
    if suffix == ".json" and is_coco(path):
        return Inferred("object-detection", {"source": "boxes", "path": shown})
    if is_table(path):
        return _table(path, shown, hints)
    if suffix == ".json":
        raise no_table(path)
    if suffix == ".npz":
        return Inferred(CLASSIFICATION[InputKind.IMAGE], {"source": "arrays", "path": shown})
    for kind in (InputKind.IMAGE, InputKind.AUDIO):
        if suffix in INPUTS[kind].suffixes:
            raise DataError(
                f"this is one {kind.noun}",
                where=str(path),
                fix=f"Give a folder of {kind.plural} with a folder for each class, or a table",
            )
    return _text_file(path, shown)


# -- tables ----------------------------------------------------------------------------------


def _table(path: Path, shown: str, hints: Hints, *, folder: Inventory | None = None) -> Inferred:
    """Infer the columns of a table; of images beside it, `folder` is the one to be looked in."""
    file = table_files(path)[0][0]
    encoding, notes = encoding_of(file)
    table = open_table(file, encoding=encoding)
    if not table.columns:
        raise DataError("this table is empty", where=str(file), fix="Look at it")
    inventory = folder or Inventory(table.folder, is_listed=table.frame_folder is None)
    profiles = profile_table(table, inventory.find)
    data: Settings = {"source": "table", "path": shown}
    if encoding is not None:
        data["encoding"] = encoding
    if _has_no_header(table, profiles):
        names = _column_names(profiles)
        table = open_table(file, names, encoding=encoding)
        profiles = profile_table(table, inventory.find)
        data["columns"] = names
        notes += (
            "The first line looks like data, not like names of columns, so they are called "
            f"{_listed(names)}",
        )
    boxes = next((item for item in profiles if item.role == ColumnRole.BOXES), None)
    if boxes is not None and hints.task in (None, "object-detection"):
        if len(data) > 2:  # Of boxes, the source takes neither an encoding nor names of columns.
            raise DataError(
                "a table of boxes is read as UTF-8, with a line that names its columns",
                where=str(file),
                why=". ".join(notes),
                fix="Save it so",
            )
        return _boxes(data, profiles, boxes, notes)
    return _columns(table, profiles, data, hints, notes)


def _boxes(
    data: Settings, profiles: Sequence[ColumnProfile], boxes: ColumnProfile, notes: tuple[str, ...]
) -> Inferred:
    images = [item.name for item in profiles if item.role == ColumnRole.IMAGE]
    image = images[0] if images else "image"
    columns = {key: name for key, name in (("image", image), ("boxes", boxes.name)) if name != key}
    return Inferred("object-detection", {**data, "source": "boxes", **columns}, notes)


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
    hints: Hints,
    notes: tuple[str, ...],
) -> Inferred:
    kind, input, other_inputs = _input(table, profiles, hints)
    targets = _targets(table, profiles, input, hints)
    task, target, settings = _task(table, profiles, kind, input, targets, hints)
    split = next((item for item in profiles if item.role == ColumnRole.SPLIT), None)
    named = {str(kind): input.name} if input.name != kind else {}
    data = {**data, **named, **input.settings, **settings}
    if split is not None:
        data["split_column"] = split.name
    seen = [f"`{input.name}` is taken as the {kind.noun}"]
    if target:
        what = "target" if task == "regression" else "label" if task.endswith("cation") else "text"
        seen.append(f"{_listed([item.name for item in target])} as the {what}")
    if split is not None:
        seen.append(f"`{split.name}` as the split")
    choices = [
        f"`{item.name}` could be the input as well: --input {item.name}"
        for item in other_inputs[:_SHOWN]
    ]
    if not hints.target:
        choices += [
            f"`{item.name}` ({_values(item)}) could be the target as well: --target {item.name}"
            for item in targets[:_SHOWN]
            if item not in target
        ]
    return Inferred(task, data, (*notes, " and ".join(seen)), tuple(choices))


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
            why=nearest(name, table.columns) or f"Its columns are {_listed(list(table.columns))}",
        )
    return chosen


def _input(
    table: Table, profiles: Sequence[ColumnProfile], hints: Hints
) -> tuple[InputKind, ColumnProfile, list[ColumnProfile]]:
    """Return the kind of input, its column, and the columns that could be it as well."""
    allowed = TASK_KINDS[hints.task].inputs if hints.task else tuple(InputKind)
    if hints.kind is not None:
        allowed = (hints.kind,)
    ranked = [
        (kind, item)
        for kind, item in rank_inputs(profiles)
        if kind in allowed and item.name not in hints.target
    ]
    if hints.input is not None:
        item = _named(table, profiles, hints.input, "--input")
        media = {ColumnRole.IMAGE: InputKind.IMAGE, ColumnRole.AUDIO: InputKind.AUDIO}
        return media.get(item.role, InputKind.TEXT), item, []
    if ranked:
        (kind, item), *rest = ranked
        return kind, item, [other for of, other in rest if of == kind]
    addresses = [item.name for item in profiles if item.role == ColumnRole.ADDRESS]
    if addresses:
        raise DataError(
            f"the column `{addresses[0]}` holds addresses, and files aren't fetched from them",
            where=str(table.path),
            fix="Download the files into a folder beside the table, and write their names there. "
            f"If the addresses themselves are the texts, say so with --input {addresses[0]}",
        )
    raise DataError(
        "no column holds images, texts or recordings",
        where=str(table.path),
        why=_described(profiles),
        fix="Name it with --input COLUMN. Paths start from the table's folder",
    )


def _described(profiles: Sequence[ColumnProfile]) -> str:
    return "Its columns are " + ", ".join(f"`{item.name}` ({item.role})" for item in profiles)


def _targets(
    table: Table, profiles: Sequence[ColumnProfile], input: ColumnProfile, hints: Hints
) -> list[ColumnProfile]:
    if hints.target:
        chosen = [_named(table, profiles, name, "--target") for name in hints.target]
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
    hints: Hints,
) -> tuple[str, Sequence[ColumnProfile], Settings]:
    """Return the task, the columns of its targets, and the settings that name them."""
    outputs = set(TASK_KINDS[hints.task].outputs) if hints.task else set(OutputKind)
    classification = CLASSIFICATION[kind]
    one_hot = [item for item in targets if item.role == ColumnRole.ONE_HOT]
    best = targets[0] if targets else None
    if hints.task and OutputKind.CAUSAL_LM in outputs:
        return hints.task, (), {}
    if hints.target and len(targets) > 1 and len(one_hot) < len(targets):
        return "regression", targets, _numbers(targets, kind)
    is_set = len(one_hot) > 1 and OutputKind.MULTI_LABEL in outputs
    if is_set and (best in one_hot or best is None):
        names = [item.name for item in one_hot]
        return classification, one_hot, {"multi_label": True, "target_columns": names}
    texts = _text_target(profiles, kind, input, targets, hints)
    if texts is not None and outputs & {OutputKind.SEQ2SEQ, OutputKind.CTC}:
        target, task = texts
        return hints.task or task, [target], _label(target)
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
    if OutputKind.REGRESSION in outputs and (hints.task == "regression" or not is_category(best)):
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
    hints: Hints,
) -> tuple[ColumnProfile, str] | None:
    """Return a column of texts that are to be written, and the task."""
    if hints.target:
        is_text = targets[0].role == ColumnRole.STRING and targets[0].is_varied
        writes = {OutputKind.SEQ2SEQ, OutputKind.CTC}
        if not is_text and not (hints.task and writes & set(TASK_KINDS[hints.task].outputs)):
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
        item.role == ColumnRole.NUMBER or named_like(item.name, ("label",)) for item in targets
    )
    if kind != InputKind.TEXT or has_label:
        return None
    found = generated(profiles, input)
    is_text = found is not None and (found[0].is_varied or found[0].words >= SENTENCE)
    return found if is_text else None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


# -- files of texts --------------------------------------------------------------------------


def _text_file(path: Path, shown: str) -> Inferred:
    other = partner(path)
    if other is not None:
        target = str(Path(shown).with_name(other.name))
        lines = count_lines(path), count_lines(other)
        if lines[0] != lines[1]:
            raise DataError(
                f"this and {other.name} look like parallel text, and have {lines[0]:,} and "
                f"{lines[1]:,} lines",
                where=str(path),
                why="Line belongs to line, so behind a missing one all pairs would be wrong",
                fix=f"Find the line that is missing, or move {other.name} away if they don't "
                "belong together",
            )
        note = f"{path.name} and {other.name} are taken as parallel text: line belongs to line"
        data = {"source": "parallel_text", "path": shown, "target": target}
        return Inferred("translation", data, (note,))
    encoding, notes = encoding_of(path)
    data = {"path": shown} | ({"encoding": encoding} if encoding else {})
    if begins_with_labels(path):
        task = CLASSIFICATION[InputKind.TEXT]
        return Inferred(task, {"source": "labelled_lines", **data}, notes)
    return Inferred("language-modeling", {"source": "documents", **data}, notes)


def partner(path: Path) -> Path | None:
    """Return the file of the same name in another language, such as `train.de` for `train.en`.

    A language is a suffix of two or three letters that is no usual one of files. Of several, the
    one with as many lines is taken, else the one with nearly as many.
    """
    if not _is_language(path.suffix):
        return None
    others = [
        other
        for other in sorted(path.parent.glob(f"{path.stem}.*"))
        if other != path and other.is_file() and _is_language(other.suffix)
    ]
    lines = count_lines(path)
    others.sort(key=lambda other: abs(count_lines(other) - lines))
    close = [other for other in others if abs(count_lines(other) - lines) <= 0.1 * lines]
    return close[0] if close else None


_NO_LANGUAGES = frozenset(
    (".txt", ".md", ".csv", ".tsv", ".log", ".xml", ".yml", ".gz", ".py", ".npz")
)


def _is_language(suffix: str) -> bool:
    is_short = suffix[1:].isalpha() and 2 <= len(suffix) - 1 <= 3
    return is_short and suffix.lower() not in _NO_LANGUAGES


def count_lines(path: Path) -> int:
    """Return the number of a file's lines, without empty ones at its end."""
    data = path.read_bytes().rstrip(b"\r\n")
    return data.count(b"\n") + bool(data)


def begins_with_labels(path: Path) -> bool:
    """Say whether a file's lines begin with one of a few labels, as TREC's and SST's do."""
    data = read_maybe_packed(path)[:_LOOKED_AT]
    lines = [line for line in data.split(b"\n") if line.strip()]
    first = Counter(line.split()[0] for line in lines)
    alone = sum(len(line.split()) < 2 for line in lines)
    are_few = 2 <= len(first) <= max(2, _MOST_LABELS * len(lines))
    return are_few and min(first.values()) >= 2 and alone <= len(lines) / 2


# -- folders ---------------------------------------------------------------------------------


def _folder(path: Path, shown: str, hints: Hints) -> Inferred:
    if is_table_folder(path):
        return _table(path, shown, hints)
    inventory = Inventory(path)
    if has_boxes(path, inventory):
        return Inferred("object-detection", {"source": "boxes", "path": shown})
    images, sounds = (inventory.by_kind[kind] for kind in (InputKind.IMAGE, InputKind.AUDIO))
    if images or sounds:
        kind = InputKind.IMAGE if len(images) >= len(sounds) else InputKind.AUDIO
        return _media_folder(path, shown, kind, inventory, hints)
    return _text_folder(path, shown, inventory, hints)


def has_boxes(path: Path, inventory: Inventory) -> bool:
    """Say whether a folder holds images with boxes, by its files' names and beginnings."""
    if not inventory.by_kind[InputKind.IMAGE]:
        return False
    files = inventory.files
    suffixes = {PurePosixPath(file).suffix.lower() for file in files}
    if ".xml" in suffixes:
        return True
    documents = [file for file in files if file.lower().endswith(".json")]
    return (
        any(is_coco(path / file) for file in documents[:100])
        or (bool(documents) and is_labelme(path, files))
        or (".txt" in suffixes and is_yolo(path, files))
    )


def _media_folder(
    path: Path, shown: str, kind: InputKind, inventory: Inventory, hints: Hints
) -> Inferred:
    """Infer how a folder of images or recordings is labelled: by a table, folders, or names."""
    samples = inventory.by_kind[kind]
    aside = _left_aside(inventory, kind)
    folder: Settings = {"source": "folder", "path": shown}
    if kind == InputKind.AUDIO and has_transcripts(path):
        return Inferred("speech-recognition", folder, aside)
    table = _labels_table(path, inventory, kind, hints)
    if table is not None:
        file, inferred = table
        where = str(PurePosixPath(shown) / file)
        note = f"`{file}` names the {kind.plural} and their labels"
        data = {**inferred.data, "path": where}
        return replace(inferred, data=data, notes=(note, *inferred.notes, *aside))
    return _labelled_files(path, shown, samples, kind, inventory, aside)


def _labelled_files(
    path: Path,
    shown: str,
    samples: Sequence[str],
    kind: InputKind,
    inventory: Inventory,
    aside: tuple[str, ...],
) -> Inferred:
    """Infer labels from the folders that files are in, or from their names."""
    folders = class_folders(samples)
    if folders is not None:
        where = str(PurePosixPath(shown) / folders.below) if folders.below else shown
        notes = [f"The folders are the classes: {_listed(folders.classes)}"]
        if folders.deeper:
            notes.append(f"Folders below them, such as `{folders.deeper}`, tell nothing apart")
        if folders.loose:
            notes.append(
                f"{len(folders.loose):,} {kind.plural} stand in no class's folder and are left "
                f"aside, {folders.loose[0]} first"
            )
        data = {"source": "folder", "path": where}
        return Inferred(CLASSIFICATION[kind], data, (*notes, *aside))
    pattern = name_pattern(samples)
    if pattern is not None:
        file, label = pattern.example
        notes = [
            f"The names of the files tell the classes apart: `{file}` is taken as `{label}` "
            f"({len(pattern.classes):,} classes: {_listed(pattern.classes)})"
        ]
        choices = [
            f"Another part of the names could be the label ({values}): write another "
            "`data.label_pattern`"
            for values in pattern.others
        ]
        data = {"source": "folder", "path": shown, "label_pattern": pattern.pattern}
        return Inferred(CLASSIFICATION[kind], data, (*notes, *aside), tuple(choices))
    foreign = foreign_among(inventory.files)
    raise DataError(
        f"nothing says which class each {kind.noun} is of",
        where=str(path),
        why=f"It holds {len(samples):,} {kind.plural}, {samples[0]} first. "
        + (f"{foreign}. " if foreign else "")
        + "There is no folder for each class, no table that names them, and no class in their "
        "names",
        fix=f"Make a folder for each class, or a table with the columns {kind} and label",
    )


def _left_aside(inventory: Inventory, kind: InputKind) -> tuple[str, ...]:
    """Name the files beside the samples that aren't read."""
    samples = set(inventory.by_kind[kind])
    others = [file for file in inventory.files if file not in samples]
    if not others:
        return ()
    foreign = foreign_among(others)
    note = f"{len(others):,} other files are left aside: {', '.join(others[:_SHOWN])}"
    note += ", …" if len(others) > _SHOWN else ""
    return (note, *([foreign] if foreign else []))


def _labels_table(
    path: Path, inventory: Inventory, kind: InputKind, hints: Hints
) -> tuple[str, Inferred] | None:
    """Return the table of a folder that names most of its samples and their targets."""
    tables = [file for file in inventory.files if is_table(path / file) and "/" not in file] or [
        file for file in inventory.files if is_table(path / file)
    ][:10]
    reasons = []
    for file in sorted(tables, key=lambda file: "label" not in file.lower()):
        try:
            inferred = _table(path / file, file, hints, folder=_beside(path, file, inventory))
        except DataError as error:
            reasons.append(error)
            continue
        is_about_samples = inferred.task in (
            CLASSIFICATION[kind],
            "speech-recognition",
        ) or inferred.data.get("input_kind", "image") == str(kind)
        if is_about_samples and (
            inferred.task == "regression" or str(kind) in inferred.task or kind == InputKind.AUDIO
        ):
            return file, inferred
    if reasons and (hints.input or hints.target):
        raise reasons[0]
    return None


def _beside(path: Path, file: str, inventory: Inventory) -> Inventory:
    """Return the files that a table in a folder may name: those below its own folder."""
    return inventory if "/" not in file else Inventory((path / file).parent)


def _text_folder(path: Path, shown: str, inventory: Inventory, hints: Hints) -> Inferred:
    texts = inventory.by_kind[InputKind.TEXT]
    samples = [file for file in texts if not _ABOUT.fullmatch(PurePosixPath(file).stem)]
    folders = class_folders(samples)
    if folders is not None and hints.task in (None, CLASSIFICATION[InputKind.TEXT]):
        aside = tuple(file for file in inventory.files if file not in set(samples))
        loose = (*folders.loose, *(file for file in aside))
        notes = [f"The folders are the classes: {_listed(folders.classes)}"]
        if loose:
            notes.append(f"Left aside: {', '.join(loose[:_SHOWN])}")
        where = str(PurePosixPath(shown) / folders.below) if folders.below else shown
        data = {"source": "folder", "path": where, **_folder_encoding(path, samples, notes)}
        return Inferred(CLASSIFICATION[InputKind.TEXT], data, tuple(notes))
    tables = [file for file in inventory.files if is_table(path / file)]
    if tables and not samples:
        return _only_table(path, shown, tables, hints)
    pairs = [file for file in inventory.files if partner(path / file) is not None]
    if pairs and not samples:
        return _text_file(path / pairs[0], str(PurePosixPath(shown) / pairs[0]))
    if samples:
        notes = [f"{len(samples):,} texts without labels are taken: a model that continues texts"]
        others = [file for file in inventory.files if file not in set(samples)]
        if others:
            notes.append(f"Left aside: {', '.join(others[:_SHOWN])}")
        data = {"source": "documents", "path": shown, **_folder_encoding(path, samples, notes)}
        return Inferred("language-modeling", data, tuple(notes))
    counts = Counter(PurePosixPath(file).suffix or file for file in inventory.files)
    shown_files = ", ".join(f"{count:,} {name}" for name, count in counts.most_common(_SHOWN))
    raise DataError(
        "there are no images, texts or recordings in this folder",
        where=str(path),
        why=f"It holds {shown_files}" if counts else "It is empty",
        fix=foreign_among(inventory.files) or "It should hold a folder of files for each class",
    )


def _only_table(path: Path, shown: str, tables: Sequence[str], hints: Hints) -> Inferred:
    inferred = _table(path / tables[0], str(PurePosixPath(shown) / tables[0]), hints)
    others = [f"`{file}` is another table: give it in place of the folder" for file in tables[1:]]
    return replace(inferred, choices=(*inferred.choices, *others[:_SHOWN]))


def _folder_encoding(path: Path, samples: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """Return the encoding of most texts of a folder, where it isn't UTF-8."""
    data = [read_maybe_packed(path / file)[:4096] for file in samples[:200]]
    broken = [text for text in data if detect_encoding(text) is not None]
    if 2 * len(broken) <= sum(not text.isascii() for text in data):
        return {}
    detected = detect_encoding(b"\n".join(broken))
    if detected is None:
        return {}
    notes.append(
        f"The texts aren't UTF-8; they are read as {detected.encoding} (`data.encoding`). "
        f"So they read: {detected.shown}"
    )
    return {"encoding": detected.encoding}


def has_transcripts(folder: Path) -> bool:
    """Say whether most recordings of a folder have a text beside them."""
    recordings = recordings_below(folder)
    beside = sum(path.with_suffix(".txt").is_file() for path in recordings)
    return bool(recordings) and (
        2 * beside > len(recordings) or any(folder.rglob(f"*{LIBRISPEECH}"))
    )
