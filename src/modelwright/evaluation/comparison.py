"""What a step changed: a model file beside the one that it was made of, on the same samples.

Both are asked through the runtime that serves. Times are taken in blocks, by turns, so that both
meet the same moments of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright.arrays import Bools, Ints
from modelwright.data.dataset import Split
from modelwright.evaluation import intervals
from modelwright.evaluation.gain import PairedStats, paired_gain
from modelwright.evaluation.latency import BATCH, Place
from modelwright.evaluation.measurement import Measurement, Record, recorder, sampled
from modelwright.kinds import CLASSIFICATION, OutputKind
from modelwright.ledger import Evidence, exact
from modelwright.run import Observe, Progress, silent
from modelwright.tasks import Task

if TYPE_CHECKING:
    from modelwright.modelfile import Model

PARENT_GAIN, FLIPPED, WORST_LABEL = "gain_over_parent", "flipped", "worst_label_drop"
"""The metrics' names in the ledger."""
PARENT = "parent"
"""The subject of the parent's own figures."""
_BLOCKS, _MOST_BLOCKS = 12, 60
_BETWEEN = 0.03
"""By so much speeds of the same file differ from one loading to the next, by what lies where."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model beside its parent."""

    evidence: tuple[Evidence, ...]
    """About the difference, and the parent's own figures with the subject `parent`."""
    flipped: Ints
    """Positions in the split of the samples that are answered otherwise."""
    parent: Measurement


def compare(
    model: Measurement,
    parent: Measurement,
    samples: Split,
    task: Task,
    *,
    fingerprint: str,
    place: Place,
) -> Comparison:
    """Compare what two model files answered on a split."""
    record = recorder(samples, fingerprint, model=model.model, **asdict(place))
    text_metrics, compute = task.text_metrics, task.compute
    if text_metrics is not None and model.texts and samples.pairs is not None:
        _, references = samples.pairs()
        stats = [text_metrics.sample_stats(each.texts, references) for each in (model, parent)]
        pair, compute = PairedStats(PARENT, *stats), text_metrics.compute
    else:
        pair = PairedStats(PARENT, model.stats, parent.stats)
    subject = "the network before compression"
    evidence = [
        paired_gain(
            PARENT_GAIN,
            pair,
            subject,
            task.output_kind,
            compute,
            record,
            model=model.model,
            texts=samples.texts,
        )
    ]
    flips = _flips(model, parent, task)
    if flips is not None:
        share, bounds = float(flips.mean()), intervals.share(int(flips.sum()), len(flips))
        method = "share of samples whose answer differs from the parent's; exact interval"
        evidence.append(record(FLIPPED, share, bounds, n=len(flips), method=method))
    worst = _worst_label(model, parent, task, record)
    evidence += [worst] if worst is not None else []
    evidence += [_of_parent(item) for item in parent.evidence if not item.slice]
    flipped = np.empty(0, np.int64) if flips is None else np.flatnonzero(flips)
    return Comparison(tuple(evidence), flipped, parent)


def _of_parent(evidence: Evidence) -> Evidence:
    fields = asdict(evidence) | {"subject": PARENT}
    return Evidence(**fields)


def _flips(model: Measurement, parent: Measurement, task: Task) -> Bools | None:
    """Return which samples are answered otherwise `[N]`, where answers are labels or texts."""
    if task.output_kind in CLASSIFICATION:
        differs = model.stats["predicted"] != parent.stats["predicted"]
        flips: Bools = differs.reshape(len(differs), -1).any(axis=1)
        return flips
    if model.texts:
        return np.array(
            [own != other for own, other in zip(model.texts, parent.texts, strict=True)]
        )
    return None


def _worst_label(
    model: Measurement, parent: Measurement, task: Task, record: Record
) -> Evidence | None:
    """Return the largest drop of a label's recall, among those that occur."""
    if task.output_kind == OutputKind.SINGLE_LABEL:
        targets = model.stats["targets"]
        has = [targets == label for label in range(len(model.labels))]
        hits = [(each.stats["predicted"] == targets) for each in (model, parent)]
        found = [(own[rows], other[rows]) for rows in has for own, other in [hits]]
    elif task.output_kind == OutputKind.MULTI_LABEL:
        targets = model.stats["targets"].astype(bool)
        found = [
            tuple(each.stats["predicted"][targets[:, label], label] for each in (model, parent))
            for label in range(len(model.labels))
        ]
    else:
        return None
    drops = [float(other.mean() - own.mean()) if len(own) else -2.0 for own, other in found]
    worst = int(np.argmax(drops))
    if drops[worst] < -1:
        return None
    own, other = (item.astype(bool) for item in found[worst])
    bounds = intervals.paired_bounds(int((other & ~own).sum()), int((own & ~other).sum()), len(own))
    ends = (drops[worst], *bounds)
    method = (
        f"recall of `{model.labels[worst]}` before minus after; it is the largest of "
        f"{len(found)}, which the interval of Bonett and Price doesn't allow for"
    )
    return record(WORST_LABEL, drops[worst], (min(ends), max(ends)), n=len(own), method=method)


def compare_sizes(model: Model, parent: Model) -> Evidence:
    """Return how many times smaller a model is than its parent."""
    method = f"size_bytes of {parent.size_bytes:,} before, over {model.size_bytes:,} after"
    return exact(
        "size_ratio",
        parent.size_bytes / max(model.size_bytes, 1),
        method=method,
        model=model.digest,
    )


def compare_latency(
    model: Model,
    parent: Model,
    samples: Sequence[Any] | np.ndarray,
    *,
    parent_samples: Sequence[Any] | np.ndarray | None = None,
    place: Place,
    seconds: float = 4.0,
    observe: Observe = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Evidence]:
    """Return how many times faster a model answers than its parent, at batches of 1 and of 64.

    Both answer in blocks, by turns. Each pair of blocks gives a ratio of median times; the value is
    the median of these, its bounds are order statistics, `_BETWEEN` further apart on both sides.

    Args:
        model: the model.
        parent: what it was made of.
        samples: real ones, as `Model.predict` takes them.
        parent_samples: the same for the parent, where it takes images of another size.
        place: the hardware, runtime and threads.
        seconds: the approximate time of each batch size.
        observe: is called with the progress.
        clock: monotonic, in nanoseconds.
    """
    own = _batch(samples)
    other = own if parent_samples is None else _batch(parent_samples)
    record: Record = partial(sampled, model=model.digest, **asdict(place))
    found = []
    for number, size in enumerate((1, BATCH)):
        observe(Progress("compare", number, 2))
        ratios = np.sort(
            _ratios((model.predict, own), (parent.predict, other), size, seconds, clock)
        )
        value, (low, high) = intervals.quantile_bounds(ratios, 0.5)
        bounds = (low / (1 + _BETWEEN), high * (1 + _BETWEEN))
        method = (
            f"median of {len(ratios)} ratios of the parent's time to the model's, in blocks by "
            f"turns, batches of {size}, from the decoded sample to the decoded answer; bounds by "
            f"order statistics, and {_BETWEEN:.0%} more, as much as two loadings of a file differ"
        )
        found.append(record(f"speedup_batch_{size}", value, bounds, n=len(ratios), method=method))
    observe(Progress("compare", 2, 2))
    return found


def _batch(samples: Sequence[Any] | np.ndarray) -> Any:
    """Return a batch of `BATCH` samples, which are taken again where there are fewer."""
    batch = [samples[turn % len(samples)] for turn in range(BATCH)]
    return np.ascontiguousarray(np.stack(batch)) if isinstance(samples, np.ndarray) else batch


Asked = tuple[Callable[[Any], object], Any]
"""What answers, and the batch that it is asked."""


def _ratios(
    own: Asked, other: Asked, size: int, seconds: float, clock: Callable[[], int]
) -> np.ndarray:
    def block(asked: Asked, count: int) -> float:
        answer, batch = asked
        times = []
        for turn in range(count):
            start = (turn * size) % BATCH
            before = clock()
            answer(batch[start : start + size])
            times.append(clock() - before)
        return max(float(np.median(times)), 1.0)

    once = max(block(other, 3), block(own, 3)) / 1e9
    count = max(1, min(50, round(seconds / (2 * _BLOCKS * max(once, 1e-9)))))
    ratios: list[float] = []
    started = clock()
    while len(ratios) < _BLOCKS or (
        len(ratios) < _MOST_BLOCKS and (clock() - started) / 1e9 < seconds
    ):
        ratios.append(block(other, count) / block(own, count))
    return np.array(ratios)
