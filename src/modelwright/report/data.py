"""What a report is made from: figures from the ledger, pictures, and what the run wrote down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.evaluation import Measurement, Scored, Verdict
from modelwright.evaluation.intervals import RateBounds
from modelwright.ledger import Ledger
from modelwright.metrics import ClassScores
from modelwright.run import StageReport

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing the data audit found."""

    kind: str
    severity: str
    """`error`, `warning` or `note`."""
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """All that one report tells."""

    name: str
    """The run's name."""
    thing: Literal["image", "text", "audio"] = "image"
    """What a sample is."""
    source: str
    """The data, in a few words: `cifar10`, `folder photos`."""
    ledger: Ledger
    verdicts: Sequence[Verdict]
    measurement: Measurement | Scored
    """What became of each sample: of classes, or of numbers."""
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
    """The samples of `worst`, in order: pixels `[M, H, W, C]`, texts, or WAVs."""
    worst: Sequence[int] = ()
    """Of numbers: the places in the split of the samples with the largest errors."""
    answers: Sequence[tuple[str, str]] = ()
    """What was wanted of the samples of `worst`, and what the model answered, as text."""
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

    @property
    def by_class(self) -> tuple[ClassScores, RateBounds] | None:
        """The scores of each class or label and their bounds, where samples have any."""
        found = self.measurement
        if found.classes is None or found.bounds is None:
            return None
        return found.classes, found.bounds

    @property
    def classes(self) -> Measurement:
        """What became of each sample, where they have classes."""
        assert isinstance(self.measurement, Measurement)
        return self.measurement
