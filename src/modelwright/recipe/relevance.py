"""The one check that refuses a setting which has no effect on this kind of prediction.

Sections say which kinds they are for by `inputs` and `outputs`, settings by `For`, and networks by
`settles` which settings they bring along. A setting at its default is no fault: a recipe with every
default written out says the same as one without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.schema import listed, marks_of, settings_of, tag_of
from modelwright.recipe.spec import Spec


@dataclass(frozen=True, slots=True)
class Irrelevant:
    """A setting without effect."""

    path: str
    """The setting, by its dotted path."""
    why: str
    decided_by: str = "task"
    """The setting that leaves it without effect."""


def find_irrelevant(recipe: Recipe) -> Irrelevant | None:
    """Return the first setting of a recipe that has no effect, or `None`."""
    irrelevant = next(_of_another_kind(recipe, recipe, ""), None)
    return irrelevant or next(_settled(recipe), None)


def _of_another_kind(recipe: Recipe, spec: Spec, path: str) -> Iterator[Irrelevant]:
    tag = tag_of(type(spec))[0]
    name = f"{path}.{tag}" if tag else path
    reason = _reason(recipe, spec.inputs, spec.outputs)
    if reason:
        yield Irrelevant(name, f"`{_shown(spec, tag, name)}` is for {reason}")
        return
    for key, setting in settings_of(type(spec)).items():
        value = getattr(spec, key)
        at = f"{path}.{key}".lstrip(".")
        if value == setting.default:
            continue
        for mark in marks_of(setting.kind):
            reason = _reason(recipe, mark.inputs, mark.outputs)
            if reason and (not mark.values or value in mark.values):
                named = f"{at}: {value}" if mark.values else at
                yield Irrelevant(at, f"`{named}` is for {reason}")
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Spec):
                yield from _of_another_kind(recipe, item, at)


def _shown(spec: Spec, tag: str, name: str) -> str:
    return f"{name}: {getattr(spec, tag)}" if tag else name


def _reason(recipe: Recipe, inputs: frozenset[InputKind], outputs: frozenset[OutputKind]) -> str:
    """Say what something is for, and what the recipe has instead; nothing where they agree.

    Args:
        recipe: the recipe.
        inputs: the kinds of input that it is for.
        outputs: the kinds of output that it is for.
    """
    taken, predicted = recipe.input_kind, recipe.output_kind
    if taken not in inputs:
        kinds = listed([kind.plural for kind in InputKind if kind in inputs])
        return f"{kinds}, and `task: {recipe.task}` takes {taken.plural}"
    if predicted not in outputs:
        kinds = listed([kind.noun for kind in OutputKind if kind in outputs])
        return f"predicting {kinds}, and `task: {recipe.task}` predicts {predicted.noun}"
    return ""


def _settled(recipe: Recipe) -> Iterator[Irrelevant]:
    """Find what the network brings along itself."""
    if not isinstance(recipe.model, Spec):
        return
    for path in recipe.model.settles:
        section, _, key = path.partition(".")
        spec = getattr(recipe, section)
        keys = [key] if key else list(settings_of(type(spec)))
        default = type(spec)()
        for name in keys:
            if getattr(spec, name) != getattr(default, name):
                tag, word = tag_of(type(recipe.model))
                model = "model.init" if tag == "init" else f"model: {word}"
                yield Irrelevant(
                    f"{section}.{name}",
                    f"`{section}.{name}` has no effect: `{model}` {recipe.model.settles_why}",
                    "model",
                )
