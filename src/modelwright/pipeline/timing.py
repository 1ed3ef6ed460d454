"""How long an epoch of a network takes on this machine, by a few real steps.

`new` proposes by it, and `model: auto` chooses its network.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelwright.data import Prepared
from modelwright.data.listing import Rows
from modelwright.initialization import initialize_model
from modelwright.pipeline.request import run_in
from modelwright.recipe import Recipe
from modelwright.run import RunRequest, silent
from modelwright.tasks import task_of
from modelwright.transforms import ImageInput

_TIMED_ROWS = 2048
"""From how many training samples the few steps are taken."""


def epoch_s(request: RunRequest, prepared: Prepared, *, validated: int = 256) -> float:
    """Return the seconds of one epoch with its validation, by a few steps of a drawn part.

    Args:
        request: its recipe is trained.
        prepared: all samples as the recipe takes them; images may be of another size.
        validated: on how many samples the validation is timed.

    Raises:
        ModelwrightError: the network can't be built or trained.
    """
    from modelwright.training import steps_per_epoch, time_steps

    recipe = request.recipe
    part = _with_size(_drawn(prepared, recipe, validated), recipe)
    with tempfile.TemporaryDirectory(prefix="modelwright-timing-") as aside:
        context = run_in(request, Path(aside), observe=silent)
        start = initialize_model(request, part, context)
        dataset = part.dataset()
        cost = time_steps(
            start,
            recipe.train,
            dataset,
            context,
            task=task_of(recipe),
            augment=recipe.augment,
        )
    whole = prepared.dataset()
    validation_s = cost.validation_s
    if dataset.validation is not None and whole.validation is not None:
        validation_s *= len(whole.validation) / len(dataset.validation)
    return cost.step_s * steps_per_epoch(recipe.train, whole.train) + validation_s


def _drawn(prepared: Prepared, recipe: Recipe, validated: int) -> Prepared:
    """Return the data with a part of the samples, evenly drawn."""
    counts = {"train": _TIMED_ROWS, "validation": validated}
    generates = task_of(recipe).text_metrics is not None  # Then a fixed number is validated on.

    def some(name: str, rows: Rows) -> Rows:
        most = len(rows) if generates and name == "validation" else counts.get(name, 1)
        drawn = np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64))
        return rows[drawn] if len(rows) > most else rows

    return replace(prepared, rows={name: some(name, rows) for name, rows in prepared.rows.items()})


def _with_size(prepared: Prepared, recipe: Recipe) -> Prepared:
    """Return images as a recipe takes them: random pixels where it takes another size.

    So no image is decoded at a size that may not be chosen; the time of a step is the same.
    """
    if not isinstance(prepared.input, ImageInput):
        return prepared
    own, size = prepared.input, recipe.transforms.size
    height, width = size if isinstance(size, tuple) else (size, size)
    if height == "auto" or width == "auto":
        height, width = own.height, own.width
    is_published = recipe.model != "auto" and bool(recipe.model.published)
    channels = 3 if is_published else own.channels
    if (height, width, channels) == (own.height, own.width, own.channels):
        return prepared
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    inputs = np.broadcast_to(drawn, (len(prepared.inputs), *drawn.shape))
    return replace(
        prepared,
        input=replace(own, height=height, width=width, channels=channels),
        targets=replace(prepared.targets, inputs=inputs),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )
