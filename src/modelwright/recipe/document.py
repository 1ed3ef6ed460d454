"""A YAML document as a tree of values that know where they stand, so that errors can say so.

Reads YAML 1.2 (core schema) from the parser's events rather than by its constructors: no tags, no
aliases, no duplicate keys, bounded depth and size. What the tree means is judged in `reading.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from modelwright.errors import RecipeError

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_NODES = 20_000
_MAX_DIGITS = 40

Scalar = str | int | float | bool | None
Plain = Scalar | list["Plain"] | dict[str, "Plain"]

_BOOL = {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_NULL = {"", "~", "null", "Null", "NULL"}
# Digits may be grouped as in Python, which the core schema would read as text: 50_000.
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_INT = re.compile(rf"[-+]?{_DIGITS}")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = {
    f"{sign}.{word}": float(f"{sign}inf")
    for sign in ("", "+", "-")
    for word in ("inf", "Inf", "INF")
} | {f".{word}": float("nan") for word in ("nan", "NaN", "NAN")}


@dataclass(slots=True)
class Node:
    """A value with its place: `recipe.yaml:7`, or the `--set` that it came from."""

    value: Scalar | list[Node] | dict[str, Node]
    place: str

    def plain(self) -> Plain:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def places(self, path: str = "") -> dict[str, str]:
        """Return the place of each value inside, by its dotted path."""
        places = {path: self.place}
        children: list[tuple[object, Node]] = []
        if isinstance(self.value, dict):
            children = list(self.value.items())
        elif isinstance(self.value, list):
            children = list(enumerate(self.value))
        for key, child in children:
            places |= child.places(f"{path}.{key}".lstrip("."))
        return places


def read_document(text: str, *, where: str, lines: bool = True) -> Node:
    """Read a YAML document into nodes.

    Args:
        text: the document.
        where: the file's name, or what else holds the text.
        lines: whether places carry line numbers.

    Raises:
        RecipeError: it isn't one YAML 1.2 document, or uses what a recipe doesn't need.
    """

    def place(event: Event) -> str:
        return f"{where}:{event.start_mark.line + 1}" if lines else where

    if lines and text.lstrip("\ufeff \t\r\n")[:1] == "<":
        raise RecipeError("this is HTML or XML, not a recipe", where=where)
    events = YAML(typ="safe", pure=True).parse(text)
    try:
        return _Builder(place).build(events, where)
    except MarkedYAMLError as error:
        raise _as_recipe_error(error, text, where, lines=lines) from error
    except YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        raise RecipeError(
            "this holds a character that no text has, so it isn't a recipe",
            where=f"{where}:{line}" if lines else where,
        ) from error


class _Builder:
    """Builds nodes from events without recursion, so that depth is bounded by a number."""

    def __init__(self, place: Callable[[Event], str]) -> None:
        self._place = place

    def build(self, events: Iterator[Event], where: str) -> Node:
        root: Node | None = None
        open_nodes: list[Node] = []
        keys: list[
            tuple[str, str] | None
        ] = []  # of each open mapping: the key that waits, its place
        count = documents = 0
        for event in events:
            count += 1
            here = self._place(event)
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise RecipeError("a second document starts here", where=here, fix=_ONE)
                if event.version and tuple(event.version) != (1, 2):
                    raise RecipeError(
                        "a recipe is YAML 1.2", where=here, fix="Remove the %YAML line"
                    )
            if count > MAX_NODES or len(open_nodes) > MAX_DEPTH:
                raise RecipeError(
                    "this is nested too deeply"
                    if len(open_nodes) > MAX_DEPTH
                    else f"this has more than {MAX_NODES:,} entries",
                    where=here,
                    why="No recipe needs that",
                )
            if isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                open_nodes.pop()
                keys.pop()
                continue
            node = _node(event, here)
            if node is None:
                continue
            waiting = keys[-1] if keys else None
            if not open_nodes:
                root = node
            elif isinstance(open_nodes[-1].value, list):
                open_nodes[-1].value.append(node)
            elif waiting is None:
                keys[-1] = (_key(event, open_nodes[-1], here), here)
                continue
            else:
                holder = open_nodes[-1].value
                assert isinstance(holder, dict)
                node.place = waiting[1]
                holder[waiting[0]] = node
                keys[-1] = None
            if isinstance(node.value, (list, dict)):
                open_nodes.append(node)
                keys.append(None)
        if root is None:
            raise RecipeError("this is empty", where=where, fix=_EMPTY)
        return root


_ONE = "Keep one recipe in a file"
_EMPTY = "Begin with `version: 1` and `data: {source: digits}`"


def _node(event: Event, here: str) -> Node | None:
    """Return what an event begins; `None` for one that holds no value."""
    if isinstance(event, AliasEvent):
        raise RecipeError(
            f"`*{event.anchor}` refers to another place, which a recipe can't",
            where=here,
            fix="Write the value out, or put it in quotes if it is text",
        )
    if isinstance(event, (ScalarEvent, MappingStartEvent, SequenceStartEvent)):
        tag = event.tag
        if tag is not None and not (
            isinstance(event, ScalarEvent) and str(tag) == "tag:yaml.org,2002:str"
        ):
            name = str(tag).replace("tag:yaml.org,2002:", "!!")
            raise RecipeError(
                f"the YAML tag `{short(name)}` is not read",
                where=here,
                fix="Remove it, or put quotes around text that begins with `!`",
            )
    if isinstance(event, MappingStartEvent):
        return Node({}, here)
    if isinstance(event, SequenceStartEvent):
        return Node([], here)
    if isinstance(event, ScalarEvent):
        is_plain = event.implicit[0] and event.tag is None
        return Node(_resolve(event.value, here) if is_plain else str(event.value), here)
    return None


def _key(event: Event, holder: Node, here: str) -> str:
    if not isinstance(event, ScalarEvent) or not event.value:
        raise RecipeError("a setting's name must be a word", where=here, fix="Write `name: value`")
    key = str(event.value)
    assert isinstance(holder.value, dict)
    if key in holder.value:
        raise RecipeError(
            f"`{short(key)}` stands twice in one section",
            where=here,
            why=f"It stands at {holder.value[key].place} already",
            fix="Keep one of them",
        )
    return key


def _resolve(text: str, here: str) -> Scalar:
    """Read a plain scalar by YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text in _SPECIAL:
        return _SPECIAL[text]
    is_int = _INT.fullmatch(text) or _BASED.fullmatch(text)
    if is_int or _FLOAT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise RecipeError(f"`{short(text)}` has too many digits", where=here)
        return int(text, 0 if _BASED.fullmatch(text) else 10) if is_int else float(text)
    return text


_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


def is_plain_text(text: str) -> bool:
    """Say whether text can stand in YAML without quotes and is read as itself, anywhere."""
    return bool(_BARE.fullmatch(text)) and _resolve(text, "") == text


def _as_recipe_error(error: MarkedYAMLError, text: str, where: str, *, lines: bool) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark else 0
    rows = text.splitlines()
    row = rows[number] if number < len(rows) else ""
    problem = error.problem or "it can't be read"
    what, why, fix = f"this isn't valid YAML ({short(problem)})", "", ""
    opened = error.context_mark.line + 1 if error.context_mark else 0
    if "'\\t'" in problem:
        what, fix = "a tab stands where blanks belong", "Indent with blanks"
    elif re.search(r"(^|[:\[{,])\s*>\s*=?\s*[0-9.]", row):
        what, why = "this isn't valid YAML", "`>` at the start of a value has a meaning of its own"
        fix = 'Put the target in quotes: accuracy: ">= 0.93"'
    elif "stream end" in problem or "unexpected end" in problem:
        number = (opened or 1) - 1
        what, fix = "this isn't valid YAML", "Close the bracket or quote that is opened here"
    elif "cannot start any token" in problem:
        fix = "Put quotes around the value"
    elif "mapping values are not allowed" in problem:
        fix = "Look for a second colon on the line, or for wrong indentation"
    elif "expected <block end>" in problem:
        fix = "Look for wrong indentation here or just above"
    place = f"{where}:{number + 1}" if lines else where
    return RecipeError(what, where=place, why=why, fix=fix)


def short(text: str, most: int = 60) -> str:
    """Return text that is safe to show in an error: one line, no control characters, not long."""
    text = "".join(char if char.isprintable() else "·" for char in " ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"
