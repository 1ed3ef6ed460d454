"""What is minimised: one objective a loss, each giving a loss and a weight per sample.

An objective is called with a network's raw outputs and the whole batch, of which most need the
targets alone, and returns `(loss[N], weight[N])`. Reducing them belongs to the gradient rule, so
that accumulation, ranks and uneven batches stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modelwright.arrays import Integers
from modelwright.data.batches import Batch
from modelwright.errors import RecipeError
from modelwright.kinds import OutputKind
from modelwright.models.detector import locations_of
from modelwright.recipe.train import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    CtcLoss,
    DetectionLoss,
    HuberLoss,
    LossSpec,
    MseLoss,
)
from modelwright.training.objectives.classification import CrossEntropy, binary_cross_entropy
from modelwright.training.objectives.ctc import ctc_loss
from modelwright.training.objectives.detection import Detection
from modelwright.training.objectives.regression import RegressionLoss
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
    match spec:
        case CrossEntropyLoss() if output_kind.is_generative:
            return SequenceCrossEntropy(spec.label_smoothing)
        case CrossEntropyLoss():
            if not np.issubdtype(targets.dtype, np.integer):
                raise RecipeError(
                    "`train.loss: cross-entropy` needs labels, and the targets are numbers",
                    fix="Use `mse` or `huber`",
                )
            is_balanced = spec.class_weights == "balanced"
            weights = _class_weights(targets, num_outputs).to(device) if is_balanced else None
            return CrossEntropy(label_smoothing=spec.label_smoothing, class_weights=weights)
        case BinaryCrossEntropyLoss():
            return binary_cross_entropy
        case MseLoss():
            return RegressionLoss(scale=_deviation(targets, num_outputs, device))
        case HuberLoss():
            return RegressionLoss(spec.delta, scale=_deviation(targets, num_outputs, device))
        case CtcLoss():
            return ctc_loss
        case DetectionLoss():
            assert network is not None
            return Detection(locations_of(network).to(device))


def _class_weights(targets: Integers, num_classes: int) -> torch.Tensor:
    """Return a weight for each class `[K]`, in inverse proportion to how often it occurs."""
    counts = np.bincount(targets, minlength=num_classes).astype(np.float64)
    weights = len(targets) / (num_classes * np.maximum(counts, 1.0))
    return torch.as_tensor(weights, dtype=torch.float32)


def _deviation(targets: NDArray[np.generic], num_outputs: int, device: str) -> torch.Tensor | None:
    """Return the standard deviation of each named number in training, 1 where it doesn't vary."""
    if not num_outputs or targets.ndim != 2:
        return None
    deviation = targets.astype(np.float64).std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return torch.as_tensor(scale, dtype=torch.float32, device=device)
