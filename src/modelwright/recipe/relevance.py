"""The one check that refuses a setting which has no effect on this kind of prediction.

Sections say which kinds they are for by `inputs` and `outputs`, settings by `For`, and networks by
`settles` which settings they bring along. A setting at its default is no fault: a recipe with every
default written out says the same as one without.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from modelwright.errors import RecipeError
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.schema import kinds_phrase, settings_of, tag_of
from modelwright.recipe.spec import Spec
from modelwright.recipe.train import TrainSpec


def check_relevance(recipe: Recipe) -> None:
    """Refuse the first setting of a recipe that has no effect.

    Raises:
        RecipeError: there is one.
    """
    for error in itertools.chain(_of_another_kind(recipe, recipe, ""), _settled(recipe)):
        raise error


def _error(recipe: Recipe, path: str, why: str, *, decided_by: str = "task") -> RecipeError:
    fix = f"Leave it out, or look at `{decided_by}`"
    return RecipeError(why, where=recipe.place_of(path), fix=fix)


def _of_another_kind(recipe: Recipe, spec: Spec, path: str) -> Iterator[RecipeError]:
    """Find sections, settings and values that are for other kinds of prediction."""
    tag, word = tag_of(type(spec))
    reason = _reason(recipe, spec.inputs, spec.outputs)
    if reason:
        name, value = (f"{path}.{tag}", f": {word}") if tag else (path, "")
        yield _error(recipe, name, f"`{name}{value}` is for {reason}")
        return
    for key, setting in settings_of(type(spec)).items():
        value = getattr(spec, key)
        at = f"{path}.{key}".lstrip(".")
        if value == setting.default:
            continue
        for mark in setting.marks:
            reason = _reason(recipe, mark.inputs, mark.outputs)
            if reason and (not mark.values or value in mark.values):
                shown = f"{at}: {value}" if mark.values else at
                yield _error(recipe, at, f"`{shown}` is for {reason}")
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Spec):
                yield from _of_another_kind(recipe, item, at)


def _reason(recipe: Recipe, inputs: Collection[InputKind], outputs: Collection[OutputKind]) -> str:
    """Say for which kinds something is, and what the recipe has instead; empty where they agree."""
    input_kind, output_kind = recipe.input_kind, recipe.output_kind
    if input_kind not in inputs:
        return f"{kinds_phrase(inputs)}, and `task: {recipe.task}` takes {input_kind.plural}"
    if output_kind not in outputs:
        kinds = kinds_phrase(outputs=outputs)
        return f"{kinds}, and `task: {recipe.task}` predicts {output_kind.noun}"
    return ""


def _settled(recipe: Recipe) -> Iterator[RecipeError]:
    """Find what the network brings along itself."""
    if not isinstance(recipe.model, Spec):
        return
    tag, word = tag_of(type(recipe.model))
    model = "model.init" if tag == "init" else f"model: {word}"
    for path in recipe.model.own_settles:
        section, _, key = path.partition(".")
        spec = getattr(recipe, section)
        # With what its validators make of a section that isn't written. Under a budget `epochs` is
        # none, and nobody asked for that.
        written = {"budget": spec.budget} if isinstance(spec, TrainSpec) else {}
        default = type(spec).model_validate(written)
        for name in [key] if key else settings_of(type(spec)):
            if getattr(spec, name) != getattr(default, name):
                at = f"{section}.{name}"
                why = f"`{at}` has no effect: `{model}` {recipe.model.settles_why}"
                yield _error(recipe, at, why, decided_by="model")
