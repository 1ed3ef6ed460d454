"""Which networks `model: auto` trains beside linear models: a published one, the default family.

A published network is trained further where its package is installed, where the data is of the kind
that it was trained on, and where the time that is left holds enough epochs of it, by measured steps
of both; the default family follows it where time is left. What `run` decides is recorded, so that a
resumed run comes to the same; `check` and `new` ask the same function.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelwright import data
from modelwright.data import Prepared
from modelwright.errors import DataError, MissingExtraError, RequestError
from modelwright.initialization import settled_input
from modelwright.initialization.published import is_installed
from modelwright.initialization.suitable import suitable_features
from modelwright.kinds import InputKind
from modelwright.pipeline.timing import epoch_s
from modelwright.recipe.finetuning import PUBLISHED_MODELS, finetuned
from modelwright.recipe.train import TrainSpec
from modelwright.run import Progress, Run, RunRequest
from modelwright.scaffold.plan import FEWEST_EPOCHS, FEWEST_TUNED, SHARE, most_epochs

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

MOST_S = 600.0
"""The most that a published network may take where there is no budget."""
_SIDES = (224, 160, 128, 96)
"""The sides of images that are tried where the recipe leaves the size open, the usual one first."""
_MOST_ENLARGED = 4
"""By so much small images are enlarged at the most, but for the smallest of these sides."""
_ENOUGH_SAMPLES = 20_000
"""So many samples teach published weights more than many epochs teach a network that starts from
nothing: of more samples a part of an epoch is enough (`benchmarks/search.py auto cifar10`)."""
LEAST_S = 1.0
"""With less of a budget left no network is trained."""
_LEAST_TIMED_S = 60.0
"""With less of a budget left, measuring takes too much of it: then it is the default family."""
_VALIDATED = 64
"""On how many samples the validation of a published network is timed."""
_FEW, _FAR = 4, 3.0
"""So few samples are timed first, and epochs of so many times what is left are far too long: small
batches are slower for each sample, but not by that much."""
_RESERVED_SHARE = 0.2
"""The most of the time that is left which is kept for the default family, where published weights
are trained: of images or texts of another kind than theirs it may learn more."""
_FEWEST_DRAWN = 3
"""So few epochs teach a network that starts from nothing little."""
LEAVES_OUT = (RequestError, DataError, MissingExtraError)
"""What leaves a published network out of `auto`: the recipe or the machine doesn't allow it."""


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """The network that is trained beside linear models."""

    request: RunRequest
    """A request for it alone, and the time that it may take; the default family is still `auto`."""
    prepared: Prepared
    """The data as it takes it."""
    note: str = ""
    """Which it is and why, where there was a choice."""
    is_published: bool = False
    """Whether it is a published network, which `model: auto` trains further."""
    default_epoch_s: float = 0.0
    """The seconds of an epoch of the default family, where both were timed."""
    reserved_s: float = 0.0
    """Of the time that is left, the seconds that are kept for the default family."""
    suffix: str = ""
    """What is put behind the names of its stages, as a run has each name once."""


def prepare_for(request: RunRequest, prepared: Prepared, context: Run) -> Prepared:
    """Return data as a recipe's own model takes it; what is to be said of it was said."""

    def without_notes(progress: Progress) -> None:
        if not progress.note:
            context.observe(progress)

    like = settled_input(request)
    return data.prepare_again(prepared, request.recipe, like=like, observe=without_notes)


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
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    has_time = left_s is None or left_s >= _LEAST_TIMED_S
    if not (name and is_alone and has_time):
        return NetworkChoice(_within(request, left_s), prepared)
    asked = _published(request, name, samples=len(prepared.rows["train"]))
    try:
        # The size of images isn't known yet, so they are prepared once it is.
        is_text = prepared.input_kind == InputKind.TEXT
        taken = prepare_for(asked, prepared, context) if is_text else prepared

        def measure() -> dict[str, Any]:
            default = _within(request, left_s)
            times = _timed(
                asked, taken, default, prepared, share, MOST_S if left_s is None else left_s
            )
            spent = time.monotonic() - begun
            left = None if left_s is None else round(max(left_s - spent, 0.001), 3)
            reserved_s = times.reserved(left) if left and _compares(prepared) else 0.0
            return times.choose(MOST_S if left is None else left, reserved_s) | {"left_s": left}

        decided = context.decisions.decide("network", measure)
        note = _note(decided, name)
        if decided["chosen"] != name:
            return NetworkChoice(_within(request, decided["left_s"]), prepared, note)
        reserved_s, default_s = decided["reserved_s"], decided["epoch_s"][1]
        own_s = MOST_S if decided["left_s"] is None else decided["left_s"] - reserved_s
        asked = _within(_with_side(asked, decided["side"]), own_s)
        taken = taken if is_text else prepare_for(asked, prepared, context)
        return NetworkChoice(asked, taken, note, True, default_s, reserved_s)
    except LEAVES_OUT as error:
        note = f"`{name}` isn't trained further: {error.what}"
        return NetworkChoice(_within(request, left_s), prepared, note)


def _compares(prepared: Prepared) -> bool:
    """Say whether there are samples by which networks can be compared."""
    return prepared.dataset().validation is not None


def default_beside(
    choice: NetworkChoice, request: RunRequest, prepared: Prepared, *, left_s: float
) -> NetworkChoice | None:
    """Return the default family, where a published network leaves enough of the budget for it.

    Args:
        choice: what is trained before.
        request: a request for `model: auto`.
        prepared: the data as the default family takes it.
        left_s: the seconds of the time for `choice` that are left of it.
    """
    if not choice.is_published or request.recipe.train.budget is None or not _compares(prepared):
        return None
    # What is kept for it holds ten epochs, of which the published network may take a little.
    fewest_s = _needed(request, FEWEST_EPOCHS) * choice.default_epoch_s / SHARE
    left_s += choice.reserved_s
    if left_s < max(LEAST_S, choice.reserved_s / 2 if choice.reserved_s else fewest_s):
        return None
    asked = _within(request, left_s)
    train = asked.recipe.train
    if train.epochs is None:
        most = float(most_epochs(len(prepared.rows["train"])))
        train = train.model_copy(update={"epochs": most})
    asked = replace(asked, recipe=asked.recipe.model_copy(update={"train": train}))
    note = f"The default family is trained too: {left_s:.0f} s of the budget are left for it"
    return NetworkChoice(asked, prepared, note, suffix="-2")


def _published(request: RunRequest, name: str, *, samples: int) -> RunRequest:
    """Return a request for a published network that is trained further."""
    recipe, model = request.recipe, PUBLISHED_MODELS[name]
    train = finetuned(recipe.train, model, samples=samples)
    return replace(request, recipe=recipe.model_copy(update={"model": model, "train": train}))


def finetuning_spec(start: Candidate, request: RunRequest, prepared: Prepared) -> TrainSpec | None:
    """Return the section `train` of a published network that `model: auto` has trained further."""
    name = start.architecture["name"]
    model = next((item for item in PUBLISHED_MODELS.values() if item.name == name), None)
    if model is None or request.recipe.model != "auto":
        return None
    return finetuned(request.recipe.train, model, samples=len(prepared.rows["train"]))


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


def _timed(
    asked: RunRequest,
    taken: Prepared,
    default: RunRequest,
    prepared: Prepared,
    share: float,
    left_s: float,
) -> EpochTimes:
    """Time an epoch of a published network, at the smallest images that it may get, and another.

    Whole batches of long texts may take minutes. So the published network is first timed with a few
    samples, and no further where that shows that its epochs are far too long.
    """
    is_open = taken.input_kind == InputKind.IMAGE and asked.recipe.transforms.size == "auto"
    sides: tuple[int | None, ...] = (None,)
    if is_open:
        most = max(_MOST_ENLARGED * min(taken.image.height, taken.image.width), _SIDES[-1])
        sides = tuple(side for side in _SIDES if side <= most)
    samples = len(prepared.rows["train"]) / share
    smallest = _with_side(asked, sides[-1])
    few = {"batch_size": _FEW, "gradient_accumulation": 1, "max_tokens_per_batch": None}
    train = smallest.recipe.train.model_copy(update=few)
    recipe = smallest.recipe.model_copy(update={"train": train})
    tuned_s = epoch_s(replace(smallest, recipe=recipe), taken, validated=_FEW) / share
    if tuned_s * _fewest(asked, samples) < _FAR * SHARE * left_s:
        tuned_s = epoch_s(smallest, taken, validated=_VALIDATED) / share
    default_s = epoch_s(default, prepared) / share
    return EpochTimes(asked, default, sides, tuned_s, default_s, samples)


@dataclass(frozen=True, slots=True)
class EpochTimes:
    """The seconds of an epoch of a published network and of the default family."""

    asked: RunRequest
    """For the published network."""
    default: RunRequest
    """For the default family."""
    sides: tuple[int | None, ...]
    """The sides of images that the published network may get, the largest first; `None` is that of
    the recipe."""
    tuned_s: float
    """Of the published network, at the smallest side."""
    default_s: float
    samples: float
    """How many training samples there are."""

    def reserved(self, left_s: float) -> float:
        """Return the seconds that are kept for the default family, where it is quick enough."""
        most = _RESERVED_SHARE * left_s
        if self.default_s * _needed(self.default, FEWEST_EPOCHS) > SHARE * most:
            return 0.0
        epochs = _needed(self.default, most_epochs(round(self.samples)))
        return round(min(self.default_s * epochs / SHARE, most), 3)

    def choose(self, left_s: float, reserved_s: float = 0.0) -> dict[str, Any]:
        """Return what is trained in the seconds that are left, for `decisions.json`.

        Some of them are kept for the default family, where the others are enough for the published
        network.
        """
        if reserved_s:
            found = self.choose(left_s - reserved_s)
            if found["chosen"] != "auto":
                return found | {"reserved_s": reserved_s}
        limit, wanted = SHARE * left_s, _needed(self.asked, FEWEST_EPOCHS)
        *larger, smallest = ((side, self._tuned_at(side)) for side in self.sides)
        fitting = (item for item in larger if item[1] * wanted <= limit)
        side, tuned_s = next(fitting, smallest)
        needed = _fewest(self.asked, self.samples), _needed(self.default, _FEWEST_DRAWN)
        held = limit / max(tuned_s, 1e-9), limit / max(self.default_s, 1e-9)
        model = self.asked.recipe.model
        assert model != "auto"
        return {
            "chosen": model.published if is_enough(held, needed) else "auto",
            "side": side,
            "epochs": self.asked.recipe.train.epochs,
            "held_epochs": [round(each, 2) for each in held],
            "epoch_s": [round(tuned_s, 3), round(self.default_s, 3)],
            "reserved_s": 0.0,
        }

    def _tuned_at(self, side: int | None) -> float:
        """Return an epoch's seconds with images of this side: by the measured one and the area."""
        smallest = self.sides[-1]
        return self.tuned_s * (1.0 if not (side and smallest) else (side / smallest) ** 2)


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


def _fewest(request: RunRequest, samples: float) -> float:
    """Return the fewest epochs that teach published weights enough."""
    return min(_needed(request, FEWEST_TUNED), _ENOUGH_SAMPLES / max(samples, 1))


def _note(decided: dict[str, Any], name: str) -> str:
    """Say which network was chosen, and why."""
    (tuned, drawn), (tuned_s, drawn_s) = decided["held_epochs"], decided["epoch_s"]
    left_s = MOST_S if decided["left_s"] is None else decided["left_s"] - decided["reserved_s"]
    room = f"the {left_s:.0f} s that are left hold"
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
