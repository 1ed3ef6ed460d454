"""Published weights of the package index: what they reach, in how long, and how fast they look.

- `trec`: questions, by MiniLM trained further (`examples/trec-minilm.yaml`).
- `imdb`: film reviews, by a linear model of MiniLM's features on drawn reviews, cut at 128 tokens,
  beside linear models of n-grams on the same reviews and on all of them.
- `defects`: photographs of surfaces in class folders, by a linear model of EfficientNet-Lite0's
  features, beside one of gradients (HOG).
- `speed`: those features on one core, images a second: by onnxruntime, one image at a time, as
  models are fitted, beside torch in batches of 32, interleaved.

    python benchmarks/pretrained.py                 # all four
    python benchmarks/pretrained.py imdb speed      # some of them
    python benchmarks/pretrained.py --quick         # few samples, an epoch, few images
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from measuring import real_data, run_recipe, spread, tell
from modelwright.initialization.published_networks import frozen_network
from modelwright.modelfile.features import image_features
from modelwright.transforms import ImageInput

_REVIEWS = 8000
"""Of each split of IMDB: what MiniLM can read in ten minutes on two cores."""
_ONLY = "evaluate: {baselines: false, latency: false}\n"
_IMAGES, _ROUNDS = 64, 7


def measured(case: str, recipe: Path, settings: list[str], folder: Path, **facts: Any) -> None:
    """Run a recipe and print its accuracy and its seconds; what facts are given stand beside."""
    begun = time.perf_counter()
    result = run_recipe(recipe, settings, out=folder)
    accuracy = result["metrics"]["accuracy"]
    tell(
        "pretrained",
        case=case,
        **facts,
        accuracy={key: round(value, 5) for key, value in accuracy.items()},
        wall_s=round(time.perf_counter() - begun, 1),
    )


def trec(folder: Path, *, quick: bool) -> None:
    """Questions, by an encoder that is trained further."""
    recipe = Path(__file__).parents[1] / "examples" / "trec-minilm.yaml"
    settings = ["train.epochs=1", "data.limit=200"] if quick else []
    measured("trec", recipe, settings, folder, model="minilm", asked=">= 0.955 in <= 600 s")


def imdb(folder: Path, *, quick: bool) -> None:
    """Film reviews, by linear models of an encoder's features and of n-grams."""
    recipe = folder / "imdb.yaml"
    recipe.write_text(
        "version: 1\ntask: text-classification\nmodel: {name: linear}\n"
        f"data: {{source: table, path: {real_data() / 'imdb'}, leaks: allow, "
        f"split: {{val: 0.05}}}}\n{_ONLY}",
        encoding="utf-8",
    )
    reviews = 200 if quick else _REVIEWS
    drawn = f"data.limit={reviews}"
    features = ["model.features=minilm", "text.max_length=128", drawn]
    runs: list[tuple[str, list[str], int | None]] = [
        ("minilm", features, reviews),
        ("tfidf", [drawn], reviews),
        ("tfidf", [], None),
    ]
    for number, (name, settings, limit) in enumerate(runs[: 2 if quick else 3]):
        where = folder / f"imdb-{number}"
        facts = {"model": f"linear on {name}", "limit": limit, "asked": "reported, <= 600 s"}
        measured("imdb", recipe, settings, where, **facts)


def defects(folder: Path, *, quick: bool) -> None:
    """Photographs of surfaces, by linear models of a published network's features and of HOG."""
    table = pq.read_table(
        real_data() / "neu_det/neu_det.parquet", columns=["image_jpg", "label", "name"]
    )
    step = 12 if quick else 1
    for row in table.take(list(range(0, len(table), step))).to_pylist():
        path = folder / "defects" / row["label"] / f"{Path(row['name']).stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image_jpg"])
    recipe = folder / "defects.yaml"
    recipe.write_text(
        "version: 1\ndata: {source: folder, path: defects, leaks: drop_from_train}\n"
        f"model: {{name: linear}}\n{_ONLY}",
        encoding="utf-8",
    )
    for name in ("efficientnet-lite0", "hog"):
        facts = {"model": f"linear on {name}", "asked": ">= 0.97 in <= 300 s"}
        measured("defects", recipe, [f"model.features={name}"], folder / name, **facts)


def speed(folder: Path, *, quick: bool) -> None:
    """Time features of random images at 224 pixels on one core, by onnxruntime and by torch."""
    torch.set_num_threads(1)
    images, rounds = (8, 2) if quick else (_IMAGES, _ROUNDS)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    network = frozen_network("efficientnet-lite0", ImageInput(height=224, width=224, channels=3))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ours = image_features(network, (224, 224, 3), threads=1)

    def by_torch(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            parts = [
                network.features(torch.from_numpy(batch[at : at + 32])).numpy()
                for at in range(0, len(batch), 32)
            ]
        return np.concatenate(parts)

    difference = float(np.abs(ours(pixels[:2]) - by_torch(pixels[:2])).max())
    rates: dict[str, list[float]] = {"onnxruntime": [], "torch": []}
    for _ in range(rounds):
        for name, features in (("onnxruntime", ours), ("torch", by_torch)):
            begun = time.perf_counter()
            features(pixels)
            rates[name].append(images / (time.perf_counter() - begun))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    tell(
        "pretrained",
        case="speed",
        images_per_s={name: spread(values) for name, values in rates.items()},
        ratio=round(medians["onnxruntime"] / medians["torch"], 3),
        largest_difference=difference,
        asked=">= 82 images/s a core by onnxruntime",
    )


CASES: dict[str, Callable[..., None]] = {
    "trec": trec,
    "imdb": imdb,
    "defects": defects,
    "speed": speed,
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--quick", action="store_true", help="few samples, one epoch")
    given = parser.parse_args()
    for name in given.cases or CASES:
        with tempfile.TemporaryDirectory() as aside:
            CASES[name](Path(aside), quick=given.quick)


if __name__ == "__main__":
    main()
