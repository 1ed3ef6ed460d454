"""What every section of a recipe shares: strict, frozen, each field with its sentence."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from modelwright.kinds import ANY_INPUT, ANY_OUTPUT, InputKind, OutputKind

IMAGES = (InputKind.IMAGE,)
TEXTS = (InputKind.TEXT,)
AUDIO = (InputKind.AUDIO,)

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)\s*$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """What a type of setting is called, where its Python type says too little."""

    words: str
    pattern: str = ""
    """A regular expression of its text, for the JSON Schema."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the pattern to the type's own schema."""
        schema = handler(core)
        return {**schema, "pattern": self.pattern} if self.pattern else schema


@dataclass(frozen=True, slots=True)
class For:
    """Marks a setting, or some of its values, as having an effect for some kinds only.

    `relevance.check_relevance` refuses a recipe that sets it for another kind.
    """

    inputs: Collection[InputKind] = ANY_INPUT
    outputs: Collection[OutputKind] = ANY_OUTPUT
    values: tuple[object, ...] = ()
    """The values that this holds for; all but the default where none is named."""


@dataclass(frozen=True, slots=True)
class Rare:
    """Marks a setting that few recipes need: the reference lists it last."""


class Spec(BaseModel):
    """A section of the recipe: unknown keys are refused, and nothing changes after reading."""

    inputs: ClassVar[Collection[InputKind]] = ANY_INPUT
    """The kinds of input that this section is for."""
    outputs: ClassVar[Collection[OutputKind]] = ANY_OUTPUT
    """The kinds of output that this section is for."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


def seconds(duration: str) -> float:
    """Return a duration such as `90s`, `10m`, `1.5h` or `2d` in seconds.

    >>> seconds("10m")
    600.0

    Raises:
        ValueError: it isn't a duration.
    """
    match = _DURATION.match(duration)
    if not match or float(match[1]) == 0:
        raise ValueError(f"{duration!r} is not a duration; write 90s, 10m, 1.5h or 2d")
    return float(match[1]) * _SECONDS[match[2]]


def _check_duration(value: str) -> str:
    seconds(value)
    return value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Duration = Annotated[
    str,
    AfterValidator(_check_duration),
    TypeDescription("a duration such as `90s`, `10m`, `1.5h` or `2d`", _DURATION.pattern),
]
FromList = BeforeValidator(_as_tuple)
"""Lets a YAML list stand for a tuple field, which strict mode would refuse."""
