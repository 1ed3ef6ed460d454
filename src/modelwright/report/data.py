"""The data of a report: figures from the ledger, samples, and the records of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from modelwright.arrays import Pixels
from modelwright.data.findings import Finding
from modelwright.evaluation import Measurement, Verdict
from modelwright.kinds import InputKind
from modelwright.ledger import Ledger
from modelwright.run import StageReport


class Changed(NamedTuple):
    """A sample that is answered otherwise than before compression, as text."""

    truth: str
    before: str
    after: str


class Tried(NamedTuple):
    """A model that a search has measured on the validation split."""

    name: str
    """What was done to it, in a few words."""
    figures: Mapping[str, float]
    """By metric."""
    is_on_front: bool
    """Whether no other one beats it."""
    file: str
    """Its file in the run's folder, if that is kept beside what ships; else a blank."""
    is_chosen: bool
    misses: Sequence[str]
    """The targets that it misses."""


class Answered(NamedTuple):
    """The reference of a sample and the model's prediction, as text."""

    truth: str | None
    """The label, number or reference text; `None` where there is none."""
    answer: str
    confidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The content of one report."""

    name: str
    """The run's name."""
    input_kind: InputKind = InputKind.IMAGE
    source: str
    """The data, in a few words: `cifar10`, `folder photos`."""
    ledger: Ledger
    verdicts: Sequence[Verdict]
    measurement: Measurement
    """The measurement that the report is about."""
    select_by: str
    """The metric that chose the epoch: `accuracy`."""
    goal: tuple[str, str] = ("accuracy", ">= 0.9")
    """A target that such a model may be given: a metric and its bound."""
    stages: Sequence[StageReport]
    """What was done to the network, in order."""
    counts: Mapping[str, Sequence[int]]
    """The number of samples of each class, by split."""
    findings: Sequence[Finding]
    test_accesses: int | None
    """How often this test set was used on this machine, including this run."""
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
    """The samples that are shown, worst first: pixels `[M, H, W, C]`, texts, or WAV files."""
    answers: Sequence[Answered] = ()
    """The prediction for each of them."""
    is_sealed: bool = False
    """Whether the data is sealed, so that no sample may be shown."""
    has_boxes: bool = False
    """Whether boxes are drawn into these samples."""
    changed: Sequence[Changed] = ()
    """Samples whose answer compression changed."""
    changed_samples: Pixels | Sequence[str] | Sequence[bytes] = ()
    """These samples, as `mistakes` has its own."""
    tried: Sequence[Tried] = ()
    """What a search has measured, the first of them the network before compression."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """What it didn't carry out to its end, by name, and why."""
    tried_by: Sequence[str] = ()
    """The metrics by which they are compared: the main one, then costs."""
    augmented: Pixels | None = None
    """Augmented training images `[N, M, H, W, C]`; the first of each `M` is the image itself."""
    notes: Sequence[str] = field(default_factory=tuple)
    """The messages of the run."""

    @property
    def trainings(self) -> list[StageReport]:
        """The stages in which the network was trained epoch by epoch."""
        return [stage for stage in self.stages if stage.history]
