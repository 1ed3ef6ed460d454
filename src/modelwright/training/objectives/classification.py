"""Cross-entropy over classes, with hard or soft targets, and of each label by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelwright.data.batches import Batch, target_tensor
from modelwright.training.precision import at_least_fp32


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross-entropy with label smoothing (Szegedy et al. 2016, section 7) and class weights.

    A class weight enters as the sample's weight, so the batch's loss is the weighted mean. Of a
    sample of several classes each share is weighted by its own class.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample.

        Args:
            outputs: logits `[N, K]`.
            batch: its targets are class numbers `[N]`, or shares of classes `[N, K]` that sum to 1.
        """
        targets, logits = target_tensor(batch), at_least_fp32(outputs)
        sample_weights = torch.ones(len(targets), dtype=logits.dtype, device=logits.device)
        is_mixed = targets.is_floating_point()
        if is_mixed:
            targets = targets.to(logits.dtype)
        if self.class_weights is not None:
            weights = self.class_weights.to(logits.dtype)
            sample_weights = targets @ weights if is_mixed else weights[targets]
            if is_mixed:
                targets = targets * weights / sample_weights[:, None]
        losses = F.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )
        return losses, sample_weights


def binary_cross_entropy(outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each label by itself, averaged over a sample's labels.

    Args:
        outputs: logits `[N, K]`.
        batch: its targets say whether a sample has each label `[N, K]`.

    Returns:
        The loss and weight of each sample.
    """
    logits = at_least_fp32(outputs)
    targets = target_tensor(batch).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    return losses, torch.ones_like(losses)
