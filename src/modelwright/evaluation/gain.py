"""How much better a model is than another method, in its headline metric.

Both are compared on the same samples. Of samples with one label each the interval is that of
`compare.accuracy_difference`; of others the difference is resampled with the samples, so that what
both find hard isn't counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelwright.arrays import Bools, Doubles, Ints
from modelwright.evaluation.bootstrap import HALF_SAMPLES, draws, half_sample_bounds
from modelwright.evaluation.intervals import TAIL
from modelwright.evaluation.labels import accuracy_difference
from modelwright.evaluation.measurement import Record
from modelwright.evaluation.studentized import interval_method, studentized_bounds, units
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence
from modelwright.recipe.targets import METRICS, headline_metric
from modelwright.tasks import Compute, Ranking, SampleStats, Scoring

GAIN = "gain_over_simple"
"""The metric's name in the ledger."""


@dataclass(frozen=True, slots=True)
class PairedStats:
    """A model and what it is compared with, on the same samples."""

    name: str
    """What it is compared with."""
    model: SampleStats
    """The statistics of each sample, as the model predicts it."""
    other: SampleStats
    """The same, as the other one does."""


def gain_over_simple(
    compared: Sequence[PairedStats],
    kind: OutputKind,
    compute: Compute,
    record: Record,
    *,
    model: str,
    is_method: str = "",
    texts: Ints | None = None,
) -> Evidence:
    """Return the model's headline metric minus that of the best simple method.

    A metric that is better when lower counts the other way round, so that more than 0 is always
    better. Where the best simple method is what the model is, the difference is 0 by definition.

    Args:
        compared: the simple methods, one at least.
        kind: what is predicted.
        compute: turns statistics into metrics by name.
        record: makes a record about the model.
        model: the model digest.
        is_method: the simple method that the model is, if it is one.
        texts: for windows of texts, in their order: the number of the text of each.
    """
    gains = [_gain(each, kind, compute)[1] for each in compared]
    best = compared[gains.index(min(gains))]
    if best.name == is_method:
        size = len(next(iter(best.other.values())))
        method = f"the best simple method, {best.name}, is what the model is"
        return record(GAIN, 0.0, (0.0, 0.0), n=size, method=method, model=model, basis="derived")
    subject = f"the best simple method, {best.name}"
    return paired_gain(GAIN, best, subject, kind, compute, record, model=model, texts=texts)


def paired_gain(
    name: str,
    pair: PairedStats,
    subject: str,
    kind: OutputKind,
    compute: Compute,
    record: Record,
    *,
    model: str,
    texts: Ints | None = None,
) -> Evidence:
    """Return by how much the headline metric is better than another's, with its paired interval.

    Args:
        name: the metric's name in the ledger.
        pair: the statistics of both on the same samples.
        subject: the words for the other one.
        kind: what is predicted.
        compute: turns statistics into metrics by name.
        record: makes a record about the model.
        model: the model digest.
        texts: for windows of texts, in their order: the number of the text of each.
    """
    metric, gain, sign = _gain(pair, kind, compute)
    if kind == OutputKind.SINGLE_LABEL:
        found = accuracy_difference(*_hits(pair), record, model=model)
        gain, low, high, how = found.value, found.low, found.high, "Bonett and Price"
    elif isinstance(compute, Scoring):
        both = [compute.columns(stats) for stats in (pair.model, pair.other)]
        columns, unit = units(np.concatenate(both, axis=1), texts)
        low, high = studentized_bounds(columns, _difference_of_sums(metric, sign, compute))[GAIN]
        how = f"a {interval_method(len(columns))}{unit}"
    elif isinstance(compute, Ranking):
        support = compute.support
        difference = Ranking(
            _difference(metric, sign, compute), lambda both: support(_part(both, "model."))
        )
        low, high = half_sample_bounds(_both(pair), difference)[GAIN]
        how = HALF_SAMPLES
    else:
        drawn = draws(_both(pair), _difference(metric, sign, compute))[GAIN]
        low, high = (float(end) for end in np.quantile(drawn, [TAIL, 1 - TAIL]))
        how = f"a bootstrap of {len(drawn):,} draws"
    terms = "the model's minus that of" if sign > 0 else "how much the model's is below that of"
    method = f"{metric}, {terms} {subject}, on the same samples; paired interval of {how}"
    size = len(next(iter(pair.other.values())))
    return record(name, gain, (min(gain, low), max(gain, high)), n=size, method=method, model=model)


def _gain(pair: PairedStats, kind: OutputKind, compute: Compute) -> tuple[str, float, float]:
    """Return the headline metric, the gain in it, and 1, or -1 where lower is better."""
    if kind == OutputKind.SINGLE_LABEL:
        own, others = _hits(pair)
        return "accuracy", float(own.mean() - others.mean()), 1.0
    metric = headline_metric(compute(pair.model)) or ""
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    gain = float(compute(pair.model)[metric]) - float(compute(pair.other)[metric])
    return metric, sign * gain, sign


def _hits(compared: PairedStats) -> tuple[Bools, Bools]:
    """Return which samples the model has right, and which the other one, `[N]` each."""
    other = compared.other
    return compared.model["ranks"] == 0, other["predicted"] == other["targets"]


def _both(compared: PairedStats) -> SampleStats:
    """Return the statistics of both as those of one thing, for resampling."""
    return {f"model.{name}": values for name, values in compared.model.items()} | {
        f"other.{name}": values for name, values in compared.other.items()
    }


def _part(both: SampleStats, of: str) -> SampleStats:
    """Return the statistics of one of both again."""
    return {name.removeprefix(of): both[name] for name in both if name.startswith(of)}


def _difference_of_sums(metric: str, sign: float, scoring: Scoring) -> Scoring:
    """Return what computes the difference from the sums of both, side by side."""

    def difference(sums: Doubles) -> Mapping[str, Doubles]:
        model, other = (scoring.of_sums(half) for half in np.split(sums, 2, axis=-1))
        return {GAIN: sign * (model[metric] - other[metric])}

    return Scoring(scoring.columns, difference)


def _difference(metric: str, sign: float, compute: Compute) -> Compute:
    """Return what computes the difference from the statistics of both."""

    def difference(both: SampleStats) -> Mapping[str, float]:
        model, other = (compute(_part(both, of)) for of in ("model.", "other."))
        return {GAIN: sign * (float(model[metric]) - float(other[metric]))}

    return difference
