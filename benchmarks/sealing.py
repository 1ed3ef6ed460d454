"""What sealing costs: a sealed model of 100 MB that answers, and sealed data that is trained on.

The reference is the same file and the same images unsealed, measured by turns in the same run: the
whole command `modelwright predict`, start included, and steps of the training loop.

    python benchmarks/sealing.py
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from loop import MEAN, STD, our_blocks
from measuring import real_data, run_recipe, spread, tell
from modelwright.data import Split, prepare
from modelwright.models import build
from modelwright.recipe import parse_recipe
from modelwright.recipe.networks import CnnModel
from modelwright.run import silent
from modelwright.security.sealing import (
    ENVIRONMENT,
    create_identity_file,
    read_recipients,
    seal_path,
)

WIDE = """\
version: 1
data: {{source: digits}}
model: {{name: mlp, hidden: [{width}, {width}]}}
train: {{epochs: 1}}
evaluate: {{baselines: false, latency: false}}
"""


def predicting(place: Path, public: str, *, width: int, count: int) -> None:
    """Print how much longer `predict` takes with a sealed model."""
    recipe = place / "wide.yaml"
    recipe.write_text(WIDE.format(width=width))
    plain = Path(run_recipe(recipe, (), out=place)["model"])
    sealed = seal_path(plain, read_recipients([public]))
    sample = min((plain.parent / "samples").glob("*.png"))
    times: dict[str, list[float]] = {"plain": [], "sealed": []}
    for number in range(count + 1):
        for name, model in (("plain", plain), ("sealed", sealed)):
            line = [sys.executable, "-m", "modelwright", "predict", str(model), str(sample)]
            begun = time.perf_counter()
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
            if number:  # The first call warms the files.
                times[name].append(time.perf_counter() - begun)
    tell(
        "sealing: predict",
        file_bytes=plain.stat().st_size,
        sealed_s=spread(times["sealed"]),
        reference={"plain_s": spread(times["plain"])},
        more_s=round(statistics.median(times["sealed"]) - statistics.median(times["plain"]), 4),
        target="more_s <= 0.5 at 100 MB",
    )


def write_images(folder: Path, count: int | None) -> Path:
    """Write CIFAR-10, or its first images, as the source takes it."""
    folder.mkdir()
    for split in ("train", "test"):
        table = pq.read_table(real_data() / "cifar10" / f"{split}.parquet")
        pq.write_table(
            table if count is None else table.slice(0, count), folder / f"{split}.parquet"
        )
    return folder


def training_split(path: Path, **more: Any) -> tuple[Split, float]:
    """Return the training images of a recipe as the loop takes them, and the seconds it took."""
    settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in more.items())
    text = f"version: 1\ndata: {{source: cifar10, path: {path}, {settings}}}\n"
    begun = time.perf_counter()
    prepared = prepare(parse_recipe(text, where="recipe.yaml"), base=path.parent, observe=silent)
    return prepared.dataset().train, time.perf_counter() - begun


def training(place: Path, public: str, *, count: int | None, blocks: int, steps: int) -> None:
    """Print how fast the loop trains on sealed images beside plain ones."""
    plain = write_images(place / "images", count)
    sealed = seal_path(plain, read_recipients([public]))
    splits: dict[str, Split] = {}
    built: dict[str, float] = {}
    opened: dict[str, float] = {}
    for name, path in (("plain", plain), ("sealed", sealed)):
        more = {"sealed": name == "sealed", "leaks": "allow"}
        _, built[name] = training_split(path, **more)
        splits[name], opened[name] = training_split(path, **more)
    batch_size, loops = 512, {}
    for name, split in splits.items():
        torch.manual_seed(0)
        network = build(
            CnnModel(name="cnn"),
            channels=3,
            height=32,
            width=32,
            num_outputs=10,
            mean=MEAN,
            std=STD,
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loops[name] = our_blocks(network, split, batch_size=batch_size, precision="fp32")
        loops[name](steps)
    ratios: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(blocks):
        order = list(loops)[:: 1 if number % 2 else -1]
        times = {name: loops[name](steps) for name in order}
        ratios.append(times["plain"] / times["sealed"])
        for name, seconds in times.items():
            rates[name].append(batch_size / seconds)
    tell(
        "sealing: training",
        images=len(splits["plain"]),
        samples_per_s=spread(rates["sealed"]),
        reference={"plain_samples_per_s": spread(rates["plain"])},
        ratio=spread(ratios),
        built_s={name: round(seconds, 2) for name, seconds in built.items()},
        opened_s={name: round(seconds, 2) for name, seconds in opened.items()},
        target="ratio >= 0.95",
    )


def main() -> None:
    """Print one JSON line for each of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model, few images and steps")
    is_quick = parser.parse_args().quick
    real_data()
    with tempfile.TemporaryDirectory() as aside:
        place = Path(aside)
        os.environ["MODELWRIGHT_CACHE"] = str(place / "cache")
        public = create_identity_file(place / "own.key")
        os.environ[ENVIRONMENT] = shlex.quote(str(place / "own.key"))
        predicting(place, public, width=500 if is_quick else 5000, count=3 if is_quick else 9)
        count = 3000 if is_quick else None
        training(
            place, public, count=count, blocks=4 if is_quick else 24, steps=2 if is_quick else 6
        )


if __name__ == "__main__":
    main()
