"""How good a model file is at any task: what the task scores, with intervals.

Any task of the table passes through: its own `summary` names the figures, and a bootstrap over the
samples' tallies bounds them. Nothing here assumes images, labels or the shape of the outputs. Where
samples are stretches of texts, those of one text aren't independent: whole texts are drawn, or, of
a single text, blocks of it (Künsch 1989; Politis and Romano 1992).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from modelwright import metrics
from modelwright.data.dataset import Split, taken
from modelwright.errors import DataError
from modelwright.evaluation import intervals
from modelwright.evaluation.intervals import TAIL, Interval
from modelwright.evaluation.latency import Place
from modelwright.evaluation.measure import (
    CHUNK,
    CLASSES_IN_LEDGER,
    WITHOUT_NEAR,
    SplitName,
    by_class,
    without_loss,
)
from modelwright.ledger import Evidence
from modelwright.metrics import ClassScores, Ints
from modelwright.run import Observe, Progress, silent
from modelwright.tasks import SampleStats, Task, join, take

FEW = 32
"""So many samples are answered at once where each has many answers: tokens, boxes."""
_MOST_DRAWS, _FEWEST_DRAWS = 1000, 100
_VALUES_DRAWN = 100_000_000
"""Bounds the time of the bootstrap: the values that are scored anew, in all."""


class GivesOutputs(Protocol):
    """What is measured: a loaded model file, or whatever answers as one."""

    @property
    def digest(self) -> str:
        """The model digest."""

    def outputs(self, inputs: NDArray[Any], /) -> Any:
        """Return raw outputs `[N, …]` for what the host steps deliver, `[N, …]`."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The evidence, and what became of each sample."""

    evidence: tuple[Evidence, ...]
    model: str
    """The digest of the model that was measured."""
    tally: SampleStats
    labels: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Labels of the samples that the model doesn't know; their numbers go on behind its own."""
    answers: tuple[str, ...] = ()
    """Of texts that were written: each sample's."""
    classes: ClassScores | None = None
    """Where each label is there or not by itself: how each fared."""
    bounds: intervals.RateBounds | None = None
    """The bounds of these scores."""

    @property
    def names(self) -> tuple[str, ...]:
        """All labels, by their numbers in `tally` and `classes`."""
        return (*self.labels, *self.unknown)


def measure_scores(
    model: GivesOutputs,
    samples: Split,
    task: Task,
    *,
    fingerprint: str,
    place: Place,
    near_duplicates: NDArray[np.int64] | None = None,
    chunk: int | None = None,
    observe: Observe = silent,
) -> Scored:
    """Measure a model file on a split by what its task scores.

    Args:
        model: the model file, loaded.
        samples: the split; its name says which evidence it gives.
        task: the task, of the table in `tasks`.
        fingerprint: the digest of the samples.
        place: hardware, runtime and threads.
        near_duplicates: rows of the store that resemble one of another split; where the split holds
            some, what it comes to without them is measured too.
        chunk: how many samples are answered at once; fewer by default where each has many answers.
        observe: told how far it is.

    Raises:
        DataError: there are no samples, or the outputs aren't finite.
    """
    if len(samples) == 0:
        raise DataError(f"the {samples.name} split holds no samples to measure")
    labels = tuple(getattr(model, "labels", ()))
    names = (*labels, *samples.unknown)
    if chunk is None:
        chunk = CHUNK if task.output_kind in ("logits", "labels", "values") else FEW
    parts = []
    for start in range(0, len(samples), chunk):
        observe(Progress("measure", start, len(samples)))
        chosen = slice(start, start + chunk)
        outputs = model.outputs(samples.gather(chosen))
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        if not np.isfinite(first).all():
            raise DataError("the model's outputs hold values that aren't finite (NaN or infinite)")
        parts.append(task.tally(outputs, samples.targets[chosen], names))
    observe(Progress("measure", len(samples), len(samples)))
    tally = join(parts)
    evidence = bounded(
        tally,
        task.summary,
        samples,
        counts=task.counts,
        method=f"as the task {task.name} scores it",
        fingerprint=fingerprint,
        model=model.digest,
        place=place,
    )
    if near_duplicates is not None:
        near = np.isin(samples.rows, near_duplicates)
        evidence += _without(near, tally, task, samples, evidence[0])
    if task.counts is None:
        return Scored(tuple(evidence), model.digest, tally, labels, samples.unknown)
    classes = metrics.scores_of(*task.counts(tally))
    bounds = intervals.class_bounds(classes.hits, classes.predicted, classes.support)
    if len(names) <= CLASSES_IN_LEDGER:
        context = {
            key: getattr(evidence[0], key)
            for key in ("model", "split", "data", "hardware", "runtime", "threads")
        }
        evidence += by_class(classes, bounds, names, context, known=len(labels))
    return Scored(
        tuple(evidence),
        model.digest,
        tally,
        labels,
        samples.unknown,
        classes=classes,
        bounds=bounds,
    )


def _without(
    near: NDArray[np.bool_], tally: SampleStats, task: Task, samples: Split, whole: Evidence
) -> list[Evidence]:
    """Return the figures of the samples that resemble none of another split, if only some do."""
    if near.all() or not near.any():
        return []
    kept = np.flatnonzero(~near)
    rest = replace(samples, rows=samples.rows[kept], targets=taken(samples.targets, kept))
    try:
        found = bounded(
            take(tally, kept),
            task.summary,
            rest,
            method=f"as the task {task.name} scores it, without the {int(near.sum()):,} samples "
            "that resemble one of another split",
            fingerprint=whole.data,
            model=whole.model,
        )
    except DataError:  # Nothing is left to measure: no image with a box, perhaps.
        return []
    where = {key: getattr(whole, key) for key in ("hardware", "runtime", "threads")}
    return [replace(record, slice=WITHOUT_NEAR, **where) for record in found]


class Answers(Protocol):
    """What writes texts: a loaded model file."""

    @property
    def digest(self) -> str:
        """The model digest."""

    def predict(self, inputs: Any, *, top: int = 1) -> Any:
        """Return for each text a list with one answer, `{"text": …}`."""


def measure_texts(
    model: Answers,
    samples: Split,
    task: Task,
    *,
    fingerprint: str,
    place: Place,
    baseline: bool = True,
    observe: Observe = silent,
) -> tuple[list[Evidence], tuple[str, ...]]:
    """Let a model file write a text from each sample, and compare it with the one wanted.

    Args:
        model: the model file, loaded.
        samples: the split, with its `parallel_text`.
        task: a task with a `judge`.
        fingerprint: the digest of the samples.
        place: hardware, runtime and threads.
        baseline: also measure a simple answer: the source itself, or its first sentence.
        observe: told how far it is.

    Returns:
        The evidence, and the texts written.
    """
    assert samples.pairs is not None
    assert task.judge is not None
    assert task.judged is not None
    assert task.judged_by is not None
    given, wanted = samples.pairs()
    written: list[str] = []
    for start in range(0, len(given), FEW):
        observe(Progress("measure", start, len(given)))
        part = given[start : start + FEW]
        written += [answer[0]["text"] for answer in model.predict(part, top=1)]
    observe(Progress("measure", len(given), len(given)))
    tally = task.judge(written, wanted)
    words = task.judged_by(wanted)
    method = f"texts written by beam search, as the task {task.name} scores them; {words}"
    evidence = bounded(
        tally,
        task.judged,
        samples,
        method=method,
        fingerprint=fingerprint,
        model=model.digest,
        place=place,
    )
    if baseline:
        is_summary = task.name == "summarization"
        simple = [_first_sentence(text) for text in given] if is_summary else given
        evidence += bounded(
            task.judge(simple, wanted),
            task.judged,
            samples,
            method=("the first sentence" if is_summary else "the text itself, as it is given")
            + f"; {words}",
            fingerprint=fingerprint,
            subject="baseline:lead" if is_summary else "baseline:copy",
        )
    return evidence, tuple(written)


_SENTENCE = re.compile(r"(?<=[.!?。！？])\s")


def _first_sentence(text: str) -> str:
    return _SENTENCE.split(text.strip(), maxsplit=1)[0]


def bounded(
    tally: SampleStats,
    summary: Callable[[SampleStats], Mapping[str, float]],
    samples: Split,
    *,
    method: str,
    fingerprint: str,
    counts: Callable[[SampleStats], tuple[Ints, Ints, Ints]] | None = None,
    model: str = "",
    subject: str = "",
    place: Place | None = None,
) -> list[Evidence]:
    """Return what a tally comes to, each figure with its bootstrap interval.

    Where labels are counted, no interval is narrower than what Wilson's of these counts come to.
    """
    losses = tally["losses"] if "losses" in tally else np.empty(0)
    left_out, without = int(np.isinf(losses).sum()), without_loss(losses)
    split = samples.name if samples.name in ("test", "validation", "train") else ""
    how = resampling(samples)
    drawn = draws(tally, how.draw, summary)
    figures = {name: float(value) for name, value in summary(tally).items()}
    least = {} if counts is None else _least_bounds(figures, counts(tally), len(samples))
    more: dict[str, Any] = {"subject": subject} if subject else {"model": model}
    if place is not None:
        more |= {
            "hardware": place.hardware,
            "runtime": place.runtime,
            "threads": place.threads,
        }
    bounds = {metric: how.bounds(value, drawn[metric]) for metric, value in figures.items()}
    return [
        Evidence(
            metric=metric,
            value=value,
            low=min(value, bounds[metric].low, *least.get(metric, ())),
            high=max(value, bounds[metric].high, *least.get(metric, ())),
            n=len(samples) - left_out * (metric == "log_loss"),
            method=method
            + without * (metric == "log_loss")
            + f"; bootstrap of {len(drawn[metric]):,} draws{how.said}"
            + (", never narrower than Wilson's interval" if metric in least else ""),
            split=cast("SplitName", split),
            data=fingerprint,
            **more,
        )
        for metric, value in figures.items()
    ]


def _least_bounds(
    figures: Mapping[str, float], counts: tuple[Ints, Ints, Ints], samples: int
) -> dict[str, tuple[float, float]]:
    """Return bounds that hold where a bootstrap sees nothing vary: every sample right, perhaps."""
    exact = figures.get("exact_match")
    found = (
        {} if exact is None else {"exact_match": intervals.share(round(exact * samples), samples)}
    )
    hits, predicted, support = (each.astype(np.float64) for each in counts)
    low, high = intervals.class_bounds(hits.sum(), predicted.sum(), support.sum()).f1
    found["f1_micro"] = Interval(float(low), float(high))
    occurs = predicted + support > 0
    if occurs.any():
        found |= intervals.combined_bounds(hits[occurs], predicted[occurs], support[occurs])
    return {
        name: (max(0.0, low), min(1.0, high))
        for name, (low, high) in found.items()
        if name in figures
    }


@dataclass(frozen=True, slots=True)
class Resampling:
    """How a bootstrap draws samples anew."""

    draw: Callable[[np.random.Generator], Ints]
    """Returns the positions drawn."""
    said: str = ""
    """What is drawn, for the evidence, where it isn't single samples."""
    widening: float = 1.0
    """How much wider bounds are made than the draws lie, where little can be drawn from."""

    def bounds(self, value: float, drawn: list[float]) -> Interval:
        """Return the bounds of a figure from what it was over each draw."""
        low, high = (float(end) for end in np.quantile(drawn, [TAIL, 1 - TAIL]))
        if self.widening == 1.0:
            return Interval(low, high)
        # Of texts no figure is below 0.
        low = max(0.0, value - (value - low) * self.widening)
        return Interval(low, value + (high - value) * self.widening)


def resampling(samples: Split) -> Resampling:
    """Return how samples are drawn anew so that what is drawn is independent.

    Single samples; of stretches whole texts with all of their stretches, or, where they are all of
    one text, blocks of as many stretches in a row as the cube root of all (Hall et al. 1995).
    """
    count = len(samples)
    if samples.texts is None:
        return Resampling(lambda random: random.integers(0, count, size=count))
    order = np.lexsort((samples.rows, samples.texts))
    _, sizes = np.unique(samples.texts, return_counts=True)
    if len(sizes) > 1:
        begins = np.cumsum(sizes) - sizes

        def texts(random: np.random.Generator) -> Ints:
            chosen = random.integers(0, len(sizes), size=len(sizes))
            counts = sizes[chosen]
            shifts = begins[chosen] - (np.cumsum(counts) - counts)
            found: Ints = order[np.arange(counts.sum()) + np.repeat(shifts, counts)]
            return found

        said = f" of whole texts, of which there are {len(sizes):,}"
        return Resampling(texts, said, intervals.student_widening(len(sizes)))
    size = math.ceil(count ** (1 / 3))
    blocks = -(-count // size)

    def in_blocks(random: np.random.Generator) -> Ints:
        starts = random.integers(0, count, size=blocks)[:, None]
        picks = (starts + np.arange(size)).ravel()[:count] % count  # The end goes on at the begin.
        found: Ints = order[picks]
        return found

    said = f" of blocks of {size} stretches in a row, for all are of one text"
    return Resampling(in_blocks, said, intervals.student_widening(blocks))


def draws(
    tally: SampleStats,
    draw: Callable[[np.random.Generator], Ints],
    summary: Callable[[SampleStats], Mapping[str, float]],
) -> dict[str, list[float]]:
    """Return each score over samples drawn anew, with replacement.

    A draw in which there is nothing to measure, such as images without any box, counts for nothing.
    """
    size = sum(array.size for array in tally.values())
    times = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _VALUES_DRAWN // max(1, size)))
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(times):
        try:
            scores = summary(take(tally, draw(random)))
        except DataError:
            continue
        for metric, value in scores.items():
            found.setdefault(metric, []).append(float(value))
    return found
