"""The order in which a recipe becomes a model file: prepare, train, pack, measure, gate, report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright import data, evaluation, modelfile, planning, report
from modelwright.errors import RequestError, TrainingError, require
from modelwright.evaluation import Verdict
from modelwright.ledger import Ledger
from modelwright.recipe import Recipe, check_composition, load_recipe
from modelwright.run import Decisions, Observe, Progress, Run, RunFolder, silent
from modelwright.tasks import TASKS

if TYPE_CHECKING:
    from modelwright.models import Summary
    from modelwright.models.candidate import Candidate

RecipeLike = Recipe | Path | str


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run delivered."""

    folder: Path
    ledger: Ledger
    verdicts: tuple[Verdict, ...]
    seconds: float
    finished_before: bool = False

    @property
    def model(self) -> Path:
        """The model file."""
        return self.folder / "model.mw"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    @property
    def passed(self) -> bool:
        """Whether every target is met."""
        return all(verdict.passed for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return what `run --json` prints."""
        return {
            "model": str(self.model),
            "report": str(self.report),
            "passed": self.passed,
            "metrics": evaluation.headline(self.ledger),
            "targets": [verdict.to_json() for verdict in self.verdicts],
            "seconds": round(self.seconds, 3),
        }


def run(
    recipe: RecipeLike,
    *,
    out: Path = Path("runs"),
    name: str | None = None,
    overrides: Sequence[str] = (),
    site: Path | None = None,
    observe: Observe = silent,
) -> RunResult:
    """Carry out a recipe: from data to one measured model file and its report.

    Run again with the same name and recipe, it goes on where it was, or returns the result.

    Args:
        recipe: a recipe, or the path of one.
        out: the parent of the run's folder.
        name: the run's name; the recipe's stem where not said.
        overrides: `dotted.key=value`, as with `--set`.
        site: a file that says where the run takes place.
        observe: called with progress.

    Raises:
        ModelwrightError: what was asked can't be done; nothing is left half-written.
    """
    begun = time.monotonic()
    asked, base, stem = _read(recipe, overrides, site)
    said = check_composition(asked)
    if any(key in os.environ for key in ("RANK", "WORLD_SIZE")) and _rank() > 0:
        observe = silent  # One process of several speaks.
    folder = out / (name or stem)
    with RunFolder.claim(folder, asked.result_digest(), asked.document(), main=_rank() == 0) as kept:
        if kept.result is not None:
            return _finished(folder, kept.result)
        context = _context(asked, folder, observe)
        for note in said:
            context.say(note)
        prepared = data.prepare(asked, base=base, run_folder=folder, observe=observe)
        candidate = _first_candidate(asked, prepared, context, base)
        _rehearse(candidate, asked, context)
        trained, fitted = _train(candidate, asked, prepared, context)
        if _rank() > 0:
            return RunResult(folder, context.ledger, (), time.monotonic() - begun)
        packed = _pack(trained, asked, prepared, context)
        measured = _measure(packed, asked, prepared, context)
        verdicts = evaluation.judge(asked.targets, context.ledger, hardware=evaluation.hardware())
        modelfile.with_ledger(folder / "model.mw", context.ledger)
        result = RunResult(folder, context.ledger, tuple(verdicts), time.monotonic() - begun)
        report.write(folder / "report.html", …)
        kept.finish(result.to_json(), context.ledger)
    return result
