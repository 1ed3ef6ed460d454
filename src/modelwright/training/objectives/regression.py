"""Losses for numbers: squared error, and Huber's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelwright.data.batches import Batch, target_tensor


def _matched(outputs: Tensor, targets: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    values = outputs if outputs.dtype == torch.float64 else outputs.float()
    wanted = targets.to(values.dtype).reshape(values.shape)
    if scale is None:
        return values, wanted
    by = scale.to(values.dtype)
    return values / by, wanted / by


@dataclass(frozen=True, slots=True)
class SquaredError:
    """The squared error, averaged over a sample's numbers.

    `scale` `[D]` divides outputs and targets first, so that the loss knows no unit.
    """

    scale: Tensor | None = None

    def __call__(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample; outputs and targets hold `[N, …]` numbers."""
        values, wanted = _matched(outputs, target_tensor(batch), self.scale)
        losses = F.mse_loss(values, wanted, reduction="none").flatten(1).mean(1)
        return losses, torch.ones_like(losses)


@dataclass(frozen=True, slots=True)
class Huber:
    """Huber's loss (1964), averaged over a sample's numbers: squared up to `delta`, then linear."""

    delta: float = 1.0
    scale: Tensor | None = None

    def __call__(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample; outputs and targets hold `[N, …]` numbers."""
        values, wanted = _matched(outputs, target_tensor(batch), self.scale)
        losses = F.huber_loss(values, wanted, reduction="none", delta=self.delta).flatten(1).mean(1)
        return losses, torch.ones_like(losses)
