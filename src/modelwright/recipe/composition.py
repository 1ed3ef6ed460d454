"""Pairs of features, judged here and nowhere else."""

from __future__ import annotations

from modelwright.recipe.recipe import Recipe


def check_composition(recipe: Recipe) -> list[str]:
    """Return notes."""
    return []
