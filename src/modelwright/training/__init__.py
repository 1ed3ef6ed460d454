"""The training loop, its parts, and training as a stage."""

from __future__ import annotations

from modelwright.training.fit import FitReport, fit, outputs_of
from modelwright.training.loop import Parts, State, Until, train

__all__ = ["FitReport", "Parts", "State", "Until", "fit", "outputs_of", "train"]
