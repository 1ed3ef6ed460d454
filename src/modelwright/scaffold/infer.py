"""Infers the source and the task of some data from its form."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.data.boxed_files import is_coco, is_image
from modelwright.data.inputs import INPUTS
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.listing import files_below
from modelwright.data.table import list_table
from modelwright.data.table_reader import columns_of, is_table, is_table_folder, no_table
from modelwright.data.transcripts import LIBRISPEECH, recordings_below
from modelwright.errors import DataError
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.data import TableData
from modelwright.scaffold.columns import (
    Settings,
    guess_boxes,
    guess_generated_column,
    guess_label_sets,
    guess_one_hot,
    guess_table,
)

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
FEWEST_TEXTS, DIFFERENT, FEWEST_CHARACTERS = 20, 0.2, 3
"""Labels are transcripts from this many different texts on, this share of different texts among the
recordings, and this many characters on average."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """The inferred task and source of some data."""

    task: str
    data: Settings
    """The section `data` of its recipe."""


def infer_task(source: Path | str, shown: str) -> Inferred:
    """Return the task that some data is likely for, and its section `data`.

    Args:
        source: a folder, a table, a file, or the name of data that is known.
        shown: its path as the recipe is to have it.

    Raises:
        DataError: the data can't be read, or its task is unclear.
    """
    path = Path(source)
    if str(source) in _KNOWN and not path.exists():
        return Inferred(CLASSIFICATION[InputKind.IMAGE], {"source": str(source)})
    if is_table(path) or is_table_folder(path):
        return _table(path, shown)
    if has_boxes(path):
        return Inferred("object-detection", {"source": "boxes", "path": shown})
    if path.is_file() and path.suffix.lower() == ".json":
        raise no_table(path)
    if path.suffix.lower() == ".npz":
        data = {"source": "arrays", "path": shown}
        return Inferred(CLASSIFICATION[InputKind.IMAGE], data)
    return _text_file(path, shown) if path.is_file() else _folder(path, shown)


# -- tables ----------------------------------------------------------------------------------


def _table(path: Path, shown: str) -> Inferred:
    boxes = guess_boxes(path)
    if boxes is not None:
        return Inferred("object-detection", {"source": "boxes", "path": shown, **boxes})
    kind, columns = guess_table(path)
    is_text, has_numbers = kind == InputKind.TEXT, "target_columns" in columns
    task = "regression" if has_numbers else CLASSIFICATION[kind]
    multi_label = guess_label_sets(path, columns) or guess_one_hot(path, kind, columns)
    generated = guess_generated_column(columns_of(path), columns.get(kind, kind))
    if multi_label is not None:
        return Inferred(CLASSIFICATION[kind], {"source": "table", "path": shown, **multi_label})
    if is_text and generated is not None and not has_numbers:
        columns["label"], task = generated
    _require_columns(path, kind, columns)
    if kind == InputKind.AUDIO and not has_numbers and holds_transcripts(path, columns):
        task = "speech-recognition"
    return Inferred(task, {"source": "table", "path": shown, **columns})


def _require_columns(path: Path, kind: InputKind, columns: Mapping[str, Any]) -> None:
    """Refuse a table whose columns of inputs or targets are unclear.

    Raises:
        DataError: no column has a usual name of inputs, or of targets.
    """
    names = columns_of(path)
    inputs, target = columns.get(kind, kind), columns.get("label", "label")
    if not names:
        raise DataError("this table is empty", where=str(path), fix="Look at it")
    if inputs in names and ("target_columns" in columns or target in names):
        return
    what, rename = "images, texts or recordings", "Call that column `image`, `text` or `audio`"
    if inputs in names:
        what, rename = (
            "the targets: labels or numbers",
            "Call that column `label` or, of numbers, `target`",
        )
    example = f"{{source: table, path: {path.name}, {kind}: …, label: …}}"
    raise DataError(
        f"can't tell which column holds {what}",
        where=str(path),
        why=f"Its columns are {', '.join(f'`{name}`' for name in names)}",
        fix=f"{rename}, or write a recipe that says which columns are meant, as in "
        f"`data: {example}`",
    )


def holds_transcripts(path: Path, columns: Mapping[str, Any]) -> bool:
    """Say whether a table's labels are more likely transcripts than classes.

    Args:
        path: the table of recordings, or the folder of tables.
        columns: the settings that are meant where they aren't defaults.
    """
    spec = TableData.model_validate({"source": "table", "path": str(path.resolve()), **columns})
    listing = list_table(spec, base=Path.cwd(), kind=InputKind.AUDIO, output_kind=OutputKind.CTC)
    return are_transcripts(listing.labels)


def are_transcripts(texts: Sequence[str]) -> bool:
    """Say whether labels are more likely transcripts than classes: many, and long."""
    counts = Counter(texts)
    if len(counts) < max(FEWEST_TEXTS, DIFFERENT * len(texts)):
        return False
    are_words = all(re.search(r"[^\W\d_]", text) for text in counts)
    return are_words and sum(map(len, counts)) >= FEWEST_CHARACTERS * len(counts)


# -- files of texts --------------------------------------------------------------------------


def _text_file(path: Path, shown: str) -> Inferred:
    other = partner(path)
    if other is not None:
        target = str(Path(shown).with_name(other.name))
        return Inferred("translation", {"source": "parallel_text", "path": shown, "target": target})
    if begins_with_labels(path):
        return Inferred(CLASSIFICATION[InputKind.TEXT], {"source": "labelled_lines", "path": shown})
    return Inferred("language-modeling", {"source": "documents", "path": shown})


def partner(path: Path) -> Path | None:
    """Return the file of the same name in another language, such as `train.de` for `train.en`.

    A language is a suffix of two or three characters; both files have as many lines.
    """
    if not _is_language(path.suffix) or path.suffix.lower() in (".txt", ".md", ".csv", ".tsv"):
        return None
    for other in sorted(path.parent.glob(f"{path.stem}.*")):
        is_other = other != path and other.is_file() and _is_language(other.suffix)
        if is_other and _lines(other) == _lines(path):
            return other
    return None


def _is_language(suffix: str) -> bool:
    return suffix[1:].isalpha() and 2 <= len(suffix) - 1 <= 3


def _lines(path: Path) -> int:
    return path.read_bytes().rstrip(b"\n").count(b"\n")


def begins_with_labels(path: Path) -> bool:
    """Say whether a file's lines begin with one of a few labels, as TREC's and SST's do."""
    data = read_maybe_packed(path)[:_LOOKED_AT]
    lines = [line for line in data.split(b"\n") if line.strip()]
    first = Counter(line.split()[0] for line in lines)
    alone = sum(len(line.split()) < 2 for line in lines)
    are_few = 2 <= len(first) <= max(2, _MOST_LABELS * len(lines))
    return are_few and min(first.values()) >= 2 and alone <= len(lines) / 2


# -- folders ---------------------------------------------------------------------------------


def _folder(path: Path, shown: str) -> Inferred:
    folder = {"source": "folder", "path": shown}
    if not path.is_dir():  # Reading it raises the error that it isn't there.
        return Inferred(CLASSIFICATION[InputKind.IMAGE], folder)
    if has_transcripts(path):
        return Inferred("speech-recognition", folder)
    if (path / _LABELS).is_file():
        return Inferred(CLASSIFICATION[likely_kind(path)], {**folder, "labels": _LABELS})
    if holds_documents(path):
        return Inferred("language-modeling", {"source": "documents", "path": shown})
    return Inferred(CLASSIFICATION[likely_kind(path)], folder)


def has_boxes(path: Path) -> bool:
    """Say whether a folder or file holds images with boxes, by its files' names and beginnings."""
    if path.is_file():
        return path.suffix.lower() == ".json" and is_coco(path)
    if not path.is_dir():
        return False
    files = list(files_below(path))
    if any(file.lower().endswith(".xml") for file in files):
        return any(is_image(file) for file in files)
    return any(file.lower().endswith(".json") and is_coco(path / file) for file in files)


def has_transcripts(folder: Path) -> bool:
    """Say whether most recordings of a folder have a text beside them."""
    recordings = recordings_below(folder)
    beside = sum(path.with_suffix(".txt").is_file() for path in recordings)
    return bool(recordings) and (
        2 * beside > len(recordings) or any(folder.rglob(f"*{LIBRISPEECH}"))
    )


def holds_documents(path: Path) -> bool:
    """Say whether a folder holds texts without classes: files directly in it."""
    return any(item.suffix.lower() in (".txt", ".md") for item in path.iterdir() if item.is_file())


def likely_kind(root: Path) -> InputKind:
    """Return what most of a folder's files are: images, where nothing says otherwise."""
    counts: Counter[InputKind] = Counter()
    for path in itertools.islice(root.rglob("*"), 10_000):
        for kind, adapter in INPUTS.items():
            counts[kind] += path.suffix.lower() in adapter.suffixes
    return max(counts, key=lambda kind: counts[kind], default=InputKind.IMAGE)
