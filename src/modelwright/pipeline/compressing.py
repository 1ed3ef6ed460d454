"""Making a trained network smaller and faster, and measuring what that changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from modelwright import evaluation, modelfile
from modelwright.data import Prepared, prepare
from modelwright.errors import DataError, RecipeError, RequestError, require
from modelwright.evaluation import Comparison
from modelwright.files import copy_file
from modelwright.ledger import Ledger
from modelwright.pipeline.assessing import Assessor, write_candidate
from modelwright.pipeline.hosts import Host, host_of
from modelwright.pipeline.measuring import Measured, calibrate, questions
from modelwright.pipeline.model_selection import Trained
from modelwright.pipeline.request import RecipeLike, read_draft
from modelwright.pipeline.searching import Found, search
from modelwright.pipeline.stages import compress_stages
from modelwright.planning import LIMITED, Goal
from modelwright.recipe import Draft, Recipe
from modelwright.recipe.compression import CompressionStep, DistillStep
from modelwright.recipe.preparation import AudioSpec, TextSpec, TransformsSpec
from modelwright.recipe.spec import seconds
from modelwright.run import Decisions, Run, RunRequest, recorded_base, silent
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate
    from modelwright.transforms.inputs import Input

TAKEN = ("compress", "train", "augment", "targets", "evaluate", "resources")
"""The sections that `compress` takes of a recipe that is given; all else is the file's own."""
TRAINING_SHARE = 0.5
"""The part of a budget that training takes where a search follows."""
_SEARCH_S = "search_s"
"""The decision on the seconds of a search."""
UNCOMPRESSED = "uncompressed.mw"
"""The file of the trained network before `compress`, in the run's folder."""


def check_steps(
    candidate: Candidate,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
    *,
    is_known: bool,
) -> None:
    """Refuse, before anything is trained, steps of `compress` that the network can't take.

    Args:
        candidate: the network.
        request: what is asked for.
        prepared: the data as the network takes it.
        context: the context of the run.
        is_known: whether it is the one that is compressed; else teachers alone are looked at.

    Raises:
        RequestError: there is such a step.
    """
    from modelwright.compression import check_step
    from modelwright.compression.distill import begin

    if is_searched(request.recipe):
        require("optuna", extra="train", purpose="to search for what meets the targets")
    if request.recipe.compress and _is_distributed():
        raise RequestError(
            "`compress` works in one process, and `torchrun` has started several",
            where="compress",
            fix="Leave the section out, and give the finished file to `modelwright compress`",
        )
    aside = replace(context, decisions=Decisions(None), observe=silent)
    recipe = with_teachers(request)
    for step in recipe.steps:
        if is_known:
            check_step(without_adapters(candidate), step)
        if isinstance(step, DistillStep):
            # What a student is given by further steps is another network.
            candidate, _ = begin(candidate, step, recipe, prepared.dataset(), aside)


def require_smaller_student(
    before: Candidate, request: RunRequest, prepared: Prepared, context: Run
) -> None:
    """Refuse, before it is trained, a single student that is larger than the network before it.

    Raises:
        RequestError: it is larger.
    """
    from modelwright.compression.distill import begin

    recipe = with_teachers(request)
    step = recipe.steps[0] if len(recipe.steps) == 1 else None
    if not isinstance(step, DistillStep) or step.student is None:
        return
    aside = replace(context, decisions=Decisions(None), observe=silent)
    student, _ = begin(before, step, recipe, prepared.dataset(), aside)
    own, other = (
        sum(item.numel() * item.element_size() for item in each.network.state_dict().values())
        for each in (student, before)
    )
    if own > other:
        raise RequestError(
            f"the student's weights are {own:,} bytes, and those of the network before {other:,}",
            where="compress (distill, student)",
            fix="Take a smaller `student`, or add a step such as `quantize`",
        )


def with_teachers(request: RunRequest, *, before: Path | None = None) -> Recipe:
    """Return a recipe with the paths of the teachers of its steps `distill`, as they are found.

    `before` is the file of the network before the first step, which teaches where none is named.

    Raises:
        RecipeError: there is no such file.
    """
    if request.recipe.compress == "auto":
        return request.recipe
    steps: list[CompressionStep] = []
    for step in request.recipe.compress:
        if isinstance(step, DistillStep):
            try:
                found = [str(request.find(name)) for name in step.teachers]
            except RecipeError as error:
                raise error.at(request.recipe.place_of("compress")) from None
            if not found and step.student is None and before is not None:
                found = [str(before)]
            step = step.model_copy(update={"teacher": tuple(found) or None})
        steps.append(step)
    return request.recipe.model_copy(update={"compress": tuple(steps)})


def without_adapters(candidate: Candidate) -> Candidate:
    """Return a candidate with its adapters merged into the layers, which steps then see whole."""
    from modelwright.models.lora import merged

    return replace(candidate, network=merged(candidate.network))


@dataclass(frozen=True, slots=True)
class Shipped:
    """The network whose packed file a run delivers."""

    candidate: Candidate
    prepared: Prepared
    """The data as it takes it."""
    is_changed: bool = False
    """Whether it is another file than the network before."""
    found: Found | None = None
    """What a search has found, where there was one."""
    before: Prepared | None = None
    """The data as the network before takes it."""


def is_compressed(recipe: Recipe) -> bool:
    """Say whether a trained network is followed by steps, or by a search for them."""
    return bool(recipe.compress) or is_searched(recipe)


def is_searched(recipe: Recipe) -> bool:
    """Say whether steps are searched for, or a network that keeps to limits of size or time."""
    if recipe.compress:
        return recipe.compress == "auto"
    has_limit = any(name in LIMITED for name in recipe.targets)
    return recipe.model == "auto" and has_limit and not _is_distributed()


def is_limited(recipe: Recipe) -> bool:
    """Say whether a network is searched for that keeps to limits, without steps of `compress`."""
    return is_searched(recipe) and not recipe.compress


def _is_distributed() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def require_validation(request: RunRequest, prepared: Prepared) -> None:
    """Check that there are samples to choose by, where a search is to choose.

    Raises:
        RequestError: there is no validation split.
    """
    if request.recipe.compress == "auto" and prepared.dataset().validation is None:
        raise RequestError(
            "`compress: auto` chooses by the validation split, and there is none",
            where=request.recipe.place_of("compress"),
            fix="Give `data.split.val` a share above 0, or name the steps",
        )


def training_request(request: RunRequest) -> RunRequest:
    """Return the request for the training alone: `compress: auto` shares its budget."""
    return _shortened(request) if request.recipe.compress == "auto" else request


def network_request(request: RunRequest, context: Run, *, keeps_limits: bool) -> RunRequest:
    """Return the request for one network's training where limits of size or time are searched for.

    Where the untrained network keeps them, all time is for training; else a part is left for
    smaller networks that learn from it.
    """
    recipe = request.recipe
    if recipe.train.budget is None:
        return request
    left_s = 0.0 if keeps_limits else (1 - TRAINING_SHARE) * seconds(recipe.train.budget)
    context.decisions.decide(_SEARCH_S, lambda: round(left_s, 3))
    return request if keeps_limits else _shortened(request)


def _shortened(request: RunRequest) -> RunRequest:
    recipe = request.recipe
    if recipe.train.budget is None:
        return request
    left = f"{TRAINING_SHARE * seconds(recipe.train.budget):.3f}s"
    train = recipe.train.model_copy(update={"budget": left})
    return replace(request, recipe=recipe.model_copy(update={"train": train}))


def keeps_limits(path: Path, request: RunRequest, prepared: Prepared, context: Run) -> bool:
    """Say whether a packed network, trained or not, keeps the limits of size and time.

    Without a validation split it isn't asked, as no other network could be chosen.
    """
    limits = {name: target for name, target in request.recipe.targets.items() if name in LIMITED}
    if prepared.dataset().validation is None:
        return True
    host = host_of(request, replace(context, observe=silent))  # It was said before.
    scaled = None if host is None else host.times
    point = Assessor(path, prepared, request, context, scaled).costs(path, prepared)
    goal = Goal(limits, task_of(request.recipe).select_by)
    return goal.distances(point).keys() == limits.keys() and not goal.missed(point)


def compress_trained(
    trained: Trained,
    request: RunRequest,
    context: Run,
    parent: Path,
    host: Host | None,
) -> Shipped:
    """Make a trained network smaller and faster, and put the packed file at its place in the run.

    Args:
        trained: the network, and those that were trained beside it.
        request: what is asked for.
        context: the context of the run.
        parent: the network's packed file.
        host: the machine that will serve, if it is another one.

    Raises:
        RequestError: a step can't be done to the network, or costs more than it may.
        StoppedError: a stop was requested; the same command goes on.
    """
    model, found = context.folder / "model.mw", None
    has_validation = trained.prepared.dataset().validation is not None
    if is_searched(request.recipe) and has_validation:
        trained = replace(trained, candidate=without_adapters(trained.candidate))
        found = _searched(trained, request, context, parent, host)
        candidate, prepared, path = found.start.candidate, found.start.prepared, found.path
    else:
        prepared, path = trained.prepared, parent
        assessor = Assessor(parent, prepared, request, context)

        def after(made: Candidate, own: Run) -> None:
            nonlocal path
            path = own.folder / "model.mw"
            write_candidate(path, made, request, prepared, context)
            calibrate(path, request, prepared, replace(context, ledger=Ledger()))
            if prepared.dataset().validation is not None:
                context.ledger.extend(assessor.step(path, own.stage_name))

        further = replace(request, recipe=trained.recipe(request.recipe))
        candidate = compressed(
            trained.candidate, further, prepared, context, is_known=trained.is_given, after=after
        )
    copy_file(path, model)
    return Shipped(candidate, prepared, path != parent, found, trained.prepared)


def _searched(
    trained: Trained, request: RunRequest, context: Run, parent: Path, host: Host | None
) -> Found:
    """Search for what meets the targets, in the time that is left."""
    from modelwright.training import steps_per_epoch, time_steps

    recipe = request.recipe
    architecture = trained.candidate.architecture
    name = str(architecture.get("name", "network"))
    others = {key if key != name else f"{key} 2": each for key, each in trained.others.items()}
    starts = {name: trained, **others}

    def timed() -> dict[str, float]:
        found = {}
        for key, each in starts.items():
            own, dataset = each.recipe(recipe).train, each.prepared.dataset()
            cost = time_steps(
                each.candidate, own, dataset, context, task=task_of(recipe), augment=recipe.augment
            )
            steps = steps_per_epoch(own, dataset.train)
            found[key] = round(cost.step_s * steps + cost.validation_s, 4)
        return found

    epoch_s = context.decisions.decide("search_epoch_s", timed)
    left_s = None
    if recipe.train.budget is not None:
        share = 1.0 if trained.is_given else (1 - TRAINING_SHARE) * (recipe.compress == "auto")
        budget_s = share * seconds(recipe.train.budget)
        left_s = float(context.decisions.decide(_SEARCH_S, lambda: budget_s))
    return search(
        starts,
        request,
        context,
        parent=parent,
        epoch_s=epoch_s,
        left_s=left_s,
        networks_only=recipe.compress != "auto",
        scaled=None if host is None else host.times,
    )


def compressed(
    start: Candidate,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
    *,
    is_known: bool = False,
    after: Callable[[Candidate, Run], None] | None = None,
) -> Candidate:
    """Return what the steps of `compress` make of a trained network.

    With `model: auto` a step that the chosen network can't take is left out, and said.

    Args:
        start: the trained network.
        request: what is asked for.
        prepared: the data as the network takes it.
        context: the context of the run.
        is_known: whether the network was known before the run, so that no step is left out.
        after: is called after each step with the network and the step's own context.

    Raises:
        RequestError: a step can't be done to the network, or costs more than it may.
    """
    from modelwright.compression import check_step

    candidate = without_adapters(start)
    recipe = with_teachers(request, before=context.folder / UNCOMPRESSED)
    for step, (name, stage) in zip(recipe.steps, compress_stages(recipe), strict=True):
        try:
            check_step(candidate, step)
        except RequestError as error:
            if is_known or recipe.model != "auto":
                raise
            context.say(f"The step `{name}` is left out: {error.what}")
            continue
        own = context.stage(name)
        candidate = stage(candidate, recipe, prepared.dataset(), own)
        if after is not None:
            after(candidate, own)
    return candidate


def compare_files(
    path: Path,
    parent: Path,
    measured: Measured,
    request: RunRequest,
    shipped: Shipped,
    context: Run,
) -> Comparison:
    """Measure a file beside the one that it was made of, and put the difference in the ledger."""
    own, other = (modelfile.load(each, threads=context.threads) for each in (path, parent))
    samples, place, task = measured.samples, measured.place, task_of(request.recipe)
    fingerprint = shipped.prepared.fingerprint(samples.name)
    assert shipped.before is not None
    taken = shipped.before.split(samples.name)
    assert taken is not None
    before = evaluation.measure(
        other,
        taken,
        other.scoring,
        fingerprint=shipped.before.fingerprint(samples.name),
        place=place,
        observe=context.observe,
    )
    compared = evaluation.compare(
        measured.measurement, before, samples, task, fingerprint=fingerprint, place=place
    )
    context.ledger.extend(compared.evidence)
    context.ledger.append(evaluation.compare_sizes(own, other))
    if request.recipe.evaluate.latency:
        places = range(min(evaluation.BATCH, len(samples)))
        times = evaluation.compare_latency(
            own,
            other,
            questions(places, samples, shipped.prepared),
            parent_samples=questions(places, taken, shipped.before),
            place=place,
            observe=context.observe,
        )
        context.ledger.extend(times)
        for record in times:
            if record.high < 1:
                context.say(
                    f"It is slower than before compression here: `{record.metric}` is "
                    f"{record.value:.2f} ({record.low:.2f} to {record.high:.2f})"
                )
    return compared


def say_integers(path: Path, context: Run) -> None:
    """Say how many layers onnxruntime computes in int8 here, and which it doesn't."""
    layers = modelfile.integer_layers(path)
    if not layers:
        return
    others = [name for name, is_integer in layers.items() if not is_integer]
    note = f"onnxruntime computes {len(layers) - len(others)} of {len(layers)} int8 layers as such"
    if others:
        note += f"; it turns {', '.join(f'`{name}`' for name in others[:4])}" + (
            ", …" if len(others) > 4 else ""
        )
        note += " back into fp32 first, which is slower than int8 and no faster than before"
    if not context.has_vnni:
        note += "; the processor has no VNNI, so int8 gains less time than on one that has"
    context.say(note)


def require_smaller(path: Path, parent: Path, recipe: Recipe) -> None:
    """Refuse what compression hasn't made smaller; learning on alone isn't meant to.

    Raises:
        RequestError: the model takes as many bytes as before, or more.
    """
    steps = recipe.steps
    if steps and all(isinstance(step, DistillStep) and step.student is None for step in steps):
        return
    after, before = (modelfile.describe(each)["size_bytes"] for each in (path, parent))
    if after >= before:
        raise RequestError(
            f"compression makes the model no smaller: {after:,} bytes, {before:,} before",
            where="compress",
            fix=f"Leave the section out; the model before it is {parent}",
        )


def require_same_data(path: Path, prepared: Prepared) -> None:
    """Refuse other data than a model file was trained and measured on.

    Raises:
        DataError: a split has other samples than the file says.
    """
    known = modelfile.data_card(path).get("splits", {})
    for name, split in prepared.record["splits"].items():
        root = known.get(name, {}).get("root") if isinstance(known.get(name), dict) else None
        if root != split["root"]:
            raise DataError(
                f"the {name} split isn't the one that {path.name} was made with",
                where=prepared.source,
                why="Samples that it has trained on might be measured as a test",
                fix="Give the same data, unchanged, with the same settings of `data`",
            )


def compress_request(
    path: Path,
    recipe: RecipeLike | None,
    *,
    data: Path | str | None,
    overrides: Sequence[str],
) -> RunRequest:
    """Return the recipe of a model file, with what is asked for of its compression."""
    text = modelfile.recipe_text(path)
    draft = Draft.from_text(text, where=f"the recipe in {path.name}")
    notes: tuple[str, ...] = ()
    if recipe is not None:
        asked = read_draft(recipe)
        others = [name for name in Recipe.model_fields if name not in (*TAKEN, "version", "task")]
        left = [f"`{name}`" for name in others if asked.get(name) is not None]
        if left:
            words = f"Taken from the file's own recipe, not the one given: {', '.join(left)}"
            notes = (words,)
        for section in TAKEN:
            if asked.get(section) is not None:
                draft.put(section, asked.get(section))
    if data is not None:
        place, own = Path(data).absolute(), draft.get("data")
        draft.put("data.path", str(place))
        if isinstance(own, dict) and own.get("source") == "parallel_text":
            for key, names in own.items():  # The other files of texts lie beside it.
                if key == "target":
                    draft.put("data.target", str(place.with_name(Path(str(names)).name)))
                elif key in ("val", "test") and isinstance(names, list):
                    beside = [str(place.with_name(Path(str(name)).name)) for name in names]
                    draft.put(f"data.{key}", beside)
    own = draft.get("data")
    read = draft.recipe(overrides=overrides)
    distills = read.compress == "auto"
    distills = distills or any(isinstance(step, DistillStep) for step in read.steps)
    given = own.get("unlabelled") if isinstance(own, dict) else None
    if given is not None and given == read.data.unlabelled_path and not distills:
        # The step that learnt from them is done.
        read = read.model_copy(update={"data": read.data.model_copy(update={"unlabelled": None})})
    if not read.compress:
        raise RequestError(
            "nothing says how to compress it",
            where=str(path),
            fix="Write a recipe with the section `compress`, or give it by "
            "--set 'compress=[{name: quantize, dtype: int8}]' or --set compress=auto",
        )
    # Files of runs have one name; their folders tell them apart.
    of_run = path.name in ("model.mw", UNCOMPRESSED)
    stem = path.resolve().parent.name if of_run else path.stem
    base = Path(recipe).resolve().parent if isinstance(recipe, str | os.PathLike) else Path.cwd()
    places = filter(None, (recorded_base(path) if of_run else None, Path.cwd()))
    found = (place for place in places if _is_there(read, place))
    return RunRequest(
        read,
        base=base,
        stem=f"{stem}-compressed",
        frame_base=next(found, Path.cwd()),
        notes=notes,
    )


def _is_there(recipe: Recipe, base: Path) -> bool:
    """Say whether the data's path leads anywhere from a folder; without one it does anywhere."""
    path = getattr(recipe.data, "path", None)
    with contextlib.suppress(OSError, ValueError):
        return path is None or (base / path).exists()
    return False


def start_from(path: Path) -> Candidate:
    """Return the network of a model file, as it was before it was calibrated."""
    from modelwright.modelfile import torch_runtime

    start = torch_runtime.rebuild(path)
    return replace(start, inference=replace(start.inference, temperature=(), threshold=None))


def data_of(request: RunRequest, start: Candidate, context: Run) -> Prepared:
    """Return the data of a model file's recipe, as its network takes it."""
    path = getattr(request.recipe.data, "path", None)
    if path is not None:
        try:
            replace(request, base=request.data_base).find(path)
        except RecipeError as error:
            error.fix = "Say where the data is: --data PATH"
            raise
    # How samples become inputs stands in the file; the recipe may say `auto`.
    plain = {"transforms": TransformsSpec(), "text": TextSpec(), "audio": AudioSpec()}
    return prepare(
        request.recipe.model_copy(update=plain),
        base=request.data_base,
        like=cast("Input", start.input),
        run_folder=context.folder,
        observe=context.observe,
    )
