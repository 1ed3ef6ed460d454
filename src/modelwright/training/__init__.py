"""The training loop, its parts, and training as a stage."""

from __future__ import annotations

from modelwright.training.build import steps_per_epoch
from modelwright.training.checkpoint import rehearse_checkpoint
from modelwright.training.distributed import shutdown
from modelwright.training.fit import fit
from modelwright.training.linear import fit_linear, time_fit
from modelwright.training.loop import Parts, State, Until, train
from modelwright.training.timing import time_steps
from modelwright.training.validation import validation_scores

__all__ = [
    "Parts",
    "State",
    "Until",
    "fit",
    "fit_linear",
    "rehearse_checkpoint",
    "shutdown",
    "steps_per_epoch",
    "time_fit",
    "time_steps",
    "train",
    "validation_scores",
]
