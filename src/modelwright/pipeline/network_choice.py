"""Which network `model: auto` trains beside linear models: a published one, or the default family.

A published network is trained further where its package is installed, where the data is of the kind
that it was trained on, and where the time that is left holds enough epochs of it, by measured steps
of both. What `run` decides is recorded, so that a resumed run comes to the same; `check` and `new`
ask the same function.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelwright import data
from modelwright.data import Prepared
from modelwright.errors import DataError, MissingExtraError, RequestError
from modelwright.initialization import settled_input
from modelwright.initialization.published import is_installed
from modelwright.initialization.suitable import suitable_features
from modelwright.kinds import InputKind
from modelwright.pipeline.timing import epoch_s
from modelwright.recipe.finetuning import PUBLISHED_MODELS, finetuned
from modelwright.run import Progress, Run, RunRequest
from modelwright.scaffold.plan import FEWEST_EPOCHS, FEWEST_TUNED, SHARE

MOST_S = 600.0
"""The most that a published network may take where there is no budget."""
_SIDES = (224, 160, 128, 96)
"""The sides of images that are tried where the recipe leaves the size open, the usual one first."""
_FEWEST_DRAWN = 3
"""So few epochs teach a network that starts from nothing little."""
LEAVES_OUT = (RequestError, DataError, MissingExtraError)
"""What leaves a published network out of `auto`: the recipe or the machine doesn't allow it."""


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """The network that is trained beside linear models."""

    request: RunRequest
    """A request for it alone, with the time that is left; the default family is still `auto`."""
    prepared: Prepared
    """The data as it takes it."""
    note: str = ""
    """Which it is and why, where there was a choice."""
    is_published: bool = False
    """Whether it is a published network, which `model: auto` trains further."""


def prepare_for(request: RunRequest, context: Run) -> Prepared:
    """Return the data as a recipe's own model takes it; what is to be said of it was said."""

    def without_notes(progress: Progress) -> None:
        if not progress.note:
            context.observe(progress)

    like = settled_input(request)
    return data.prepare(request.recipe, base=request.data_base, like=like, observe=without_notes)


def installed_features(prepared: Prepared) -> str:
    """Return the published network that suits the samples and is installed; else a blank."""
    name = suitable_features(prepared)
    return name if name is not None and is_installed(name) else ""


def choose_network(
    request: RunRequest,
    prepared: Prepared,
    context: Run,
    *,
    left_s: float | None,
    share: float = 1.0,
) -> NetworkChoice:
    """Return the network that is trained beside linear models, by measured epochs.

    Args:
        request: a request for `model: auto`.
        prepared: the data as the default family takes it.
        context: the run, whose decisions keep the choice.
        left_s: the seconds of the budget that are left, if there is one.
        share: the part of the samples that `prepared` holds.
    """
    name, begun = installed_features(prepared), time.monotonic()
    # Several processes would have to time their steps together.
    if not name or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return NetworkChoice(_within(request, left_s), prepared)
    asked = _published(request, name, samples=len(prepared.rows["train"]))
    try:
        # The size of images isn't known yet, so they are prepared once it is.
        is_text = prepared.input_kind == InputKind.TEXT
        taken = prepare_for(asked, context) if is_text else prepared

        def measure() -> dict[str, Any]:
            default = _within(request, left_s)
            found = _measured(asked, taken, default, prepared, left_s=left_s, share=share)
            left = None if left_s is None else left_s - (time.monotonic() - begun)
            return {**found, "left_s": left if left is None else round(max(left, 0.001), 3)}

        decided = context.decisions.decide("network", measure)
        note = _note(decided, name)
        if decided["chosen"] != name:
            return NetworkChoice(_within(request, decided["left_s"]), prepared, note)
        asked = _within(_with_side(asked, decided["side"]), decided["left_s"] or MOST_S)
        taken = taken if is_text else prepare_for(asked, context)
        return NetworkChoice(asked, taken, note, is_published=True)
    except LEAVES_OUT as error:
        note = f"`{name}` isn't trained further: {error.what}"
        return NetworkChoice(_within(request, left_s), prepared, note)


def _published(request: RunRequest, name: str, *, samples: int) -> RunRequest:
    """Return a request for a published network that is trained further."""
    recipe, model = request.recipe, PUBLISHED_MODELS[name]
    train = finetuned(recipe.train, model, samples=samples)
    return replace(request, recipe=recipe.model_copy(update={"model": model, "train": train}))


def _within(request: RunRequest, left_s: float | None) -> RunRequest:
    """Return a request that keeps to the seconds that are left."""
    if left_s is None:
        return request
    train = request.recipe.train.model_copy(update={"budget": f"{left_s:.3f}s"})
    return replace(request, recipe=request.recipe.model_copy(update={"train": train}))


def _with_side(request: RunRequest, side: int | None) -> RunRequest:
    if side is None:
        return request
    transforms = request.recipe.transforms.model_copy(update={"size": side})
    return replace(request, recipe=request.recipe.model_copy(update={"transforms": transforms}))


def _measured(
    asked: RunRequest,
    taken: Prepared,
    default: RunRequest,
    prepared: Prepared,
    *,
    left_s: float | None,
    share: float,
) -> dict[str, Any]:
    """Time a published network and the default family, and choose."""
    limit = SHARE * (MOST_S if left_s is None else left_s)
    sides: Sequence[int | None] = (None,)
    if taken.input_kind == InputKind.IMAGE and asked.recipe.transforms.size == "auto":
        sides = _SIDES
    side, tuned_s = _largest(asked, taken, sides, limit * share)
    tuned_s, default_s = tuned_s / share, epoch_s(default, prepared) / share
    needed = _needed(asked, FEWEST_TUNED), _needed(default, _FEWEST_DRAWN)
    held = limit / max(tuned_s, 1e-9), limit / max(default_s, 1e-9)
    is_tuned = is_enough(held, needed)
    assert asked.recipe.model != "auto"
    return {
        "chosen": asked.recipe.model.published if is_tuned else "auto",
        "side": side,
        "epochs": asked.recipe.train.epochs,
        "held_epochs": [round(each, 2) for each in held],
        "epoch_s": [round(tuned_s, 3), round(default_s, 3)],
    }


def is_enough(held: tuple[float, float], needed: tuple[float, float]) -> bool:
    """Say whether a published network has time enough to be taken, before the default family.

    Both pairs are of epochs: of the published network, and of the default family. Where the time
    holds too few of both, that which comes nearer to what it needs is taken.

    >>> is_enough((2.5, 300.0), (2, 3)), is_enough((1.5, 300.0), (2, 3))
    (True, False)
    >>> is_enough((1.5, 1.0), (2, 3))
    True
    """
    return held[0] >= needed[0] or held[0] / needed[0] >= held[1] / needed[1]


def _needed(request: RunRequest, usual: float) -> float:
    asked = request.recipe.train.epochs
    return usual if asked is None else min(usual, asked)


def _largest(
    asked: RunRequest, taken: Prepared, sides: Sequence[int | None], limit_s: float
) -> tuple[int | None, float]:
    """Return the largest images of which the time holds enough epochs, and an epoch's seconds."""
    *larger, smallest = sides
    quickest = epoch_s(_with_side(asked, smallest), taken)
    wanted = _needed(asked, FEWEST_EPOCHS)
    for side in larger:
        assert side is not None
        assert smallest is not None
        if quickest * (side / smallest) ** 2 * wanted <= limit_s:
            return side, epoch_s(_with_side(asked, side), taken)
    return smallest, quickest


def _note(decided: dict[str, Any], name: str) -> str:
    """Say which network was chosen, and why."""
    (tuned, drawn), (tuned_s, drawn_s) = decided["held_epochs"], decided["epoch_s"]
    room = f"the {decided['left_s'] or MOST_S:.0f} s that are left hold"
    if decided["chosen"] == name:
        at = "" if decided["side"] is None else f" at {decided['side']} pixels"
        epochs = min(tuned, decided["epochs"])
        return (
            f"The network is the published `{name}`{at}, trained further: {room} {epochs:.2g} "
            f"epochs of it, about {tuned_s:.2g} s each (one of the default family {drawn_s:.2g} s)"
        )
    return (
        f"The network is of the default family: {room} about {tuned:.2g} epochs of the published "
        f"`{name}`, {tuned_s:.2g} s each, which is too few; of the default family they hold about "
        f"{drawn:.2g}"
    )
