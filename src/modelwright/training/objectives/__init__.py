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

from modelwright.data.batches import Batch
from modelwright.errors import RecipeError
from modelwright.models import ImageNetwork
from modelwright.models.detector import Detector, locations
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

TASK_LOSS: dict[str, LossSpec] = {
    "image-classification": CrossEntropyLoss(name="cross-entropy"),
    "text-classification": CrossEntropyLoss(name="cross-entropy"),
    "audio-classification": CrossEntropyLoss(name="cross-entropy"),
    "regression": MseLoss(name="mse"),
    "language-modeling": CrossEntropyLoss(name="cross-entropy"),
    "translation": CrossEntropyLoss(name="cross-entropy", label_smoothing=0.1),
    "summarization": CrossEntropyLoss(name="cross-entropy", label_smoothing=0.1),
    "speech-recognition": CtcLoss(name="ctc"),
    "object-detection": DetectionLoss(name="detection"),
}
"""What `loss: auto` stands for."""
OUTPUT_LOSS: dict[str, LossSpec] = {
    "labels": BinaryCrossEntropyLoss(name="binary-cross-entropy"),
}
"""What it stands for where a task has outputs of another kind than usual."""


def resolve_loss(spec: LossSpec | Literal["auto"], *, task: str, output_kind: str = "") -> LossSpec:
    """Return the loss that is meant, `auto` being the task's own, or that of its outputs.

    Raises:
        RecipeError: the task has none.
    """
    if spec != "auto":
        return spec
    if output_kind in OUTPUT_LOSS:
        return OUTPUT_LOSS[output_kind]
    if task not in TASK_LOSS:
        raise RecipeError(
            f"`train.loss: auto` has no meaning for the task `{task}`",
            fix="Name one: `cross-entropy` for labels, `mse` or `huber` for numbers",
        )
    return TASK_LOSS[task]


def build_objective(
    spec: LossSpec,
    targets: Any,
    *,
    num_outputs: int,
    device: str,
    network: nn.Module | None = None,
) -> Objective:
    """Return the objective that a loss section asks for.

    Args:
        spec: the loss, `auto` resolved.
        targets: the targets of the training split, from which class weights are counted.
        network: a detector, whose locations the loss is taken over.
        num_outputs: K, how many classes there are; 0 where the outputs are numbers.
        device: where the objective computes.

    Raises:
        RecipeError: the loss doesn't fit the targets.
    """
    if not isinstance(targets, np.ndarray):
        return _sequence_objective(spec, device, network)
    if targets.dtype == np.bool_ and targets.ndim == 2:
        return _label_set_objective(spec)
    are_classes = num_outputs > 0 and np.issubdtype(targets.dtype, np.integer)
    if are_classes and not isinstance(spec, CrossEntropyLoss):
        raise RecipeError(
            f"`train.loss: {spec.name}` compares numbers, and the targets are labels",
            fix="Use `cross-entropy`",
        )
    match spec:
        case CrossEntropyLoss():
            if not np.issubdtype(targets.dtype, np.integer):
                raise RecipeError(
                    "`train.loss: cross-entropy` needs labels, and the targets are numbers",
                    fix="Use `mse` or `huber`",
                )
            weights = None
            if spec.class_weights == "balanced":
                counts = np.bincount(targets, minlength=num_outputs).astype(np.float64)
                present = np.maximum(counts, 1.0)
                weights = torch.as_tensor(
                    len(targets) / (num_outputs * present), dtype=torch.float32, device=device
                )
            return CrossEntropy(label_smoothing=spec.label_smoothing, class_weights=weights)
        case MseLoss():
            return SquaredError(_deviation(targets, num_outputs, device))
        case HuberLoss():
            return Huber(delta=spec.delta, scale=_deviation(targets, num_outputs, device))
        case _:
            raise RecipeError(
                f"`train.loss: {spec.name}` isn't for these targets", fix="Leave `loss` out"
            )


def _label_set_objective(spec: LossSpec) -> Objective:
    """Return the objective for targets `[N, K]` that say which labels a sample has."""
    if not isinstance(spec, BinaryCrossEntropyLoss):
        raise RecipeError(
            f"`train.loss: {spec.name}` isn't for samples of several labels",
            fix="Use `binary-cross-entropy`",
        )
    return BinaryCrossEntropy()


def _sequence_objective(spec: LossSpec, device: str, network: nn.Module | None) -> Objective:
    """Return the objective for targets of different lengths: texts, letters, boxes."""
    match spec:
        case CrossEntropyLoss():
            return SequenceCrossEntropy(spec.label_smoothing)
        case CtcLoss():
            return Ctc()
        case DetectionLoss():
            assert isinstance(network, ImageNetwork)
            assert isinstance(network.body, Detector)
            body = network.body
            return Detection(locations(body.height, body.width, body.strides).to(device))
        case _:
            raise RecipeError(
                f"`train.loss: {spec.name}` compares numbers, and the targets are none",
                fix="Leave `loss` out",
            )


def _deviation(targets: NDArray[np.generic], num_outputs: int, device: str) -> torch.Tensor | None:
    """Return the deviation of each named number in training; of unnamed ones nothing is known."""
    if not num_outputs or targets.ndim != 2:
        return None
    found = targets.astype(np.float64).std(axis=0)
    return torch.as_tensor(np.where(found > 0, found, 1.0), dtype=torch.float32, device=device)
