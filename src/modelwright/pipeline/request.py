"""Reading a request for a run, and the context of a run on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelwright.errors import ResourceError, require
from modelwright.ledger import Ledger
from modelwright.recipe import Recipe, load_recipe, parse_recipe, render_config
from modelwright.run import (
    Decisions,
    Observe,
    Progress,
    Run,
    RunRequest,
    is_main_process,
    usable_cores,
)

RecipeLike = Recipe | Path | str


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


def read_request(
    recipe: RecipeLike, *, overrides: Sequence[str] = (), site: Path | None = None
) -> RunRequest:
    """Read a recipe, or take one that was made in Python.

    Raises:
        RecipeError: it makes no sense.
    """
    if isinstance(recipe, Recipe):
        if overrides or site:
            text = render_config(recipe)
            recipe = parse_recipe(text, where="recipe", overrides=overrides, site=site)
        return RunRequest(recipe)
    path = Path(recipe)
    return RunRequest(
        load_recipe(path, overrides=overrides, site=site),
        base=path.resolve().parent,
        stem=path.stem,
    )
