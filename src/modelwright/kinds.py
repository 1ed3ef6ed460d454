"""What can be predicted from what: the kinds of input.

This module imports nothing heavy, because predicting needs it.
"""

from __future__ import annotations

from enum import StrEnum


class InputKind(StrEnum):
    """What one sample is."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"

    @property
    def plural(self) -> str:
        """The word for several samples, for messages."""
        return f"{self}s"

    @property
    def noun(self) -> str:
        """The word for one sample, for messages."""
        return str(self)
