"""Chains of steps on trained networks, as a search carries them out: each once, and measured.

Chains that begin alike share what was trained for their beginning.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.errors import ResourceError, StoppedError
from modelwright.files import json_digest, read_json, write_json
from modelwright.ledger import Ledger
from modelwright.pipeline.assessing import Assessor, write_candidate
from modelwright.pipeline.measuring import calibrate
from modelwright.pipeline.model_selection import Trained
from modelwright.pipeline.stages import compressing
from modelwright.planning import Point, space
from modelwright.recipe.compression import CompressionStep, DistillStep
from modelwright.run import Run, RunRequest

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate


@dataclass(slots=True)
class Chains:
    """Carries out chains of steps, each once, and measures what they make."""

    starts: Mapping[str, Trained]
    """The trained networks by name; the first is the one that is compared with."""
    request: RunRequest
    """Its `train` says how long the networks of steps train."""
    context: Run
    assessor: Assessor
    _candidates: dict[str, Candidate] = field(default_factory=dict)
    _points: dict[str, Point] = field(default_factory=dict)
    _failed: dict[str, Exception] = field(default_factory=dict)

    def path(self, start: str, steps: Sequence[CompressionStep]) -> Path:
        """Return the place of a chain's packed file."""
        if not steps and start == next(iter(self.starts)):
            return self.assessor.parent
        return self.context.folder / "search" / f"{chain_key(start, steps)}.mw"

    def known(self, start: str, steps: Sequence[CompressionStep]) -> Point | None:
        """Return the point of a chain that was carried out, if it was."""
        key = chain_key(start, steps)
        if key not in self._points:
            record = self.context.folder / "search" / f"{key}.json"
            if not record.exists() or not self.path(start, steps).exists():
                return None
            self._points[key] = Point.from_json(read_json(record))
        return self._points[key]

    def point(self, start: str, steps: Sequence[CompressionStep]) -> Point:
        """Return the figures of a chain's result, which is made where it wasn't before.

        Raises:
            ModelwrightError: a step can't be done, or a stop was requested.
        """
        known = self.known(start, steps)
        if known is not None:
            return known
        if steps:
            self.point(start, steps[:-1])  # Each beginning is a result too.
        begun, path = time.monotonic(), self.path(start, steps)
        prepared = self.starts[start].prepared
        path.parent.mkdir(parents=True, exist_ok=True)
        if path != self.assessor.parent:
            candidate = self.candidate(start, steps)
            write_candidate(path, candidate, self.request, prepared, self.context)
            # As what ships will be: it takes a few bytes, and a threshold decides answers.
            aside = replace(self.context, ledger=Ledger())
            calibrate(path, self.request, prepared, aside)
            if space.is_terminal(steps):  # No chain goes on from here.
                self._candidates.pop(chain_key(start, steps), None)
        chain = [step.model_dump(mode="json", exclude_unset=True) for step in steps]
        point = self.assessor.point(path, space.title(start, chain), prepared)
        point = replace(
            point,
            seconds=round(time.monotonic() - begun, 3),
            settings={"network": start, "compress": chain},
        )
        write_json(
            self.context.folder / "search" / f"{chain_key(start, steps)}.json", point.to_json()
        )
        self._points[chain_key(start, steps)] = point
        return point

    def candidate(self, start: str, steps: Sequence[CompressionStep]) -> Candidate:
        """Return the network of a chain; what was trained for it before goes on from its end."""
        if not steps:
            return self.starts[start].candidate
        key = chain_key(start, steps)
        if key in self._failed:  # A stage can be begun once.
            raise self._failed[key]
        if key not in self._candidates:
            from modelwright.compression import check_step

            before = self.candidate(start, steps[:-1])
            step = steps[-1]
            if isinstance(step, DistillStep) and not step.teachers and step.student is None:
                # The network before all steps teaches.
                step = step.model_copy(update={"teacher": str(self.path(start, ()))})
            stage = compressing(step)
            trained = self.starts[start]
            recipe, data = trained.recipe(self.request.recipe), trained.prepared.dataset()
            context = self.context.stage(f"search-{key}")
            context = replace(context, stage_name=steps[-1].name)
            try:
                check_step(before, step)
                self._candidates[key] = stage(before, recipe, data, context)
            except (StoppedError, ResourceError):
                raise
            except Exception as error:
                self._failed[key] = error
                raise
        return self._candidates[key]


def chain_key(start: str, steps: Sequence[CompressionStep]) -> str:
    """Return the name of a chain's files and stage, by its network and its steps."""
    return json_digest([start, [step.model_dump(mode="json") for step in steps]])[-16:]
