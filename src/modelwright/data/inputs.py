"""The kinds of input: what is different for each of them stands in its adapter."""

from __future__ import annotations

from typing import Any

from modelwright.data.adapters import InputAdapter
from modelwright.data.pixels import IMAGES
from modelwright.data.texts import TEXTS
from modelwright.data.waves import RECORDINGS
from modelwright.kinds import InputKind

INPUTS: dict[InputKind, InputAdapter[Any]] = {
    adapter.kind: adapter for adapter in (IMAGES, TEXTS, RECORDINGS)
}
