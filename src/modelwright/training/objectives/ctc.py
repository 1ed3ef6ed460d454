"""Connectionist temporal classification: labels without their places in time.

Graves et al. 2006, section 4: minus the logarithm of the probability of all paths of labels and
blanks that collapse to these labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modelwright.data.batches import Batch, target_parts
from modelwright.tasks.ctc import BLANK
from modelwright.training.precision import at_least_fp32


def ctc_loss(outputs: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the loss of each sample per label, and as its weight how many labels it has.

    So the batch's loss is the sum over samples divided by the number of labels. No labels at all
    count as one. Labels that need more steps than a sample has can't be learnt: such a sample gets
    the weight 0, which no other one has, so that `(weight == 0).sum()` counts them.

    Args:
        outputs: logits `[N, S, K]` with the blank as class 0, and steps `[N]`.
        batch: its targets are labels `[N, L]`, 1…K−1 and padded with 0, and their number `[N]`.
    """
    (logits, steps), (labels, length) = outputs, target_parts(batch)
    logits = at_least_fp32(logits)
    num_labels = length.clamp(min=1).to(logits.dtype)
    if not len(labels):  # torch's own takes no empty batch.
        return logits.sum((1, 2)), num_labels
    losses = F.ctc_loss(
        F.log_softmax(logits, -1).transpose(0, 1),
        labels,
        steps,
        length,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    fits = steps_needed(labels, length) <= steps
    return losses / num_labels, torch.where(fits, num_labels, 0.0)


def steps_needed(labels: Tensor, length: Tensor) -> Tensor:
    """Return how many steps the labels `[N, L]` need at least, `[N]`.

    One for each label, and a blank between two that are equal.
    """
    is_repeat = labels[:, 1:] == labels[:, :-1]
    is_within = torch.arange(labels.shape[1], device=labels.device)[1:] < length[:, None]
    return length + (is_repeat & is_within).sum(1)
