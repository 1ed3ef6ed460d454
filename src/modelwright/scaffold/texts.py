"""Infers the task of files of texts, and of folders of them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from modelwright.data.encodings import decode_text, detect_encoding
from modelwright.data.formats import foreign_among
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.listing import SPLITS
from modelwright.data.table_reader import is_table
from modelwright.errors import DataError
from modelwright.kinds import InputKind
from modelwright.scaffold.inferred import CLASSIFICATION, SHOWN, DataOptions, Inferred, listed
from modelwright.scaffold.layout import class_folders
from modelwright.scaffold.samples import FileIndex
from modelwright.scaffold.tables import encoding_of, infer_table

_LOOKED_AT = 1 << 20
"""The bytes of a file that are looked at."""
_MOST_LINES = 1000
"""So many lines are looked at for cells."""
_MOST_LABELS = 0.1
"""Lines that begin with a label have at most so many labels a line."""
_SHARD = re.compile(r"(?i)^part-\d+|-\d{3,}-of-\d{3,}")
"""Names of tables that are parts of one, as Spark and the hub's datasets have them."""
_SUBMISSION = re.compile(r"(?i)sample.?submission|submission.?(sample|format|example)")
_ABOUT = re.compile(
    r"(readme|licen[sc]e|copying|classes|labels?|names|notes?|changelog|citation|about|credits|"
    r"requirements|metadata|index|info)([._\- ].*)?",
    re.IGNORECASE,
)
"""How files are called that say something about data."""
_TAG = re.compile(r"O|[BIESLU]-\S+")
"""A tag of the schemes IOB, IOB2 and BILOU."""
_NO_LANGUAGES = frozenset(
    (".txt", ".md", ".csv", ".tsv", ".log", ".xml", ".yml", ".gz", ".py", ".npz")
)


def infer_text_file(path: Path, shown: str) -> Inferred:
    """Infer the task of a file of texts: parallel text, labelled lines, or one to be continued."""
    _refuse_opinions(path)
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
    _refuse_tagged(path)
    encoding, notes = encoding_of(path)
    data = {"path": shown} | ({"encoding": encoding} if encoding else {})
    if begins_with_labels(path):
        task = CLASSIFICATION[InputKind.TEXT]
        return Inferred(task, {"source": "labelled_lines", **data}, notes)
    _refuse_tabular(path, encoding)
    return Inferred("language-modeling", {"source": "documents", **data}, notes)


_OPINIONS = frozenset(
    (
        "pos",
        "neg",
        "positive",
        "negative",
        "neutral",
        "spam",
        "ham",
        "real",
        "fake",
        "true",
        "false",
    )
)
"""Classes that a file of texts is called after, whose lines are a text each."""


def _refuse_opinions(path: Path) -> None:
    """Refuse a file that is called after a class and stands beside one of another class.

    Raises:
        DataError: it does.
    """
    found = {
        item.name: opinions.pop()
        for item in sorted(path.parent.iterdir())
        if item.is_file() and (opinions := {*re.split(r"[._\- ]", item.name.lower())} & _OPINIONS)
    }
    if path.name in found and 1 < len(set(found.values())) == len(found):
        raise DataError(
            f"{listed([*found])} seem to hold the texts of a class each, a text a line",
            where=str(path),
            fix="Write them as one table (CSV) with the columns `text` and `label`",
        )


def _refuse_tabular(path: Path, encoding: str | None) -> None:
    """Refuse a text file whose lines are all cut into as many cells: a table by another name.

    Raises:
        DataError: it is one.
    """
    try:
        text = decode_text(read_maybe_packed(path), where=str(path), encoding=encoding)
    except DataError:
        return
    lines = [line for line in text[:_LOOKED_AT].splitlines()[:_MOST_LINES] if line.strip()]
    for sign, suffix in (("\t", ".tsv"), ("|", ".csv"), (";", ".csv")):
        counts = {line.count(sign) for line in lines}
        if len(lines) >= 3 and len(counts) == 1 and min(counts) >= (2 if sign == ";" else 1):
            raise DataError(
                f"each line of this has {min(counts) + 1} cells, as tables have, with "
                f"{'tabs' if suffix == '.tsv' else f'`{sign}`'} between them",
                where=str(path),
                fix=f"If it is a table, call it {path.with_suffix(suffix).name}",
            )


def _refuse_tagged(path: Path) -> None:
    if are_tagged(path):
        raise DataError(
            "this holds words with a tag each, as CoNLL's files do, and tagging words isn't a task "
            "here",
            where=str(path),
            fix="Where the tags of a sentence say what it is about, write a table of sentences and "
            "their labels",
        )


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


def _is_language(suffix: str) -> bool:
    is_short = suffix[1:].isalpha() and 2 <= len(suffix) - 1 <= 3
    return is_short and suffix.lower() not in _NO_LANGUAGES


def count_lines(path: Path) -> int:
    """Return the number of a file's lines, without empty ones at its end."""
    data = path.read_bytes().rstrip(b"\r\n")
    return data.count(b"\n") + bool(data)


def are_tagged(path: Path) -> bool:
    """Say whether a file holds a word and its tag a line (`EU B-ORG`), with blank lines between."""
    data = read_maybe_packed(path)[:_LOOKED_AT]
    lines = data.decode("utf-8", "replace").splitlines()
    words = [line.split() for line in lines if line.strip() and not line.startswith("-DOCSTART-")]
    tagged = sum(len(word) > 1 and _TAG.fullmatch(word[-1]) is not None for word in words)
    return len(words) < len(lines) and tagged > 0.9 * len(words)


def begins_with_labels(path: Path) -> bool:
    """Say whether a file's lines begin with one of a few labels, as TREC's and SST's do."""
    data = read_maybe_packed(path)[:_LOOKED_AT]
    lines = [line for line in data.split(b"\n") if line.strip()]
    first = Counter(line.split()[0] for line in lines)
    alone = sum(len(line.split()) < 2 for line in lines)
    are_few = 2 <= len(first) <= max(2, _MOST_LABELS * len(lines))
    return are_few and min(first.values()) >= 2 and alone <= len(lines) / 2


def infer_text_folder(path: Path, shown: str, index: FileIndex, options: DataOptions) -> Inferred:
    """Infer the task of a folder without images and recordings."""
    texts = index.by_kind[InputKind.TEXT]
    samples = [file for file in texts if not _ABOUT.fullmatch(PurePosixPath(file).stem)]
    folders = class_folders(samples)
    if folders is not None and options.task in (None, CLASSIFICATION[InputKind.TEXT]):
        aside = tuple(file for file in index.files if file not in set(samples))
        loose = (*folders.loose, *(file for file in aside))
        notes = [f"The folders are the classes: {listed(folders.classes)}"]
        if loose:
            notes.append(f"Left aside: {', '.join(loose[:SHOWN])}")
        where = str(PurePosixPath(shown) / folders.below) if folders.below else shown
        data = {"source": "folder", "path": where, **_folder_encoding(path, samples, notes)}
        return Inferred(CLASSIFICATION[InputKind.TEXT], data, tuple(notes))
    tables = [file for file in index.files if is_table(path / file)]
    if tables and not samples:
        return _only_table(path, shown, tables, options)
    pairs = [file for file in index.files if partner(path / file) is not None]
    if pairs and not samples:
        return infer_text_file(path / pairs[0], str(PurePosixPath(shown) / pairs[0]))
    named = _split_files(samples)
    if named:
        return _split_texts(path, shown, named)
    if samples:
        _refuse_opinions(path / samples[0])
        notes = [f"{len(samples):,} texts without labels are taken: a model that continues texts"]
        others = [file for file in index.files if file not in set(samples)]
        if others:
            notes.append(f"Left aside: {', '.join(others[:SHOWN])}")
        data = {"source": "documents", "path": shown, **_folder_encoding(path, samples, notes)}
        return Inferred("language-modeling", data, tuple(notes))
    counts = Counter(PurePosixPath(file).suffix or "without an ending" for file in index.files)
    folder, bare = shlex.quote(str(path)), counts["without an ending"]
    rename = f"find {folder} -type f ! -name '*.*' -exec mv {{}} {{}}.txt ';'"
    shown_files = ", ".join(f"{count:,} {name}" for name, count in counts.most_common(SHOWN))
    raise DataError(
        "there are no images, texts or recordings in this folder",
        where=str(path),
        why=f"It holds {shown_files}" if counts else "It is empty",
        fix=foreign_among(index.files)
        or (f"If they are texts, name them so: {rename}" if 2 * bare > len(index.files) else "")
        or "It should hold a folder of files for each class",
    )


def _splits_named(file: str) -> set[str]:
    """Return the splits that the parts of a path are called after."""
    return {SPLITS[part] for part in re.split(r"[/._-]", file.lower()) if part in SPLITS}


def _split_files(samples: Sequence[str]) -> dict[str, str]:
    """Return the file of each split, where each text is called after one: `wiki.train.txt`."""
    named: dict[str, str] = {}
    for file in samples:
        splits = _splits_named(PurePosixPath(file).name)
        if len(splits) != 1 or splits & named.keys():
            return {}
        named[splits.pop()] = file
    return named if "train" in named and len(named) > 1 else {}


def _split_texts(path: Path, shown: str, named: Mapping[str, str]) -> Inferred:
    """Infer the task of a folder with one file of texts for each split."""
    inferred = infer_text_file(path / named["train"], str(PurePosixPath(shown) / named["train"]))
    settings = {"validation": "val", "test": "test"}
    others = {
        settings[split]: str(PurePosixPath(shown) / file)
        for split, file in named.items()
        if split in settings
    }
    note = f"The files are the splits: {listed(list(named.values()))}"
    data = {**inferred.data, **others}
    return replace(inferred, data=data, notes=(note, *inferred.notes))


def is_sample_submission(file: str) -> bool:
    """Say whether a table is the sample of a contest's answers, whose labels mean nothing."""
    return _SUBMISSION.search(PurePosixPath(file).stem) is not None


def training_first(file: str) -> tuple[bool, str]:
    """Return the sort key by which files of training stand before those of other splits."""
    return bool(_splits_named(file) - {"train"}), file


def _only_table(path: Path, shown: str, tables: Sequence[str], options: DataOptions) -> Inferred:
    shards = [file for file in tables if _SHARD.search(PurePosixPath(file).name)]
    if len(shards) > 1:
        raise DataError(
            f"this folder holds tables in parts: {listed(shards)}",
            where=str(path),
            fix="Join the parts of each split, and call the tables `train`, `val` and `test`; with "
            "pandas: `pd.concat(map(pd.read_parquet, sorted(glob.glob('train-*'))))`, or "
            "`read_csv` for CSV",
        )
    tables = (
        sorted((file for file in tables if not is_sample_submission(file)), key=training_first)
        or tables
    )
    inferred = infer_table(path / tables[0], str(PurePosixPath(shown) / tables[0]), options)
    others = [f"`{file}` is another table: give it in place of the folder" for file in tables[1:]]
    return replace(inferred, choices=(*inferred.choices, *others[:SHOWN]))


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
