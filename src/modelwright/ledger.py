"""The evidence record, and the append-only list of them.

Every figure that the project shows (an accuracy, a latency, a size) is an `Evidence`: what was
measured, on which data, by which method, on which machine, and of which model digest it speaks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from modelwright.files import canonical_json

Basis = Literal["measured", "derived", "attested"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One claim and what bears it out.

    `low` and `high` bound the value with 95 % confidence; a figure that isn't sampled has
    `low == high == value` and `n == 1`.
    """

    metric: str
    """The field's name, with its unit: `accuracy`, `latency_p95_ms`, `size_bytes`."""
    value: float
    low: float
    high: float
    n: int
    """How many samples it was measured on."""
    method: str
    """How it was measured, and how the interval was made."""
    model: str = ""
    """The model digest it speaks of."""
    subject: str = "model"
    """`model`, or what it is compared with: `baseline:majority`."""
    slice: str = ""
    """The part of the samples: empty for all, else as `label=cat`."""
    split: Literal["test", "validation", "train", ""] = ""
    """The split it was measured on; empty where none plays a part."""
    data: str = ""
    """The fingerprint of the samples."""
    hardware: str = ""
    """The processor, where the figure depends on it."""
    runtime: str = ""
    """The runtime, its version and its threads, where the figure depends on them."""
    threads: int = 0
    """Processor threads used; 0 where they play no part."""
    basis: Basis = "measured"
    artefacts: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Digests of what shows more of it, by the names of members of the model file: pictures."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Evidence:
        """Read a record; keys of a later version are passed over.

        Raises:
            TypeError: it isn't one, or a figure or a text of it is something else.
        """
        known = {item.name for item in fields(Evidence)}
        evidence = Evidence(**{key: item for key, item in value.items() if key in known})
        for key, item in asdict(evidence).items():
            if not _IS_RIGHT.get(key, _is_text)(item):
                raise TypeError(f"`{key}` of a record is {item!r:.40}")
        return evidence


def exact(metric: str, value: float, *, method: str, **context: Any) -> Evidence:
    """Return evidence of a figure that isn't sampled, such as a size."""
    return Evidence(
        metric=metric, value=value, low=value, high=value, n=1, method=method, **context
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_figure(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _is_table_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_IS_RIGHT: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("value", "low", "high", "n", "threads"), _is_figure),
    "artefacts": _is_table_of_texts,
}
"""What the fields of a record hold where it isn't text."""


class Ledger:
    """An append-only list of evidence."""

    def __init__(self, records: Iterable[Evidence] = ()) -> None:
        self._records = list(records)

    def __iter__(self) -> Iterator[Evidence]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def append(self, evidence: Evidence) -> None:
        """Add one record."""
        self._records.append(evidence)

    def extend(self, records: Iterable[Evidence]) -> None:
        """Add several records."""
        self._records.extend(records)

    def find(self, metric: str, *, subject: str = "model", slice: str = "") -> Evidence | None:
        """Return the newest record of a metric, test evidence before validation evidence."""
        records = [
            record
            for record in self._records
            if (record.metric, record.subject, record.slice) == (metric, subject, slice)
        ]
        tested = [record for record in records if record.split in ("test", "")]
        chosen = tested or records
        return chosen[-1] if chosen else None

    def to_bytes(self) -> bytes:
        """Return the ledger as canonical JSON lines, as `ledger.jsonl` holds them."""
        return b"".join(canonical_json(record.to_json()) + b"\n" for record in self._records)
