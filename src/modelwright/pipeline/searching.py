"""`compress: auto`: which network, and which steps on it, meet the targets.

A trial is a chain of steps on a trained network. What can't meet a limit by its forecast isn't
carried out; what is, is packed and measured on the validation split.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from modelwright.errors import ModelwrightError, ResourceError, StoppedError
from modelwright.evaluation import GAIN
from modelwright.files import ASIDE, JsonObject, write_json
from modelwright.pipeline.assessing import Assessor, write_candidate
from modelwright.pipeline.chains import Chains, chain_key
from modelwright.pipeline.model_selection import Trained
from modelwright.planning import LIMITED, Goal, Point, Study, Trial, least_after, space
from modelwright.recipe import Recipe
from modelwright.recipe.compression import CompressionStep
from modelwright.recipe.model import ModelSpec
from modelwright.recipe.targets import METRICS, parse_target
from modelwright.recipe.train import DEFAULT_EPOCHS
from modelwright.run import Progress, Run, RunRequest, silent
from modelwright.tasks import task_of
from modelwright.transforms.ngrams import NgramInput

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

MOST_TRIALS, MOST_TRAININGS = 40, 12
"""Where there is no budget, a search ends after so many trials, and trainings."""
_SHARE = 1 / 8
"""The part of a budget that one training of a search takes at the most."""
_MOST_EPOCHS = 40.0
"""A training of a search has half as many epochs at the most, where the recipe names no number."""
_LEAST_EPOCHS = 0.5
"""A training of a search has so many epochs at the least."""
_REPEATED = 12
"""So many trials in a row that were carried out before end a search: it has nothing new to try."""
_MOST_ENDS = 2
"""A trial in which the process ended so often is given up."""
ALLOWED_DROP = 0.005
"""By how much the main metric may get worse where no target is about quality."""
_STEP: TypeAdapter[CompressionStep] = TypeAdapter(CompressionStep)
_MODEL: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found."""

    point: Point
    """What ships."""
    path: Path
    """Its packed file."""
    start: Trained
    """The trained network that it was made from."""
    points: tuple[Point, ...]
    """All that was measured, in order."""
    front: tuple[Point, ...]
    """Those of them that no other one beats."""
    goal: Goal
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Of trials that weren't carried out to their end, why."""
    notes: tuple[str, ...] = ()
    """Why this one was chosen, and what would help where a target is missed."""

    def to_json(self) -> JsonObject:
        """Return it as `search.json` holds it."""
        return {
            "chosen": self.point.name,
            "targets": dict(self.goal.targets),
            "metric": self.goal.metric,
            "points": [point.to_json() for point in self.points],
            "front": [point.name for point in self.front],
            "rejected": dict(self.rejected),
            "notes": list(self.notes),
        }


_TEACHING = 1 / 3
"""What an epoch of a teacher's answers takes, of the time of an epoch in which it is trained."""
_OVERTIME, _LEAST_OVERTIME_S = 0.1, 60.0
"""A trial that still trains so much of the search's time after its end, and so long at least, is
given up."""


class _HopelessError(Exception):
    """A trial is ended early, for the reason that it names."""


def search(
    starts: Mapping[str, Trained],
    request: RunRequest,
    context: Run,
    *,
    parent: Path,
    epoch_s: Mapping[str, float],
    left_s: float | None,
    networks_only: bool = False,
    is_random: bool = False,
    scaled: Any = None,
) -> Found:
    """Search for the network and the steps that meet the targets of a recipe.

    Args:
        starts: the trained networks by name, the best one first.
        request: what is asked for; its data has a validation split.
        context: the context of the run.
        parent: the packed file of the first of them.
        epoch_s: what an epoch of the training of each takes.
        left_s: the seconds that the search may take, if there is a limit.
        networks_only: choose among networks, without steps that change their numbers.
        is_random: propose trials at random, as a reference to compare with.
        scaled: what times would be on another machine, if that is the one that counts.

    Raises:
        StoppedError: a stop was requested; the same command goes on.
    """
    first, trained = next(iter(starts.items()))
    prepared = trained.prepared
    epochs = {
        name: _epochs(each.recipe(request.recipe), epoch_s[name], left_s)
        for name, each in starts.items()
    }
    # The time is that of the search: each training takes its epochs.
    train = request.recipe.train.model_copy(update={"budget": None})
    request = replace(request, recipe=request.recipe.model_copy(update={"train": train}))
    assessor = Assessor(parent, prepared, request, context, scaled)
    chains = Chains(starts, request, context, assessor)
    start = chains.point(first, ())
    assessor.start = start
    goal = _goal(request, start)
    _say_unmeasured(goal, start, context)
    if not goal.is_cheapest and not goal.missed(start):
        note = "The network meets every target on the validation split as it is, without a step"
        context.say(note)
        return Found(start, parent, trained, (start,), (start,), goal, notes=(note,))
    teaching = _teaching(starts)
    smaller = _students(starts[teaching], request, assessor) if teaching else {}
    values = space.space(
        list(starts),
        list(smaller),
        lambda step: any(_takes(each.candidate, step) for each in starts.values()),
    )
    if networks_only:
        values = {
            name: kept if name == space.NETWORK else kept[:1] for name, kept in values.items()
        }
    study = Study(
        context.folder / "search.db",
        values,
        seed=context.seed,
        higher_is_better=goal.higher_is_better,
        is_random=is_random,
    )
    if not is_random:
        study.propose_first(space.first_trials(values))
    assessor.before()  # Once for all trials, each of which has a copy.
    trials = _Trials(
        chains,
        study,
        goal,
        smaller,
        teaching or first,
        values,
        start,
        epochs,
        epoch_s,
        left_s,
    )
    trials.run(context)
    return trials.found(context)


@dataclass(slots=True)
class _Trials:
    """The trials of a search, one after the other."""

    chains: Chains
    study: Study
    goal: Goal
    smaller: Mapping[str, space.Student]
    teaching: str
    """The trained network that smaller ones learn from."""
    values: Mapping[str, Sequence[str]]
    start: Point
    epochs: Mapping[str, float]
    """How long each trained network trains on."""
    epoch_s: Mapping[str, float]
    """What an epoch of each trained network takes by its forecast."""
    left_s: float | None
    points: dict[str, Point] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    """Of trials that weren't carried out to their end, why."""
    trainings: float = 0.0
    forecast: set[str] = field(default_factory=set)
    """Those of the rejected that were left out by their forecast."""
    within: list[Mapping[str, str]] = field(default_factory=list)
    """The settings of trials that keep within every limit of size and time."""

    def run(self, context: Run) -> None:
        """Carry out trials until the time is over, or nothing new is left to try."""
        begun, repeated = time.monotonic(), 0
        for name in self.chains.starts:  # They are trained, so that measuring is all it takes.
            point = self.chains.point(name, ())
            self.points[point.name] = point
        earlier, spent_before = self.study.ended(), 0.0  # Of an earlier process.
        for outcome in earlier:
            spent_before += float(outcome["seconds"])
            repeated = 0 if self._take(outcome) else repeated + 1
        most = 1
        for choices in self.values.values():
            most *= len(choices)
        while True:
            spent = spent_before + time.monotonic() - begun
            is_over = self.left_s is not None and spent >= self.left_s
            if self.left_s is None:
                is_over = self.carried_out >= MOST_TRIALS or self.trainings >= MOST_TRAININGS
            if is_over or repeated >= min(_REPEATED, most):
                return
            trial = self.study.ask(explores=repeated > 0)
            asked = time.monotonic()
            left = None if self.left_s is None else self.left_s - spent
            outcome = self._carry_out(trial, left, context)
            outcome["seconds"] = round(time.monotonic() - asked, 3)
            self._tell(trial, outcome)
            repeated = 0 if self._take(outcome) else repeated + 1
            best = self.goal.best(self.points.values())
            shown = best.value(self.goal.metric)
            known = {} if shown is None else {self.goal.metric: shown}
            passed = int(spent_before + time.monotonic() - begun)
            share = self.carried_out if self.left_s is None else passed
            total = MOST_TRIALS if self.left_s is None else int(self.left_s)
            context.observe(Progress("search", min(share, total), total, values=known))

    def _take(self, outcome: JsonObject) -> bool:
        """Keep what became of a trial, each chain once; say whether it is anything new."""
        before = self.tried
        for value in outcome["points"]:
            point = Point.from_json(value)
            self.points.setdefault(point.name, point)
        self.trainings += float(outcome["trainings"])
        if outcome["why"]:
            self.rejected.setdefault(outcome["name"], outcome["why"])
        if outcome["missing"]:
            self.forecast.add(outcome["name"])
        if outcome["points"] and not outcome["why"]:
            missed = self.goal.missed(Point.from_json(outcome["points"][-1]))
            if not any(name in LIMITED for name in missed):
                self.within.append(outcome["settings"])
        return self.tried > before

    @property
    def tried(self) -> int:
        """How many chains were carried out, or left out."""
        return len(self.points) + len(self.rejected)

    @property
    def carried_out(self) -> int:
        """How many chains were carried out, to their end or not."""
        return self.tried - len(self.forecast)

    def _carry_out(self, trial: Trial, left_s: float | None, context: Run) -> JsonObject:
        """Return what became of a trial: its points, or why it has none."""
        settings = trial.settings
        network = settings[space.NETWORK]
        start = network if network in self.chains.starts else self.teaching
        steps = space.steps(settings, self.smaller, self.epochs[start], self._allowed_drop)
        outcome: JsonObject = {
            "name": space.title(start, steps),
            "settings": dict(settings),
            "points": [],
            "why": "",
            "missing": {},
            "trainings": 0.0,
        }
        chain = [_STEP.validate_python(step) for step in steps]
        known = self.chains.known(start, chain)
        if known is not None:
            return outcome | {"points": [known.to_json()]}
        if why := self.rejected.get(outcome["name"]):
            return outcome | {"why": why}
        missing = self._hopeless_by(settings)
        if missing:
            words = ", ".join(f"`{name}`" for name in missing)
            return outcome | {"why": f"by its forecast it misses {words}", "missing": missing}
        if not self.goal.is_cheapest and any(space.is_narrower(settings, x) for x in self.within):
            return outcome | {"why": "a wider network keeps within every limit"}
        left_steps = [
            step
            for count, step in enumerate(steps, 1)
            if self.chains.known(start, chain[:count]) is None
        ]
        needed = self._needed_s(settings, start, left_steps)
        if left_s is not None and needed > left_s:
            return outcome | {
                "why": f"it would train for about {needed:,.0f} s, and {left_s:,.0f} s are left"
            }
        if trial.begin() >= _MOST_ENDS:
            return outcome | {
                "why": "the process ended twice while it was carried out: it may "
                "need more memory than this machine has"
            }
        outcome["trainings"] = sum(float(step.get("epochs", 0.0)) for step in left_steps) / max(
            self.epochs[start], 1e-9
        )
        ends = None
        if left_s is not None and self.left_s is not None:
            ends = time.monotonic() + left_s + max(_OVERTIME * self.left_s, _LEAST_OVERTIME_S)
        watch = _Watch(trial, self, context, ends)
        watch.may_end = watch.may_end and self.chains.known(start, chain[:1]) is None
        own = replace(context, observe=watch)
        chains = replace(
            self.chains, context=own, assessor=replace(self.chains.assessor, context=own)
        )
        made: list[JsonObject] = []  # What was made on the way counts, where the end fails.
        why = ""
        try:
            for count in range(len(chain) + 1):
                made.append(chains.point(start, chain[:count]).to_json())
                watch.may_end = watch.may_end and count == 0  # Later steps train on.
        except (StoppedError, ResourceError):
            trial.stop()
            raise
        except Exception as error:  # noqa: BLE001 (of any library: a trial doesn't end a search)
            words = error.what if isinstance(error, ModelwrightError) else str(error)
            why = words.partition("\n")[0][:300] or type(error).__name__
        return outcome | {"points": made, "why": why}

    def _needed_s(
        self,
        settings: Mapping[str, str],
        start: str,
        steps: Sequence[Mapping[str, Any]],
    ) -> float:
        """Return about how many seconds some steps of a trial train."""
        is_cut = settings[space.PRUNE] != space.NONE
        cut = float(settings[space.PRUNE]) if is_cut else 1.0
        student = self.smaller.get(settings[space.NETWORK])
        share, epochs = cut if student is None else student.multiply_adds, 0.0
        for step in steps:
            # What a step cuts is as large as before at first.
            own = 1.0 if step.get("kind") == "structured" else share
            taught = _TEACHING * (step["name"] == "distill")
            epochs += float(step.get("epochs", 0.0)) * (own + taught)
        return self.epoch_s[start] * epochs

    @property
    def _allowed_drop(self) -> float:
        """By how much the main metric of the network before may get worse, as targets say."""
        target, before = self.goal.targets.get(self.goal.metric), self.start.value(self.goal.metric)
        if target is None or before is None:
            return space.LEAST_KEPT_DROP
        _, bound = parse_target(target)
        return max(METRICS[self.goal.metric].worsening(before, bound), space.LEAST_KEPT_DROP)

    def _hopeless_by(self, settings: Mapping[str, str]) -> dict[str, float]:
        """Return the limits that a trial misses even if all goes as well as it can."""
        expected, network = space.best_case(settings), settings[space.NETWORK]
        student = self.smaller.get(network)
        point = self.points.get(network, self.start) if student is None else student.costs
        shares = {
            "size_bytes": expected.size,
            "file_bytes": expected.size,
            "latency_p50_ms": expected.time,
            "latency_p95_ms": expected.time,
            "latency_p99_ms": expected.time,
        }
        figures = {
            name: replace(figure, **dict.fromkeys(asdict(figure), figure.low * shares[name]))
            for name, figure in point.figures.items()
            if name in shares
        }
        return self.goal.missed(Point("", figures))

    def _tell(self, trial: Trial, outcome: JsonObject) -> None:
        if outcome["why"]:
            trial.reject(outcome["missing"] or {"carried out": 1.0}, outcome)
            return
        point = Point.from_json(outcome["points"][-1])
        trial.tell(self.goal.value(point), self.goal.distances(point), outcome)

    def found(self, context: Run) -> Found:
        """Return what ships, and why."""
        points = tuple(self.points.values())
        best = self.goal.best(points)
        notes = list(_why(self.goal, best, points, self.start))
        others = [choices for name, choices in self.values.items() if name != space.NETWORK]
        if self.goal.missed(best) and max(map(len, others)) == 1:
            notes.append("`compress: auto` also makes networks smaller and faster by steps")
        network, chain = best.settings["network"], best.settings["compress"]
        steps = [_STEP.validate_python(step) for step in chain]
        for note in notes:
            context.say(note)
        return Found(
            point=best,
            path=self.chains.path(network, steps),
            start=self.chains.starts[network],
            points=points,
            front=tuple(self.goal.front(points)),
            goal=self.goal,
            rejected=self.rejected,
            notes=tuple(notes),
        )


class _Watch:
    """Passes progress on, and ends a trial that others have left behind."""

    def __init__(self, trial: Trial, trials: _Trials, context: Run, ends: float | None) -> None:
        self._trial, self._goal, self._observe = trial, trials.goal, context.observe
        self._ends = ends
        self._key = f"val_{task_of(trials.chains.request.recipe).select_by}"
        # Networks that are cut get worse at first, so only those that begin anew are compared.
        is_new = trial.settings[space.NETWORK] in trials.smaller
        # Before anything meets the targets, what seems worse may be what does.
        self.may_end = is_new and not self._goal.missed(self._goal.best(trials.points.values()))

    def __call__(self, progress: Progress) -> None:
        """Take progress."""
        if progress.note and not progress.note.startswith("Going on"):
            return  # What single trials say is in `search.json`.
        self._observe(progress)
        if progress.stage == "train" and self._ends is not None and time.monotonic() > self._ends:
            raise _HopelessError("the time was over before it had ended")
        score = progress.values.get(self._key)
        if progress.stage != "train" or score is None or not self.may_end:
            return
        # By epochs, so that a resumed trial is compared with others at the same point.
        is_hopeless = self._trial.is_hopeless(math.ceil(progress.values["epoch"]), score)
        if is_hopeless and not self._goal.is_cheapest:
            raise _HopelessError("others were better after as much training")


def _epochs(recipe: Recipe, epoch_s: float, left_s: float | None) -> float:
    """Return how long networks train on in a search: as long as it has time for.

    That is what a step takes by itself at the most; where a budget alone limits training, more.
    """
    usual = DEFAULT_EPOCHS if left_s is None else _MOST_EPOCHS
    epochs = (recipe.train.epochs or usual) / 2
    if left_s is not None:
        epochs = min(epochs, max(_SHARE * left_s / max(epoch_s, 1e-9), _LEAST_EPOCHS))
    return float(f"{epochs:.2g}")


def _goal(request: RunRequest, start: Point) -> Goal:
    """Return what the search is for; without a target of quality, little may be lost."""
    recipe = request.recipe
    metric, targets = task_of(recipe).select_by, dict(recipe.targets)
    value = start.value(metric)
    assert value is not None  # It is the one that chooses epochs.
    is_about_quality = any(name in start.figures and name not in LIMITED for name in targets)
    if not is_about_quality and Goal(targets, metric).is_cheapest:
        targets[metric] = least_after(metric, value, ALLOWED_DROP)
    return Goal(targets, metric)


def _say_unmeasured(goal: Goal, start: Point, context: Run) -> None:
    unknown = [name for name in goal.targets if start.value(name) is None]
    if unknown:
        names = ", ".join(f"`{name}`" for name in unknown)
        why = (
            "it needs the simple methods, which are fitted once"
            if unknown == [GAIN]
            else ("it isn't measured on the validation split")
        )
        context.say(f"The search goes by the other targets, as {names} isn't known in it: {why}")


def _teaching(starts: Mapping[str, Trained]) -> str | None:
    """Return the trained network that smaller ones learn from, if there is one.

    It is the best one that isn't linear; else a linear one of what networks take too.
    """
    takes = {
        name: each.candidate.architecture["name"] != "linear"
        for name, each in starts.items()
        if not isinstance(each.prepared.input, NgramInput)
    }
    return next((name for name, is_deep in takes.items() if is_deep), next(iter(takes), None))


def _students(
    trained: Trained, request: RunRequest, assessor: Assessor
) -> dict[str, space.Student]:
    """Return the networks of fewer multiply-adds or weights that may learn from a trained one."""
    from modelwright.initialization import initialize_model
    from modelwright.pipeline.check import summarized

    context = replace(assessor.context, observe=silent)
    whole, students = summarized(trained.candidate, trained.prepared), dict[str, space.Student]()
    sections = space.students(request.recipe.input_kind, request.recipe.output_kind)
    for name, section in sections.items():
        with contextlib.suppress(ModelwrightError, ValidationError):
            model = _MODEL.validate_python(section)
            asked = replace(request, recipe=request.recipe.model_copy(update={"model": model}))
            student = initialize_model(asked, trained.prepared, context)
            own = summarized(student, trained.prepared)
            share = own.multiply_adds / max(whole.multiply_adds, 1)
            if share >= 1 and own.parameters >= whole.parameters:
                continue

            def costs(student: Candidate = student) -> JsonObject:
                with tempfile.TemporaryDirectory(prefix=ASIDE, dir=context.folder) as aside:
                    path = Path(aside) / "student.mw"
                    write_candidate(path, student, request, trained.prepared, context)
                    return assessor.costs(path, trained.prepared).to_json()

            point = Point.from_json(context.decisions.decide(f"costs of {name}", costs))
            students[name] = space.Student(section, share, point)
    return students


def _takes(candidate: Candidate, step: Mapping[str, Any]) -> bool:
    """Say whether a network takes a step."""
    from modelwright.compression import check_step

    try:
        parsed = _STEP.validate_python(dict(step))
        check_step(candidate, parsed)
    except (ModelwrightError, ValidationError):
        return False
    return True


def _why(goal: Goal, chosen: Point, points: Sequence[Point], start: Point) -> Iterator[str]:
    """Say why a point was chosen, and what would help where it misses a target."""
    missed = goal.missed(chosen)
    count = len(points)
    if not missed:
        meets = sum(not goal.missed(point) for point in points)
        wanted = "costs least" if goal.is_cheapest else f"has the best `{goal.metric}`"
        yield (
            f"`{chosen.name}` ships: of {count} that were measured, {meets} meet every target on "
            f"the validation split, and it {wanted} of these"
        )
        return
    parts = []
    for name, share in missed.items():
        value = chosen.value(name)
        assert value is not None  # It has a distance.
        shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        parts.append(f"`{name}` is {shown} and {goal.targets[name]} is asked ({share:.0%} off)")
    yield (
        f"None of {count} that were measured meets every target on the validation split; "
        f"`{chosen.name}` is nearest: " + "; ".join(parts)
    )
    yield from goal.what_would_help(points, start)


def front_file(number: int) -> str:
    """Return the place in a run's folder of the file of a point of the front."""
    return f"front/{number}.mw"


def keep_front(found: Found, folder: Path) -> None:
    """Keep the files of the front beside a run, with the record of the search; remove all others.

    `search.json` is the record; `front_file` are the files, in the order of its `front`.
    """
    made = folder / "search"
    (folder / front_file(0)).parent.mkdir(exist_ok=True)
    for number, point in enumerate(found.front):
        chain = [_STEP.validate_python(step) for step in point.settings["compress"]]
        path = made / f"{chain_key(point.settings['network'], chain)}.mw"
        if path.exists():
            path.replace(folder / front_file(number))
    write_json(folder / "search.json", found.to_json())
    shutil.rmtree(made, ignore_errors=True)
    (folder / "search.db").unlink(missing_ok=True)
