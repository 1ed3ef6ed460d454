"""Losses for numbers: squared error, and Huber's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelwright.data.batches import Batch, target_tensor
from modelwright.training.precision import at_least_fp32


@dataclass(frozen=True, slots=True)
class RegressionLoss:
    """Squared error or Huber's loss (1964), averaged over a sample's numbers.

    Args:
        delta: the error up to which Huber's loss is squared, and from which on it is linear; `None`
            is the squared error.
        scale: `[D]`, by which outputs and targets are divided first, so that units don't matter.
    """

    delta: float | None = None
    scale: Tensor | None = None

    def __call__(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample; outputs and targets hold `[N, …]` numbers."""
        outputs = at_least_fp32(outputs)
        targets = target_tensor(batch).to(outputs.dtype).reshape(outputs.shape)
        if self.scale is not None:
            scale = self.scale.to(outputs.dtype)
            outputs, targets = outputs / scale, targets / scale
        if self.delta is None:
            errors = F.mse_loss(outputs, targets, reduction="none")
        else:
            errors = F.huber_loss(outputs, targets, reduction="none", delta=self.delta)
        losses = errors.flatten(1).mean(1)
        return losses, torch.ones_like(losses)
