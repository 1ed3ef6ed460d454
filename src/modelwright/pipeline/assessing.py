"""Measuring a packed candidate on the validation split: after a step, and in a search.

The test split is opened once, for the file that ships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright import evaluation, modelfile
from modelwright.data import Prepared, Split
from modelwright.evaluation import Measurement, Place
from modelwright.ledger import Evidence, Ledger
from modelwright.pipeline.measuring import questions
from modelwright.planning import Figure, Point
from modelwright.recipe import Recipe, render_config
from modelwright.recipe.targets import headline_metric
from modelwright.run import Run, RunRequest, environment
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelwright.modelfile.export import TracedGraph
    from modelwright.models.candidate import Candidate

PROBES = 64
"""Training samples on which the exported graph is compared with the network."""
TIMED_S = 1.5
"""About how many seconds a candidate answers, to tell its time."""
_KEPT = ("calibration_error", "size_bytes")
"""What is kept of the figures after a step, beside the main metric and what differs."""
SPEEDUPS = {"latency_p50_ms": "speedup_batch_1", "throughput_per_s": "speedup_batch_64"}
"""How many times faster, by the figure that it is a ratio of."""


def write_candidate(
    path: Path,
    candidate: Candidate,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
    *,
    traced: Mapping[str, TracedGraph] | None = None,
) -> modelfile.PackReport:
    """Pack a candidate; the proof of its export is part of packing."""
    return modelfile.write_model(
        path,
        candidate,
        recipe=render_config(_without_profile(request.recipe), with_place=False),
        data_card=prepared.record,
        environment=environment(device=context.device, threads=str(context.threads)),
        probes=prepared.dataset().train.gather(slice(0, PROBES)),
        traced=traced,
    )


def _without_profile(recipe: Recipe) -> Recipe:
    """Return a recipe without the path of a profile, which is no part of what is shipped."""
    evaluate = recipe.evaluate.model_copy(update={"profile": None})
    return recipe.model_copy(update={"evaluate": evaluate})


@dataclass(slots=True)
class Assessor:
    """Measures packed candidates beside the network before, on the validation split."""

    parent: Path
    """The file of the network before."""
    prepared: Prepared
    """The data as the parent takes it."""
    request: RunRequest
    context: Run
    scaled: Callable[[list[Evidence], Path], list[Evidence]] | None = None
    """What times would be on another machine, where that is the one that counts."""
    start: Point | None = None
    """The figures of the parent, which times are compared with."""
    _before: Measurement | None = field(default=None)

    @property
    def place(self) -> Place:
        """This machine."""
        return Place.here(self.context.threads)

    def _samples(self, prepared: Prepared) -> Split:
        samples = prepared.dataset().validation
        assert samples is not None  # The callers have seen to it.
        return samples

    def _measured(self, path: Path, prepared: Prepared) -> Measurement:
        model = modelfile.load(path, threads=self.context.threads)
        return evaluation.measure(
            model,
            self._samples(prepared),
            model.scoring,
            fingerprint=prepared.fingerprint("validation"),
            place=self.place,
            observe=self.context.observe,
        )

    def before(self) -> Measurement:
        """Return the parent's measurement, which is made once."""
        if self._before is None:
            self._before = self._measured(self.parent, self.prepared)
        return self._before

    def compared(self, path: Path, measured: Measurement, prepared: Prepared) -> list[Evidence]:
        """Return what differs from the parent in quality and size."""
        own, other = (
            modelfile.load(each, threads=self.context.threads) for each in (path, self.parent)
        )
        found = evaluation.compare(
            measured,
            self.before(),
            self._samples(prepared),
            task_of(self.request.recipe),
            fingerprint=prepared.fingerprint("validation"),
            place=self.place,
        )
        about = [record for record in found.evidence if record.subject == "model"]
        return [*about, evaluation.compare_sizes(own, other)]

    def step(self, path: Path, name: str) -> list[Evidence]:
        """Return the evidence of a step: what its file is like, and what differs from the parent.

        Each record's slice says after which step it was measured.
        """
        measured = self._measured(path, self.prepared)
        kept = (headline_metric(record.metric for record in measured.evidence), *_KEPT)
        evidence = [item for item in measured.evidence if not item.slice and item.metric in kept]
        evidence += self.compared(path, measured, self.prepared)
        if self.request.recipe.evaluate.latency:
            own, other = (
                modelfile.load(each, threads=self.context.threads) for each in (path, self.parent)
            )
            evidence += evaluation.compare_latency(
                own,
                other,
                self._questions(self.prepared),
                place=self.place,
                seconds=TIMED_S,
                observe=self.context.observe,
            )
        return [replace(record, slice=f"after {name}") for record in evidence]

    def point(self, path: Path, name: str, prepared: Prepared) -> Point:
        """Return the figures of a packed candidate that a search chooses by."""
        measured = self._measured(path, prepared)
        evidence = [*measured.evidence, *self.compared(path, measured, prepared)]
        samples, fingerprint = self._samples(prepared), prepared.fingerprint("validation")
        model = modelfile.load(path, threads=self.context.threads)
        evidence += evaluation.measure_threshold(model, samples, fingerprint, self.place)
        if self.request.recipe.evaluate.latency:
            times = self._timed(path, prepared)
            evidence += times
        figures = _figures(evidence)
        # What ships holds its evidence, which a packed candidate doesn't yet.
        grown = len(Ledger(evidence).to_bytes()) - len(model.ledger.to_bytes())
        whole = float(model.file_bytes + grown)
        figures["file_bytes"] = Figure(whole, whole, whole)
        figures |= _speedups(figures, figures if self.start is None else self.start.figures)
        return Point(name, figures)

    def costs(self, path: Path, prepared: Prepared) -> Point:
        """Return what a packed candidate takes, in size and time: whether it is trained or not."""
        evidence = evaluation.sizes(modelfile.load(path, threads=self.context.threads))
        if self.request.recipe.evaluate.latency:
            evidence += self._timed(path, prepared)
        return Point("", _figures(evidence))

    def _questions(self, prepared: Prepared) -> Any:
        samples = self._samples(prepared)
        return questions(range(min(evaluation.BATCH, len(samples))), samples, prepared)

    def _timed(self, path: Path, prepared: Prepared) -> list[Evidence]:
        model = modelfile.load(path, threads=self.context.threads)
        times = evaluation.measure_latency(
            model.predict,
            self._questions(prepared),
            place=self.place,
            model=model.digest,
            seconds=TIMED_S,
            observe=self.context.observe,
        )
        return times if self.scaled is None else self.scaled(times, path)


def _figures(evidence: Sequence[Evidence]) -> dict[str, Figure]:
    """Return the figures of evidence by metric, without those of slices."""
    return {
        record.metric: Figure(record.value, record.low, record.high)
        for record in evidence
        if not record.slice
    }


def _speedups(own: Mapping[str, Figure], other: Mapping[str, Figure]) -> dict[str, Figure]:
    """Return how many times faster than the parent, of times that were measured apart."""
    found = {}
    for metric, name in SPEEDUPS.items():
        if metric not in own or metric not in other:
            continue
        fast, slow = own[metric], other[metric]
        if metric.startswith("throughput"):
            fast, slow = slow, fast
        found[name] = Figure(slow.value / fast.value, slow.low / fast.high, slow.high / fast.low)
    return found
