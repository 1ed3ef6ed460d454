"""From a recipe to one measured model file and its report: the main job, in order."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelwright import data, modelfile
from modelwright.data import Prepared
from modelwright.evaluation import TIMES, Verdict, judge
from modelwright.files import ASIDE, Json, copy_file, json_digest
from modelwright.initialization import initialize_model, pin_network, settled_input
from modelwright.initialization.published import read_once
from modelwright.ledger import Ledger, exact
from modelwright.modelfile.container import refuse_sealed
from modelwright.pipeline.assessing import write_candidate
from modelwright.pipeline.compressing import (
    UNCOMPRESSED,
    Shipped,
    check_steps,
    compare_files,
    compress_request,
    compress_trained,
    data_of,
    is_compressed,
    is_limited,
    is_searched,
    keeps_limits,
    network_request,
    require_same_data,
    require_smaller,
    require_smaller_student,
    require_validation,
    say_integers,
    start_from,
    training_request,
)
from modelwright.pipeline.hosts import Host, host_of, on_host
from modelwright.pipeline.measuring import calibrate, measure_file, require_held_out
from modelwright.pipeline.model_selection import Trained, select_model, selects_model
from modelwright.pipeline.network_choice import NetworkChoice, finetuning_spec
from modelwright.pipeline.outputs import write_outputs
from modelwright.pipeline.request import Notes, RecipeLike, read_request, run_in
from modelwright.pipeline.result import RunResult
from modelwright.pipeline.searching import keep_front
from modelwright.pipeline.stages import Stage, train
from modelwright.progress import shown
from modelwright.recipe import check_composition
from modelwright.recipe.targets import METRICS
from modelwright.run import (
    STAGES_FOLDER,
    Observe,
    Run,
    RunFolder,
    RunRequest,
    claimed,
    is_main_process,
    silent,
    untuned,
)
from modelwright.security.sealing import using_identities

if TYPE_CHECKING:
    from modelwright.modelfile.export import TracedGraph
    from modelwright.models.candidate import Candidate

STAGES: tuple[tuple[str, Stage], ...] = (("train", train),)
"""What is done to the first network, in order: the stages by their names, each name once."""


def run(
    recipe: RecipeLike,
    *,
    data: object = None,
    out: Path | str = Path("runs"),
    name: str | None = None,
    overrides: Sequence[str] = (),
    site: Path | None = None,
    observe: Observe | None = None,
) -> RunResult:
    """Carry out a recipe: from data to one measured model file and its report.

    Run again with the same name and recipe, it goes on where it was, or returns the result.

    Args:
        recipe: a recipe, its sections as a dict, or the path of one.
        data: a DataFrame (pandas, polars, or a table of Arrow's) that is the data, in place of
            `data.path`. What its columns are is inferred where the recipe doesn't say
            `data.source`. Paths in its cells start from the current folder.
        out: the parent of the run's folder.
        name: the run's name; by default the recipe's stem.
        overrides: `dotted.key=value`, as with `--set`.
        site: a file that says where the run takes place.
        observe: called with progress; by default it is shown in a notebook, and else nowhere.

    Raises:
        ModelwrightError: the request can't be carried out; nothing is left half-written.
    """
    request = read_request(recipe, frame=data, overrides=overrides, site=site)
    identities = using_identities(request.recipe.resources.identity)
    with shown(observe) as watch, read_once(), identities:
        return _carry_out(request, Path(out) / (name or request.stem), observe=watch)


def _carry_out(request: RunRequest, folder: Path, *, observe: Observe) -> RunResult:
    begun = time.monotonic()
    notes = Notes(observe if is_main_process() else silent)
    digest, document = request.recipe.result_digest(), request.recipe.document()
    with claimed(folder, digest=digest, document=document, base=request.data_base) as kept:
        if kept.result is not None:
            return _finished(kept)
        for note in (*request.notes, *check_composition(request.recipe)):
            notes.say(note)
        context = run_in(request, folder, observe=notes)
        _say_untuned(context)
        host = host_of(request, context)
        context = on_host(context, host)
        request = pin_network(request, context)
        prepared = data.prepare(
            request.recipe,
            base=request.data_base,
            like=settled_input(request),
            run_folder=folder if is_main_process() else None,
            observe=notes,
        )
        require_held_out(prepared, request.recipe.inference.threshold)
        require_validation(request, prepared)
        start = initialize_model(request, prepared, context)
        is_known = request.recipe.model != "auto"
        check_steps(start, request, prepared, context, is_known=is_known)
        if is_known:
            require_smaller_student(start, request, prepared, context)
        limited = is_limited(request.recipe)
        rehearsed = _rehearse(start, request, prepared, context, limited=limited)
        trained = _train(Trained(start, prepared), rehearsed, request, context)
        if not is_main_process():
            return RunResult(folder, context.ledger, (), time.monotonic() - begun)
        model, parent = folder / "model.mw", folder / UNCOMPRESSED
        first = parent if is_compressed(request.recipe) else model
        write_candidate(
            first, trained.candidate, request, trained.prepared, context, traced=trained.traced
        )
        shipped = Shipped(trained.candidate, trained.prepared)
        if first == parent:
            calibrate(parent, request, trained.prepared, context)
            shipped = compress_trained(trained, request, context, parent, host)
        return _deliver(shipped, request, context, notes, kept, host, begun=begun)


def _deliver(
    shipped: Shipped,
    request: RunRequest,
    context: Run,
    notes: Notes,
    kept: RunFolder,
    host: Host | None,
    *,
    begun: float,
) -> RunResult:
    """Measure a run's packed file, judge it, and write what the run delivers."""
    folder, prepared = context.folder, shipped.prepared
    model, parent = folder / "model.mw", folder / UNCOMPRESSED
    if shipped.is_changed:
        if shipped.found is None:  # A search may choose what is faster and no smaller.
            require_smaller(model, parent, request.recipe)
        say_integers(model, context)
    measured = measure_file(model, request, prepared, context)
    comparison = None
    asked = any(METRICS[name].needs_compression for name in request.recipe.targets)
    if shipped.is_changed or (asked and shipped.before is not None):
        comparison = compare_files(model, parent, measured, request, shipped, context)
    place = measured.place
    if host is not None:
        own = (record for record in context.ledger if record.subject == "model")
        times = [record for record in own if record.metric in TIMES and not record.slice]
        context.ledger.extend(host.times(times, model))
        place = host.profile.place
    ledger = _keep_evidence(model, context.ledger)
    verdicts = judge(request.recipe.targets, ledger, hardware=place.hardware)
    seconds = time.monotonic() - begun
    result = RunResult(folder, ledger, verdicts, seconds, tuple(notes.sentences))
    write_outputs(
        result,
        request,
        prepared,
        measured,
        shipped.candidate.reports,
        context,
        comparison=comparison,
        found=shipped.found,
    )
    kept.finish(result.to_json() | {"notes": notes.sentences})
    # Nothing goes on from here.
    for kept_for in ("checkpoints", "teachers"):
        for kept_in in list((folder / STAGES_FOLDER).rglob(kept_for)):
            shutil.rmtree(kept_in, ignore_errors=True)
    for packed in (folder / STAGES_FOLDER).glob("*/model.mw"):
        packed.unlink(missing_ok=True)
    if shipped.found is not None:
        keep_front(shipped.found, folder)
    return result


def compress(
    model: Path | str,
    recipe: RecipeLike | None = None,
    *,
    data: Path | str | None = None,
    out: Path | str = Path("runs"),
    name: str | None = None,
    overrides: Sequence[str] = (),
    observe: Observe | None = None,
) -> RunResult:
    """Make a finished model file smaller and faster, and measure what that changed.

    The recipe that made the file says which data it needs, and how it is split; the test split is
    measured before and after.

    Args:
        model: the model file.
        recipe: whose sections `compress`, `train`, `augment`, `targets`, `evaluate` and `resources`
            are taken; by default those of the file's own recipe.
        data: the data that the model was trained on, where its recipe doesn't find it from here.
        out: the parent of the run's folder.
        name: the run's name; by default that of the file's run, or else of the file, with
            `-compressed` behind it.
        overrides: `dotted.key=value`, as with `--set`.
        observe: called with progress; by default it is shown in a notebook, and else nowhere.

    Raises:
        ModelwrightError: the request can't be carried out; nothing is left half-written.
    """
    path = Path(model)
    refuse_sealed(path, why="A run keeps the model that it began with unsealed in its folder")
    request = compress_request(path, recipe, data=data, overrides=overrides)
    folder = Path(out) / (name or request.stem)
    with shown(observe) as watch:
        return _compress(path, request, folder, observe=watch)


def _compress(path: Path, request: RunRequest, folder: Path, *, observe: Observe) -> RunResult:
    begun = time.monotonic()
    notes = Notes(observe)
    document = {**request.recipe.document(), "compressed": modelfile.digest(path)}
    digest = json_digest([request.recipe.result_digest(), document["compressed"]])
    with claimed(folder, digest=digest, document=document, base=request.data_base) as kept:
        if kept.result is not None:
            return _finished(kept)
        for note in (*request.notes, *check_composition(request.recipe)):
            notes.say(note)
        context = run_in(request, folder, observe=notes)
        _say_untuned(context)
        host = host_of(request, context)
        context = on_host(context, host)
        start = start_from(path)
        prepared = data_of(request, start, context)
        require_same_data(path, prepared)
        require_validation(request, prepared)
        check_steps(start, request, prepared, context, is_known=True)
        require_smaller_student(start, request, prepared, context)
        copy_file(path, folder / UNCOMPRESSED)
        given = Trained(
            start, prepared, train=finetuning_spec(start, request, prepared), is_given=True
        )
        shipped = compress_trained(given, request, context, folder / UNCOMPRESSED, host)
        return _deliver(shipped, request, context, notes, kept, host, begun=begun)


def _say_untuned(context: Run) -> None:
    if context.device == "cpu" and untuned():
        context.say(untuned())


def _finished(kept: RunFolder) -> RunResult:
    assert kept.result is not None
    ledger = modelfile.load(kept.path / "model.mw").ledger
    return RunResult(
        folder=kept.path,
        ledger=ledger,
        verdicts=tuple(Verdict.from_json(item) for item in kept.result["targets"]),
        seconds=float(kept.result["seconds"]),
        notes=tuple(kept.result.get("notes", ())),
        finished_before=True,
    )


class Rehearsal(NamedTuple):
    """What packing an untrained network has shown."""

    traced: Mapping[str, TracedGraph]
    """Its graphs, which the trained network mostly shares; none where it was done before a stop."""
    keeps_limits: bool
    """Whether it keeps the limits of size and time that `model: auto` is given."""


def _rehearse(
    start: Candidate,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
    *,
    limited: bool,
    decision: str = "rehearsal",
) -> Rehearsal:
    """Pack the untrained network once and read it back, so that no long training ends in vain.

    Where it is `limited`, it is also asked whether the network keeps limits of size and time.
    """
    from modelwright.training import rehearse_checkpoint

    traced: dict[str, TracedGraph] = {}

    def dry_pass() -> Mapping[str, Json]:
        if not is_main_process():
            return {}
        with tempfile.TemporaryDirectory(prefix=f"{ASIDE}rehearsal.", dir=context.folder) as aside:
            path = Path(aside) / "model.mw"
            packed = write_candidate(path, start, request, prepared, context)
            modelfile.verify(path)
            rehearse_checkpoint(start.network, Path(aside) / "checkpoints")
            keeps = not limited or keeps_limits(path, request, prepared, context)
        traced.update(packed.traced)
        return {
            "largest_difference": packed.largest_difference,
            "file_bytes": packed.file_bytes,
            "keeps_limits": keeps,
        }

    found = context.decisions.decide(decision, dry_pass)
    return Rehearsal(traced, bool(found.get("keeps_limits", True)))


def _keep_evidence(path: Path, ledger: Ledger) -> Ledger:
    """Put the ledger into the file, with the size that the file then has; return it."""
    others = [record for record in ledger if record.metric != "file_bytes"]
    model, size = modelfile.digest(path), -1
    while size != path.stat().st_size:
        # The figure's own digits count too; more digits only ever make a larger file.
        size = path.stat().st_size
        counted = exact("file_bytes", float(size), method="the whole file, counted", model=model)
        ledger = Ledger([*others, counted])
        modelfile.with_ledger(path, ledger)
    return ledger


def _train(start: Trained, rehearsed: Rehearsal, request: RunRequest, context: Run) -> Trained:
    """Return the trained network; for `model: auto` a linear model where that is better."""
    from modelwright.training import shutdown

    def network(choice: NetworkChoice) -> Trained:
        asked, prepared, begun, seen = choice.request, choice.prepared, start, rehearsed
        if choice.is_published:
            candidate = initialize_model(asked, prepared, context)
            key = "rehearsal_published"
            seen = _rehearse(candidate, asked, prepared, context, limited=limited, decision=key)
            begun = Trained(candidate, prepared)
        begun = replace(begun, traced=seen.traced)
        if limited and not choice.suffix:  # What the first one leaves was shared before.
            asked = network_request(asked, context, keeps_limits=seen.keeps_limits)
        finished = _pass_stages(begun.candidate, asked, prepared, context, choice.suffix)
        own = asked.recipe.train if choice.is_published else None
        return replace(begun, candidate=finished, train=own)

    limited, request = is_limited(request.recipe), training_request(request)
    if selects_model(request.recipe, start.prepared):
        trained = select_model(request, start.prepared, context, network)
        if not is_searched(request.recipe):  # They aren't needed any more.
            trained = replace(trained, others={})
    else:
        trained = network(NetworkChoice(request, start.prepared))
    shutdown()
    return trained


def _pass_stages(
    start: Candidate, request: RunRequest, prepared: Prepared, context: Run, suffix: str
) -> Candidate:
    """Return what the stages make of the first network, each in a context of its own."""
    candidate = start
    for stage_name, stage in STAGES:
        before, name = candidate.lineage, f"{stage_name}{suffix}"
        candidate = stage(candidate, request.recipe, prepared.dataset(), context.stage(name))
        assert [step["step"] for step in candidate.lineage[len(before) :]] == [name]
    return candidate
