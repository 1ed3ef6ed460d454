"""The cells of a table as text: the one form in which sources hand labels and texts on."""

from __future__ import annotations

import json
import re
from typing import Any

_ADDRESS = re.compile(r"\s*(https?|ftp|s3|gs)://", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Say whether a cell is the address of a file elsewhere, which isn't fetched.

    >>> is_address("https://example.org/cat.png"), is_address("cats/1.png")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


def cell_text(value: Any) -> str:
    """Return a cell as text: empty where there is nothing, whole numbers without a point.

    >>> cell_text(3.0), cell_text(None), cell_text("a")
    ('3', '', 'a')
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def joined_text(value: Any) -> str:
    """Return a cell as text, where it may be a text that comes sentence by sentence, or boxes."""
    if value and are_texts(value):
        return " ".join(value)
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return json.dumps(value, default=str)  # Boxes.
    return cell_text(value)


def are_texts(value: Any) -> bool:
    """Say whether a cell is a list of texts, or an empty list."""
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
