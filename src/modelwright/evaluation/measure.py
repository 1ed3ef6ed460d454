"""How good a model file is at its task, through the runtime that serves.

The model predicts in chunks, and only a few figures per sample are kept, so that 100,000 classes or
a million samples fit into memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright import metrics
from modelwright.arrays import Bools, Doubles, Ints
from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation.bootstrap import bounded
from modelwright.evaluation.labels import (
    WITHOUT_NEAR,
    accuracy,
    per_label_figures,
    single_label_figures,
)
from modelwright.evaluation.latency import Place
from modelwright.evaluation.measurement import Measurement, Record, recorder, sizes
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence
from modelwright.run import Observe, Progress, silent
from modelwright.tasks import SampleStats, Task, concatenate, take

if TYPE_CHECKING:
    from modelwright.modelfile import Model

CHUNK = 256
"""The most samples of a chunk."""
_FEW = 32
"""The samples of the first chunk, and of each chunk of generated texts."""
_VALUES_AT_ONCE = 16_000_000
"""The most outputs of a chunk, which bounds its memory: 64 MB."""
WORST = 24
"""The number of mistakes, or of largest errors, that the report shows."""


def measure(
    model: Model,
    samples: Split,
    task: Task,
    *,
    fingerprint: str,
    place: Place,
    near_duplicates: Ints | None = None,
    chunk: int = CHUNK,
    observe: Observe = silent,
) -> Measurement:
    """Measure a model file on a split.

    The split's name says which evidence it gives. Where it holds some of the rows
    `near_duplicates`, which resemble one of another split, metrics without them are added. A chunk
    holds at most `chunk` samples, fewer where outputs are large.

    Raises:
        DataError: there are no samples, the targets aren't those of the task, or the outputs aren't
            finite.
    """
    if len(samples) == 0:
        raise DataError(f"the {samples.name} split holds no samples to measure")
    labels = tuple(model.labels)
    stats = _stats_of(model, samples, task, (*labels, *samples.unknown), chunk, observe)
    record = recorder(samples, fingerprint, model=model.digest, **asdict(place))
    near = np.isin(samples.rows, [] if near_duplicates is None else near_duplicates)
    measured = Measurement((), model.digest, stats, labels, samples.unknown)
    if task.output_kind == OutputKind.SINGLE_LABEL:
        measured = _single_label(measured, near, record)
    else:
        measured = _any_figures(measured, task, samples, near, record)
    if task.output_kind == OutputKind.MULTI_LABEL:
        measured = _multi_label(measured, task, record)
    if task.output_kind == OutputKind.REGRESSION:
        measured = _regression(measured)
    measured = replace(measured, evidence=(*measured.evidence, *sizes(model)))
    if task.text_metrics is None:
        return measured
    generated, texts = _generated(model, samples, task, record, observe)
    return replace(measured, evidence=(*measured.evidence, *generated), texts=texts)


def _stats_of(
    model: Model, samples: Split, task: Task, names: Sequence[str], chunk: int, observe: Observe
) -> SampleStats:
    """Return the statistics of every sample."""
    parts: list[SampleStats] = []
    start, size = 0, min(chunk, _FEW)
    while start < len(samples):
        observe(Progress("measure", start, len(samples)))
        rows = slice(start, start + size)
        outputs = model.outputs(samples.gather(rows))
        arrays = outputs if isinstance(outputs, tuple) else (outputs,)
        if not np.isfinite(arrays[0]).all():
            raise DataError(
                "the model's outputs hold values that aren't finite (NaN or infinite)",
                why="Training diverged, or the weights are damaged",
            )
        parts.append(task.sample_stats(outputs, samples.targets[rows], names))
        start += len(arrays[0])
        each = sum(array.size for array in arrays) // len(arrays[0])
        size = min(chunk, max(_VALUES_AT_ONCE // max(each, 1), 1))
    observe(Progress("measure", len(samples), len(samples)))
    return concatenate(parts)


# -- figures of each kind of prediction ---------------------------------------------------


def _any_figures(
    measured: Measurement, task: Task, samples: Split, near: Bools, record: Record
) -> Measurement:
    """Add the task's own figures, over all samples and without near-duplicates."""
    method = f"as the task {task.name} scores it"
    evidence = bounded(
        measured.stats,
        task.compute,
        record,
        method=method,
        counts=None if task.label_counts is None else task.label_counts(measured.stats),
        texts=samples.texts,
    )
    if near.any() and not near.all():
        method += f", without the {near.sum():,} samples that resemble one of another split"
        with contextlib.suppress(DataError):  # There may be nothing left, such as no box.
            evidence += bounded(
                take(measured.stats, np.flatnonzero(~near)),
                task.compute,
                partial(record, slice=WITHOUT_NEAR),
                method=method,
                texts=None if samples.texts is None else samples.texts[~near],
            )
    return replace(measured, evidence=tuple(evidence))


def _single_label(measured: Measurement, near: Bools, record: Record) -> Measurement:
    outcomes = metrics.Outcomes(**measured.stats)
    cells = metrics.confusion(outcomes.predicted, outcomes.targets, num_classes=len(measured.names))
    per_label, evidence = per_label_figures(
        metrics.class_scores(cells), measured.names, record, known=len(measured.labels)
    )
    if near.any() and not near.all():
        method = f"accuracy without the {near.sum()} samples that resemble one of another split"
        evidence.append(accuracy(outcomes.hits[~near], record, method=method, slice=WITHOUT_NEAR))
    figures = single_label_figures(outcomes, cells, record, num_classes=len(measured.labels))
    return replace(
        measured,
        evidence=(*figures, *evidence),
        worst=_largest(outcomes.confidence, ~outcomes.hits),
        per_label=per_label,
        confusion=cells,
        reliability=metrics.reliability(outcomes.confidence, outcomes.hits),
    )


def _multi_label(measured: Measurement, task: Task, record: Record) -> Measurement:
    assert task.label_counts is not None
    stats = measured.stats
    scores = metrics.scores_of(*task.label_counts(stats))
    per_label, evidence = per_label_figures(
        scores, measured.names, record, known=len(measured.labels)
    )
    is_wrong = (stats["predicted"] != stats["targets"]).any(axis=1)
    return replace(
        measured,
        evidence=(*measured.evidence, *evidence),
        worst=_largest(stats["losses"], is_wrong),
        per_label=per_label,
    )


def _regression(measured: Measurement) -> Measurement:
    """Add the numbers, and the samples with the largest errors in standard deviations."""
    predicted, targets = measured.stats["predicted"], measured.stats["targets"]
    spread = targets.std(axis=0)
    errors = np.abs(predicted - targets) / np.where(spread > 0, spread, 1.0)
    worst = _largest(errors.mean(axis=1))
    return replace(measured, worst=worst, numbers=(predicted, targets))


def _largest(values: Doubles, among: Bools | None = None) -> Ints:
    """Return where the largest values stand, largest first: of all, or of some of them."""
    order = np.argsort(-values, kind="stable")
    return (order if among is None else order[among[order]])[:WORST].astype(np.int64)


# -- generated texts ----------------------------------------------------------------------


def _generated(
    model: Model, samples: Split, task: Task, record: Record, observe: Observe
) -> tuple[list[Evidence], tuple[str, ...]]:
    """Generate a text from each sample, and compare it with the reference."""
    assert samples.pairs is not None
    assert task.text_metrics is not None
    sources, references = samples.pairs()
    texts: list[str] = []
    for start in range(0, len(sources), _FEW):
        observe(Progress("measure", start, len(sources)))
        predictions: Any = model.predict(sources[start : start + _FEW], top=1)
        texts += [ranked[0]["text"] for ranked in predictions]
    observe(Progress("measure", len(sources), len(sources)))
    evidence = bounded(
        task.text_metrics.sample_stats(texts, references),
        task.text_metrics.compute,
        record,
        method=f"texts generated as the model file says, as the task {task.name} scores them; "
        f"{task.text_metrics.describe(references)}",
    )
    return evidence, tuple(texts)
