"""modelwright: from data and limits to one proven model file.

    import modelwright as mw

    result = mw.run("recipe.yaml")
    model = mw.load("runs/recipe/model.mw")
    model.predict("cat.png")

Names load on first use, so that `import modelwright` stays quick and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from modelwright.version import __version__ as __version__

if TYPE_CHECKING:
    from modelwright.errors import ModelwrightError
    from modelwright.modelfile import Model, load
    from modelwright.pipeline import RunResult, run
    from modelwright.pipeline.check import check
    from modelwright.recipe import Recipe, load_recipe

__all__ = [
    "Model",
    "ModelwrightError",
    "Recipe",
    "RunResult",
    "check",
    "load",
    "load_recipe",
    "run",
]

_HOMES = {
    "Model": "modelfile",
    "ModelwrightError": "errors",
    "Recipe": "recipe",
    "RunResult": "pipeline",
    "check": "pipeline",
    "load": "modelfile",
    "load_recipe": "recipe",
    "run": "pipeline",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"modelwright.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'modelwright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
