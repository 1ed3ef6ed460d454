"""Infers the source and the task of some data: from its layout first, then from its content."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelwright.data.boxed_files import is_coco
from modelwright.data.formats import foreign_file
from modelwright.data.inputs import INPUTS
from modelwright.data.table_reader import is_table, no_table
from modelwright.errors import DataError, RequestError, nearest
from modelwright.kinds import TASK_KINDS, InputKind
from modelwright.scaffold.columns import Settings, profile, rank_inputs
from modelwright.scaffold.folders import infer_folder
from modelwright.scaffold.inferred import CLASSIFICATION, DataOptions, Inferred
from modelwright.scaffold.samples import FileIndex
from modelwright.scaffold.tables import infer_table
from modelwright.scaffold.texts import infer_text_file

_KNOWN = ("digits", "cifar10")
"""Sources that have a name and need no path."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/+[^/]", re.IGNORECASE)
"""Of a path that was an address, one slash may be left."""


def infer_task(source: Path | str, shown: str, options: DataOptions | None = None) -> Inferred:
    """Return the task that some data is likely for, and its section `data`.

    Args:
        source: a folder, a table, a file, or the name of data that is known.
        shown: its path as the recipe is to have it.
        options: what the user says of it.

    Raises:
        DataError: the data can't be read, or its task is unclear.
        RequestError: there is no such task, or a hint has no effect.
    """
    options, path = options or DataOptions(), Path(source)
    if options.task is not None and options.task not in TASK_KINDS:
        raise RequestError(
            f"there is no task `{options.task}`",
            where="--task",
            fix=nearest(options.task, TASK_KINDS),
        )
    if str(source) in _KNOWN and not path.exists():
        return Inferred(CLASSIFICATION[InputKind.IMAGE], {"source": str(source)})
    if not path.exists() and _ADDRESS.match(str(source)):
        raise DataError(
            "this is an address, and data is read from this machine alone",
            where=str(source),
            fix="Download it, and give the file or folder",
        )
    if not path.exists():
        raise DataError(
            "there is no such file or folder", where=str(path), fix=nearest(str(source), _KNOWN)
        )
    if not path.is_dir() and not path.is_file():
        raise DataError("this isn't a plain file", where=str(path))
    inferred = infer_folder(path, shown, options) if path.is_dir() else _file(path, shown, options)
    return _as_asked(inferred, options, path)


def _as_asked(inferred: Inferred, options: DataOptions, path: Path) -> Inferred:
    """Refuse options that the data has no place for."""
    if inferred.data["source"] not in ("table", "boxes") and (options.input or options.target):
        raise RequestError(
            "--input and --target name columns, and this is no table",
            where=str(path),
            fix="Leave them out",
        )
    if options.task is None or options.task == inferred.task:
        return inferred
    kinds, asked = TASK_KINDS[inferred.task], TASK_KINDS[options.task]
    if kinds.inputs[0] in asked.inputs and set(kinds.outputs) & set(asked.outputs):
        return replace(inferred, task=options.task)
    raise DataError(
        f"this looks like data for {inferred.task}, not for {options.task}",
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
        inferred = infer_table(path, "", DataOptions(kind=kind))
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
    find = FileIndex(folder).find
    profiles = [profile(name, column, find) for name, column in cells.items()]
    ranked = [item for of, item in rank_inputs(profiles) if of == kind]
    if not ranked:
        return None, "{}"
    return ranked[0].name, str(ranked[0].settings.get("files", "{}"))


def _file(path: Path, shown: str, options: DataOptions) -> Inferred:
    foreign = foreign_file(path)
    if foreign is not None:
        raise foreign
    suffix = path.suffix.lower()
    if suffix == ".json" and is_coco(path):
        return Inferred("object-detection", {"source": "boxes", "path": shown})
    if is_table(path):
        return infer_table(path, shown, options)
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
    return infer_text_file(path, shown)
