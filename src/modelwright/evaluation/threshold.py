"""The decision threshold of a class that is not to be missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from modelwright import metrics
from modelwright.arrays import Bools, Doubles, Floats
from modelwright.data.dataset import Split
from modelwright.errors import DataError, nearest
from modelwright.evaluation.intervals import share
from modelwright.evaluation.latency import Place
from modelwright.evaluation.measure import CHUNK
from modelwright.evaluation.measurement import recorder
from modelwright.ledger import Evidence, Ledger, exact
from modelwright.tasks.inference import Threshold

if TYPE_CHECKING:
    from modelwright.modelfile import Model

THRESHOLD = "threshold"


def highest_threshold(probabilities: Floats, of_class: Bools, *, min_recall: float) -> float:
    """Return the highest threshold at which a class has this recall.

    From the probability of the class `[N]`, and which samples are of it `[N]`, at least one.

    >>> is_cat = np.array([True, True, False, True])
    >>> highest_threshold(np.array([0.9, 0.4, 0.7, 0.8]), is_cat, min_recall=0.6)
    0.8
    """
    own = np.sort(probabilities[of_class])[::-1]
    # The tolerance makes 0.95 · 20 require 19 samples and not 20.
    needed = max(int(np.ceil(min_recall * len(own) - 1e-9)), 1)
    return float(own[needed - 1])


def choose_threshold(
    model: Model, validation: Split, *, label: str, min_recall: float
) -> tuple[float, str]:
    """Choose on the validation split from which probability on a class is predicted.

    Returns:
        The threshold, and how it was chosen.

    Raises:
        DataError: the model has no such class, or the split no sample of it.
    """
    number = require_class(label, model.labels)
    probabilities, of_class = _probabilities(model, validation, number)
    if not of_class.any():
        raise DataError(
            f"the validation split holds no `{label}`, so no threshold can be chosen for it",
            where="inference.threshold",
            fix="Raise `data.split.val`",
        )
    method = (
        f"the highest probability from which on at least {min_recall:g} of the validation "
        f"split's {int(of_class.sum()):,} `{label}` are found"
    )
    return highest_threshold(probabilities, of_class, min_recall=min_recall), method


def threshold_evidence(
    threshold: Threshold, *, method: str, model: str, fingerprint: str
) -> Evidence:
    """Return the record of a threshold that was chosen for a model on the validation split."""
    return exact(
        THRESHOLD,
        threshold.probability,
        method=method,
        model=model,
        split="validation",
        data=fingerprint,
        slice=f"label={threshold.label}",
    )


def measure_threshold(
    model: Model, samples: Split, fingerprint: str, place: Place
) -> list[Evidence]:
    """Return the recall and the precision of the class that a model has a threshold for, if any."""
    threshold = model.inference.threshold
    if threshold is None:
        return []
    label = threshold.label
    probabilities, of_class = _probabilities(model, samples, require_class(label, model.labels))
    is_predicted = probabilities >= threshold.probability
    hits = int((is_predicted & of_class).sum())
    record = recorder(samples, fingerprint, model=model.digest, **asdict(place))
    shares = {
        "recall_at_threshold": (of_class, f"share of the `{label}` that are found"),
        "precision_at_threshold": (is_predicted, f"share of those predicted `{label}` that are"),
    }
    evidence = []
    for metric, (samples_of, what) in shares.items():
        count = int(samples_of.sum())
        method = f"{what}, from a probability of {threshold.probability:.4g} on; exact interval"
        value = hits / count if count else 0.0
        evidence.append(record(metric, value, share(hits, count), n=count, method=method))
    return evidence


def chosen_threshold(ledger: Ledger) -> Evidence | None:
    """Return the threshold that was chosen when a file was made, if one was."""
    return next((record for record in ledger if record.metric == THRESHOLD), None)


def require_class(label: str, labels: Sequence[str]) -> int:
    """Return the number of a class.

    Raises:
        DataError: there is no such class.
    """
    if label not in labels:
        raise DataError(
            f"there is no class `{label}`",
            where="inference.threshold.label",
            why=nearest(label, labels) or f"The classes are {', '.join(labels[:10])}",
        )
    return list(labels).index(label)


def _probabilities(model: Model, samples: Split, number: int) -> tuple[Doubles, Bools]:
    """Return the probability of a class for each sample `[N]`, and whether it is of it `[N]`."""
    parts = [
        metrics.softmax(model.outputs(samples.gather(slice(start, start + CHUNK))))[:, number]
        for start in range(0, len(samples), CHUNK)
    ]
    return np.concatenate(parts), np.asarray(samples.targets[:]) == number
