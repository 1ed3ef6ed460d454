"""modelwright: from data and limits to one proven model file.

    import modelwright as mw

    result = mw.run("recipe.yaml")
    model = mw.load("runs/recipe/model.mw")
    model.predict("cat.png")

Names load on first use, so that `import modelwright` stays quick and needs no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from modelwright.version import __version__ as __version__

if TYPE_CHECKING:
    from modelwright.errors import ModelwrightError
    from modelwright.modelfile import Model, load
    from modelwright.pipeline import RunResult, compress, evaluate, profile, run
    from modelwright.pipeline.check import CheckResult, check
    from modelwright.pipeline.fetching import FetchResult, fetch
    from modelwright.recipe import Recipe, load_recipe
    from modelwright.scaffold.new import NewResult, new

__all__ = [
    "CheckResult",
    "FetchResult",
    "Model",
    "ModelwrightError",
    "NewResult",
    "Recipe",
    "RunResult",
    "check",
    "compress",
    "evaluate",
    "fetch",
    "load",
    "load_recipe",
    "new",
    "profile",
    "run",
]

_HOMES = {
    "CheckResult": "pipeline",
    "FetchResult": "pipeline",
    "Model": "modelfile",
    "ModelwrightError": "errors",
    "NewResult": "scaffold",
    "Recipe": "recipe",
    "RunResult": "pipeline",
    "check": "pipeline",
    "compress": "pipeline",
    "evaluate": "pipeline",
    "fetch": "pipeline",
    "load": "modelfile",
    "load_recipe": "recipe",
    "new": "pipeline",
    "profile": "pipeline",
    "run": "pipeline",
}


class _Package(ModuleType):
    """This package, in which `run` is the function, whichever modules have been imported."""

    def __setattr__(self, name: str, value: object) -> None:
        # Python sets an imported module as an attribute of its package: here `modelwright.run`.
        if not (name == "run" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"modelwright.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'modelwright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
