"""Infers the columns of a table from their names and first cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelwright.data.inputs import INPUTS
from modelwright.data.multi_label import are_lists, are_one_hot
from modelwright.data.table_reader import Column, columns_of, first_values, open_table, table_files
from modelwright.data.targets import write_numbers
from modelwright.kinds import InputKind

Settings = dict[str, Any]
"""Settings of the section `data`, where they aren't defaults."""
_INPUTS: dict[InputKind, tuple[str, ...]] = {
    InputKind.IMAGE: ("image", "img", "path", "file", "picture", "photo"),
    InputKind.TEXT: ("text", "sentence", "review", "comment", "document"),
    InputKind.AUDIO: ("audio", "audio", "wav", "clip", "pcm"),
}
_LABELS = ("label", "class", "category", "species")
_NUMBERS = ("target", "number", "value", "reading", "score", "price", "age", "y")
_SPOKEN = ("transcript", "transcription", "sentence", "text")
"""Columns that hold what is spoken in a recording."""
_BOXES = ("box", "xml", "annotation", "object")
"""What a column of boxes may be called."""
_SUMMARIES = ("summary", "tldr", "highlights", "headline", "title", "abstractive")
_TRANSLATIONS = ("translation", "target", "reference", "output")
_LABEL_SETS = ("tag", "topic", "genre", "categor", "keyword", "emotion", "subject", "code")
"""How columns begin that hold any number of labels."""
_SPLITS = ("split", "set", "subset")
_ROWS = 100
"""So many rows of a table are looked at."""


def guess_table(path: Path, kind: InputKind | None = None) -> tuple[InputKind, Settings]:
    """Return a table's input kind, and its likely settings where they aren't defaults.

    Without a label column, a numeric column with a usual name becomes `target_columns`.

    Args:
        path: a table, or a folder of tables.
        kind: what it holds, if that is known.
    """
    columns = open_table(table_files(path)[0][0]).columns
    names = list(columns)
    kind = kind or _likely_kind(columns)
    labels = (*_LABELS, *_SPOKEN) if kind == InputKind.AUDIO else _LABELS
    label, number = _likeliest(names, labels), _likeliest(names, _NUMBERS)
    settings: Settings = {}
    if label is None and number is not None and write_numbers(columns[number]()[:1]):
        settings = {"target_columns": [number], "input_kind": str(kind)}
    elif label is None:
        label = number
    chosen = {str(kind): _likeliest(names, _INPUTS[kind]), "label": label}
    settings |= {key: name for key, name in chosen.items() if name is not None and name != key}
    split = next((name for name in names if name.lower() in _SPLITS), None)
    return kind, settings if split is None else {**settings, "split_column": split}


def guess_columns(path: Path, kind: InputKind) -> Settings:
    """Return the settings that are likely meant for a table that holds some kind of input."""
    return guess_table(path, kind)[1]


def _likely_kind(columns: Mapping[str, Column]) -> InputKind:
    """Return the input kind by a column's name and its first value, else images."""
    for fits in (str.__eq__, str.__contains__):
        for kind in (InputKind.IMAGE, InputKind.AUDIO, InputKind.TEXT):
            for word in _INPUTS[kind]:
                for name in columns:
                    if fits(name.lower(), word):
                        return _by_value(kind, next(iter(columns[name]()), None))
    return InputKind.IMAGE


def _by_value(kind: InputKind, value: Any) -> InputKind:
    """Correct a column's name, such as `file`, by what its first value is."""
    suffix = Path(value).suffix.lower() if isinstance(value, str) and len(value) < 500 else ""
    return next((other for other, adapter in INPUTS.items() if suffix in adapter.suffixes), kind)


def _likeliest(columns: Sequence[str], likely: tuple[str, ...]) -> str | None:
    """Return the column that is named most like it: just so, else beginning so, else holding it."""
    for fits in (str.__eq__, str.startswith, str.__contains__):
        for word in likely:
            for name in columns:
                if fits(name.lower(), word):
                    return name
    return None


def guess_generated_column(columns: Sequence[str], given: str) -> tuple[str, str] | None:
    """Return the column of texts that are to be generated, and the task; beside a `label` nothing.

    Args:
        columns: the names of a table's columns.
        given: the one with the texts that are given.
    """
    if "label" in columns:
        return None
    for words, task in ((_SUMMARIES, "summarization"), (_TRANSLATIONS, "translation")):
        for name in columns:
            if name.lower() in words and name != given:
                return name, task
    return None


def guess_label_sets(path: Path, guessed: Settings) -> Settings | None:
    """Return the settings of a table whose labels come in lists; else nothing.

    The column of labels is the one that was guessed, or, where there is none, the only one that
    holds lists and is called so; lists may also be of tokens.

    Args:
        path: the table, or a folder of tables.
        guessed: the settings that are likely meant, as `guess_table` returns them.
    """
    columns, label = columns_of(path), str(guessed.get("label", "label"))
    called = [name for name in columns if name.lower().startswith(_LABEL_SETS)]
    likely = [label] if label in columns else called
    listed = [name for name in likely if are_lists(first_values(path, name, _ROWS))]
    if len(listed) != 1:
        return None
    settings = {
        key: value for key, value in guessed.items() if key not in ("target_columns", "input_kind")
    }
    if listed[0] != "label":
        settings["label"] = listed[0]
    return {**settings, "multi_label": True}


def guess_one_hot(path: Path, kind: InputKind, guessed: Settings) -> Settings | None:
    """Return the settings of a table that has a column of 0 and 1 for each label; else nothing.

    Args:
        path: the table, or a folder of tables.
        kind: what its rows are.
        guessed: the settings that are likely meant, as `guess_table` returns them.
    """
    columns = [name for name in columns_of(path) if are_one_hot(first_values(path, name, _ROWS))]
    if len(columns) < 2 or guessed.get("label", "label") in set(columns_of(path)) - set(columns):
        return None
    kept = {key: value for key, value in guessed.items() if key in (kind, "split_column")}
    return {**kept, "multi_label": True, "target_columns": columns}


def guess_boxes(path: Path) -> Settings | None:
    """Return the columns of a table's images and boxes that aren't called so; `None` without boxes.

    Args:
        path: a table, or a folder of tables.
    """
    for name in columns_of(path):
        if any(word in name.lower() for word in _BOXES) and any(
            _has_box(value) for value in first_values(path, name, _ROWS)
        ):
            image = guess_table(path, InputKind.IMAGE)[1].get("image", "image")
            settings = {"image": str(image), "boxes": name}
            return {key: column for key, column in settings.items() if key != column}
    return None


def _has_box(value: Any) -> bool:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict) and {"label", "x1"} <= value[0].keys()
    return isinstance(value, str) and "<bndbox>" in value
