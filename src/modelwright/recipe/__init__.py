"""The recipe: the strict, typed document in which all that a run is asked for stands.

The sections are in `data`, `preparation`, `networks`, `model`, `train`, `inference` and `targets`;
`reading` makes a `Recipe` of a text, `composition` judges pairs of settings, `reference` writes the
whole of it out.
"""

from __future__ import annotations

from modelwright.recipe.composition import check_composition, composition_reference
from modelwright.recipe.reading import Draft, load_recipe, parse_recipe
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.reference import (
    json_schema,
    recipe_reference,
    render_config,
    settings_reference,
)

__all__ = [
    "Draft",
    "Recipe",
    "check_composition",
    "composition_reference",
    "json_schema",
    "load_recipe",
    "parse_recipe",
    "recipe_reference",
    "render_config",
    "settings_reference",
]
