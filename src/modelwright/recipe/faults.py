"""Turns pydantic's errors into recipe errors with the line, the setting, its values and a fix.

A path of pydantic's also names what was tried (union tags, branches). It is followed along the
document and the specs together, what isn't a setting is dropped, and the allowed values come from
the specs.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from modelwright.errors import RecipeError, nearest
from modelwright.recipe.document import Node, short
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.schema import (
    choices,
    item_kind,
    phrase,
    settings_of,
    tag_of,
    value_kind,
    variants,
)
from modelwright.recipe.spec import Spec

_MOST_SHOWN = 3
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class _Location:
    """Where an error is: path, value, type, and the section that it belongs to."""

    path: tuple[str, ...]
    node: Node | None
    """The value; `None` where it is missing."""
    kind: object | None
    """The setting's type; `None` where there is no such setting."""
    owner: type[Spec]
    place: str

    @property
    def name(self) -> str:
        return short(".".join(self.path), 80)


def as_recipe_error(
    error: ValidationError, root: Node, where: str, kind: type[Spec] = Recipe
) -> RecipeError:
    """Return the first faults as one error, and the number of the others."""
    faults: dict[tuple[str, ...], tuple[_Location, ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        location = _locate(detail["loc"], root, where, kind)
        faults.setdefault(location.path, (location, detail))
    # A setting that may be a word or a section is refused as a word too: keep what lies deeper.
    deepest = [
        fault
        for path, fault in faults.items()
        if not any(other != path and other[: len(path)] == path for other in faults)
    ]
    # A misspelt key is the reason why another is missing, so it comes first.
    deepest.sort(key=lambda fault: fault[1]["type"] != "extra_forbidden")
    errors = [_build_error(location, detail) for location, detail in deepest]
    first = errors[0]
    if len(errors) == 1:
        return first
    more = [f"{fault.where}: {fault.what}" for fault in errors[1:_MOST_SHOWN]]
    if len(errors) > _MOST_SHOWN:
        more.append(f"{len(errors) - _MOST_SHOWN} more")
    first.fix = " ".join(
        part if part.endswith((".", "?")) else part + "."
        for part in (first.fix, "Also: " + "; ".join(more))
        if part
    )
    return first


def shown(node: Node | None) -> str:
    """Return a received value in a few words."""
    if node is None or node.value is None:
        return "nothing"
    if isinstance(node.value, dict):
        return "a section"
    if isinstance(node.value, list):
        return "a list" if node.value else "an empty list"
    if isinstance(node.value, float):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(node.value), str(node.value))
    return short(json.dumps(node.value, ensure_ascii=False))


def _locate(loc: tuple[int | str, ...], root: Node, where: str, spec: type[Spec]) -> _Location:
    """Walk pydantic's path along document and specs, dropping tags and names of branches."""
    owner = spec
    node: Node | None = root
    kind: object | None = spec
    path: list[str] = []
    place = where
    rest = list(loc)
    while rest and kind is not None:
        value = node.value if node is not None else None
        if isinstance(value, dict):
            sections = variants(kind)
            if sections:
                tag, owner = _chosen(sections, value)
                if tag in rest:
                    rest = rest[rest.index(tag) + 1 :]
                elif "" not in sections and str(rest[0]) not in settings_of(owner):
                    rest = []  # A section of one kind alone has no tag in the path.
                if not rest:
                    break
                key = str(rest.pop(0))
                setting = settings_of(owner).get(key)
                kind = setting.kind if setting else None
            elif (of := value_kind(kind)) is not None:
                key, kind = str(rest.pop(0)), of
            else:
                break  # a section where none may stand
            node = value.get(key)
            path.append(key)
        elif isinstance(value, list) and (of := item_kind(kind)) is not None:
            while rest and not isinstance(rest[0], int):
                rest.pop(0)
            if not rest or int(rest[0]) >= len(value):
                break  # The list itself is too short.
            index = int(rest.pop(0))
            kind, node = of, value[index]
            path.append(str(index))
        else:
            break  # What is left names branches of a union.
        if node is not None:
            place = node.place
    return _Location(tuple(path), node, kind, owner, place)


def _chosen(sections: dict[str, type[Spec]], value: dict[str, Node]) -> tuple[str, type[Spec]]:
    for tag, spec in sections.items():
        key, word = tag_of(spec)
        if key == word != "" and _has(value, key) and not _has(value, "name"):
            return tag, spec
        if key in value and value[key].value == word:
            return tag, spec
    return "", next(iter(sections.values()))


def _has(value: dict[str, Node], key: str) -> bool:
    return key in value and value[key].value is not None


def _build_error(location: _Location, detail: ErrorDetails) -> RecipeError:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(location)
    if kind == "missing" and location.node is None:
        return _missing(location)
    if kind == "value_error":
        message = short(str(detail["ctx"]["error"]), 200)
        return RecipeError(f"`{location.name}`: {message}", where=location.place)
    value = location.node.value if location.node is not None else None
    if kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(value, dict):
        return _no_variant(location, value)
    if kind == "too_short" and isinstance(value, list):
        least = detail["ctx"]["min_length"]
        what = f"`{location.name}` needs at least {least} {'entry' if least == 1 else 'entries'}"
        return RecipeError(f"{what}; received {len(value) or 'none'}", where=location.place)
    assert location.kind is not None
    return RecipeError(
        f"`{location.name}` must be {phrase(location.kind)}; received {shown(location.node)}",
        where=location.place,
        fix=_advice(location),
    )


def _unknown(location: _Location) -> RecipeError:
    key, before = short(location.path[-1]), ".".join(location.path[:-1])
    tag = tag_of(location.owner)[1]
    is_recipe = location.owner is Recipe
    section = f"`{tag or before}`" if before else "a recipe" if is_recipe else "this file"
    known = settings_of(location.owner)
    homes = [] if difflib.get_close_matches(key, known) else _homes(key)
    if homes:
        fix = f"It is a setting of {', '.join(f'`{home}`' for home in homes)}"
    else:
        fix = nearest(key, known)
    return RecipeError(
        f"`{location.name}` is not a setting of {section}", where=location.place, fix=fix
    )


def _homes(key: str) -> list[str]:
    """Return the sections that have a setting of this name, where they are few."""
    homes: list[str] = []

    def search(spec: type[Spec], path: str) -> None:
        for name, setting in settings_of(spec).items():
            if name == key and path:
                homes.append(path)
            for tag, section in variants(setting.kind).items():
                deeper = f"{path}.{name}".lstrip(".")
                search(section, f"{deeper}: {tag}" if tag else deeper)

    search(Recipe, "")
    return homes if len(homes) <= 3 else []


def _missing(location: _Location) -> RecipeError:
    if location.name == "version":
        return RecipeError(
            "`version` is missing", where=location.place, fix="Begin the recipe with `version: 1`"
        )
    assert location.kind is not None
    return RecipeError(
        f"`{location.name}` is missing",
        where=location.place,
        why=f"It must be {phrase(location.kind)}",
    )


def _no_variant(location: _Location, values: dict[str, Node]) -> RecipeError:
    """A section of several kinds that says none, or one that doesn't exist."""
    sections = variants(location.kind)
    key = next(tag_of(spec)[0] for spec in sections.values())
    node = values.get(key)
    tags = [tag for tag, spec in sections.items() if tag_of(spec)[0] == key]
    if node is None or node.value is None:
        return RecipeError(
            f"`{location.name}.{key}` is missing",
            where=location.place,
            fix="Use one of " + ", ".join(f"`{tag}`" for tag in tags),
        )
    source = _source_of(str(node.value)) if key == "source" else ""
    return RecipeError(
        f"`{location.name}.{key}` can't be {shown(node)}",
        where=node.place,
        fix=f"Write `source: {source}` and `path: {node.value}`"
        if source
        else nearest(str(node.value), tags),
    )


def _source_of(path: str) -> str:
    """Return the source that a path stands for; empty where the text isn't a path."""
    if path.endswith(_TABLES):
        return "table"
    return "folder" if path.startswith((".", "~")) or "/" in path or "\\" in path else ""


def _advice(location: _Location) -> str:
    """Return advice by what was probably meant; empty where nothing is likely."""
    assert location.kind is not None
    value = location.node.value if location.node is not None else None
    sections = variants(location.kind)
    words = choices(location.kind)
    if location.name == "version" and isinstance(value, int) and value > 1:
        return "A newer modelwright may read it"
    if isinstance(value, str):
        if sections:
            return _advice_for_section(location, value, sections)
        if value.lower() in ("yes", "no", "on", "off") and "true" in phrase(location.kind):
            return f"Write `{'true' if value.lower() in ('yes', 'on') else 'false'}`"
        if value in words:
            return f"Write it without quotes: `{value}`"
        if words:
            return nearest(value, words)
        try:
            float(value)
        except ValueError:
            return ""
        return "Write the number without quotes"
    if isinstance(value, bool):
        word = "on" if value else "off"
        return f"Write `{word}`" if word in words else ""
    if value is None and location.node is not None and sections:
        return "Give it settings, or remove the line"
    if isinstance(value, (int, float)):
        needs = phrase(location.kind)
        if "duration" in needs:
            return f"Write the unit: `{shown(location.node)}s` for seconds"
        if "comparison" in needs:
            return f'Write `">= {shown(location.node)}"` or `"<= {shown(location.node)}"`'
        if isinstance(value, float) and value.is_integer() and "whole" in needs:
            return f"Write `{int(value)}`"
        if needs == "text":
            return "Put it in quotes"
    return ""


def _advice_for_section(location: _Location, value: str, sections: dict[str, type[Spec]]) -> str:
    key = next(tag_of(spec)[0] for spec in sections.values())
    if not key:
        return ""
    if value in sections:
        return f"Write `{location.name}: {{{key}: {value}}}`"
    if key == "source" and (source := _source_of(value)):
        return f"Write `{location.name}: {{source: {source}, path: {value}}}`"
    if value.endswith(".mw") and "init" in sections:
        return f"Write `{location.name}: {{init: {value}}}`"
    return nearest(value, [*sections, *choices(location.kind)])
