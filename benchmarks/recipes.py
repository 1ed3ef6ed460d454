"""The example recipes on real data: the headline figure of each with its interval, and the time.

Each recipe runs as a user runs it, on the command line; its test split is opened once, at the end.
The reference is the strongest simple method that the same run measured on the same samples.

    python benchmarks/recipes.py                      # all of them
    python benchmarks/recipes.py examples/trec.yaml   # one
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from measuring import asked_recipes, run_recipe, tell
from modelwright import modelfile
from modelwright.kinds import ANY_OUTPUT
from modelwright.ledger import Ledger
from modelwright.recipe.targets import METRICS
from modelwright.report.tables import compared_by

NAMES = (
    "text-classification",
    "sst2",
    "trec",
    "trec-minilm",
    "audio-classification",
    "speech-recognition",
    "pneumonia",
    "regression",
    "object-detection",
    "neu-det-pretrained",
    "language-modeling",
    "translation",
    "summarization",
)


def measure(recipe: Path, *, settings: list[str]) -> None:
    """Run a recipe, and print one JSON line."""
    with tempfile.TemporaryDirectory() as aside:
        result = run_recipe(recipe, settings, out=Path(aside))
        lines = (Path(aside) / "run/stages/train/metrics.jsonl").read_text().splitlines()
        ledger = modelfile.load(Path(result["model"])).ledger
    main = compared_by(ledger)
    simple = _strongest(ledger, main)
    figures = {
        name: {key: round(value, 5) for key, value in figure.items()}
        for name, figure in result["metrics"].items()
        if METRICS[name].outputs != ANY_OUTPUT
    }
    tell(
        "recipes",
        recipe=recipe.name,
        figures=figures,
        training_s=round(json.loads(lines[-1])["seconds"], 1),
        reference=simple,
        ratio=round(figures[main]["value"] / simple[main], 4) if simple.get(main) else None,
        target={item["metric"]: item["target"] for item in result["targets"]},
        passed=result["passed"],
    )


def _strongest(ledger: Ledger, metric: str) -> dict[str, Any]:
    """Return the best baseline that a file's ledger holds."""
    found = [
        record
        for record in ledger
        if record.metric == metric and record.subject.startswith("baseline:")
    ]
    sign = 1 if METRICS[metric].higher_is_better else -1
    best = max(found, key=lambda record: sign * record.value, default=None)
    return {"name": best.subject, metric: round(best.value, 5)} if best else {}


def main() -> None:
    """Measure the recipes that are named, or all."""
    recipes, settings = asked_recipes(__doc__, NAMES)
    for recipe in recipes:
        measure(recipe, settings=settings)


if __name__ == "__main__":
    main()
