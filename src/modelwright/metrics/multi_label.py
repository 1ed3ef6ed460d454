"""Metrics of sets of labels: each label of a sample is predicted or not, whatever the others are.

Outputs are logits `[N, K]`, a label's own each; targets `[N, K]` say which labels a sample has.
More targets may follow, of labels that training had none of: they are never predicted, and missed
where a sample has them. A label is predicted where its probability is at least one half: the choice
with the fewest errors where probabilities are true ones, and the same for every label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from modelwright.arrays import Array, Doubles, Floats, Ints
from modelwright.errors import DataError
from modelwright.metrics.classification import class_rates, finite

DECISION_THRESHOLD = 0.5
"""The least probability of a predicted label."""


LabelOutcomes = Mapping[str, Array]
"""What `label_outcomes` returns."""


def label_outcomes(outputs: Floats, targets: Array, *, unknown: int = 0) -> dict[str, Array]:
    """Return the predicted and the true labels of each sample, and its loss.

    Args:
        outputs: logits `[N, K]`.
        targets: which labels each sample has `[N, K + U]`.
        unknown: U, how many of the labels no output stands for.

    Returns:
        `predicted` and `targets` `[N, K + U]`, bool; `losses` `[N]`, binary cross-entropy in nats,
        the mean over the labels, infinite where a sample has a label that no output stands for.

    Raises:
        DataError: the outputs aren't finite, or the targets don't fit them.
    """
    outputs, targets = finite(outputs), np.asarray(targets)
    num_outputs = outputs.shape[1]
    if targets.shape != (len(outputs), num_outputs + unknown):
        raise DataError(
            f"outputs {list(outputs.shape)} need a target for each label, not {list(targets.shape)}"
        )
    if not ((targets == 0) | (targets == 1)).all():
        raise DataError("a sample has a label or hasn't: targets are 1 or 0")
    logits, is_true = outputs.astype(np.float64), targets.astype(np.bool_)
    # −log of the probability of what is true, without overflow: log(1 + exp(∓x)).
    signed = np.where(is_true[:, :num_outputs], -logits, logits)
    losses = np.logaddexp(0.0, signed).mean(axis=1)
    losses[is_true[:, num_outputs:].any(axis=1)] = np.inf
    predicted = np.pad(sigmoid(outputs) >= DECISION_THRESHOLD, ((0, 0), (0, unknown)))
    return {"predicted": predicted, "targets": is_true, "losses": losses}


def sigmoid(outputs: Floats) -> Doubles:
    """Return the probabilities that logits of any shape stand for, each by itself.

    >>> sigmoid(np.array([0.0, -1e4, 1e4])).tolist()
    [0.5, 0.0, 1.0]
    """
    small = np.exp(-np.abs(np.asarray(outputs, dtype=np.float64)))  # at most 1
    probabilities: Doubles = np.where(np.asarray(outputs) >= 0, 1.0, small) / (1.0 + small)
    return probabilities


def exact_match(outcomes: LabelOutcomes) -> float:
    """Return the share of samples whose predicted labels are just those that they have.

    Raises:
        DataError: there are no samples.
    """
    if not len(outcomes["targets"]):
        raise DataError("there are no samples to measure")
    return float((outcomes["predicted"] == outcomes["targets"]).all(axis=1).mean())


def label_counts(outcomes: LabelOutcomes) -> tuple[Ints, Ints, Ints]:
    """Return how often each label is rightly predicted, predicted, and true: `[K]` each."""
    predicted, targets = outcomes["predicted"], outcomes["targets"]
    hits, chosen, support = (
        labels.sum(axis=0, dtype=np.int64) for labels in (predicted & targets, predicted, targets)
    )
    return hits, chosen, support


def f1_micro(hits: ArrayLike, predicted: ArrayLike, support: ArrayLike) -> float:
    """Return F1 over all labels of all samples, from the counts of each label; 0 without any."""
    sums = (np.asarray(counts).sum() for counts in (hits, predicted, support))
    return float(class_rates(*sums)[2])
