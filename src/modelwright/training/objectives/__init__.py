"""What is minimised: one objective a loss, each giving a loss and a weight per sample.

An objective is called with a network's raw outputs and the whole batch, of which most need the
targets alone, and returns `(loss[N], weight[N])`. Reducing them belongs to the gradient rule, so
that accumulation, ranks and uneven batches stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modelwright.data.batches import Batch
from modelwright.errors import RecipeError
from modelwright.kinds import OutputKind
from modelwright.models import ImageNetwork
from modelwright.models.detector import Detector, locations
from modelwright.recipe.spec import Spec
from modelwright.recipe.train import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    CtcLoss,
    DetectionLoss,
    HuberLoss,
    LossSpec,
    MseLoss,
)
from modelwright.training.objectives.classification import BinaryCrossEntropy, CrossEntropy
from modelwright.training.objectives.ctc import Ctc
from modelwright.training.objectives.detection import Detection
from modelwright.training.objectives.regression import Huber, SquaredError
from modelwright.training.objectives.sequence import SequenceCrossEntropy

Objective = Callable[[Any, Batch], tuple[torch.Tensor, torch.Tensor]]
"""From outputs, a tensor or several, and their batch to losses and weights `[N]`."""

DEFAULT_LOSSES: dict[OutputKind, LossSpec] = {
    OutputKind.SINGLE_LABEL: CrossEntropyLoss(name="cross-entropy"),
    OutputKind.MULTI_LABEL: BinaryCrossEntropyLoss(name="binary-cross-entropy"),
    OutputKind.REGRESSION: MseLoss(name="mse"),
    OutputKind.CTC: CtcLoss(name="ctc"),
    OutputKind.SEQ2SEQ: CrossEntropyLoss(name="cross-entropy", label_smoothing=0.1),
    OutputKind.CAUSAL_LM: CrossEntropyLoss(name="cross-entropy"),
    OutputKind.BOXES: DetectionLoss(name="detection"),
}
"""What `loss: auto` stands for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an objective may depend on beside its section."""

    output_kind: OutputKind
    targets: Any
    """The targets of the training split."""
    num_outputs: int
    """K, how many classes there are; 0 where the outputs have no names."""
    device: str
    network: nn.Module | None = None


def resolve_loss(spec: LossSpec | Literal["auto"], output_kind: OutputKind) -> LossSpec:
    """Return the loss that is meant, `auto` being that of the kind of output.

    Raises:
        RecipeError: the loss is for another kind of output.
    """
    if spec == "auto":
        return DEFAULT_LOSSES[output_kind]
    if output_kind not in spec.outputs:
        raise RecipeError(
            f"`train.loss: {spec.name}` isn't for predicting {output_kind.noun}",
            fix=f"Leave `loss` out, or use `{DEFAULT_LOSSES[output_kind].name}`",
        )
    return spec


def build_objective(
    spec: LossSpec,
    targets: Any,
    *,
    output_kind: OutputKind,
    num_outputs: int,
    device: str,
    network: nn.Module | None = None,
) -> Objective:
    """Return the objective that a loss section asks for.

    Args:
        spec: the loss, resolved by `resolve_loss`.
        targets: the targets of the training split, from which class weights are counted.
        output_kind: what is predicted.
        num_outputs: K, how many classes there are; 0 where the outputs have no names.
        device: where the objective computes.
        network: a detector, whose locations the loss is taken over.

    Raises:
        RecipeError: the loss doesn't fit the targets.
    """
    setting = Setting(output_kind, targets, num_outputs, device, network)
    return OBJECTIVES[type(spec)](spec, setting)


def _cross_entropy(spec: CrossEntropyLoss, setting: Setting) -> Objective:
    if setting.output_kind.is_generative:
        return SequenceCrossEntropy(spec.label_smoothing)
    if not np.issubdtype(setting.targets.dtype, np.integer):
        raise RecipeError(
            "`train.loss: cross-entropy` needs labels, and the targets are numbers",
            fix="Use `mse` or `huber`",
        )
    weights = None
    if spec.class_weights == "balanced":
        counts = np.bincount(setting.targets, minlength=setting.num_outputs).astype(np.float64)
        balanced = len(setting.targets) / (setting.num_outputs * np.maximum(counts, 1.0))
        weights = torch.as_tensor(balanced, dtype=torch.float32, device=setting.device)
    return CrossEntropy(label_smoothing=spec.label_smoothing, class_weights=weights)


def _squared_error(spec: MseLoss, setting: Setting) -> Objective:
    return SquaredError(_deviation(setting.targets, setting.num_outputs, setting.device))


def _huber(spec: HuberLoss, setting: Setting) -> Objective:
    scale = _deviation(setting.targets, setting.num_outputs, setting.device)
    return Huber(delta=spec.delta, scale=scale)


def _detection(spec: DetectionLoss, setting: Setting) -> Objective:
    assert isinstance(setting.network, ImageNetwork)
    body = setting.network.body
    assert isinstance(body, Detector)
    return Detection(locations(body.height, body.width, body.strides).to(setting.device))


OBJECTIVES: dict[type[Spec], Callable[[Any, Setting], Objective]] = {
    CrossEntropyLoss: _cross_entropy,
    BinaryCrossEntropyLoss: lambda spec, setting: BinaryCrossEntropy(),
    MseLoss: _squared_error,
    HuberLoss: _huber,
    CtcLoss: lambda spec, setting: Ctc(),
    DetectionLoss: _detection,
}
"""From each section `train.loss` to its objective."""


def _deviation(targets: NDArray[np.generic], num_outputs: int, device: str) -> torch.Tensor | None:
    """Return the deviation of each named number in training; of unnamed ones nothing is known."""
    if not num_outputs or targets.ndim != 2:
        return None
    found = targets.astype(np.float64).std(axis=0)
    return torch.as_tensor(np.where(found > 0, found, 1.0), dtype=torch.float32, device=device)
