"""A recipe as text: settings with their comments, section by section."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a recipe."""

    key: str
    value: str | tuple[Setting, ...]
    """YAML on one line, or the settings below the key."""
    comment: str = ""
    """What stands behind it."""
    above: str = ""
    """What stands on a line of its own above it."""

    def lines(self, indent: str = "") -> list[str]:
        """Return it as lines of YAML."""
        before = [f"{indent}# {self.above}"] if self.above else []
        after = f"  # {self.comment}" if self.comment else ""
        if isinstance(self.value, str):
            return [*before, f"{indent}{self.key}: {self.value}{after}"]
        below = [line for setting in self.value for line in setting.lines(f"{indent}  ")]
        return [*before, f"{indent}{self.key}:{after}", *below]


def section(key: str, values: Mapping[str, Any]) -> Setting:
    """Return a section of plain values, without comments."""
    return Setting(key, tuple(Setting(name, _plain(name, item)) for name, item in values.items()))


def _plain(name: str, value: Any) -> str:
    if name == "source":  # A word of ours needs no quotes.
        return str(value)
    # JSON is YAML but for the characters that YAML doesn't take as they are.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)


def write_document(head: Sequence[str], settings: Sequence[Setting]) -> str:
    """Return a recipe, with comments at its head."""
    lines = [f"# {line}" for line in head]
    return "\n".join([*lines, *(line for item in settings for line in item.lines())]) + "\n"
