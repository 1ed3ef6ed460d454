"""What validation found, said as a person would: the line, the setting, what it may hold, the fix.

Pydantic names what it tried (union tags, branches); this walks its path along the document and the
specs together, drops what isn't a setting, and takes the allowed values from the specs.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

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

_MOST = 3
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class _Found:
    """Where an error stands: path, value, its type, and the section it belongs to."""

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


def as_recipe_error(error: ValidationError, root: Node, where: str) -> RecipeError:
    """Return the first faults as one error, and the number of the others."""
    faults: dict[tuple[str, ...], tuple[_Found, dict[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        found = _locate(detail["loc"], root, where)
        faults.setdefault(found.path, (found, dict(detail)))
    # A setting that may be a word or a section is refused as a word too: keep what lies deeper.
    deepest = [
        fault
        for path, fault in faults.items()
        if not any(other != path and other[: len(path)] == path for other in faults)
    ]
    # A misspelt key is the reason why another is missing, so it comes first.
    deepest.sort(key=lambda fault: fault[1]["type"] != "extra_forbidden")
    said = [_say(found, detail) for found, detail in deepest]
    first = said[0]
    if len(said) == 1:
        return first
    more = [f"{item.where}: {item.what}" for item in said[1:_MOST]]
    if len(said) > _MOST:
        more.append(f"{len(said) - _MOST} more")
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
        return "a list"
    if isinstance(node.value, float):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(node.value), str(node.value))
    return short(json.dumps(node.value, ensure_ascii=False))


def _locate(loc: tuple[int | str, ...], root: Node, where: str) -> _Found:
    """Walk pydantic's path along document and specs, dropping tags and names of branches."""
    owner: type[Spec] = Recipe
    node: Node | None = root
    kind: object | None = Recipe
    path: list[str] = []
    place = where
    rest = list(loc)
    while rest and kind is not None:
        value = node.value if node is not None else None
        if isinstance(value, dict):
            sections = variants(kind)
            if sections:
                tag, owner = _chosen(sections, value)
                if "" not in sections:
                    rest = rest[rest.index(tag) + 1 :] if tag in rest else []
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
    return _Found(tuple(path), node, kind, owner, place)


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


def _say(found: _Found, detail: dict[str, Any]) -> RecipeError:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(found)
    if kind == "missing" and found.node is None:
        return _missing(found)
    if kind == "value_error":
        said = short(str(detail["ctx"]["error"]), 200)
        return RecipeError(f"`{found.name}`: {said}", where=found.place)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _no_variant(found)
    assert found.kind is not None
    return RecipeError(
        f"`{found.name}` must be {phrase(found.kind)}; received {shown(found.node)}",
        where=found.place,
        fix=_advice(found),
    )


def _unknown(found: _Found) -> RecipeError:
    key, before = short(found.path[-1]), ".".join(found.path[:-1])
    tag = tag_of(found.owner)[1]
    section = f"`{tag or before}`" if before else "a recipe"
    known = settings_of(found.owner)
    homes = [] if difflib.get_close_matches(key, known) else _homes(key)
    if homes:
        fix = f"It is a setting of {', '.join(f'`{home}`' for home in homes)}"
    else:
        fix = nearest(key, known)
    return RecipeError(f"`{found.name}` is not a setting of {section}", where=found.place, fix=fix)


def _homes(key: str) -> list[str]:
    """Return the sections that have a setting of this name, where they are few."""
    found: list[str] = []

    def search(spec: type[Spec], path: str) -> None:
        for name, setting in settings_of(spec).items():
            if name == key and path:
                found.append(path)
            for tag, section in variants(setting.kind).items():
                deeper = f"{path}.{name}".lstrip(".")
                search(section, f"{deeper}: {tag}" if tag else deeper)

    search(Recipe, "")
    return found if len(found) <= 3 else []


def _missing(found: _Found) -> RecipeError:
    if found.name == "version":
        return RecipeError(
            "`version` is missing", where=found.place, fix="Begin the recipe with `version: 1`"
        )
    assert found.kind is not None
    return RecipeError(
        f"`{found.name}` is missing", where=found.place, why=f"It must be {phrase(found.kind)}"
    )


def _no_variant(found: _Found) -> RecipeError:
    """A section of several kinds that says none, or one that doesn't exist."""
    assert found.kind is not None
    sections = variants(found.kind)
    key = next(tag_of(spec)[0] for spec in sections.values())
    value = found.node.value if found.node is not None else None
    if not isinstance(value, dict):
        return RecipeError(
            f"`{found.name}` must be {phrase(found.kind)}; received {shown(found.node)}",
            where=found.place,
            fix=_advice(found),
        )
    named = value.get(key)
    named_tags = [tag for tag, spec in sections.items() if tag_of(spec)[0] == key]
    if named is None or named.value is None:
        return RecipeError(
            f"`{found.name}.{key}` is missing",
            where=found.place,
            fix="Use one of " + ", ".join(f"`{tag}`" for tag in named_tags),
        )
    received = RecipeError(
        f"`{found.name}.{key}` can't be {shown(named)}",
        where=named.place,
        fix=nearest(str(named.value), named_tags),
    )
    if key == "source" and isinstance(named.value, str) and _is_path(named.value):
        received.fix = f"Write {_source(named.value)}"
    return received


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or "/" in text or "\\" in text or text.endswith(_TABLES)


def _source(path: str) -> str:
    kind = "table" if path.endswith(_TABLES) else "folder"
    return f"`source: {kind}` and `path: {path}`"


def _advice(found: _Found) -> str:
    """Return what was probably meant."""
    assert found.kind is not None
    value = found.node.value if found.node is not None else None
    sections = variants(found.kind)
    words = choices(found.kind)
    if found.name == "version" and isinstance(value, int) and value > 1:
        return "A newer modelwright may read it"
    if isinstance(value, str):
        if sections:
            return _advice_for_section(found, value, sections)
        if value.lower() in ("yes", "no", "on", "off") and "true" in phrase(found.kind):
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
    if value is None and found.node is not None and sections:
        return "Give it settings, or remove the line"
    if isinstance(value, (int, float)):
        needs = phrase(found.kind)
        if "duration" in needs:
            return f"Write the unit: `{shown(found.node)}s` for seconds"
        if "comparison" in needs:
            return f'Write `">= {shown(found.node)}"` or `"<= {shown(found.node)}"`'
        if isinstance(value, float) and value.is_integer() and "whole" in needs:
            return f"Write `{int(value)}`"
        if needs == "text":
            return "Put it in quotes"
    return ""


def _advice_for_section(found: _Found, value: str, sections: dict[str, type[Spec]]) -> str:
    key = next(tag_of(spec)[0] for spec in sections.values())
    if not key:
        return ""
    if value in sections:
        return f"Write `{found.name}: {{{key}: {value}}}`"
    if key == "source" and _is_path(value):
        kind = "table" if value.endswith(_TABLES) else "folder"
        return f"Write `{found.name}: {{source: {kind}, path: {value}}}`"
    if value.endswith(".mw") and "init" in sections:
        return f"Write `{found.name}: {{init: {value}}}`"
    return nearest(value, [*sections, *choices(found.kind)])
