"""What the benchmarks share: one JSON line, the processor's name, medians with their spread."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
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


def asked_recipes(words: str | None, names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Read the command line: return the recipes that it names, else the examples, and settings."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--quick", action="store_true", help="one epoch of few samples")
    arguments = parser.parse_args()
    real_data()
    quick = ["train.epochs=1", "data.limit=500"] if arguments.quick else []
    examples = Path(__file__).parents[1] / "examples"
    return arguments.recipes or [
        examples / f"{name}.yaml" for name in names
    ], arguments.settings + quick


def run_recipe(recipe: Path, settings: Sequence[str], *, out: Path) -> dict[str, Any]:
    """Run a recipe on the command line, in `out`/run, and return the line that it prints."""
    line = [sys.executable, "-m", "modelwright", "run", str(recipe), "--json", "--quiet"]
    line += ["--out", str(out), "--name", "run"]
    for setting in settings:
        line += ["--set", setting]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=False)
    result: dict[str, Any] = json.loads(done.stdout)
    if "metrics" not in result:  # 1 also means that a target was missed, which the result tells.
        raise SystemExit(done.returncode)
    return result
