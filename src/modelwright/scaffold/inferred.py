"""What the user says of some data, and what is inferred of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelwright.kinds import InputKind
from modelwright.scaffold.columns import Settings

CLASSIFICATION = {
    InputKind.IMAGE: "image-classification",
    InputKind.TEXT: "text-classification",
    InputKind.AUDIO: "audio-classification",
}
SHOWN = 4
"""So many names or files are shown."""


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What the user says of the data."""

    input: str | None = None
    """The column of a table that is the input."""
    target: tuple[str, ...] = ()
    """The columns that are the target."""
    task: str | None = None
    kind: InputKind | None = None
    """What its samples are, where a model that exists says it."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """The inferred task and source of some data."""

    task: str
    data: Settings
    """The section `data` of its recipe."""
    notes: tuple[str, ...] = ()
    """What was seen, and taken for what."""
    choices: tuple[str, ...] = ()
    """What could be meant as well, and how to say so."""


def listed(names: Sequence[str]) -> str:
    """Return some names as code, the first of many."""
    shown = ", ".join(f"`{name}`" for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
