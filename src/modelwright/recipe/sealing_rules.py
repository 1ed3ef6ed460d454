"""Which settings go together: the rules on sealed data."""

from __future__ import annotations

from modelwright.kinds import OutputKind
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.rule import Rule


def _without_files(recipe: Recipe) -> str:
    """Name a source of which no file is given that could be sealed."""
    return recipe.data.source if getattr(recipe.data, "path", None) is None else ""


def _by_name(recipe: Recipe) -> str:
    """Name a source that finds what belongs together by the names of files."""
    is_transcripts = recipe.data.source == "folder" and recipe.output_kind == OutputKind.CTC
    return recipe.data.source if recipe.data.source == "boxes" or is_transcripts else ""


SEALING_RULES: tuple[Rule, ...] = (
    Rule(
        ("data.sealed", "a source without data.path"),
        lambda r: r.data.sealed and _without_files(r),
        "`sealed: true` is for files of yours, and `source: {}` names none",
        "Give `data.path`, or leave `sealed` out",
        ("data.sealed",),
    ),
    Rule(
        ("data.sealed", "files that belong together by name"),
        lambda r: r.data.sealed and _by_name(r),
        "`source: {}` finds labels by the names of files, and sealed files aren't read so yet",
        "Put paths and labels into a table and use `source: table`, where that can be",
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
