"""What a search under limits finds, beside random proposals and beside fixed choices.

    python benchmarks/search.py compress --model runs/cifar10/model.mw --budget 60m --seeds 3
    python benchmarks/search.py auto --budget 10m

`compress` takes a trained file and asks for at most half a point less, a tenth of the size and a
fifth of the time that PyTorch takes eagerly. For each seed the search as it is (chains that are
worth a try first, then optuna's proposals) and random proposals have the same budget. The
hypervolume is that of what was measured on validation, over (main metric, logarithm of size,
logarithm of time), as a share of the box between the trained network with five points less and a
tenth of a tenth of its size and time.

`auto` trains `model: auto` on data sets of different kinds, and for the same time each a linear
model, the default network from scratch, and where there is one a published network. All else is at
its defaults, but that the published network learns as `model: auto` would train it, and that its
images are of 96 pixels. Its schedule fits the time, as those of the others do.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest import mock

from compression import eager, timed
from measuring import real_data, tell
from modelwright import modelfile, pipeline
from modelwright.cli.launch import restart_tuned
from modelwright.errors import ModelwrightError, StoppedError
from modelwright.evaluation import headline
from modelwright.files import read_json
from modelwright.pipeline import searching
from modelwright.progress import watching
from modelwright.recipe.document import read_document
from modelwright.recipe.finetuning import PUBLISHED_MODELS, finetuned
from modelwright.recipe.targets import METRICS, headline_metric
from modelwright.recipe.train import TrainSpec

EXAMPLES = Path(__file__).parents[1] / "examples"
ALLOWED, SMALLER, FASTER = 0.005, 10, 5
_FLOOR = 0.05
"""The least main metric that counts is that of the trained network less this."""
_RANGE = math.log(100)


class DataSet(NamedTuple):
    """A data set, and the fixed choices that suit it."""

    example: str
    """Whose sections `data` and `audio` are taken; all else is left at its defaults."""
    network: str
    """The network that is trained from scratch."""
    published: str = ""
    """The network with published weights that is trained further."""
    side: int | None = None
    """Of its images, in pixels."""


DATA_SETS = {
    "cifar10": DataSet("cifar10", "cnn", "efficientnet-lite0", 96),
    "sst2": DataSet("sst2", "bow", "minilm"),
    "trec": DataSet("trec", "bow", "minilm"),
    "fsdd": DataSet("audio-classification", "audio-cnn"),
    "pneumonia": DataSet("pneumonia", "cnn", "efficientnet-lite0", 96),
}


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
    """Train `model: auto` and each fixed choice on one data set, for the same time each."""
    chosen = DATA_SETS[name]
    path = EXAMPLES / f"{chosen.example}.yaml"
    example = cast(
        dict[str, Any], read_document(path.read_text(encoding="utf-8"), where=str(path)).plain()
    )
    recipe: dict[str, Any] = {
        key: example[key] for key in ("version", "task", "data", "audio") if key in example
    }
    split = dict(recipe["data"].get("split", {}))
    if split.get("val") == 0:  # The choice needs a validation split.
        del split["val"]
    recipe["data"] = recipe["data"] | {"split": split}
    recipe["train"] = {"budget": asked.budget}
    ways: dict[str, dict[str, Any]] = {
        "auto": {"model": "auto"},
        "linear": {"model": {"name": "linear"}},
        "scratch": {"model": {"name": chosen.network}},
    }
    if chosen.published:
        ways["published"] = _published(chosen, asked.budget)
    scores: dict[str, float] = {}
    took: dict[str, float] = {}
    metric = ""
    for way, sections in ways.items():
        try:
            with watching() as observe:
                result = pipeline.run(
                    recipe | sections,
                    out=asked.runs / name,
                    name=way,
                    overrides=asked.settings,
                    observe=observe,
                )
        except StoppedError:
            raise
        except ModelwrightError as error:
            tell("search auto", data=name, way=way, left_out=error.what)
            continue
        found = headline(result.ledger)
        metric = headline_metric(found) or ""
        scores[way], took[way] = round(found[metric]["value"], 5), round(result.seconds)
    fixed = max((value for way, value in scores.items() if way != "auto"), default=None)
    if fixed is None or "auto" not in scores:
        tell("search auto", data=name, failed=True, scores=scores)
        return
    tell(
        "search auto",
        data=name,
        budget=asked.budget,
        metric=metric,
        scores=scores,
        seconds=took,
        behind_best=round(fixed - scores["auto"], 5),
        asked="<= 0.01",
    )


def _published(chosen: DataSet, budget: str) -> dict[str, Any]:
    """Return the sections for published weights that learn as those of this kind do."""
    model = next(item for item in PUBLISHED_MODELS.values() if item.name == chosen.published)
    train = finetuned(TrainSpec(budget=budget, epochs=None), model, samples=10**6)
    sections: dict[str, Any] = {
        "model": {"name": chosen.published},
        "train": train.model_dump(mode="json", exclude_defaults=True),
    }
    return sections if chosen.side is None else sections | {"transforms": {"size": chosen.side}}


if __name__ == "__main__":
    restart_tuned()
    main()
