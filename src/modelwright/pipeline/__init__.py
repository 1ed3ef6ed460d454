"""The order in which a recipe becomes a model file, and the shorter walks beside it.

`new` writes a recipe for some data; `run` is the whole way; `check` looks without training;
`compress` makes a finished file smaller; `profile` measures the machine that will serve;
`fetch` downloads beforehand what it needs from a hub; `evaluate` measures a file on other data;
`audit_extraction` measures how easily it is copied; `layers` shows the network that a recipe
builds.
"""

from __future__ import annotations

from modelwright.pipeline.check import CheckResult, check, layers
from modelwright.pipeline.extracting import audit_extraction
from modelwright.pipeline.fetching import FetchResult, fetch
from modelwright.pipeline.hosts import profile
from modelwright.pipeline.measuring import evaluate
from modelwright.pipeline.new import new
from modelwright.pipeline.result import RunResult
from modelwright.pipeline.running import compress, run

__all__ = [
    "CheckResult",
    "FetchResult",
    "RunResult",
    "audit_extraction",
    "check",
    "compress",
    "evaluate",
    "fetch",
    "layers",
    "new",
    "profile",
    "run",
]
