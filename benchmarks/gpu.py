"""CIFAR-10 on a GPU: accuracy and training time over many seeds, compiled and warm.

The same recipe as on the processor, on all 50,000 images, with the schedule fixed beforehand. The
first training compiles, and is told apart as `cold_s`; the others find the kernels. The test set
is answered in torch on the GPU, with the recipe's views and without: the file's own figures come
from `benchmarks/cifar10.py`, which takes a minute a run.

    python benchmarks/gpu.py --runs 10
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from measuring import real_data, tell
from modelwright import data
from modelwright.data import Prepared, Split
from modelwright.evaluation import record_access
from modelwright.initialization import initialize_model
from modelwright.metrics import accuracy
from modelwright.pipeline.request import read_request, run_in
from modelwright.run import RunRequest, silent
from modelwright.tasks import task_of
from modelwright.training import fit
from modelwright.transforms import view_batches

_SETTINGS = [
    "data.split.val=0",
    "train.select=last",
    "train.precision=bf16",
    "train.compile=on",
    "resources.device=cuda",
]


def one_run(request: RunRequest, prepared: Prepared, folder: Path) -> tuple[nn.Module, float]:
    """Train once; return the network and the wall-clock seconds of training."""
    context = run_in(request, folder, observe=silent)
    start = initialize_model(request, prepared, context)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    trained, _ = fit(
        start,
        request.recipe.train,
        prepared.dataset(),
        context,
        task=task_of(request.recipe),
        augment=request.recipe.augment,
    )
    return trained.network, time.perf_counter() - begun


def score(network: nn.Module, test: Split, views: Any) -> float:
    """Return the accuracy, the outputs of the views being averaged."""
    network = network.cuda().eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(test), 1000):
            batch, weights = view_batches(
                np.asarray(test.gather(slice(start, start + 1000))), views
            )
            shares = torch.from_numpy(weights).cuda()
            outputs = torch.stack([network(torch.from_numpy(view).cuda()) for view in batch])
            found.append(torch.einsum("v,vnk->nk", shares, outputs.float()).cpu().numpy())
    return accuracy(np.concatenate(found), test.targets)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=Path("examples/cifar10.yaml"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    real_data()
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here")
    first = read_request(arguments.recipe, overrides=[*_SETTINGS, *arguments.settings])
    prepared = data.prepare(first.recipe, base=first.base, run_folder=None, observe=silent)
    test = prepared.test()
    assert test is not None
    seconds, with_views, without = [], [], []
    with tempfile.TemporaryDirectory() as aside:
        for run in range(arguments.runs + 1):
            recipe = read_request(
                arguments.recipe, overrides=[*_SETTINGS, *arguments.settings, f"seed={run}"]
            )
            network, took = one_run(recipe, prepared, Path(aside) / f"seed-{run}")
            seconds.append(took)
            place = str(Path(aside) / f"seed-{run}")
            for _ in range(2):  # With the recipe's views and without.
                opened = record_access(prepared.digests("test"), run=place, model=place)
            with_views.append(score(network, test, recipe.recipe.inference.tta))
            without.append(score(network, test, "none"))
            line = {"seed": run, "s": took, "views": with_views[-1], "none": without[-1]}
            print(json.dumps(line), file=sys.stderr, flush=True)
    tell(
        "gpu",
        recipe=arguments.recipe.name,
        runs=len(seconds) - 1,
        accuracy=round(statistics.mean(with_views), 5),
        deviation=round(statistics.stdev(with_views), 5),
        test_set_used=opened.count,
        lowest=min(with_views),
        without_views=round(statistics.mean(without), 5),
        without_views_deviation=round(statistics.stdev(without), 5),
        cold_s=round(seconds[0], 2),
        warm_s=round(statistics.mean(seconds[1:]), 3),
        fastest_s=round(min(seconds[1:]), 3),
        device=torch.cuda.get_device_name(),
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
