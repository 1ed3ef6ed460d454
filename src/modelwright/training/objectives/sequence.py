"""Cross-entropy of each token of a text, for networks that predict one logit a vocabulary entry.

With large vocabularies the logits are the largest tensor of a step. They are read in slices that
fit a processor's cache, and beside them nothing of their size is kept but their gradient, in their
own format: half the time of torch's function on fp32 copies, and a third of its memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from modelwright.data.batches import Batch, target_parts
from modelwright.training.precision import at_least_fp32

PADDING = 0
"""The target of a place that doesn't count."""
_SLICE = 1 << 18
"""Logits a slice on a processor: 1 MB of fp32, the best of three sizes measured."""
_LARGE_SLICE = 1 << 26
"""On a GPU, where many small steps would wait for one another."""


@dataclass(frozen=True, slots=True)
class SequenceCrossEntropy:
    """The mean cross-entropy of a sample's tokens, weighted by their number.

    So the loss of a batch is the mean over all its tokens. Label smoothing is Szegedy et al. 2016,
    section 7, over the whole vocabulary, as in torch.
    """

    label_smoothing: float = 0.0

    def __call__(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample; one without tokens has 0 and 0.

        Args:
            outputs: logits `[N, S, V]`.
            batch: the first of its targets are token ids `[N, S]`, padded with 0.
        """
        targets = target_parts(batch)[0]
        losses = token_losses(
            outputs.flatten(0, 1), targets.flatten(), label_smoothing=self.label_smoothing
        )
        counts = (targets != PADDING).to(losses.dtype)
        weights = counts.sum(1)
        sums = (losses.view(targets.shape) * counts).sum(1)
        return sums / weights.clamp_min(1.0), weights


def token_losses(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each token `[M]`, in fp32 at least.

    Logits are `[M, V]`, targets token ids `[M]`; the share `label_smoothing` of a target is spread
    over the vocabulary.
    """
    losses: Tensor = _TokenLosses.apply(logits, targets, label_smoothing)  # type: ignore[no-untyped-call]
    return losses


class _TokenLosses(torch.autograd.Function):
    """`log Σ exp x − (1 − ε)·x[target] − ε·mean x`, and its gradient, slice by slice."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        totals, losses = (torch.empty(len(logits), dtype=dtype, device=logits.device) for _ in "ab")
        for part in _slices(logits):
            values = at_least_fp32(logits[part])
            totals[part] = values.logsumexp(1)
            target_logits = values.gather(1, targets[part, None])[:, 0]
            losses[part] = totals[part] - (1 - smoothing) * target_logits
            if smoothing:
                losses[part] -= smoothing * values.mean(1)
        ctx.save_for_backward(logits, targets, totals)
        ctx.smoothing = smoothing
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, totals = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for part in _slices(logits):
            values = torch.exp(logits[part].to(totals.dtype) - totals[part, None])
            if ctx.smoothing:
                values -= ctx.smoothing / logits.shape[1]
            hit = values.new_full((len(values), 1), ctx.smoothing - 1)
            values.scatter_add_(1, targets[part, None], hit)
            torch.mul(values, slopes[part, None], out=values)
            gradient[part] = values
        return gradient, None, None


def _slices(logits: Tensor) -> list[slice]:
    size = _SLICE if logits.device.type == "cpu" else _LARGE_SLICE
    rows = max(1, size // logits.shape[1])
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]
