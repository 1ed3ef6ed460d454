"""Which settings go together: the rules on sealed data."""

from __future__ import annotations

from modelwright.recipe.recipe import Recipe
from modelwright.recipe.rule import Rule


def _without_files(recipe: Recipe) -> str:
    """Name a source of which no file is given that could be sealed."""
    return recipe.data.source if getattr(recipe.data, "path", None) is None else ""


SEALING_RULES: tuple[Rule, ...] = (
    Rule(
        ("data.sealed", "a source without data.path"),
        lambda r: r.data.sealed and _without_files(r),
        "`sealed: true` is for files of yours, and `source: {}` names none",
        "Give `data.path`, or leave `sealed` out",
        ("data.sealed",),
    ),
)
"""The pairs that can't work."""

SEALING_NOTES: tuple[Rule, ...] = (
    Rule(
        ("data.sealed", "the report"),
        lambda r: r.data.sealed,
        "The data is sealed: the report shows none of its samples, and `samples/` isn't written",
    ),
)
"""The pairs that work, but not as one might think."""
