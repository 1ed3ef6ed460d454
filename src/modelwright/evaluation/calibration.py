"""The temperature by which logits are divided, so that probabilities are as right as they say.

Guo et al. 2017, `On Calibration of Modern Neural Networks`, section 4.2. Of n samples that are all
answered rightly no probability is known to be nearer to one than 1 - 1/(n + 2), so the targets are
smoothed by that (Platt 1999, `Probabilistic Outputs for Support Vector Machines`, section 2.2); a
weak prior keeps the temperature of few samples near one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from modelwright.arrays import Array, Doubles
from modelwright.data.dataset import Split
from modelwright.evaluation.measure import CHUNK
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence, exact
from modelwright.tasks.inference import TEMPERATURES

if TYPE_CHECKING:
    from modelwright.modelfile import Model

TEMPERATURE = "temperature"
_MOST_VALUES = 40_000_000
"""So many logits are looked at, which bounds memory and time."""
_PRIOR = 1.0
"""The weight of the prior: that of one sample whose loss grows with the squared logarithm."""
_STEPS = 50


def fit_temperature(model: Model, validation: Split) -> tuple[tuple[float, ...], str]:
    """Return the temperature of a model that has none yet, and how it was fitted.

    It is one number where a sample has one label, and one for each of several labels.
    """
    most = max(_MOST_VALUES // len(model.labels), 1)
    rows = np.arange(len(validation))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    logits = np.concatenate(
        [
            model.outputs(validation.gather(rows[start : start + CHUNK]))
            for start in range(0, len(rows), CHUNK)
        ]
    )
    targets = np.asarray(validation.targets[:])[rows]
    method = f"fitted to the log loss of {len(rows):,} validation samples"
    if model.spec.output_kind == OutputKind.SINGLE_LABEL:
        is_known = targets < logits.shape[1]
        fitted = _minimum(lambda t: _class_loss(logits[is_known], targets[is_known], t), size=1)
    else:
        is_there = targets[:, : logits.shape[1]].astype(bool)
        fitted = _minimum(lambda t: _label_losses(logits, is_there, t), size=logits.shape[1])
    return tuple(round(float(value), 6) for value in fitted), method


def temperature_evidence(
    temperature: tuple[float, ...], *, method: str, model: str, fingerprint: str
) -> Evidence:
    """Return the record of a temperature; of several, of their mean."""
    if len(temperature) > 1:
        method = f"the mean of those of {len(temperature):,} labels, each {method}"
    return exact(
        TEMPERATURE,
        float(np.mean(temperature)),
        method=method,
        model=model,
        split="validation",
        data=fingerprint,
    )


def _class_loss(logits: Array, targets: Array, temperature: Doubles) -> Doubles:
    """Return the summed cross-entropy `[1]` at a temperature `[1]`."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    own = scaled[np.arange(len(targets)), targets]
    others = (scaled.sum(axis=1) - own) / max(scaled.shape[1] - 1, 1)
    wrong = 1 / (len(targets) + 2)
    expected = (1 - wrong) * own + wrong * others
    loss: Doubles = (np.log(np.exp(scaled).sum(axis=1)) - expected).sum(keepdims=True)
    return loss


def _label_losses(logits: Array, is_there: Array, temperature: Doubles) -> Doubles:
    """Return the summed cross-entropy of each label `[K]` at temperatures `[K]`."""
    scaled = logits.astype(np.float64) / temperature
    count = is_there.sum(axis=0)
    smoothed = np.where(is_there, (count + 1) / (count + 2), 1 / (len(is_there) - count + 2))
    losses: Doubles = (np.logaddexp(0.0, scaled) - smoothed * scaled).sum(axis=0)
    return losses


def _minimum(loss: Callable[[Doubles], Doubles], *, size: int) -> Doubles:
    """Return where the losses `[K]` with their prior are smallest, by golden sections."""
    ratio = (5**0.5 - 1) / 2
    low, high = (np.full(size, np.log(end)) for end in TEMPERATURES)

    def total(logarithm: Doubles) -> Doubles:
        return loss(np.exp(logarithm)) + _PRIOR * logarithm**2 / 2

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = total(left), total(right)
    for _ in range(_STEPS):
        is_left = at_left < at_right
        low, high = np.where(is_left, low, left), np.where(is_left, right, high)
        new_left, new_right = high - ratio * (high - low), low + ratio * (high - low)
        fresh = total(np.where(is_left, new_left, new_right))
        at_left, at_right = np.where(is_left, fresh, at_right), np.where(is_left, at_left, fresh)
        left, right = new_left, new_right
    found: Doubles = np.exp((low + high) / 2)
    return found
