"""The sections `evaluate` and `resources`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelwright.recipe.spec import Spec


class EvaluateSpec(Spec):
    """How the shipped file is measured."""

    baselines: bool = True
    """Also measure simple methods: the most frequent answer, a linear model of simple features."""
    latency: bool = True
    """Also measure time per prediction."""


class ResourcesSpec(Spec):
    """Where the run takes place; never part of what is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor; `auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processor threads; all cores where not said."""
