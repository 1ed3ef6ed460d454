"""The recipe: the strict, typed document in which all that a run is asked for stands."""

from __future__ import annotations

from modelwright.recipe.composition import check_composition
from modelwright.recipe.reading import load_recipe, parse_recipe
from modelwright.recipe.recipe import Recipe

__all__ = ["Recipe", "check_composition", "load_recipe", "parse_recipe"]
