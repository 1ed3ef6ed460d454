"""A network with all that is needed to ship it: task, input, labels, architecture and lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import nn

from modelwright.files import Json, JsonObject
from modelwright.kinds import OutputKind
from modelwright.run import StageReport
from modelwright.tasks.inference import Inference


class InputDeclaration(Protocol):
    """What a network takes, and by which host steps: `transforms.ImageInput`, for one."""

    def to_json(self) -> JsonObject:
        """Return the declaration as the model file holds it, with its `kind`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network on its way to a model file.

    `network(*inputs)` takes what the host steps deliver (for images uint8 pixels `[N, H, W, C]`)
    and returns raw outputs (for a classification logits `[N, K]`); its graph steps are its first
    modules. A stage returns a new candidate and changes none.
    """

    network: nn.Module
    task: str
    input: InputDeclaration
    labels: tuple[str, ...]
    architecture: JsonObject
    """The model section of the recipe, resolved: enough to build the network again."""
    output_kind: OutputKind = OutputKind.SINGLE_LABEL
    inference: Inference = field(default_factory=Inference)
    tolerance: float = 1e-4
    """The largest difference of a probability that is allowed between network and graph: that of
    fp32, and more where integer kernels round."""
    assets: dict[str, bytes] = field(default_factory=dict)
    """What else the input needs in the model file, by name: the tokenizer."""
    codecs: Mapping[str, str] = field(default_factory=dict)
    """The codec (`zstd`) of each weight that the file stores encoded, by its name."""
    lineage: tuple[JsonObject, ...] = field(default=())
    """What it was made by, step by step; the model file keeps it."""
    reports: tuple[StageReport, ...] = field(default=())
    """What each stage of this run did; shown in the run's report and not shipped."""

    def after(self, report: StageReport, facts: Mapping[str, Json]) -> Candidate:
        """Return it with the record of a stage: its report, and its facts as a step of lineage."""
        step = {"step": report.stage, **facts}
        return replace(self, lineage=(*self.lineage, step), reports=(*self.reports, report))
