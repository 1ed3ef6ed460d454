"""The sections `evaluate`, `targets` and `resources`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelwright.recipe.spec import Kind, Spec

_TARGET = re.compile(r"^\s*(>=|<=|>|<)\s*([0-9][0-9_]*(?:\.[0-9_]+)?(?:[eE][-+]?\d+)?)\s*$")


class EvaluateSpec(Spec):
    """How the shipped file is measured."""

    views: Literal["none", "flip", 6] = "none"
    """Test-time averaging: the image alone, with its mirror image, or six shifted and mirrored views."""
    baselines: bool = True
    """Also measure simple models: majority, nearest centroid, hand-crafted features."""
    latency: bool = True
    """Also measure time per prediction."""


def parse_target(target: str) -> tuple[str, float]:
    """Split a target such as `>= 0.93` into its comparison and its bound.

    >>> parse_target("<= 3_000_000")
    ('<=', 3000000.0)

    Raises:
        ValueError: it isn't a comparison and a number.
    """
    match = _TARGET.match(target)
    if not match:
        raise ValueError(f'{target!r} is not a target; write a comparison and a number: ">= 0.93"')
    return match[1], float(match[2].replace("_", ""))


def _check_target(target: str) -> str:
    parse_target(target)
    return target


Target = Annotated[
    str,
    AfterValidator(_check_target),
    Kind('a comparison and a number in quotes, such as `">= 0.93"`'),
]


class ResourcesSpec(Spec):
    """Where the run takes place; never part of what is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor; `auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processor threads; all cores where not said."""
