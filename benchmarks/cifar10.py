"""CIFAR-10: accuracy and training time of a recipe, mean over seeds.

Trains on all 50,000 images with the recipe's schedule, fixed beforehand. Each seed uses the test
set twice, at the end: with the file's views and, as the reference, without. Both are counted.

    python benchmarks/cifar10.py                                      # examples/cifar10.yaml
    python benchmarks/cifar10.py --seeds 10 --set train.precision=bf16 --set train.compile=on  # GPU

The runs go through the command line, which sets the allocator; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring import real_data, tell
from modelwright import modelfile
from modelwright.data import labelled_split
from modelwright.evaluation import record_access
from modelwright.metrics import accuracy
from modelwright.run import silent

_ALL = ["data.split.val=0", "train.select=last", "evaluate.latency=false", "targets={}"]
"""No validation: every image is trained on, and nothing is chosen."""


def train(recipe: Path, out: Path, *, seed: int, settings: list[str]) -> dict[str, Any]:
    """Run the recipe with one seed, and return what it printed and how long training took."""
    name = f"seed-{seed}"
    line = [sys.executable, "-m", "modelwright", "run", str(recipe), "--json", "--quiet"]
    line += ["--out", str(out), "--name", name, "--set", f"seed={seed}"]
    for setting in [*_ALL, "evaluate.baselines=false", *settings]:
        line += ["--set", setting]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    lines = (out / name / "stages/train/metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    return {**json.loads(done.stdout), "training_s": last["seconds"], "epochs": last["epoch"]}


def without_views(model: Path) -> tuple[float, int]:
    """Return the test accuracy of the same weights without test-time averaging, in torch.

    And how often the test set has been used by now, here and by runs.
    """
    candidate = modelfile.rebuild(model)
    shape = modelfile.load(model).input
    samples, _, _, digests = labelled_split(
        Path("cifar10"), input=shape, labels=candidate.labels, observe=silent
    )
    found = []
    with torch.inference_mode():
        for start in range(0, len(samples), 500):
            pixels = torch.from_numpy(samples.gather(slice(start, start + 500)))
            found.append(candidate.network(pixels).numpy())
    opened = record_access(digests, run=f"without views {model}", model=f"without views {model}")
    return accuracy(np.concatenate(found), samples.targets), opened.count


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=Path("examples/cifar10.yaml"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--quick", action="store_true", help="one seed, a tenth of an epoch")
    arguments = parser.parse_args()
    real_data()
    settings = [*arguments.settings, *(["train.epochs=0.1"] if arguments.quick else [])]
    runs, plain = [], []
    with tempfile.TemporaryDirectory() as aside:
        for seed in range(1 if arguments.quick else arguments.seeds):
            result = train(arguments.recipe, Path(aside), seed=seed, settings=settings)
            runs.append(result)
            score, looks = without_views(Path(result["model"]))
            plain.append(score)
            print(json.dumps({"seed": seed, **_short(result), "none": plain[-1]}), file=sys.stderr)
    views = [run["metrics"]["accuracy"]["value"] for run in runs]
    seconds = [run["training_s"] for run in runs]
    tell(
        "cifar10",
        recipe=arguments.recipe.name,
        accuracy=round(statistics.mean(views), 5),
        accuracy_by_seed=views,
        deviation=round(statistics.stdev(views), 5) if len(views) > 1 else None,
        reference={"without_views": round(statistics.mean(plain), 5), "by_seed": plain},
        ratio=round(statistics.mean(views) / statistics.mean(plain), 5),
        test_set_used=looks,
        training_s=round(statistics.mean(seconds), 1),
        images_per_s=round(50_000 * runs[0]["epochs"] / statistics.mean(seconds), 1),
        target="accuracy >= 0.940 (0.930 without views), training_s <= 900",
    )


def _short(result: dict[str, Any]) -> dict[str, float]:
    return {"six": result["metrics"]["accuracy"]["value"], "training_s": result["training_s"]}


if __name__ == "__main__":
    main()
