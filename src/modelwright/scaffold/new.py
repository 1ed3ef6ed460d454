"""The command `new`: look at data, and write a commented recipe for it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelwright import data
from modelwright.data import Finding, Prepared
from modelwright.data.frames import write_frame
from modelwright.errors import RequestError
from modelwright.files import write_bytes
from modelwright.initialization.published import is_installed
from modelwright.initialization.suitable import missing_note
from modelwright.kinds import TASK_KINDS
from modelwright.recipe import Recipe, parse_recipe
from modelwright.run import Observe, silent
from modelwright.scaffold.document import Setting, section, write_document
from modelwright.scaffold.infer import infer_task
from modelwright.scaffold.inferred import DataOptions
from modelwright.scaffold.plan import PUBLISHED, Plan, Proposal, choose, ladders
from modelwright.scaffold.recipe import length_settings, recipe_for, usual_training

_MOST_LEAKED = 0.1
"""The most of the training samples that may be left out because another split has them too: with
more, the splits are likely to be wrong."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What `new` measures on a machine before it proposes anything."""

    epoch_s: Callable[[Recipe, Prepared], float | None]
    """Returns the seconds of one epoch of a recipe; `None` where it can't be timed, which is
    said."""
    simple: Callable[[Recipe, Prepared], tuple[str, ...]]
    """Returns what the best simple method reaches, in a sentence."""
    network: Callable[[Recipe, Prepared], str] = lambda recipe, prepared: ""
    """Says which network `model: auto` will train, where that is a published one."""


@dataclass(frozen=True, slots=True)
class NewResult:
    """A recipe written for some data."""

    path: Path
    findings: tuple[Finding, ...]
    text: str
    command: str
    """What to type next: with an error among the findings, `check`, once it is mended."""
    notes: tuple[str, ...] = ()
    """What was taken for what."""
    choices: tuple[str, ...] = ()
    """What could be meant as well, and how to say so."""


def new(
    source: object,
    *,
    out: Path | str = Path("recipe.yaml"),
    input: str | None = None,
    target: Sequence[str] | str = (),
    task: str | None = None,
    probes: Probes | None = None,
    observe: Observe = silent,
) -> NewResult:
    """Look at data and write a commented recipe for it.

    Args:
        source: a folder of class folders, a table, or the name of data that is known: `digits`,
            `cifar10`; or a DataFrame, which is written to a Parquet file beside the recipe, under
            the recipe's name.
        out: where the recipe goes.
        input: the column of a table that is the input, where content and names don't tell.
        target: the column or columns of a table that are to be predicted, likewise.
        task: the task, likewise.
        probes: what is measured; without it the largest proposal is written, whatever it takes.
        observe: called with progress.

    Raises:
        RequestError: there is a file at `out` already, or no such task or column.
        DataError: the data can't be used.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "recipe.yaml"
    if out.exists():
        raise RequestError(
            "this file exists already", where=str(out), fix="Name another one with --out FILE"
        )
    if not out.parent.is_dir():
        raise RequestError("there is no such folder to write into", where=str(out.parent))
    options = DataOptions(input, (target,) if isinstance(target, str) else tuple(target), task)
    if isinstance(source, str | os.PathLike):
        return _propose(Path(source), out, options, probes, observe)
    table = out.with_suffix(".parquet")
    if table.exists():
        raise RequestError(
            "the DataFrame would be written here, and this file exists already",
            where=str(table),
            fix="Name another recipe with `out`",
        )
    notes = write_frame(source, table)
    try:
        result = _propose(table, out, options, probes, observe)
    except BaseException:
        table.unlink()  # It is of no use without a recipe.
        raise
    return replace(result, notes=(*notes, *result.notes))


def _propose(
    source: Path, out: Path, options: DataOptions, probes: Probes | None, observe: Observe
) -> NewResult:
    base = out.resolve().parent
    shown = os.path.relpath(os.path.realpath(source), base)
    inferred = infer_task(source, shown, options)
    bare = write_document(
        [],
        [
            Setting("version", "1"),
            Setting("task", inferred.task),
            section("data", inferred.data),
            *length_settings(TASK_KINDS[inferred.task].outputs[0]),
        ],
    )
    recipe = parse_recipe(bare, where=str(source))
    lenient = recipe.model_copy(update={"data": recipe.data.model_copy(update={"leaks": "allow"})})
    prepared = data.prepare(lenient, base=base, observe=observe)
    leaked = sum(len(finding.rows) for finding in prepared.report.leaks)
    drops = 0 < leaked <= _MOST_LEAKED * len(prepared.rows["train"])
    if drops:
        plural = prepared.input_kind.plural
        note = (
            f"{leaked:,} {plural} stand in two of the given splits; the recipe leaves those of the "
            "training split out (`data.leaks`), so that what is measured wasn't trained on."
        )
        settings = {**inferred.data, "leaks": "drop_from_train"}
        inferred = replace(inferred, data=settings, notes=(*inferred.notes, note))

    def written(proposal: Proposal) -> tuple[str, Recipe]:
        text = recipe_for(prepared, inferred, proposal, name=out.name)
        return text, parse_recipe(text, where=str(out))  # What is written must be readable.

    plan = _plan(prepared, written, probes)
    text, recipe = written(plan.proposal)
    simple = () if probes is None else probes.simple(recipe, prepared)
    write_bytes(out, text.encode())
    findings = data.as_errors(tuple(prepared.report.findings))
    if drops:  # The note has said it.
        findings = tuple(item for item in findings if item.severity != "error")
    is_stopped = any(finding.severity == "error" for finding in findings)
    command = f"modelwright {'check' if is_stopped else 'run'} {shlex.quote(str(out))}"
    missing = missing_note(prepared)
    network = "" if probes is None else probes.network(recipe, prepared)
    planned = (network,) if network else plan.notes
    notes = (*inferred.notes, *simple, *planned, *([missing] if missing else []))
    return NewResult(out, findings, text, command, notes, inferred.choices)


def _plan(
    prepared: Prepared,
    written: Callable[[Proposal], tuple[str, Recipe]],
    probes: Probes | None,
) -> Plan:
    """Return the proposal for some data, by measured epochs where they may be measured."""
    found = ladders(prepared, usual_training(prepared), has_published=is_installed(PUBLISHED))
    if probes is None:
        return Plan(found[0][0])
    time_epoch, is_timed = probes.epoch_s, True

    def epoch_s(proposal: Proposal) -> float:
        nonlocal is_timed
        taken = time_epoch(written(proposal)[1], prepared)
        is_timed = is_timed and taken is not None
        return 0.0 if taken is None else taken

    plan = choose(found, epoch_s)
    return plan if is_timed else Plan(found[0][0])
