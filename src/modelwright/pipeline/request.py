"""What was asked, and where it runs: the recipe read, the machine looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelwright.data.encoding import Input
from modelwright.data.prepare import KINDS
from modelwright.data.sources import kind_of
from modelwright.errors import RecipeError, ResourceError, require
from modelwright.ledger import Ledger
from modelwright.modelfile import declared
from modelwright.recipe import Recipe, load_recipe
from modelwright.recipe.model import InitModel, TimmModel, TransformersModel
from modelwright.run import Decisions, Observe, Progress, Run, is_main_process, usable_cores
from modelwright.tasks import task_of

RecipeLike = Recipe | Path | str


_ANSWERS = {
    "logits": "one label",
    "labels": "any number of labels",
    "values": "numbers",
    "tokens": "what a text goes on with",
    "texts": "texts",
    "frames": "what is spoken",
    "boxes": "boxes",
}
"""What a network predicts, by the kind of its outputs."""


class Notes:
    """Passes progress on, and keeps what is said once for the report."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self.said: list[str] = []

    def __call__(self, progress: Progress) -> None:
        """Take progress."""
        if progress.note and progress.note not in self.said:
            self.said.append(progress.note)
        self._observe(progress)

    def say(self, note: str) -> None:
        """Tell the user one sentence."""
        self(Progress("note", 0, 0, note=note))


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A recipe with where it came from."""

    recipe: Recipe
    base: Path = field(default_factory=Path.cwd)
    """The folder that relative paths start from."""
    stem: str = "run"
    """The run's name where none is said."""

    def find(self, name: str) -> Path:
        """Return a file that the recipe names: beside the recipe, else under MODELWRIGHT_DATA."""
        folders = [self.base]
        if os.environ.get("MODELWRIGHT_DATA"):
            folders.append(Path(os.environ["MODELWRIGHT_DATA"]))
        for folder in folders:
            if (folder / name).exists():
                return folder / name
        raise RecipeError(
            f"`{name}` isn't there", why="Looked in " + " and ".join(str(item) for item in folders)
        )

    def start_input(self) -> Input | None:
        """Return how the network that training starts from takes its samples, if there is one."""
        model = self.recipe.model
        if isinstance(model, TransformersModel):
            require("torch", extra="train", purpose="to train")
            from modelwright.pipeline.pretrained import pretrained_input

            return pretrained_input(model, self)
        if isinstance(model, TimmModel):
            require("torch", extra="train", purpose="to train")
            from modelwright.pipeline.timm_networks import timm_start

            timm_start(model, self)  # What is wrong with it is said before the data is prepared.
        return self._file_input(model) if isinstance(model, InitModel) else None

    def _file_input(self, model: InitModel) -> Input:
        """Return how a model file takes its samples.

        Raises:
            RecipeError: it was made for other samples or answers than the recipe asks for.
        """
        path = self.find(model.init)
        file, task = declared(path), task_of(self.recipe)
        input: Input = file.input
        holds = (KINDS[type(input)], file.output_kind)
        wants = (kind_of(self.recipe), task.output_kind)
        if holds != wants:
            raise RecipeError(
                f"{path.name} predicts {_ANSWERS.get(file.output_kind, file.output_kind)} from "
                f"{holds[0]}s (`task: {file.task}`), and the recipe asks for "
                f"{_ANSWERS[task.output_kind]} from {wants[0]}s (`task: {task.name}`)",
                where=self.recipe.place_of("model.init"),
                fix="Start from a model file of the same task, or look at `task`",
            )
        return input

    def run_in(self, folder: Path, *, observe: Observe) -> Run:
        """Return the context of a run in a folder, on the machine that the recipe asks for."""
        require("torch", extra="train", purpose="to train")
        import torch

        wanted, threads = self.recipe.resources.device, self.recipe.resources.threads
        if wanted == "cuda" and not torch.cuda.is_available():
            raise ResourceError(
                "this machine has no GPU that torch can use",
                where="resources.device: cuda",
                fix="Write `device: auto`, or install a torch built for your GPU",
            )
        device = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
        threads = threads or usable_cores()
        torch.set_num_threads(threads)
        return Run(
            folder=folder,
            seed=self.recipe.seed,
            device=device,
            threads=threads,
            # The main process decides for all that torchrun started, and it alone writes.
            decisions=Decisions(folder / "decisions.json" if is_main_process() else None),
            ledger=Ledger(),
            observe=observe,
        )


def ask(
    recipe: RecipeLike, *, overrides: Sequence[str] = (), site: Path | None = None
) -> RunRequest:
    """Read a recipe, or take one that was made in Python.

    Raises:
        RecipeError: it makes no sense.
    """
    if isinstance(recipe, Recipe):
        if overrides or site:
            return RunRequest(load_recipe_of(recipe, overrides, site))
        return RunRequest(recipe)
    path = Path(recipe)
    return RunRequest(
        load_recipe(path, overrides=overrides, site=site),
        base=path.resolve().parent,
        stem=path.stem,
    )


def load_recipe_of(recipe: Recipe, overrides: Sequence[str], site: Path | None) -> Recipe:
    """Return a recipe made in Python with overrides, by the same rules as one that is read."""
    from modelwright.recipe import parse_recipe, render_config

    return parse_recipe(render_config(recipe), where="recipe", overrides=overrides, site=site)
