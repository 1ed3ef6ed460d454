"""The recipe written out: every setting as a Markdown reference, as commented YAML, as JSON Schema.

All of it is made from the specs, so it can't differ from what is read.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from modelwright.files import JsonObject
from modelwright.recipe.document import is_plain_text
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.schema import (
    REQUIRED,
    Setting,
    choices,
    is_optional,
    item_kind,
    kinds_phrase,
    phrase,
    settings_of,
    tag_of,
    variants,
)
from modelwright.recipe.spec import Spec
from modelwright.recipe.targets import METRICS

_WIDTH = 96


def json_schema() -> JsonObject:
    """Return the JSON Schema of a recipe, with which editors complete and check it."""
    schema = Recipe.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A modelwright recipe",
    }


# Commented YAML


def render_config(recipe: Recipe, *, with_place: bool = True) -> str:
    """Return the recipe as YAML with every default written out and a comment for each setting.

    Without `with_place`, the section `resources` is left out: where a run took place isn't part of
    what is shipped.

    Law: `parse_recipe(render_config(recipe), where=…) == recipe`.
    """
    lines: list[str] = []
    for key, setting in settings_of(Recipe).items():
        if key == "resources" and not with_place:
            continue
        if lines:
            lines.append("")
        lines += _entry(setting, getattr(recipe, key), indent=0)
    return "\n".join(lines) + "\n"


def _entry(setting: Setting, value: object, *, indent: int) -> list[str]:
    """Return the lines of one setting: its comment, then `key: value` or a section."""
    blanks = " " * indent
    lines = [f"{blanks}# {line}" for line in _comment(setting, indent)]
    name = f"{blanks}{_text(setting.key)}:"
    if isinstance(value, Spec):
        lines.append(name)
        for key, inner in settings_of(type(value)).items():
            lines += _entry(inner, getattr(value, key), indent=indent + 2)
    elif isinstance(value, dict) and value:
        lines.append(name)
        lines += [f"{blanks}  {_text(key)}: {_flow(item)}" for key, item in value.items()]
    elif isinstance(value, tuple) and any(isinstance(item, Spec) for item in value):
        lines.append(name)
        lines += [f"{blanks}  - {_flow(item)}" for item in value]
    else:
        lines.append(f"{name} {_flow(value)}")
    return lines


def _comment(setting: Setting, indent: int) -> list[str]:
    words = setting.sentence
    if not _says_itself(setting):
        allowed = _allowed(setting)
        words += f" {allowed[:1].upper()}{allowed[1:]}."
    return textwrap.wrap(words, _WIDTH - indent, break_long_words=False, break_on_hyphens=False)


def _allowed(setting: Setting) -> str:
    return phrase(setting.kind) + (", or null" if is_optional(setting.kind) else "")


def _says_itself(setting: Setting) -> bool:
    """Say whether the type adds nothing to the sentence: one word, a plain section, text."""
    words, options = phrase(setting.kind), choices(setting.kind)
    if words in ("a section", "text", "`true` or `false`", "a section of names and values"):
        return not is_optional(setting.kind)
    is_named = all(f"`{option}`" in setting.sentence for option in options)
    return (
        bool(options) and words.count("`") == 2 * len(options) and (len(options) == 1 or is_named)
    )


def _flow(value: object) -> str:
    """Return a value on one line."""
    if isinstance(value, Spec):
        value = {key: getattr(value, key) for key in settings_of(type(value))}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def _text(text: str) -> str:
    """Return text as YAML: bare where it reads as itself, else in double quotes."""
    if is_plain_text(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    # JSON leaves some characters bare that YAML takes for line ends or refuses.
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


# Markdown


def recipe_reference() -> str:
    """Return every section and setting of a recipe as Markdown, made from the specs."""
    parts = [
        "# The recipe",
        "This page is made from the specs in `src/modelwright/recipe/`. A key that doesn't stand "
        "here is refused. `modelwright config RECIPE` prints a recipe with every default.",
    ]
    seen: set[type[Spec]] = set()
    for title, spec in _sections(Recipe, ""):
        if spec in seen:
            continue
        seen.add(spec)
        level = "##" if title.count(".") == 0 else "###"
        kinds = kinds_phrase(spec.inputs, spec.outputs)
        paragraph = f"{_first_paragraph(spec)} For {kinds}." if kinds else _first_paragraph(spec)
        parts += [f"{level} {title}", paragraph, *_tables(spec)]
        if spec is Recipe:
            parts += ["## `targets`", _TARGETS, _metrics(), _UNKNOWN]
    return "\n\n".join(parts) + "\n"


def settings_reference(spec: type[Spec]) -> str:
    """Return the settings of another file as Markdown: of a server's, say."""
    parts: list[str] = []
    for title, section in _sections(spec, ""):
        parts += [f"### {title}", _first_paragraph(section), *_tables(section)]
    return "\n\n".join(parts) + "\n"


_TARGETS = (
    "A comparison (`>=`, `<=`, `>`, `<`) and a number in quotes, by metric. A run that misses one "
    "exits with 1."
)
_UNKNOWN = (
    "A model's labels are those that its training split has, whatever the source: a list of "
    "classes that a source brings along adds none. What validation or test has beyond them stays "
    "in the figures, is listed by `check`, `run` and the report, and is always wrong: a sample's "
    "class counts as a mistake, with a recall and an F1 of 0 in the means over the classes (as in "
    "scikit-learn); one of several labels counts as missed; a class of boxes has an average "
    "precision of 0. Only `log_loss` leaves such samples out, where it would be infinite, and its "
    "count of samples says so. `evaluate` does the same with labels that a model doesn't know. "
    "Data in which a split has none of the labels is refused."
)


def _sections(spec: type[Spec], path: str, tag: str = "") -> Iterator[tuple[str, type[Spec]]]:
    key = tag_of(spec)[0]
    chosen = "…" if key == tag else tag
    yield (f"`{path}`" if path else "The whole") + (f" with `{key}: {chosen}`" if tag else ""), spec
    for name, setting in settings_of(spec).items():
        place, sections = f"{path}.{name}".lstrip("."), variants(_item(setting.kind))
        for shared in filter(None, map(_shared, sections.values())):
            yield from _sections(shared, place)
        for inner_tag, inner in sections.items():
            yield from _sections(inner, place, inner_tag)


def _shared(spec: type[Spec]) -> type[Spec] | None:
    """Return the spec whose settings a section has in common with its siblings, if there is one."""
    base = spec.__base__
    has_settings = base is not None and issubclass(base, Spec) and bool(base.model_fields)
    return base if has_settings else None


def _item(kind: object) -> object:
    of = item_kind(kind)
    return of if of is not None and variants(of) else kind


def _first_paragraph(spec: type[Spec]) -> str:
    return " ".join((spec.__doc__ or "").split("\n\n")[0].split())


def _tables(spec: type[Spec]) -> Iterator[str]:
    """Yield the table of a section's own settings, and that of those which few recipes need.

    The title names the tag, and what siblings have in common stands in a section before them.
    """
    tag, shared = tag_of(spec), _shared(spec)
    own = [
        setting
        for key, setting in settings_of(spec).items()
        if (key, choices(setting.kind)) != (tag[0], tag[1:])
        and (shared is None or key not in shared.model_fields)
    ]
    for is_rare, words in ((False, ""), (True, "Rarely needed:\n\n")):
        rows = [_row(setting) for setting in own if setting.is_rare == is_rare]
        if rows:
            yield words + "\n".join([_HEAD, *rows])


_HEAD = "| key | holds | default | meaning |\n| --- | --- | --- | --- |"


def _row(setting: Setting) -> str:
    sentence = _cell(setting.sentence)
    cells = (f"`{setting.key}`", _cell(_allowed(setting)), _default(setting), sentence)
    return f"| {' | '.join(cells)} |"


def _default(setting: Setting) -> str:
    value = setting.default
    if value is REQUIRED:
        return "must be given"
    if isinstance(value, Spec):
        tag, fields = tag_of(type(value))[0], settings_of(type(value))
        shown = {
            key: getattr(value, key)
            for key, inner in fields.items()
            if key == tag or getattr(value, key) != inner.default
        }
        return f"`{_flow(shown)}`" if shown else "its defaults"
    return f"`{_cell(_flow(value))}`"


def _metrics() -> str:
    rows = ["| metric | name | meaning | for predicting | better |", "|" + " --- |" * 5]
    rows += [
        f"| `{name}` | {metric.title} | {metric.explanation} "
        f"| {kinds_phrase(outputs=metric.outputs).removeprefix('predicting ') or 'anything'} "
        f"| {'higher' if metric.higher_is_better else 'lower'} |"
        for name, metric in METRICS.items()
    ]
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
