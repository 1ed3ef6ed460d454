"""Flip and shift of CIFAR-sized images: images a second, against a plain torch implementation.

Both are given the same batches of 512; the figure is the median over interleaved runs.

    python benchmarks/augment.py --runs 24
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from modelwright.data import Split
from modelwright.data.batches import Batches
from modelwright.recipe.data import AugmentSpec

BATCH = 512


def plain(pixels: torch.Tensor, positions: NDArray[np.int64]) -> torch.Tensor:
    """Pad, then cut each offset's images out together; flip half of them."""
    images = pixels[torch.from_numpy(positions)].permute(0, 3, 1, 2).float()
    flips = torch.rand(len(images)) < 0.5
    images = torch.where(flips[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    dy, dx = torch.randint(0, 5, (2, len(images)))
    cropped = torch.empty_like(images)
    for y in range(5):
        for x in range(5):
            chosen = (dy == y) & (dx == x)
            cropped[chosen] = padded[chosen, :, y : y + 32, x : x + 32]
    return cropped.permute(0, 2, 3, 1)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    """Print one JSON line: images a second, and the ratio to the plain implementation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    request = parser.parse_args()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (10_000, 32, 32, 3), np.uint8)
    split = Split("train", pixels, np.arange(10_000), np.zeros(10_000, np.int64))
    batches = Batches(split, augment=AugmentSpec(flip="random", translate=2))
    tensor = torch.from_numpy(pixels)
    pairs = []
    for run in range(request.runs + 1):
        positions = random.permutation(10_000)[:BATCH]
        ours = seconds(lambda run=run, at=positions: batches.at(run, at))  # type: ignore[misc]
        theirs = seconds(lambda at=positions: plain(tensor, at))  # type: ignore[misc]
        pairs.append((ours, theirs))
    pairs = pairs[1:]
    rates = sorted(BATCH / ours for ours, _ in pairs)
    quartiles = statistics.quantiles(rates, n=4)
    figure = {
        "benchmark": "augment",
        "images_per_s": round(statistics.median(rates)),
        "quartiles": [round(quartiles[0]), round(quartiles[2])],
        "times_the_plain_rate": round(statistics.median(b / a for a, b in pairs), 2),
        "target": "images_per_s >= 60000",
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
