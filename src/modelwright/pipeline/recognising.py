"""Which task some texts are for, told from how they come: what `modelwright new` goes by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelwright import data

_SUMMARIES = ("summary", "tldr", "highlights", "headline", "title", "abstractive")
_TRANSLATIONS = ("translation", "target", "reference", "output")
_LABEL_SETS = ("tag", "topic", "genre", "categor", "keyword", "emotion", "subject", "code")
"""How columns begin that hold any number of labels."""
_LOOKED_AT = 1 << 20
"""So many bytes of a file are looked at."""
_ROWS = 100
"""So many rows of a table are looked at."""
_MOST_LABELS = 0.1
"""Lines that begin with a label have at most so many labels a line."""


def text_file(path: Path, shown: str) -> tuple[str, str]:
    """Return the section `data` of a text file, and its task.

    Args:
        path: the file.
        shown: its path as the recipe is to have it.
    """
    other = partner(path)
    if other is not None:
        target = json.dumps(str(Path(shown).with_name(other.name)), ensure_ascii=False)
        lines = ["  source: parallel_text", f"  path: {json.dumps(shown, ensure_ascii=False)}"]
        return "\n".join([*lines, f"  target: {target}"]), "translation"
    quoted = json.dumps(shown, ensure_ascii=False)
    if begins_with_labels(path):
        return f"  source: labelled_lines\n  path: {quoted}", "text-classification"
    return f"  source: documents\n  path: {quoted}", "language-modeling"


def partner(path: Path) -> Path | None:
    """Return the file of the same name in another language, such as `train.de` for `train.en`.

    A language is a suffix of two or three letters; both files have as many lines.
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
    held = data.read_maybe_packed(path)[:_LOOKED_AT]
    lines = [line for line in held.split(b"\n") if line.strip()]
    first = Counter(line.split()[0] for line in lines)
    alone = sum(len(line.split()) < 2 for line in lines)
    are_few = 2 <= len(first) <= max(2, _MOST_LABELS * len(lines))
    return are_few and min(first.values()) >= 2 and alone <= len(lines) / 2


def text_folder(path: Path) -> bool:
    """Say whether a folder holds texts without classes: files directly in it."""
    return any(item.suffix.lower() in (".txt", ".md") for item in path.iterdir() if item.is_file())


def written_column(columns: Sequence[str], given: str) -> tuple[str, str] | None:
    """Return the column of texts that are wanted, and the task; beside a `label` nothing.

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


def listed_column(path: Path, guessed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of a table of texts whose labels come in lists; else nothing.

    The column of labels is the one that was guessed, or, where there is none, the only one that
    holds lists and is called so; lists may also be of tokens.

    Args:
        path: the table, or a folder of tables.
        guessed: the settings that are likely meant, as `data.guess_table` returns them.
    """
    columns, label = data.columns_of(path), str(guessed.get("label", "label"))
    called = [name for name in columns if name.lower().startswith(_LABEL_SETS)]
    likely = [label] if label in columns else called
    listed = [name for name in likely if data.are_lists(data.first_values(path, name, _ROWS))]
    if len(listed) != 1:
        return None
    found = {key: value for key, value in guessed.items() if key not in ("numbers", "holds")}
    if listed[0] != "label":
        found["label"] = listed[0]
    return {**found, "multi_label": True}
