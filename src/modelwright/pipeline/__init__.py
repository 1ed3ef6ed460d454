"""The order in which a recipe becomes a model file, and the shorter walks beside it.

`run` is the whole way; `check` looks without training; `evaluate` measures a file on other data;
`new` looks at data and writes a recipe; `layers` shows the network that a recipe builds.
"""

from __future__ import annotations

from modelwright.pipeline.looking import CheckResult, NewResult, check, layers, new
from modelwright.pipeline.measuring import evaluate
from modelwright.pipeline.result import RunResult
from modelwright.pipeline.running import run

__all__ = ["CheckResult", "NewResult", "RunResult", "check", "evaluate", "layers", "new", "run"]
