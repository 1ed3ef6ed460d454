"""Which settings go together: one table of pairs, judged here and nowhere else.

A pair is *refused* where one setting makes the other impossible or void, and *said* where both work
but not as one might think. What needs the data or the network to be known (a pattern that matches
no parameter, a class without samples) is refused by the room that knows.
"""

from __future__ import annotations

from modelwright.errors import RecipeError
from modelwright.recipe.distillation_rules import DISTILLATION_NOTES, DISTILLATION_RULES
from modelwright.recipe.image_rules import IMAGE_RULES
from modelwright.recipe.measuring_rules import MEASURING_NOTES, MEASURING_RULES
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.relevance import check_relevance
from modelwright.recipe.rule import Rule
from modelwright.recipe.sealing_rules import SEALING_NOTES, SEALING_RULES
from modelwright.recipe.training_rules import TRAINING_NOTES, TRAINING_RULES

REFUSED = (*TRAINING_RULES, *IMAGE_RULES, *MEASURING_RULES, *DISTILLATION_RULES, *SEALING_RULES)
"""The pairs that can't work."""
SAID = (*TRAINING_NOTES, *MEASURING_NOTES, *DISTILLATION_NOTES, *SEALING_NOTES)
"""The pairs that work, but not as one might think."""


def check_composition(recipe: Recipe) -> list[str]:
    """Judge a recipe; return a sentence for each pair that works otherwise than it reads.

    Raises:
        RecipeError: a setting has no effect, or a pair of settings is impossible.
    """
    check_relevance(recipe)
    for rule in REFUSED:
        if detail := rule.applies(recipe):
            message = rule.message.format(detail)
            place = _place(recipe, rule, message)
            raise RecipeError(message, where=place, fix=rule.fix.format(detail))
    return [
        ". ".join(part for part in (rule.message.format(detail), rule.fix) if part)
        for rule in SAID
        if (detail := rule.applies(recipe))
    ]


def _place(recipe: Recipe, rule: Rule, message: str) -> str:
    """Return the line of the first setting of the rule that was written down."""
    likely = list(rule.settings)
    if "targets" in rule.settings:
        likely = [f"targets.{name}" for name in recipe.targets if f"`{name}" in message] + likely
    return recipe.place_of(next(filter(recipe.has_place, likely), likely[0]))


def composition_reference() -> str:
    """Return the table of pairs as Markdown."""
    lines = [
        "| together | with | verdict | what is said | way out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for verdict, rules in (("refused", REFUSED), ("said", SAID)):
        for rule in rules:
            cells = (*rule.pair, verdict, rule.message.format("…"), rule.fix.format("…"))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
