"""Linear models and `bow` beside scikit-learn, whole job, on the same core in the same run.

IMDB: TF-IDF of words and pairs of words with logistic regression (C = 10), from the table to the
test accuracy, in a process of its own; ours from the table to the packed, measured and reported
model file. Chinese hotel reviews: TF-IDF of one to three characters. Both see the same test rows.
`bow` is measured beside the same reference, on IMDB.

    python benchmarks/linear.py            # IMDB and the hotel reviews
    python benchmarks/linear.py --quick    # the hotel reviews, 1,000 of them
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import real_data, tell

_REFERENCE = """\
import csv, json, sys, time
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
import pyarrow.parquet as pq

def read(path):
    if path.endswith(".parquet"):
        table = pq.read_table(path, columns=["text", "label"]).to_pydict()
        return table["text"], [str(label) for label in table["label"]]
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row["text"] for row in rows], [row["label"] for row in rows]

analyzer, low, high, *paths = sys.argv[1:]
(train, labels), (test, expected) = map(read, paths)
vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=(int(low), int(high)))
model = LogisticRegression(C=10, max_iter=1000).fit(vectorizer.fit_transform(train), labels)
print(json.dumps({"accuracy": model.score(vectorizer.transform(test), expected)}))
"""

_BOW = "{name: bow, width: 16}"
_TRAIN = """\
train:
  epochs: 3
  batch_size: 64
  optimizer: {name: adamw, lr: 0.005}
  schedule: {name: one-cycle}
"""


def timed(command: list[str]) -> tuple[dict[str, Any], float, float]:
    """Run a command on one core; return the JSON that it prints, its CPU and its wall seconds."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result: dict[str, Any] = json.loads(done.stdout)
    return result, cpu_s, time.perf_counter() - begun


def compare(name: str, recipes: dict[str, str], reference: list[str], folder: Path) -> None:
    """Measure one data set and print a JSON line for each model."""
    theirs, their_cpu, their_wall = timed([sys.executable, "-c", _REFERENCE, *reference])
    for model, recipe in recipes.items():
        path = folder / f"{name}-{model}.yaml"
        path.write_text(recipe, encoding="utf-8")
        os.environ["MODELWRIGHT_CACHE"] = str(folder / f"cache-{model}")  # Nothing is known before.
        line = [sys.executable, "-m", "modelwright", "run", str(path), "--json", "--quiet"]
        ours, ours_cpu, ours_wall = timed([*line, "--out", str(folder)])
        accuracy = ours["metrics"]["accuracy"]
        tell(
            "linear",
            data=name,
            model=model,
            accuracy={key: round(value, 5) for key, value in accuracy.items()},
            reference=round(theirs["accuracy"], 5),
            cpu_s=round(ours_cpu, 1),
            reference_cpu_s=round(their_cpu, 1),
            ratio=round(ours_cpu / their_cpu, 3),
            wall_s=round(ours_wall, 1),
            reference_wall_s=round(their_wall, 1),
            at_least_as_accurate=accuracy["value"] >= theirs["accuracy"],
        )


def hotel(folder: Path, *, limit: int | None) -> tuple[str, list[str]]:
    """Write the hotel reviews as training and test tables; return recipe and reference."""
    source = real_data() / "chnsenticorp_hotel" / "hotel.csv.gz"
    with gzip.open(source, "rt", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if len(row) == 2 and row[1].strip()]
    rows = [list(row) for row in sorted({text: label for label, text in rows}.items())]
    test = rows[::5][: None if limit is None else limit // 5]
    train = [row for number, row in enumerate(rows) if number % 5]
    paths = [folder / "reviews" / f"{name}.csv" for name in ("train", "test")]
    for path, part in zip(paths, (train[:limit], test), strict=True):
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("text", "label"))
            writer.writerows(part)
    recipe = (
        "version: 1\ntask: text-classification\nmodel: {name: linear}\n"
        "data: {source: table, path: reviews, leaks: allow}\n"
        "evaluate: {latency: false, baselines: false}\n"
    )
    return recipe, ["char", "1", "3", *map(str, paths)]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 hotel reviews")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        recipe, reference = hotel(folder, limit=1000 if quick else None)
        compare("chnsenticorp_hotel", {"linear": recipe}, reference, folder)
        if quick:
            return
        imdb = real_data() / "imdb"
        recipe = (
            "version: 1\ntask: text-classification\nmodel: {name: linear}\n"
            f"data: {{source: table, path: {imdb}, leaks: allow, split: {{val: 0.05}}}}\n"
            "evaluate: {latency: false, baselines: false}\n"
        )
        paths = [str(imdb / f"{name}.parquet") for name in ("train", "test")]
        recipes = {"linear": recipe, "bow": recipe.replace("{name: linear}", _BOW) + _TRAIN}
        compare("imdb", recipes, ["word", "1", "2", *paths], folder)


if __name__ == "__main__":
    main()
