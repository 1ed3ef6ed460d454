"""What some data is, and a recipe for it: the command `new`."""

from __future__ import annotations

from modelwright.scaffold.infer import guess_columns
from modelwright.scaffold.new import NewResult, Trials, new

__all__ = ["NewResult", "Trials", "guess_columns", "new"]
