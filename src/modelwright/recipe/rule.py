"""A rule on one pair of settings, and what the rules ask of a recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from modelwright.recipe.model import InitModel
from modelwright.recipe.networks import CnnModel
from modelwright.recipe.recipe import Recipe

_SETTING = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")


@dataclass(frozen=True, slots=True)
class Rule:
    """One pair of features and what becomes of it."""

    pair: tuple[str, str]
    applies: Callable[[Recipe], str | bool]
    """Whether the pair stands in a recipe; a text says so too, and fills the `{}` of the message
    and of the fix."""
    message: str
    """What is wrong, or what happens."""
    fix: str = ""
    at: tuple[str, ...] = ()
    """The settings that an error points at, the likeliest first; by default those of the pair."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that an error points at."""
        named = (text.partition(":")[0] for text in self.pair)
        return self.at or tuple(
            name
            for name in named
            if _SETTING.fullmatch(name) and name.partition(".")[0] in Recipe.model_fields
        )


def network_of(recipe: Recipe) -> object:
    """Return the network that is meant, where the recipe alone decides it."""
    if recipe.model == "auto" and recipe.task == "image-classification":
        return CnnModel(name="cnn")
    return recipe.model


def sides_of(recipe: Recipe) -> tuple[int, ...]:
    """Return the height and width of the input; nothing where the recipe alone doesn't decide."""
    size = recipe.transforms.size
    if isinstance(size, tuple):
        return size
    if isinstance(size, int):
        return size, size
    if isinstance(recipe.model, InitModel):
        return ()  # The model file's own.
    usual = None if recipe.model == "auto" else recipe.model.usual_side
    side = usual or recipe.data.side
    return () if side is None else (side, side)


def has_split(recipe: Recipe, name: str) -> bool:
    """Say whether there may be such a split; a folder may come with its own."""
    return name in recipe.data.own_splits or bool(getattr(recipe.data.split, name))
