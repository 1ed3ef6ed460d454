"""The evidence record, and the append-only list of them.

Every figure that the project shows (an accuracy, a latency, a size) is an `Evidence`: what was
measured, on which data, by which method, on which machine, and of which model digest it speaks.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from modelwright.files import JsonObject, canonical_json


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
    basis: Literal["measured", "derived", "attested"] = "measured"
    artefacts: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Digests of what shows more of it, by the names of members of the model file: pictures."""

    def to_json(self) -> JsonObject:
        """Return the record as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: JsonObject) -> Evidence:
        """Read a record; keys of a later version are passed over.

        Raises:
            TypeError: a field is missing, or holds a value of another type.
        """
        known = {item.name for item in fields(Evidence)}
        evidence = Evidence(**{key: item for key, item in value.items() if key in known})
        for key, item in asdict(evidence).items():
            if not _has_valid_type(key, item):
                raise TypeError(f"`{key}` of a record is {item!r:.40}")
        return evidence


def exact(metric: str, value: float, *, method: str, **context: Any) -> Evidence:
    """Return evidence of a figure that isn't sampled, such as a size."""
    return Evidence(
        metric=metric, value=value, low=value, high=value, n=1, method=method, **context
    )


def _has_valid_type(key: str, value: object) -> bool:
    """Say whether a value read from a file is of the kind that this field holds."""
    if key in ("value", "low", "high", "n", "threads"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return abs(value) <= sys.float_info.max
    if key == "artefacts":
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    return isinstance(value, str)


class Ledger(list[Evidence]):
    """A list of evidence, the newest last; records are only added."""

    def find(self, metric: str, *, subject: str = "model", slice: str = "") -> Evidence | None:
        """Return the newest record of a metric, test evidence before validation evidence."""
        records = [
            record
            for record in self
            if (record.metric, record.subject, record.slice) == (metric, subject, slice)
        ]
        tested = [record for record in records if record.split in ("test", "")]
        return next(reversed(tested or records), None)

    def to_bytes(self) -> bytes:
        """Return the ledger as canonical JSON lines, as `ledger.jsonl` holds them."""
        return b"".join(canonical_json(record.to_json()) + b"\n" for record in self)
