"""A YAML document as a tree of values that know where they stand, so that errors can say so.

Reads YAML 1.2 (core schema) from the parser's events rather than by its constructors: no tags, no
aliases, no duplicate keys, bounded depth and size. What the tree means is judged in `reading.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
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
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


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
        children = dict(enumerate(self.value)) if isinstance(self.value, list) else self.value
        if isinstance(children, dict):
            for key, child in children.items():
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
        return _Builder(events, place).build() or Node(None, where)
    except MarkedYAMLError as error:
        raise _as_recipe_error(error, text, where, lines=lines) from error
    except YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        raise RecipeError(
            "this holds a character that no text has, so it isn't a recipe",
            where=f"{where}:{line}" if lines else where,
        ) from error


def node_of(value: object, *, where: str, path: str = "", depth: int = 0) -> Node:
    """Return the nodes of what is given as Python values instead of YAML.

    Args:
        value: text, a number, a truth value, a path, or lists and mappings of these.
        where: names its place in errors.
        path: the dotted path of the value.
        depth: how deep it stands.

    Raises:
        RecipeError: a key isn't text, or a value is of a type that no setting takes.
    """
    if depth > MAX_DEPTH:
        raise RecipeError("this is nested too deeply", where=where, why="No recipe needs that")
    if isinstance(value, Mapping):
        children: dict[str, Node] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                at = f" of `{path}`" if path else ""
                raise RecipeError(f"the key {key!r:.40}{at} isn't text", where=where)
            below = f"{path}.{key}".lstrip(".")
            children[key] = node_of(item, where=where, path=below, depth=depth + 1)
        return Node(children, where)
    if isinstance(value, list | tuple):
        items = [
            node_of(item, where=where, path=f"{path}.{at}", depth=depth + 1)
            for at, item in enumerate(value)
        ]
        return Node(items, where)
    if isinstance(value, PurePath):
        return Node(str(value), where)
    if value is None or isinstance(value, str | int | float | bool):
        return Node(value, where)
    raise RecipeError(
        f"`{path}` is a {type(value).__name__}, which no setting takes",
        where=where,
        fix="Give text, numbers, true or false, lists and dicts of these",
    )


class _Builder:
    """Builds nodes from the parser's events; the bound on depth keeps the recursion shallow."""

    def __init__(self, events: Iterator[Event], place: Callable[[Event], str]) -> None:
        self._events = self._checked(events)
        self._place = place

    def build(self) -> Node | None:
        """Return the document's node; `None` for an empty document."""
        event = next((event for event in self._events if isinstance(event, NodeEvent)), None)
        root = None if event is None else self._node(event, 0)
        for _ in self._events:  # Whatever follows is checked too.
            pass
        return root

    def _node(self, event: Event, depth: int) -> Node:
        here = self._place(event)
        if depth > MAX_DEPTH:
            raise RecipeError("this is nested too deeply", where=here, why="No recipe needs that")
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(event := next(self._events), SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return Node(items, here)
        if isinstance(event, MappingStartEvent):
            values: dict[str, Node] = {}
            while not isinstance(event := next(self._events), MappingEndEvent):
                key, place = _key(event, values, self._place(event)), self._place(event)
                values[key] = Node(self._node(next(self._events), depth + 1).value, place)
            return Node(values, here)
        assert isinstance(event, ScalarEvent)
        is_plain = event.implicit[0] and event.tag is None
        return Node(_resolve(event.value, here) if is_plain else str(event.value), here)

    def _checked(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the events, unless they are too many or what a recipe doesn't need."""
        documents = 0
        for count, event in enumerate(events, start=1):
            here = self._place(event)
            if count > MAX_NODES:
                message = f"this has more than {MAX_NODES:,} entries"
                raise RecipeError(message, where=here, why="No recipe needs that")
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise RecipeError(
                        "a second document starts here", where=here, fix="Keep one recipe in a file"
                    )
                if event.version and tuple(event.version) != (1, 2):
                    raise RecipeError(
                        "a recipe is YAML 1.2", where=here, fix="Remove the %YAML line"
                    )
            if isinstance(event, AliasEvent):
                raise RecipeError(
                    f"`*{event.anchor}` refers to another place, which a recipe can't",
                    where=here,
                    fix="Write the value out, or put it in quotes if it is text",
                )
            tag = str(getattr(event, "tag", None) or "")
            if tag and not (isinstance(event, ScalarEvent) and tag == "tag:yaml.org,2002:str"):
                name = tag.replace("tag:yaml.org,2002:", "!!")
                raise RecipeError(
                    f"the YAML tag `{short(name)}` is not read",
                    where=here,
                    fix="Remove it, or put quotes around text that begins with `!`",
                )
            yield event


def _key(event: Event, values: dict[str, Node], here: str) -> str:
    if not isinstance(event, ScalarEvent) or not event.value:
        raise RecipeError("a setting's name must be a word", where=here, fix="Write `name: value`")
    key = str(event.value)
    if key in values:
        raise RecipeError(
            f"`{short(key)}` stands twice in one section",
            where=here,
            why=f"It stands at {values[key].place} already",
            fix="Keep one of them",
        )
    return key


def _resolve(text: str, here: str) -> Scalar:
    """Read a plain scalar by YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
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
