"""What the audit has to say of the data: one noun for what is likely wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from modelwright.data.listing import Rows
from modelwright.files import JsonObject, atomic_write

Severity = Literal["error", "warning", "note"]
LEAK = "leak"
_LISTED = 200
"""How many rows of a finding JSON lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is likely wrong."""

    kind: str
    severity: Severity
    rows: tuple[str, ...] = ()
    """The samples concerned, by origin."""
    others: tuple[str, ...] = ()
    """Of pairs, the other sample of each."""
    message: str
    fix: str = ""

    def to_json(self) -> JsonObject:
        """Return the finding as `check --json` prints it, with the first of very many samples."""
        rows, others = self.rows[:_LISTED], self.others[:_LISTED]
        return {**asdict(self), "rows": list(rows), "others": list(others)}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All findings of an audit."""

    findings: tuple[Finding, ...]
    near_test_rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows of the test split that closely resemble one of another split."""

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """Identical samples in two splits, of which one is measured."""
        return tuple(item for item in self.findings if item.kind == LEAK)


def as_errors(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings with leaks as what they are for a run: errors."""
    return tuple(
        replace(item, severity="error") if item.kind == LEAK else item for item in findings
    )


def origins_of(rows: Sequence[int], origins: Sequence[str]) -> tuple[str, ...]:
    """Return samples by their origins."""
    return tuple(origins[row] for row in rows)


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write findings as CSV: a line for each sample, or for each pair.

    Its columns are `kind`, `severity`, `sample`, `other` and `message`.
    """
    with atomic_write(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(["kind", "severity", "sample", "other", "message"])
        for item in findings:
            pairs = zip_longest(item.rows or ("",), item.others, fillvalue="")
            writer.writerows(
                [item.kind, item.severity, sample, other, item.message] for sample, other in pairs
            )
        text.flush()
        text.detach()


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "file"), counted(2000, "class")
    ('1 file', '2,000 classes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def shown_first(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many more there are.

    >>> shown_first(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
