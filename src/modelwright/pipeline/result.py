"""What a run delivers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelwright.evaluation import Verdict, headline
from modelwright.files import JsonObject
from modelwright.ledger import Ledger


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run delivered."""

    folder: Path
    ledger: Ledger
    verdicts: tuple[Verdict, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    finished_before: bool = False
    """The run had been finished earlier, and this is its result."""

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

    def to_json(self) -> JsonObject:
        """Return what `run --json` prints."""
        return {
            "model": str(self.model),
            "report": str(self.report),
            "passed": self.passed,
            "metrics": headline(self.ledger),
            "targets": [verdict.to_json() for verdict in self.verdicts],
            "seconds": round(self.seconds, 3),
        }
