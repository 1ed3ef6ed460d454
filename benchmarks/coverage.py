"""How often the 95 % intervals of each metric hold the true value, by simulation.

Populations: shares of 0.5, 0.8, 0.95 and 0.99, and answers of our own models on real data, which
are drawn with replacement, so that the true value is that of all of them. The models are trained by
example recipes, once; their answers are kept in `--pools`. A cell is a population and a number of
samples; it tells for each metric how often the interval held the true value (with the standard
error of the simulation), how often it lay above or below, and the mean width. It asks for 0.93 from
50 samples on and for 0.90 at 10, except where the gate says that so few prove nothing.

    python benchmarks/coverage.py --pools pools --out coverage.jsonl   # hours; goes on after a stop
    python benchmarks/coverage.py numbers transcripts --sizes 10 50    # two populations
    python benchmarks/coverage.py --quick                              # shares, 50 draws
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from measuring import tell
from modelwright import data, evaluation, metrics, modelfile, pipeline
from modelwright.evaluation import gain, gate, intervals, labels
from modelwright.evaluation.bootstrap import bounded
from modelwright.evaluation.measurement import sampled
from modelwright.initialization import settled_input
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence
from modelwright.pipeline.request import read_request
from modelwright.run import silent
from modelwright.tasks import TASKS, Compute, SampleStats, take

EXAMPLES = Path(__file__).parents[1] / "examples"
POOLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "classes": ("trec", ()),
    "numbers": ("regression", ("train.budget=3m",)),
    "transcripts": ("speech-recognition", ("train.budget=4m",)),
    "translations": ("translation", ("train.epochs=3", "train.budget=15m")),
    "summaries": ("summarization", ("train.epochs=6", "train.budget=10m")),
    "boxes": ("neu-det-pretrained", ("transforms.size=128", "train.epochs=12")),
    "sets": ("small/multi-label", ("data.path={made}/requests.jsonl", "train.epochs=4")),
}
"""Recipes whose answers on the test split are a population, and settings that make them quick.

Data that is made up, by a script beside its recipe, lies in the folder `{made}`.
"""
SHARES = (0.5, 0.8, 0.95, 0.99)
SIZES = (10, 20, 50, 200, 1000)
DRAWS, FEWER_DRAWS, CELL_S = 1000, 200, 600.0
"""How many simulations a cell has, and how many where that would take longer than so long."""
PREVALENCE = 0.2
"""The share of a class whose recall is simulated."""
RECORD = partial(sampled, split="test", data="simulated")

Interval = tuple[float, float]
Draw = Callable[[np.random.Generator, int], Mapping[str, Interval]]
"""Draws so many samples, and returns the interval of each metric."""


exact_share = lru_cache(maxsize=None)(intervals.share)


def share_population(share: float) -> tuple[dict[str, float], Draw]:
    """Return the true values and the draws of right and wrong answers."""

    def draw(random: np.random.Generator, size: int) -> Mapping[str, Interval]:
        hits = random.random(size) < share
        of_class = random.random(size) < PREVALENCE
        other = np.where(random.random(size) < 0.7, hits, random.random(size) < share)
        found = labels.accuracy_difference(hits, other, RECORD, model="")
        return {
            "accuracy": exact_share(int(hits.sum()), size),
            "recall_at_threshold": exact_share(int((hits & of_class).sum()), int(of_class.sum())),
            "accuracy_difference": (found.low, found.high),
        }

    return {"accuracy": share, "recall_at_threshold": share, "accuracy_difference": 0.0}, draw


def bounds_of(records: Sequence[Evidence]) -> dict[str, Interval]:
    """Return the intervals by metric, and by label where a record is of one."""
    return {name_of(record): (record.low, record.high) for record in records}


def name_of(record: Evidence) -> str:
    """Return a record's metric, with its label."""
    return f"{record.metric} {record.slice}".strip()


def class_population(stats: SampleStats, num_classes: int) -> tuple[dict[str, float], Draw]:
    """Return the true values and the draws of answers with one label each."""

    def figures(stats: SampleStats) -> list[Evidence]:
        outcomes = metrics.Outcomes(**stats)
        cells = metrics.confusion(outcomes.predicted, outcomes.targets, num_classes=num_classes)
        names = [str(number) for number in range(num_classes)]
        _, each = labels.per_label_figures(
            metrics.class_scores(cells), names, RECORD, known=num_classes
        )
        overall = labels.single_label_figures(outcomes, cells, RECORD, num_classes=num_classes)
        return [*overall, *each]

    return drawn_from(stats, figures)


def drawn_from(
    stats: SampleStats, figures: Callable[[SampleStats], Sequence[Evidence]]
) -> tuple[dict[str, float], Draw]:
    """Return the true values and the draws of a pool."""
    count = len(next(iter(stats.values())))

    def draw(random: np.random.Generator, size: int) -> Mapping[str, Interval]:
        return bounds_of(figures(take(stats, random.integers(0, count, size=size))))

    return {name_of(record): record.value for record in figures(stats)}, draw


def pool(name: str, folder: Path) -> tuple[dict[str, float], Draw]:
    """Return the true values and the draws of a model's answers, which is trained where missing."""
    kept = folder / f"{name}.npz"
    recipe_name, settings = POOLS[name]
    path, made = EXAMPLES / f"{recipe_name}.yaml", (folder / "made").resolve()
    settings = (*(setting.format(made=made) for setting in settings), "resources.threads=1")
    recipe = read_request(path, overrides=settings).recipe
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if (script := path.with_name("make_data.py")).exists():
            subprocess.run([sys.executable, script, made], check=True)
        answers = answers_of(path, settings, folder / name)
        with kept.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **dict(answers))
    stats = dict(np.load(kept))
    if recipe.output_kind == OutputKind.SINGLE_LABEL:
        return class_population(stats, int(stats["targets"].max()) + 1)
    task = TASKS[recipe.task, recipe.output_kind]
    compute = task.compute if task.text_metrics is None else task.text_metrics.compute

    mean = stats["targets"].mean(axis=0) if "targets" in stats else np.empty(0)

    def figures(drawn: SampleStats) -> list[Evidence]:
        counts = None if task.label_counts is None else task.label_counts(drawn)
        found = bounded(drawn, compute, RECORD, method="", counts=counts)
        if recipe.output_kind == OutputKind.REGRESSION:
            found += number_gain(drawn, mean, compute)
        return found

    return drawn_from(stats, figures)


def answers_of(path: Path, settings: Sequence[str], out: Path) -> SampleStats:
    """Train a model, and return the statistics of its answers on the test split."""
    result = pipeline.run(path, overrides=settings, out=out, name="run", observe=silent)
    model, request = modelfile.load(result.model), read_request(path, overrides=settings)
    prepared = data.prepare(
        request.recipe, base=request.data_base, like=settled_input(request), observe=silent
    )
    samples = prepared.test()
    assert samples is not None
    measured = evaluation.measure(
        model, samples, model.scoring, fingerprint="", place=evaluation.Place.here(1)
    )
    text_metrics = model.scoring.text_metrics
    if text_metrics is None:
        return measured.stats
    assert samples.pairs is not None
    _, references = samples.pairs()
    return text_metrics.sample_stats(measured.texts, references)


def number_gain(stats: SampleStats, mean: np.ndarray, compute: Compute) -> list[Evidence]:
    """Return how much better a model of numbers is than always their mean, on the same samples."""
    simple = {**stats, "predicted": np.broadcast_to(mean, stats["targets"].shape)}
    pair = gain.PairedStats("mean", stats, simple)
    return [gain.gain_over_simple([pair], OutputKind.REGRESSION, compute, RECORD, model="")]


def simulate(true: Mapping[str, float], draw: Draw, size: int, draws: int) -> dict[str, Any]:
    """Return for each metric how its intervals fared over the draws."""
    random = np.random.default_rng(size)
    held: dict[str, list[tuple[bool, bool, float]]] = {}
    begun = time.monotonic()
    for number in range(draws):
        if number == FEWER_DRAWS and (time.monotonic() - begun) * draws / number > CELL_S:
            break
        for name, (low, high) in draw(random, size).items():
            value = true.get(name)
            if value is not None:
                held.setdefault(name, []).append((value < low, value > high, high - low))
    return {name: fared(np.array(rows), name, size) for name, rows in held.items()}


def fared(rows: np.ndarray, name: str, size: int) -> dict[str, Any]:
    """Return how the intervals of one metric fared."""
    above, below, width = rows.mean(axis=0)
    coverage, count = 1 - above - below, len(rows)
    fewest = gate.fewest_samples(name.split()[0])
    least = 0.93 if size >= 50 else 0.9
    return {
        "coverage": round(float(coverage), 4),
        "error": round(float(np.sqrt(max(coverage * (1 - coverage), 1 / count) / count)), 4),
        "above": round(float(above), 4),
        "below": round(float(below), 4),
        "width": round(float(width), 5),
        "draws": count,
        "is_enough": bool(coverage >= least),
        "too_few": size < fewest,
    }


def cells(names: Sequence[str], folder: Path) -> Iterator[tuple[str, dict[str, float], Draw]]:
    """Yield the populations."""
    for share in SHARES:
        if not names or "shares" in names:
            yield f"share {share}", *share_population(share)
    for name in POOLS:
        if not names or name in names:
            yield name, *pool(name, folder)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the cells as a Markdown table: a row a metric, a column a number of samples.

    A metric of several labels or shares stands there with the one of the lowest coverage.
    """
    worst: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        population = line["population"].split()[0]
        for name, found in line["metrics"].items():
            row = worst.setdefault((name.split()[0], population), {})
            if found["coverage"] < row.get(line["samples"], {"coverage": 2})["coverage"]:
                row[line["samples"]] = found
    rows = ["| metric | population | " + " | ".join(f"n = {size:,}" for size in SIZES) + " |"]
    rows.append("| --- | --- |" + " --- |" * len(SIZES))
    for (metric, population), row in sorted(worst.items()):
        told = [
            f"{found['coverage']:.3f} ± {found['error']:.3f}, {found['width']:.3g}"
            + " (too few)" * found["too_few"]
            if (found := row.get(size))
            else ""
            for size in SIZES
        ]
        rows.append(f"| {metric} | {population} | " + " | ".join(told) + " |")
    return "\n".join(rows)


def main() -> None:
    """Simulate what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("populations", nargs="*", choices=[[], "shares", *POOLS])
    parser.add_argument("--pools", type=Path, default=Path("coverage-pools"))
    parser.add_argument("--out", type=Path, help="JSON lines; cells that stand there are left out")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--table", action="store_true", help="print what --out holds as Markdown")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    names, sizes, draws = asked.populations, asked.sizes, asked.draws
    if asked.quick:
        names, sizes, draws = ["shares"], (10, 50), 50
    lines = asked.out.read_text().splitlines() if asked.out and asked.out.exists() else []
    if asked.table:
        print(table([json.loads(line) for line in lines]))
        return
    done = {(line["population"], line["samples"]) for line in map(json.loads, lines)}
    for population, true, draw in cells(names, asked.pools):
        for size in sizes:
            if (population, size) in done:
                continue
            found = simulate(true, draw, size, draws)
            tell("coverage", population=population, samples=size, metrics=found)
            if asked.out:
                line = {"population": population, "samples": size, "true": true, "metrics": found}
                with asked.out.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
