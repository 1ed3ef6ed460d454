"""Infers which columns of a table are the input and the target, from their content and names."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

from modelwright.data.cells import is_address
from modelwright.data.inputs import INPUTS
from modelwright.data.listing import split_names
from modelwright.data.multi_label import are_lists, are_one_hot, parse_list
from modelwright.data.numbers import is_missing, read_numbers
from modelwright.data.table_reader import Table
from modelwright.kinds import InputKind
from modelwright.scaffold.samples import sniff
from modelwright.transforms.scripts import count_words

Settings = dict[str, Any]
"""Settings of the section `data`, where they aren't defaults."""
_ROWS = 1000
"""So many rows of a table are looked at, from all of it."""
_MOST = 0.5
"""A column is what most of its cells are."""
_NUMERIC = 0.9
"""A column of numbers may have this share of cells that are none."""
_CATEGORIES = 0.5
"""Labels are at most this share of the cells; what differs more is text, or names."""
_FEW_VALUES = 20
"""Whole numbers of so few values may be labels."""
SENTENCE = 3.0
"""The words of a cell, on average, from which on it is text."""
_SEPARATORS = ("|", ";", ",", "/", "、", "，", " ")
_INPUT_NAMES: dict[InputKind, tuple[str, ...]] = {
    InputKind.IMAGE: (
        *("image", "img", "picture", "photo", "path", "file", "filename", "scan", "frame"),
        *("图片", "图像", "照片", "影像", "文件名", "文件", "路径", "bild"),
    ),
    InputKind.TEXT: (
        *("text", "sentence", "review", "comment", "document", "content", "message", "email"),
        *("body", "description", "question", "tweet", "post", "utterance", "article", "abstract"),
        *("query", "source", "prompt", "title", "内容", "文本", "正文", "评论", "句子", "消息"),
        *("邮件", "描述", "问题", "标题", "satz"),
    ),
    InputKind.AUDIO: (
        *("audio", "wav", "clip", "recording", "sound", "voice", "speech", "pcm"),
        *("音频", "录音", "语音", "声音"),
    ),
}
_LABEL_NAMES = (
    *(
        "label",
        "class",
        "category",
        "target",
        "y",
        "sentiment",
        "breed",
        "species",
        "diagnosis",
        "dx",
    ),
    *("verdict", "intent", "topic", "type", "kind", "genre", "emotion", "outcome", "result"),
    *("polarity", "language", "lang", "status", "tag", "department", "priority", "answer"),
    *("标签", "类别", "分类", "情感", "品种", "诊断", "意图", "主题", "类型", "结果", "等级"),
    *("kategorie", "klasse", "étiquette", "categor"),
)
_NUMBER_NAMES = (
    *("target", "number", "value", "reading", "score", "price", "age", "rating", "weight"),
    *("amount", "temperature", "y", "价格", "年龄", "分数", "数值", "重量", "评分"),
)
_SPOKEN = ("transcript", "transcription", "sentence", "text", "文本")
"""Columns that hold what is spoken in a recording."""
_SUMMARIES = ("summary", "tldr", "highlights", "headline", "title", "abstractive", "摘要")
_TRANSLATIONS = ("translation", "target", "reference", "output", "译文")
_SPLIT_NAMES = ("split", "set", "subset", "fold", "partition", "usage", "划分", "数据集")
_ID_NAMES = re.compile(
    r"(.*[_\- ])?(id|idx|index|uuid|guid|key|no|nr|编号|序号)|unnamed: ?\d+|", re.I
)
_GROUP_NAMES = re.compile(
    r"(.*[_\- ])?(id|patient|subject|speaker|person|participant|author|user|session|client)"
    r"|(speaker|patient|user)id|患者|病人",
    re.I,
)
"""Columns whose values come again where rows belong together."""
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
"""What stands behind the path in an address."""
_BOOKKEEPING = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
)
"""What an annotation tool writes beside its annotations."""


class ColumnRole(StrEnum):
    """What the cells of a column are."""

    EMPTY = "empty"
    CONSTANT = "always the same"
    SPLIT = "the split"
    ID = "ids"
    DATE = "dates"
    IMAGE = "images"
    AUDIO = "recordings"
    ADDRESS = "addresses"
    PIXELS = "pixels, written as numbers"
    BASE64 = "files, written as base64"
    BOXES = "boxes"
    LISTS = "lists of labels"
    ONE_HOT = "0 and 1"
    NUMBER = "numbers"
    STRING = "texts"


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What is seen of one column."""

    name: str
    role: ColumnRole
    count: int
    """Cells that hold something."""
    distinct: int
    words: float
    """Words of a cell, on average."""
    whole: bool = False
    """Of numbers: whether all are whole."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How its cells are read: the pattern of paths, the separator of labels."""

    @property
    def is_varied(self) -> bool:
        """Whether most cells differ, as texts do and labels don't."""
        return self.distinct > max(2, _CATEGORIES * self.count)


_WRITTEN = {
    ColumnRole.BASE64: re.compile(
        r"(data:[\w/+.-]+;base64,)?(/9j/|iVBORw0KGgo|R0lGOD|Qk0|UklGR|SUkqA|TU0AK|Zkxh|T2dn|SUQz)"
        r"[\w+/\s]{40,}",
        re.ASCII,
    ),
    ColumnRole.PIXELS: re.compile(r"\[{0,3}\s*(\d{1,3}[\s,;]+){63}"),
}
"""How the content of files begins where it is written as text."""
Find = Callable[[Sequence[str], InputKind], str | None]
"""Returns the pattern of paths by which most cells name files, with `{}` for the cell."""


def profile_table(table: Table, find: Find) -> list[ColumnProfile]:
    """Return what each column of a table holds."""
    return [
        _of_all_rows(profile(name, table.sample(name, _ROWS), find), table)
        for name in table.columns
    ]


def _of_all_rows(seen: ColumnProfile, table: Table) -> ColumnProfile:
    """Return a profile with the values of all rows, where some can't tell labels from names.

    Of thousands of classes hardly one comes twice among a thousand rows.
    """
    is_unclear = seen.role == ColumnRole.STRING and seen.is_varied and seen.words < SENTENCE
    if not is_unclear or table.num_rows <= _ROWS:
        return seen
    full = [_key(cell) for cell in table.columns[seen.name]() if not is_missing(cell)]
    return replace(seen, count=len(full), distinct=len(set(full)))


def profile(name: str, cells: Sequence[Any], find: Find) -> ColumnProfile:
    """Return what a column holds, from some of its cells."""
    full = [cell for cell in cells if not is_missing(cell)]
    values = [_key(cell) for cell in full]
    distinct, texts = len(set(values)), [cell for cell in full if isinstance(cell, str)]
    words = sum(map(count_words, texts)) / max(len(texts), 1)

    def seen(role: ColumnRole, whole: bool = False, **settings: Any) -> ColumnProfile:
        return ColumnProfile(name, role, len(full), distinct, words, whole, settings)

    if not full:
        return seen(ColumnRole.EMPTY)
    if _is_split(name, values):
        return seen(ColumnRole.SPLIT)
    if any(_has_box(cell) for cell in full[:100]):
        return seen(ColumnRole.BOXES)
    media = _media(name, full, find)
    if media is not None:
        role, settings = media
        return seen(role, **settings)
    if distinct == 1:
        return seen(ColumnRole.CONSTANT)
    if are_one_hot(cells):
        return seen(ColumnRole.ONE_HOT, whole=True)
    if are_lists(full) or _are_written_lists(texts, len(full)):
        items = Counter(map(str, chain.from_iterable(parse_list(cell) or cell for cell in full)))
        # Labels come again; tokens and the sentences of texts hardly do.
        if len(items) < max(3, _CATEGORIES * items.total()):
            return seen(ColumnRole.LISTS)
        words = sum(count_words(str(item)) * count for item, count in items.items()) / len(full)
        return seen(ColumnRole.STRING)
    numbers = [number for number in read_numbers(full, name).values if number is not None]
    if len(numbers) >= _NUMERIC * len(full):
        whole = all(number.is_integer() for number in numbers)
        is_id = distinct == len(full) and whole and _ID_NAMES.fullmatch(name) is not None
        return seen(ColumnRole.ID if is_id else ColumnRole.NUMBER, whole)
    if sum(bool(_DATE.fullmatch(text.strip())) for text in texts) > _MOST * len(full):
        return seen(ColumnRole.DATE)
    if distinct == len(full) and words <= 1 and _ID_NAMES.fullmatch(name):
        return seen(ColumnRole.ID)
    return seen(ColumnRole.STRING)


def _key(cell: Any) -> str:
    return cell if isinstance(cell, str) else repr(cell)[:1000]


def _is_split(name: str, values: Sequence[str]) -> bool:
    known = split_names(name)
    are_splits = all(value.strip().lower() in known for value in values)
    return are_splits and (name.lower() in _SPLIT_NAMES or len(set(values)) > 1)


def is_numbered_split(item: ColumnProfile) -> bool:
    """Say whether a column is called like one of splits, and holds numbers: parts, or folds."""
    is_number = item.role in (ColumnRole.NUMBER, ColumnRole.ONE_HOT)
    return is_number and item.name.lower() in _SPLIT_NAMES


def _media(name: str, cells: Sequence[Any], find: Find) -> tuple[ColumnRole, Settings] | None:
    """Return whether cells are images or recordings: their bytes, or paths of their files."""
    roles = {InputKind.IMAGE: ColumnRole.IMAGE, InputKind.AUDIO: ColumnRole.AUDIO}
    kinds = Counter(kind for cell in cells[:50] if (kind := sniff(cell)) is not None)
    if kinds and kinds.total() > _MOST * len(cells[:50]):
        return roles[kinds.most_common(1)[0][0]], {}
    texts = [cell.strip() for cell in cells if isinstance(cell, str)]
    if len(texts) <= _MOST * len(cells):
        return None
    for written, beginning in _WRITTEN.items():
        if all(beginning.match(text) for text in texts[:50]):
            return written, {}
    addresses = [_QUERY.sub("", text) for text in texts if is_address(text)]
    if len(addresses) > _MOST * len(texts):
        # Addresses may be texts themselves, where neither they nor their column name files.
        are_files = any(named_like(name, _INPUT_NAMES[kind]) for kind in roles) or any(
            sum(Path(path).suffix.lower() in INPUTS[kind].suffixes for path in addresses)
            > _MOST * len(addresses)
            for kind in roles
        )
        return (ColumnRole.ADDRESS, {}) if are_files else None
    for kind, role in roles.items():
        named = sum(
            Path(text).suffix.lower() in INPUTS[kind].suffixes for text in texts if len(text) < 500
        )
        if named > _MOST * len(texts):
            pattern = find(texts, kind)
            return role, {} if pattern in (None, "{}") else {"files": pattern}
    if len(set(texts)) <= max(2, _CATEGORIES * len(texts)):
        return None  # The label 3 isn't the image 3.png.
    for kind, role in roles.items():
        pattern = find(texts, kind)
        if pattern is not None:
            return role, {} if pattern == "{}" else {"files": pattern}
    return None


def _are_written_lists(texts: Sequence[str], count: int) -> bool:
    lists = [parse_list(text) for text in texts]
    return count == len(texts) and all(items is not None for items in lists) and any(lists)


def _has_box(value: Any) -> bool:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict) and {"label", "x1"} <= value[0].keys()
    return isinstance(value, str) and "<bndbox>" in value


def separator_of(cells: Iterable[str]) -> str | None:
    """Return what stands between several labels in a cell; `None` where cells hold one label.

    Each part occurs in several cells, some of them alone or in another company. Blanks stand in
    names of labels too, so they separate labels only where few words make many different cells.
    """
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    for separator in _SEPARATORS:
        split = [[part.strip() for part in text.split(separator)] for text in texts]
        several = [parts for parts in split if len(parts) > 1]
        if len(several) < 2 or any("" in parts or len(set(parts)) < len(parts) for parts in split):
            continue
        counts = Counter(part for parts in split for part in parts)
        if separator == " " and 2 * len(counts) > len(set(texts)):
            continue
        are_short = all(count_words(part) <= SENTENCE for part in counts)
        if are_short and min(counts.values()) >= 2 and 2 * len(counts) <= counts.total():
            return separator
    return None


# -- the choice ------------------------------------------------------------------------------


def rank_inputs(profiles: Sequence[ColumnProfile]) -> list[tuple[InputKind, ColumnProfile]]:
    """Return the columns that may be the input, the likeliest first: files, then the longest text.

    A name says what is meant where content leaves several.
    """
    media = {ColumnRole.IMAGE: InputKind.IMAGE, ColumnRole.AUDIO: InputKind.AUDIO}
    files = [(media[item.role], item) for item in profiles if item.role in media]
    texts = [item for item in profiles if item.role == ColumnRole.STRING]
    long = [item for item in texts if item.words >= SENTENCE]
    named = [item for item in texts if _rank(item.name, _INPUT_NAMES[InputKind.TEXT]) is not None]
    # Short texts are labels, unless their name or their variety says otherwise.
    likely = (
        long
        or [item for item in named if item.is_varied]
        or [item for item in texts if item.is_varied]
        or named
    )
    files.sort(key=lambda pair: (_place(pair[1].name, _INPUT_NAMES[pair[0]]), -pair[1].distinct))
    ordered = sorted(
        likely, key=lambda item: (_place(item.name, _INPUT_NAMES[InputKind.TEXT]), -item.words)
    )
    return [*files, *((InputKind.TEXT, item) for item in ordered)]


def is_group(item: ColumnProfile) -> bool:
    """Say whether a column likely says which rows belong together, as those of one patient do."""
    has_groups = 1 < item.distinct < item.count
    is_named = _GROUP_NAMES.fullmatch(item.name) and not named_like(item.name, _LABEL_NAMES)
    return bool(is_named) and has_groups and item.role in (ColumnRole.STRING, ColumnRole.NUMBER)


def rank_targets(profiles: Sequence[ColumnProfile], input: ColumnProfile) -> list[ColumnProfile]:
    """Return the columns that may be the target, the likeliest first."""
    is_tool = "annotation_id" in {item.name for item in profiles}
    possible = [
        item
        for item in profiles
        if item is not input
        and not (is_tool and item.name in _BOOKKEEPING)
        and not is_numbered_split(item)
        and (
            item.role in (ColumnRole.LISTS, ColumnRole.ONE_HOT, ColumnRole.NUMBER)
            or (item.role == ColumnRole.STRING and not item.is_varied)
        )
    ]
    names = (*_LABEL_NAMES, *_NUMBER_NAMES)
    if not possible:  # A column called like labels that says nothing: the run will say so.
        possible = [
            item
            for item in profiles
            if item.role == ColumnRole.CONSTANT and named_like(item.name, names)
        ]
    return sorted(
        possible,
        key=lambda item: (
            _place(item.name, names),
            item.role == ColumnRole.NUMBER,
            item.words >= SENTENCE,
            item.distinct,
        ),
    )


def is_category(target: ColumnProfile) -> bool:
    """Say whether a target's values are labels, where they may also be numbers.

    Whole numbers are labels where two values alone occur, or few, under a name that isn't a
    quantity's.
    """
    if target.role in (ColumnRole.STRING, ColumnRole.ONE_HOT, ColumnRole.CONSTANT):
        return True
    if target.role != ColumnRole.NUMBER or not target.whole:
        return False
    is_quantity = _rank(target.name, _NUMBER_NAMES) is not None
    few = target.distinct <= min(_FEW_VALUES, max(2, _CATEGORIES * target.count))
    return target.distinct == 2 or (few and not is_quantity)


def named_like(name: str, words: Sequence[str]) -> bool:
    """Say whether a column's name is one of some words, or has one in it."""
    return _rank(name, words) is not None


def _rank(name: str, words: Sequence[str]) -> int | None:
    """Return how well a name fits the usual ones: 0 is the first of them, `None` none."""
    parts = re.split(r"[^\w]|_|(?<=[a-z])(?=[A-Z])", name)
    folded = [name.lower(), *(part.lower() for part in parts)]
    for at, word in enumerate(words):
        if name.lower() == word:
            return at
    for at, word in enumerate(words):
        is_part = word in folded or f"{word}s" in folded
        if is_part or (not word.isascii() and word in name.lower()):
            return len(words) + at
    return None


def _place(name: str, words: Sequence[str]) -> int:
    rank = _rank(name, words)
    return 2 * len(words) if rank is None else rank


def generated(
    columns: Sequence[ColumnProfile], input: ColumnProfile
) -> tuple[ColumnProfile, str] | None:
    """Return the column of texts that are to be generated, and the task; `None` without one."""
    for words, task in ((_SUMMARIES, "summarization"), (_TRANSLATIONS, "translation")):
        for item in columns:
            if item.name.lower() in words and item is not input and item.role == ColumnRole.STRING:
                return item, task
    return None


def spoken(columns: Sequence[ColumnProfile], input: ColumnProfile) -> ColumnProfile | None:
    """Return the column of what is spoken in recordings: varied texts."""
    texts = [item for item in columns if item.role == ColumnRole.STRING and item.is_varied]
    return min(texts, key=lambda item: _place(item.name, _SPOKEN), default=None)
