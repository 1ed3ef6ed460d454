"""What some data is, and a recipe for it: the command `new`."""

from __future__ import annotations

from modelwright.scaffold.infer import guess_columns, guess_input
from modelwright.scaffold.new import NewResult, new

__all__ = ["NewResult", "guess_columns", "guess_input", "new"]
