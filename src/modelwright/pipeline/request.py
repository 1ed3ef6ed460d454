"""Reading a request for a run, and the context of a run on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelwright.data.frames import WHERE, keep_frame
from modelwright.errors import ModelwrightError, RecipeError, RequestError, ResourceError, require
from modelwright.files import Json
from modelwright.kinds import InputKind
from modelwright.ledger import Ledger
from modelwright.recipe import Draft, Recipe, render_config
from modelwright.run import (
    Decisions,
    Observe,
    Progress,
    Run,
    RunRequest,
    is_main_process,
    usable_cores,
)
from modelwright.scaffold import DataOptions, Inferred, infer_task

RecipeLike = Recipe | Mapping[str, Json] | Path | str
"""A recipe, its sections as a dict, or its path."""


class Notes:
    """Passes progress on, and keeps the notes, each once, for the report."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self.sentences: list[str] = []

    def __call__(self, progress: Progress) -> None:
        """Take progress."""
        if progress.note and progress.note not in self.sentences:
            self.sentences.append(progress.note)
        self._observe(progress)

    def say(self, note: str) -> None:
        """Tell the user one sentence."""
        self(Progress("note", 0, 0, note=note))


def run_in(request: RunRequest, folder: Path, *, observe: Observe) -> Run:
    """Return the context of a run in a folder, on the machine that the recipe asks for."""
    require("torch", extra="train", purpose="to train")
    import torch

    resources = request.recipe.resources
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "this machine has no GPU that torch can use",
            where="resources.device: cuda",
            fix="Write `device: auto`, or install a torch built for your GPU",
        )
    use_cuda = resources.device != "cpu" and torch.cuda.is_available()
    threads = resources.threads or usable_cores()
    torch.set_num_threads(threads)
    return Run(
        folder=folder,
        seed=request.recipe.seed,
        device="cuda" if use_cuda else "cpu",
        threads=threads,
        # The main process decides for all that torchrun started, and it alone writes.
        decisions=Decisions(folder / "decisions.json" if is_main_process() else None),
        ledger=Ledger(),
        observe=observe,
    )


def read_draft(recipe: RecipeLike) -> Draft:
    """Return a recipe as it was written, before it is validated.

    Raises:
        RecipeError: its file can't be read.
        RequestError: it is of another type.
    """
    if isinstance(recipe, Recipe):
        return Draft.from_text(render_config(recipe), where="recipe")
    if isinstance(recipe, Mapping):
        return Draft.from_settings(recipe)
    if isinstance(recipe, str | os.PathLike):
        return Draft.from_file(Path(recipe))
    raise RequestError(f"a recipe is a path, a dict or a `Recipe`; got a {type(recipe).__name__}")


def read_request(
    recipe: RecipeLike,
    *,
    frame: object = None,
    overrides: Sequence[str] = (),
    site: Path | None = None,
) -> RunRequest:
    """Read a recipe, or take one that was made in Python.

    Args:
        recipe: a recipe, its sections as a dict, or its path.
        frame: a DataFrame that is the data. Where the recipe doesn't say `data.source`, what its
            columns are is inferred; what the recipe says of them goes first.
        overrides: `dotted.key=value`, as with `--set`.
        site: a file that says where the run takes place.

    Raises:
        RecipeError: it makes no sense.
        RequestError: `recipe` or `frame` is of another type.
    """
    base, stem = Path.cwd(), "run"
    if isinstance(recipe, Recipe) and frame is None and not overrides and not site:
        return RunRequest(recipe)
    draft = read_draft(recipe)
    if isinstance(recipe, str | os.PathLike):
        base, stem = Path(recipe).resolve().parent, Path(recipe).stem
    if frame is None:
        return RunRequest(draft.recipe(overrides=overrides, site=site), base=base, stem=stem)
    kept = keep_frame(frame)
    notes = _fill_in(draft, kept.path)
    read = draft.recipe(overrides=overrides, site=site)
    if getattr(read.data, "path", None) != kept.path.name:
        raise RequestError(
            "the data is given twice: as a DataFrame, and as `data.path`",
            where=read.place_of("data.path"),
            fix="Leave `data.path` out of `overrides` and of the site file",
        )
    return RunRequest(
        read, base=base, stem=stem, frame_base=kept.path.parent, notes=(*kept.notes, *notes)
    )


def _fill_in(draft: Draft, path: Path) -> tuple[str, ...]:
    """Let a recipe's data be the table that a DataFrame was written to; return what was inferred.

    Raises:
        RecipeError: the recipe's source is no table.
        DataError: its columns can't be told.
    """
    written = draft.get("data")
    given: Mapping[str, Json] = written if isinstance(written, dict) else {}
    source = given.get("source")
    if source not in (None, "table", "boxes"):
        raise RecipeError(
            f"a DataFrame is a table, and the recipe's source is `{source}`",
            where=draft.where,
            fix="Write `data: {source: table}`, or leave `data` out",
        )
    draft.put("data.path", path.name)
    if source is not None:
        return ()
    inferred = _inferred(path, given, draft.get("task"))
    for key, value in inferred.data.items():
        if key not in given:
            draft.put(f"data.{key}", value)
    if draft.get("task") is None:
        draft.put("task", inferred.task)
    return inferred.notes


def _inferred(path: Path, given: Mapping[str, Json], task: object) -> Inferred:
    """Infer the columns of a table, where a recipe says some of them."""
    inputs = (given.get(kind) for kind in InputKind)
    targets = given.get("target_columns", given.get("label", ()))
    options = DataOptions(
        input=next((name for name in inputs if isinstance(name, str)), None),
        target=(targets,) if isinstance(targets, str) else tuple(targets or ()),
        task=task if isinstance(task, str) else None,
    )
    try:
        return infer_task(path, path.name, options)
    except ModelwrightError as error:
        error.where = error.where.replace(str(path), WHERE)
        if "--" in error.fix:  # On the command line of `new` columns are named so.
            error.fix = (
                "Name the columns in the recipe: `data: {label: COLUMN}`, and with `text`, `image` "
                "or `audio` in place of `label` the input"
            )
        raise
