"""What a search under limits finds, beside random proposals and beside fixed choices.

    python benchmarks/search.py compress --model runs/cifar10/model.mw --budget 60m --seeds 3
    python benchmarks/search.py auto --budget 10m

`compress` takes a trained file and asks for at most half a point less, a tenth of the size and a
fifth of the time that PyTorch takes eagerly; for each seed optuna's proposals and random ones have
the same budget. The hypervolume is that of what was measured on validation, over (main metric,
logarithm of size, logarithm of time), as a share of the box between the trained network with five
points less and a tenth of a tenth of its size and time.

`auto` trains `model: auto` on data sets of different kinds, and for the same time each a linear
model, the default network, and where one is installed a published network.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from compression import eager, timed
from measuring import real_data, tell
from modelwright import modelfile, pipeline
from modelwright.errors import ModelwrightError
from modelwright.evaluation import headline
from modelwright.files import read_json
from modelwright.pipeline import searching
from modelwright.progress import watching
from modelwright.recipe.targets import METRICS, headline_metric

EXAMPLES = Path(__file__).parents[1] / "examples"
ALLOWED, SMALLER, FASTER = 0.005, 10, 5
_FLOOR = 0.05
"""The least main metric that counts is that of the trained network less this."""
_RANGE = math.log(100)
DATA_SETS: dict[str, tuple[str, str | None]] = {
    "cifar10": ("cifar10", "efficientnet-lite0"),
    "sst2": ("sst2", "minilm"),
    "trec": ("trec", "minilm"),
    "fsdd": ("audio-classification", None),
    "pneumonia": ("pneumonia", "efficientnet-lite0"),
}
"""An example by name, and the published network that suits its data."""


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["compress", "auto"])
    parser.add_argument("sets", nargs="*", help="of `auto`, the data sets")
    parser.add_argument("--model", type=Path, help="of `compress`, the trained file")
    parser.add_argument("--budget", default="60m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=["optuna", "random"], help="of `compress`")
    parser.add_argument("--runs", type=Path, default=Path("searched"))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    asked = parser.parse_args()
    real_data()
    if asked.what == "compress":
        if asked.model is None:
            parser.error("`compress` needs --model")
        for seed in range(asked.seeds):
            compress(asked, seed)
    else:
        for name in asked.sets or DATA_SETS:
            auto(asked, name)


def compress(asked: argparse.Namespace, seed: int) -> None:
    """Search from one trained file, by optuna's proposals and by random ones."""
    before = headline(modelfile.load(asked.model).ledger)
    metric = headline_metric(before) or ""
    eager_ms = 1e3 * timed(eager(asked.model))
    size = modelfile.describe(asked.model)["size_bytes"]
    targets = {
        metric: f">= {before[metric]['value'] - ALLOWED:.6f}",
        "size_bytes": f"<= {size / SMALLER:.0f}",
        "latency_p50_ms": f"<= {eager_ms / FASTER:.6f}",
    }
    sections: dict[str, Any] = {
        "compress": "auto",
        "targets": targets,
        "evaluate": {"baselines": False},
    }
    settings = [f"train.budget={asked.budget}", f"seed={seed}", *asked.settings]
    for way in asked.ways:
        search = partial(searching.search, is_random=way == "random")
        place = "modelwright.pipeline.compressing.search"
        with watching() as observe, mock.patch(place, search):
            result = pipeline.compress(
                asked.model,
                sections,
                out=asked.runs,
                name=f"{way}-{seed}",
                overrides=settings,
                observe=observe,
            )
        found = read_json(result.folder / "search.json")
        after = headline(result.ledger)
        tell(
            "search compress",
            way=way,
            seed=seed,
            budget=asked.budget,
            targets=targets,
            eager_ms=round(eager_ms, 4),
            met={item.metric: item.outcome for item in result.verdicts},
            chosen=found["chosen"],
            measured={name: round(after[name]["value"], 5) for name in targets if name in after},
            points=len(found["points"]),
            rejected=len(found["rejected"]),
            hypervolume=round(hypervolume(found["points"], metric), 4),
        )


def hypervolume(points: Sequence[dict[str, Any]], metric: str) -> float:
    """Return the share of the box that what was measured dominates.

    >>> figures = {"accuracy": 0.95, "size_bytes": 100.0, "latency_p50_ms": 1.0}
    >>> start = {"figures": {name: {"value": value} for name, value in figures.items()}}
    >>> hypervolume([start], "accuracy")
    0.0
    """

    def value(point: dict[str, Any], name: str) -> float:
        return float(point["figures"][name]["value"])

    first = points[0]
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    rows = []
    for point in points:
        gain = 1 + sign * (value(point, metric) - value(first, metric)) / _FLOOR
        size = math.log(value(first, "size_bytes") / value(point, "size_bytes")) / _RANGE
        time = math.log(value(first, "latency_p50_ms") / value(point, "latency_p50_ms")) / _RANGE
        rows.append(tuple(min(max(item, 0.0), 1.0) for item in (gain, size, time)))
    # The grid of all coordinates: each cell is dominated or isn't.
    grid = [sorted({0.0, *(row[axis] for row in rows)}) for axis in range(3)]
    total = 0.0
    for cell in itertools.product(*(range(1, len(axis)) for axis in grid)):
        top = [axis[at] for axis, at in zip(grid, cell, strict=True)]
        if any(all(x >= y for x, y in zip(row, top, strict=True)) for row in rows):
            total += math.prod(axis[at] - axis[at - 1] for axis, at in zip(grid, cell, strict=True))
    return total


def auto(asked: argparse.Namespace, name: str) -> None:
    """Train `model: auto` and each fixed choice on one data set."""
    example, published = DATA_SETS[name]
    recipe = EXAMPLES / f"{example}.yaml"
    ways = {"auto": "auto", "linear": "{name: linear}", "default": None}
    if published is not None:
        ways["published"] = f"{{name: {published}}}"
    scores: dict[str, float] = {}
    metric = ""
    for way, model in ways.items():
        text = recipe.read_text(encoding="utf-8")
        settings = [f"train.budget={asked.budget}", "targets={}", *asked.settings]
        if model is not None:
            settings += [f"model={model}", "train.epochs=null"]
        if way == "linear":
            settings = [item for item in settings if "epochs" not in item]
        out = asked.runs / name / way
        out.mkdir(parents=True, exist_ok=True)
        draft = out / "recipe.yaml"
        draft.write_text(text, encoding="utf-8")
        try:
            with watching() as observe:
                result = pipeline.run(
                    draft, out=out, name="run", overrides=settings, observe=observe
                )
        except ModelwrightError as error:
            tell("search auto", data=name, way=way, left_out=error.what)
            continue
        found = headline(result.ledger)
        metric = headline_metric(found) or ""
        scores[way] = round(found[metric]["value"], 5)
    fixed = max(value for way, value in scores.items() if way != "auto")
    tell(
        "search auto",
        data=name,
        budget=asked.budget,
        metric=metric,
        scores=scores,
        behind_best=round(fixed - scores["auto"], 5),
        asked="<= 0.01",
    )


if __name__ == "__main__":
    main()
