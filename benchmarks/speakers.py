"""Spoken digits over all six speakers: each pair of them unheard in one training.

The recipes keep two of six speakers for the test, drawn by a seed. Which two decides more than most
settings do, so here the seed goes on until every speaker was in a test once: three trainings for
each recipe. The settings were chosen with four of the speakers held out one by one, so the pairs
that hold these are no new voices for who chose; `recipes.py` measures the two that are.

    python benchmarks/speakers.py                                     # as classes and as letters
    python benchmarks/speakers.py examples/audio-classification.yaml  # one recipe
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measuring import asked_recipes, run_recipe, tell
from modelwright import data
from modelwright.pipeline.request import ask
from modelwright.run import silent

NAMES = ("audio-classification", "speech-recognition")


def measure(recipe: Path, *, settings: list[str]) -> None:
    """Train on four speakers and measure on two, until each was measured on; print the figures."""
    found: list[dict[str, float]] = []
    for seed, speakers in _splits(recipe):
        with tempfile.TemporaryDirectory() as aside:
            drawn = f"data.split.seed={seed}"
            result = run_recipe(recipe, [drawn, *settings], out=Path(aside))
        (target,) = result["targets"]
        figure = result["metrics"][target["metric"]]
        found.append(figure)
        tell(
            "speakers",
            recipe=recipe.name,
            unheard=sorted(speakers),
            **{target["metric"]: {key: round(value, 5) for key, value in figure.items()}},
            target=target["target"],
        )
    count = sum(figure["n"] for figure in found)
    mean = sum(figure["value"] * figure["n"] for figure in found) / count
    tell("speakers", recipe=recipe.name, unheard="each", mean=round(mean, 5), n=count)


def _splits(recipe: Path) -> list[tuple[int, set[str]]]:
    """Return seeds, and the speakers whom each keeps for the test, such that each is there once."""
    chosen: list[tuple[int, set[str]]] = []
    missing: set[str] | None = None
    seed = 0
    while missing is None or missing:
        request = ask(recipe, overrides=[f"data.split.seed={seed}"])
        prepared = data.prepare(request.recipe, base=request.base, observe=silent)
        (speakers,) = prepared.store.metadata.values()
        held = {speakers[row] for row in prepared.rows["test"].tolist()}
        missing = set(speakers) if missing is None else missing
        if held <= missing:
            chosen.append((seed, held))
            missing -= held
        seed += 1
    return chosen


def main() -> None:
    """Measure the recipes that are named, or both."""
    recipes, settings = asked_recipes(__doc__, NAMES)
    for recipe in recipes:
        measure(recipe, settings=settings)


if __name__ == "__main__":
    main()
