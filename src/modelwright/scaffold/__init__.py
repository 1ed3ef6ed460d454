"""What some data is, and a recipe for it: the command `new`."""

from __future__ import annotations

from modelwright.scaffold.infer import guess_columns, guess_input, infer_task
from modelwright.scaffold.inferred import DataOptions, Inferred
from modelwright.scaffold.new import NewResult, Probes, new

__all__ = [
    "DataOptions",
    "Inferred",
    "NewResult",
    "Probes",
    "guess_columns",
    "guess_input",
    "infer_task",
    "new",
]
