"""What a report is made from: figures from the ledger, pictures, and what the run wrote down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelwright.data.findings import Finding
from modelwright.evaluation import Measurement, Verdict
from modelwright.kinds import InputKind
from modelwright.ledger import Ledger
from modelwright.run import StageReport

Pixels = NDArray[np.uint8]


class Answered(NamedTuple):
    """The truth of a sample and what the model says of it, in words."""

    truth: str | None
    """`None` where no answer is the only right one."""
    answer: str
    confidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """All that one report tells."""

    name: str
    """The run's name."""
    thing: InputKind = InputKind.IMAGE
    """What a sample is."""
    source: str
    """The data, in a few words: `cifar10`, `folder photos`."""
    ledger: Ledger
    verdicts: Sequence[Verdict]
    measurement: Measurement
    """What became of each sample."""
    higher_is_better: bool
    """Whether the figure that chose the epoch is better when higher."""
    select_by: str
    """The figure that chose the epoch: `accuracy`."""
    stages: Sequence[StageReport]
    """What was done to the network, in order."""
    counts: Mapping[str, Sequence[int]]
    """Samples a class, of each split."""
    findings: Sequence[Finding]
    test_accesses: int | None
    """How often this test set was opened on this machine, this time included."""
    recipe: str
    """The recipe as YAML, every default written out."""
    decisions: Mapping[str, object]
    environment: Mapping[str, str]
    lineage: Sequence[Mapping[str, object]]
    model_name: str
    """The model file's name."""
    model_digest: str
    predict_command: str
    seconds: float
    mistakes: Pixels | Sequence[str] | Sequence[bytes]
    """The samples that are shown, the worst first: pixels `[M, H, W, C]`, texts, or WAVs."""
    answers: Sequence[Answered] = ()
    """What the model says of each of them."""
    of_boxes: bool = False
    """Whether boxes are drawn into these samples."""
    augmented: Pixels | None = None
    """`[samples, times, H, W, C]`: training images as the network saw them, the first untouched."""
    notes: Sequence[str] = field(default_factory=tuple)
    """What the run said."""

    @property
    def trainings(self) -> list[StageReport]:
        """The stages in which the network learned epoch by epoch."""
        return [stage for stage in self.stages if stage.history]
