"""What some data is, and a recipe for it: the command `new`."""

from __future__ import annotations

from modelwright.scaffold.infer import (
    Hints,
    Inferred,
    guess_columns,
    guess_input,
    infer_task,
)
from modelwright.scaffold.new import NewResult, Trials, new

__all__ = [
    "Hints",
    "Inferred",
    "NewResult",
    "Trials",
    "guess_columns",
    "guess_input",
    "infer_task",
    "new",
]
