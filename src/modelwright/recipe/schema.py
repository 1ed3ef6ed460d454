"""What the specs say about themselves: each setting's type in words, default, and sentence.

Errors, the recipe reference and the commented recipe are all made from this, so that a range or a
choice is written down once, in the spec.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from modelwright.kinds import ANY_INPUT, ANY_OUTPUT, InputKind, OutputKind
from modelwright.recipe.spec import For, Rare, Spec, TypeDescription

_TAGS = ("name", "source")
_ENDLESS = 2**62
"""From here on a bound is the machine's, and not worth saying."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a section."""

    key: str
    kind: object
    """The type annotation, with its constraints."""
    default: object
    """The default; `REQUIRED` where there is none."""
    sentence: str
    marks: tuple[For, ...]
    """For which kinds of prediction it has an effect; empty where for all."""
    is_rare: bool
    """Whether few recipes need it."""


REQUIRED = PydanticUndefined


def settings_of(spec: type[Spec]) -> dict[str, Setting]:
    """Return a section's settings by key, its tag first."""
    tag = tag_of(spec)[0]
    settings = {}
    for name, field in sorted(spec.model_fields.items(), key=lambda item: item[0] != tag):
        key = field.alias or name
        marks = tuple(item for item in field.metadata if isinstance(item, For))
        sentences = [field.description or "The kind of this section.", *map(_sentence, marks)]
        settings[key] = Setting(
            key=key,
            kind=Annotated[field.annotation, *field.metadata]
            if field.metadata
            else field.annotation,
            default=field.get_default(call_default_factory=True),
            sentence=" ".join(sentences),
            marks=marks,
            is_rare=any(isinstance(item, Rare) for item in field.metadata),
        )
    return settings


def kinds_phrase(
    inputs: Collection[InputKind] = ANY_INPUT, outputs: Collection[OutputKind] = ANY_OUTPUT
) -> str:
    """Return kinds in words; nothing where they are all.

    >>> kinds_phrase([InputKind.TEXT], [OutputKind.REGRESSION])
    'texts, predicting numbers'
    """
    words = []
    if inputs != ANY_INPUT:
        words.append(listed([kind.plural for kind in InputKind if kind in inputs]))
    if outputs != ANY_OUTPUT:
        nouns = [kind.noun for kind in OutputKind if kind in outputs]
        words.append(f"predicting {listed(nouns)}")
    return ", ".join(words)


def _sentence(mark: For) -> str:
    kinds = kinds_phrase(mark.inputs, mark.outputs)
    values = listed([f"`{value}`" for value in mark.values])
    return f"{values} is for {kinds}." if values else f"For {kinds}."


def variants(kind: object) -> dict[str, type[Spec]]:
    """Return the sections that a setting may hold, by tag; the tag of a lone section is ``."""
    return {tag_of(base)[1]: base for base, _ in _options(kind) if _is_section(base)}


def tag_of(spec: type[Spec]) -> tuple[str, str]:
    """Return the key and the value that tell a section from its siblings; empty where none do."""
    for key in _TAGS:
        field = spec.model_fields.get(key)
        if field is not None and get_origin(field.annotation) is Literal:
            return key, str(get_args(field.annotation)[0])
    first = next(iter(spec.model_fields))
    # A section without a name of its own is recognised by its first setting: `{init: OTHER.mw}`.
    return (first, first) if first == "init" else ("", "")


def is_optional(kind: object) -> bool:
    """Say whether a setting may be left empty: `null`."""
    return any(base is type(None) for base, _ in _options(kind))


def item_kind(kind: object) -> object | None:
    """Return the type of a list's items, or `None` where the setting holds no list."""
    return next(
        (get_args(base)[0] for base, _ in _options(kind) if get_origin(base) is tuple), None
    )


def value_kind(kind: object) -> object | None:
    """Return the type of a mapping's values, or `None` where the setting holds no free mapping."""
    return next((get_args(base)[1] for base, _ in _options(kind) if get_origin(base) is dict), None)


def choices(kind: object) -> tuple[str, ...]:
    """Return the words that a setting may hold: its literals."""
    literals = (get_args(base) for base, _ in _options(kind) if get_origin(base) is Literal)
    return tuple(str(choice) for options in literals for choice in options)


def phrase(kind: object) -> str:
    """Return what a setting may hold, in words.

    >>> phrase(Literal["on", "off"] | None)
    '`on` or `off`'
    """
    return listed(list(dict.fromkeys(_phrases(kind))))


def _phrases(kind: object) -> Iterator[str]:
    options, sections = list(_options(kind)), variants(kind)
    for base, limits in options:
        if "words" in limits:
            yield str(limits["words"])
        elif base is type(None) or _is_section(base):
            continue
        elif get_origin(base) is Literal:
            yield from (f"`{choice}`" for choice in get_args(base))
        elif get_origin(base) is tuple:
            items = get_args(base)
            if Ellipsis in items:
                yield f"a list, each entry {_entry_phrase(items[0])}"
            else:
                yield f"a list of {len(items)}, each {phrase(items[0])}"
        elif get_origin(base) is dict:
            yield "a section of names and values"
        elif base is bool:
            yield "`true` or `false`"
        elif base is str:
            yield "text"
        elif base is int:
            yield "a whole number" + _range(limits, whole=True)
        elif base is float:
            yield "a number" + _range(limits, whole=False)
        else:
            raise AssertionError(f"no words for {base!r}")
    if "" in sections and len(options) > 1:
        yield _entry_phrase(sections[""])
    elif sections:
        yield _section_phrase(sections)


def _section_phrase(sections: Mapping[str, type[Spec]]) -> str:
    tags = [tag for tag in sections if tag]
    if not tags:
        return "a section"
    keys = {tag_of(spec)[0] for spec in sections.values()}
    key = next(name for name in (*_TAGS, *keys) if name in keys)
    named = [f"`{tag}`" for tag, spec in sections.items() if tag_of(spec)[0] == key]
    others = [f"`{tag}`" for tag, spec in sections.items() if tag_of(spec)[0] != key]
    tail = f", or with {listed(others)}" if others else ""
    return f"a section with `{key}`: {listed(named)}{tail}"


def _entry_phrase(kind: object) -> str:
    lone = variants(kind).get("")
    if lone is None:
        return phrase(kind)
    return "a section of " + ", ".join(f"`{key}`" for key in settings_of(lone))


def _range(limits: Mapping[str, object], *, whole: bool) -> str:
    low, high = limits.get("ge"), limits.get("le")
    if whole and limits.get("lt") is not None:
        high = int(typing.cast("int", limits["lt"])) - 1
    if isinstance(high, int) and high >= _ENDLESS:
        high = None
    above, below = limits.get("gt"), None if whole else limits.get("lt")
    if low is not None and high is not None:
        return f" from {_figure(low)} to {_figure(high)}"
    at_most = "at most" if above is not None else "of at most"
    bounds = {"of at least": low, "above": above, at_most: high, "below": below}
    words = [f"{word} {_figure(bound)}" for word, bound in bounds.items() if bound is not None]
    return f" {' and '.join(words)}" if words else ""


def _figure(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:,}" if isinstance(value, int) and value < 10**9 else f"{value}"


def listed(words: list[str]) -> str:
    """Return words as a list in a sentence: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def _is_section(base: object) -> TypeGuard[type[Spec]]:
    return isinstance(base, type) and issubclass(base, Spec)


def _options(kind: object) -> Iterator[tuple[Any, dict[str, object]]]:
    """Yield what a type may hold, the members of its unions, each with its limits."""
    base, limits = _peel(kind)
    if get_origin(base) not in (Union, types.UnionType):
        yield base, limits
        return
    for option in get_args(base):
        for inner, own in _options(option):
            yield inner, {**limits, **own}


def _peel(kind: object) -> tuple[Any, dict[str, object]]:
    """Take the `Annotated` off a type: what is inside, and the limits it carried."""
    limits: dict[str, object] = {}
    while get_origin(kind) is Annotated:
        kind, *extras = get_args(kind)
        for extra in extras:
            marks = extra.metadata if isinstance(extra, FieldInfo) else [extra]
            for item in marks:
                if isinstance(item, TypeDescription):
                    limits.setdefault("words", item.words)
                for name in ("gt", "ge", "lt", "le"):
                    if getattr(item, name, None) is not None:
                        limits.setdefault(name, getattr(item, name))
    return kind, limits
