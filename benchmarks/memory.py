"""The most memory that a whole run on CIFAR-10 holds, and its training's time: both as forecast?

python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import real_data, tell


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="examples/cifar10.yaml")
    parser.add_argument("--quick", action="store_true", help="0.05 epochs")
    arguments = parser.parse_args()
    real_data()
    settings = [f"train.epochs={0.05 if arguments.quick else 1}", "targets={}"]
    # The smaller sizes come first and need less: the memory is that of the full size.
    settings += ["train.resolution=[]"]
    line = [sys.executable, "-m", "modelwright"]
    changes = [part for setting in settings for part in ("--set", setting)]
    checked = subprocess.run(
        [*line, "check", arguments.recipe, "--json", "--quiet", *changes],
        stdout=subprocess.PIPE,
        check=False,
    )
    forecast = json.loads(checked.stdout)["forecast"]
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(
            [*line, "run", arguments.recipe, "--quiet", "--out", aside, "--name", "run", *changes],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        history = (Path(aside) / "run/stages/train/metrics.jsonl").read_text().splitlines()
    training_s = json.loads(history[-1])["seconds"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    tell(
        "memory",
        peak_gib=round(peak / 2**30, 3),
        training_s=round(training_s, 1),
        reference={
            "forecast_gib": round(forecast["memory_bytes"] / 2**30, 3),
            "forecast_s": round(forecast["training_s"], 1),
        },
        ratio=round(peak / forecast["memory_bytes"], 3),
        time_ratio=round(training_s / forecast["training_s"], 3),
        target="peak_gib <= 3",
    )


if __name__ == "__main__":
    main()
