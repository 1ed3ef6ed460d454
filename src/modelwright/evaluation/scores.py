"""How good a model file is at any task: what the task scores, with intervals.

Any task of the table passes through: its own `summary` names the figures, and a bootstrap over the
samples' tallies bounds them. Nothing here assumes images, labels or the shape of the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation.intervals import TAIL
from modelwright.evaluation.latency import Place
from modelwright.evaluation.measure import CHUNK, SplitName
from modelwright.ledger import Evidence
from modelwright.run import Observe, Progress, silent
from modelwright.tasks import Tally, Task, join, take

_MOST_DRAWS, _FEWEST_DRAWS = 1000, 100
_VALUES_DRAWN = 100_000_000
"""Bounds the time of the bootstrap: the values that are scored anew, in all."""


class GivesOutputs(Protocol):
    """What is measured: a loaded model file, or whatever answers as one."""

    @property
    def digest(self) -> str:
        """The model digest."""

    def outputs(self, inputs: NDArray[Any], /) -> NDArray[np.float32]:
        """Return raw outputs `[N, …]` for what the host steps deliver, `[N, …]`."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The evidence, and what became of each sample."""

    evidence: tuple[Evidence, ...]
    model: str
    """The digest of the model that was measured."""
    tally: Tally
    labels: tuple[str, ...] = ()


def measure_scores(
    model: GivesOutputs,
    samples: Split,
    task: Task,
    *,
    fingerprint: str,
    place: Place,
    chunk: int = CHUNK,
    observe: Observe = silent,
) -> Scored:
    """Measure a model file on a split by what its task scores.

    Args:
        model: the model file, loaded.
        samples: the split; its name says which evidence it gives.
        task: the task, of the table in `tasks`.
        fingerprint: the digest of the samples.
        place: hardware, runtime and threads.
        chunk: how many samples are answered at once.
        observe: told how far it is.

    Raises:
        DataError: there are no samples, or the outputs aren't finite.
    """
    if len(samples) == 0:
        raise DataError(f"the {samples.name} split holds no samples to measure")
    parts = []
    for start in range(0, len(samples), chunk):
        observe(Progress("measure", start, len(samples)))
        chosen = slice(start, start + chunk)
        outputs = model.outputs(samples.gather(chosen))
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        if not np.isfinite(first).all():
            raise DataError("the model's outputs hold values that aren't finite (NaN or infinite)")
        parts.append(task.tally(outputs, samples.targets[chosen]))
    observe(Progress("measure", len(samples), len(samples)))
    tally = join(parts)
    split = samples.name if samples.name in ("test", "validation", "train") else ""
    drawn = draws(tally, len(samples), task)
    evidence = [
        Evidence(
            metric=metric,
            value=float(value),
            low=min(float(value), float(np.quantile(drawn[metric], TAIL))),
            high=max(float(value), float(np.quantile(drawn[metric], 1 - TAIL))),
            n=len(samples),
            method=f"as the task {task.name} scores it; bootstrap of {len(drawn[metric]):,} draws",
            model=model.digest,
            split=cast("SplitName", split),
            data=fingerprint,
            hardware=place.hardware,
            runtime=place.runtime,
            threads=place.threads,
        )
        for metric, value in task.summary(tally).items()
    ]
    return Scored(tuple(evidence), model.digest, tally, tuple(getattr(model, "labels", ())))


def draws(tally: Tally, count: int, task: Task) -> dict[str, list[float]]:
    """Return each score over samples drawn anew, with replacement."""
    size = sum(array.size for array in tally.values())
    times = max(_FEWEST_DRAWS, min(_MOST_DRAWS, _VALUES_DRAWN // max(1, size)))
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(times):
        picks = random.integers(0, count, size=count)
        for metric, value in task.summary(take(tally, picks)).items():
            found.setdefault(metric, []).append(float(value))
    return found
