"""Numbers as people write them: `1,5`, `1,500.0`, `$3`, `10 %`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 1e38
"""Networks compute in float32, where larger numbers are infinite."""
MISSING = frozenset({"", "nan", "null", "n/a", "#n/a", "<na>", "#na"})
"""How tables write that a cell holds nothing, in small letters."""
_SIGNS = "$€£¥￥₩₹元%"
_CURRENCY = re.compile(
    r"(?:CHF|EUR|USD|GBP|JPY|CNY|RMB|SEK|NOK|DKK|PLN|CZK|RUB|INR|KRW|BRL)\b\.?|Rs\."
)
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_GROUPED = re.compile(
    r"[+-]?\d{1,3}(?:([,. '’\u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?", re.ASCII
)
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ParsedNumbers:
    """The numbers of a column."""

    values: list[float | None]
    """`None` where a cell holds no finite number."""
    notes: tuple[str, ...] = ()
    """How cells were read that aren't written plainly."""


def is_missing(cell: Any) -> bool:
    """Say whether a cell holds nothing: it is empty, or says so, as `nan` does."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return isinstance(cell, str) and cell.strip().lower() in MISSING


def read_numbers(
    cells: Sequence[Any], column: str, *, is_comma_decimal: bool = False
) -> ParsedNumbers:
    """Read a column of numbers, each of its cells by the same rule.

    A sign of a currency or of per cent is left out. Where a comma stands alone, it is the decimal
    sign, unless three digits follow each comma of the column, as in `1,500`. A number in brackets
    is negative.

    Args:
        cells: numbers, or texts.
        column: the column's name, for the notes.
        is_comma_decimal: whether the comma is the decimal sign where the column leaves it open, as
            in tables whose cells a semicolon separates.
    """
    texts = [_bare(cell) for cell in cells if isinstance(cell, str)]
    written = [text for text in texts if text and not _PLAIN.fullmatch(text)]
    decimal, is_open = _decimal_sign(written)
    if is_open and is_comma_decimal:
        decimal = ","
    values = [_number(cell, decimal) for cell in cells]
    notes = []
    signs = Counter(
        sign for cell in cells if isinstance(cell, str) for sign in _SIGNS if sign in cell
    )
    if signs:
        shown = " and ".join(f"`{sign}`" for sign in signs)
        notes.append(f"Data: `{column}` is written with {shown}, which is left out of the numbers")
    example = next((text for text in written if _number(text, decimal) is not None), None)
    if example is not None:
        value = _number(example, decimal)
        other = ""
        if is_open:
            other = (
                "; where the comma separates thousands, write the numbers without it"
                if decimal == ","
                else "; where the comma is the decimal sign, write a point instead"
            )
        notes.append(
            f"Data: `{column}` is written as `{example}`, which is read as {value:g}{other}"
        )
    return ParsedNumbers(values, tuple(notes))


def _bare(text: str) -> str:
    stripped = text.strip()
    for sign in _SIGNS:
        stripped = stripped.replace(sign, "")
    stripped = _CURRENCY.sub("", stripped).strip().replace("\u2212", "-")
    if stripped.startswith("(") and stripped.endswith(")"):
        return f"-{stripped[1:-1].strip()}"  # As accountants write negative numbers.
    return stripped


def _decimal_sign(written: Sequence[str]) -> tuple[str, bool]:
    """Return the decimal sign of numbers that aren't written plainly, `.` or `,`.

    Beside it, whether it could be the comma as well: three digits follow each one, as in `1,500`.
    """
    for text in written:
        if "," in text and "." in text:
            return max(",.", key=text.rfind), False
    with_comma = [text for text in written if "," in text]
    are_grouped = all(
        _GROUPED.fullmatch(text) and not text.lstrip("+-").startswith("0") for text in with_comma
    )
    if not are_grouped:
        return ",", False
    # `1.500` is plain, but beside `1.500.000` its point separates thousands.
    many_points = any(text.count(".") > 1 for text in written)
    is_open = bool(with_comma) and all(text.count(",") == 1 for text in with_comma)
    return "," if many_points else ".", is_open


def _number(cell: Any, decimal: str) -> float | None:
    if isinstance(cell, bool) or cell is None:
        return None
    text = _bare(cell) if isinstance(cell, str) else cell
    if isinstance(text, str):
        if decimal == "," and not _COMMA.fullmatch(text) and not _GROUPED.fullmatch(text):
            pass
        elif _GROUPED.fullmatch(text) or (decimal == "," and _COMMA.fullmatch(text)):
            others = r"[.\s'’\u00a0\u202f]" if decimal == "," else r"[,\s'’\u00a0\u202f]"
            text = re.sub(others, "", text).replace(",", ".")
        if not _PLAIN.fullmatch(text):
            return None
    try:
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < LARGEST else None
