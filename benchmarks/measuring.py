"""What the benchmarks share: one JSON line, the processor's name, medians with their spread."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelwright.evaluation import hardware


def tell(benchmark: str, **figures: Any) -> None:
    """Print one JSON line: the figures, and the processor that they hold for."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    print(json.dumps({"benchmark": benchmark, **figures, "hardware": hardware(), "load": load}))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median of some values, with the smallest and the largest."""
    return {
        "median": round(statistics.median(values), 6),
        "low": round(min(values), 6),
        "high": round(max(values), 6),
        "n": len(values),
    }


def real_data() -> Path:
    """Return the folder of real data, or end with words."""
    held = os.environ.get("MODELWRIGHT_DATA")
    if not held:
        raise SystemExit("MODELWRIGHT_DATA names no folder with the real data (cifar10/ in it)")
    return Path(held)
