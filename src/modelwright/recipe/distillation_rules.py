"""Which settings go together: the rules on learning from another network."""

from __future__ import annotations

from modelwright.recipe.compression import DistillStep
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.rule import Rule


def _learns_from_itself(recipe: Recipe) -> bool:
    first = next(iter(recipe.steps), None)
    return isinstance(first, DistillStep) and first.teacher is None and first.student is None


DISTILLATION_RULES: tuple[Rule, ...] = (
    Rule(
        ("data.unlabelled", "no step distill"),
        lambda r: (
            r.data.unlabelled_path is not None
            and r.compress != "auto"
            and not any(isinstance(step, DistillStep) for step in r.steps)
        ),
        "`data.unlabelled` has no effect: only the step `distill` learns from samples without "
        "labels",
        "Add the step `distill` to `compress`, or leave `unlabelled` out",
    ),
    Rule(
        ("data.unlabelled", "augment.mixup or cutmix"),
        lambda r: r.data.unlabelled_path is not None and bool(r.augment.mixup or r.augment.cutmix),
        "MixUp and CutMix mix the targets of samples, and those of `data.unlabelled` have none",
        "Leave `mixup` and `cutmix` out, or `unlabelled`",
        ("augment.mixup", "augment.cutmix", "data.unlabelled"),
    ),
    Rule(
        ("compress: distill first", "neither teacher nor student"),
        _learns_from_itself,
        "`distill` as the first step has a network learn from itself",
        "Name a `teacher`, or a `student` that learns from the network",
        ("compress",),
    ),
)
"""The pairs that can't work."""

DISTILLATION_NOTES: tuple[Rule, ...] = (
    Rule(
        ("compress: distill", "both teacher and student"),
        lambda r: any(
            isinstance(step, DistillStep) and step.teachers and step.student is not None
            for step in r.steps
        ),
        "Where `distill` names a `teacher` and a `student`, the network before it is only what the "
        "student is compared with",
    ),
)
"""The pairs that work, but not as one might think."""
