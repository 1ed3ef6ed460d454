"""What `new` proposes: network, size of images and epochs that a time budget holds.

Each kind of data has a few proposals in ladders, the largest first. One epoch of the smallest is
timed, and then of the largest that can be expected to fit; the largest whose budget holds ten
epochs is written. Epochs are written in coarse steps, so that a recipe depends on the
machine no more than it must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelwright.data import Prepared
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.spec import seconds
from modelwright.scaffold.document import Setting

FEWEST_EPOCHS = 10
"""So many epochs the budget is to hold."""
FEWEST_TUNED = 2
"""So few epochs of published weights still bring more than many of drawn ones."""
_EPOCHS = (1, 2, 3, 5, 7, 10, 15, 20, 30)
"""The numbers of epochs that are written where the budget holds fewer than would be useful. Where
it holds more than these, the recipe keeps the most that is useful, and the schedule fits it."""
SHARE = 0.9
"""The share of a budget that epochs may take: the rest is for timing, checkpoints and a busier
machine."""

_SPEEDNET_SIDE = 24
"""Below this side the third pooling of a speednet leaves too little."""
_MANY = 20_000
"""From so many training images on, a wider network pays, and published weights bring less."""
_LARGE, _MEDIUM, _SMALL = "[64, 256, 256]", "[32, 64, 128]", "[16, 32, 64]"
_WORK = {_LARGE: 5.0, _MEDIUM: 1.0, _SMALL: 0.4}
"""The widths of a speednet, and about how much work a pixel is."""
_SIDES = (96, 64, 48, 32)
"""The sides of images for a network that is trained from scratch, beside the usual one."""
PUBLISHED = "efficientnet-lite0"
"""The published network for photographs."""
_SMALLER: dict[tuple[InputKind, OutputKind], tuple[str, dict[str, str], float]] = {
    **{
        (InputKind.AUDIO, kind): ("audio-cnn", {"widths": "[16, 32, 64]"}, 0.3)
        for kind in (OutputKind.SINGLE_LABEL, OutputKind.MULTI_LABEL, OutputKind.REGRESSION)
    },
    (InputKind.AUDIO, OutputKind.CTC): ("conv-ctc", {"channels": "16", "width": "64"}, 0.3),
    (InputKind.TEXT, OutputKind.SEQ2SEQ): ("seq2seq", {"width": "128", "layers": "2"}, 0.3),
    (InputKind.TEXT, OutputKind.CAUSAL_LM): ("decoder", {"width": "128", "layers": "2"}, 0.3),
}
"""A smaller network of the family that `model: auto` takes, with its settings, and about how much
work it is beside that. Texts with labels or numbers need none: their family is the quickest."""
_PUBLISHED_SIDES = (160, 128, 112, 96)
_LEAST_PUBLISHED_SIDE = 64
"""Smaller images show too little of what the published network knows."""
_BOXED_SIDES = (160, 128, 96, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A network, a size of images, and how long it is trained."""

    model: Setting
    name: str
    """The network in a word or two, for messages."""
    side: int | tuple[int, int] | None = None
    """Of images, the side of squares, or height and width."""
    epochs: int
    budget: str
    batch_size: int
    lr: float
    layer_decay: float | None = None
    fewest_epochs: int = FEWEST_EPOCHS
    """With fewer, another ladder is preferred; published weights need few."""

    size_factor: float = 1.0
    """About how much more work a pixel is than with the ladder's other networks."""

    @property
    def work(self) -> float:
        """About how much work a sample is, beside the other proposals of a ladder."""
        if self.side is None:
            return self.size_factor
        height, width = self.side if isinstance(self.side, tuple) else (self.side, self.side)
        return self.size_factor * height * width

    def describe(self) -> str:
        """Return the network, and where the size of images was chosen, this size."""
        if self.side is None:
            return self.name
        size = " × ".join(map(str, self.side)) if isinstance(self.side, tuple) else str(self.side)
        return f"{self.name} at {size} pixels"


TimeEpoch = Callable[[Proposal], float]
"""Returns the measured seconds of one epoch with its validation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The proposal that was chosen, and what there is to say about it."""

    proposal: Proposal
    notes: tuple[str, ...] = ()


def choose(ladders: Sequence[Sequence[Proposal]], epoch_s: TimeEpoch) -> Plan:
    """Return the first ladder's largest proposal whose budget holds ten epochs.

    Args:
        ladders: proposals, each ladder from the largest to the smallest; the preferred one first.
        epoch_s: times a proposal.

    Where no budget holds ten epochs, the quickest proposal is returned, with fewer epochs and a
    note of how long ten would take.
    """
    timed: list[tuple[float, Proposal]] = []
    for ladder in ladders:
        found = _climb(ladder, epoch_s, timed)
        if found is not None:
            return _told(*found)
        taken, smallest = timed[-1]  # The only one that was timed of this ladder.
        if _held(taken, smallest) >= smallest.fewest_epochs:
            return _told(taken, smallest)
    return _told(*min(timed, key=lambda item: item[0] / seconds(item[1].budget)))


def _climb(
    ladder: Sequence[Proposal], epoch_s: TimeEpoch, timed: list[tuple[float, Proposal]]
) -> tuple[float, Proposal] | None:
    """Return the largest proposal of a ladder that fits, with the seconds of its epoch."""
    *larger, smallest = ladder
    taken = epoch_s(smallest)
    timed.append((taken, smallest))
    if taken > _limit_s(smallest):
        return None
    for proposal in larger:
        if taken * proposal.work / smallest.work > _limit_s(proposal):
            continue
        longer = epoch_s(proposal)
        timed.append((longer, proposal))
        if longer <= _limit_s(proposal):
            return longer, proposal
    return taken, smallest


def _held(epoch_s: float, proposal: Proposal) -> float:
    """Return how many epochs of so many seconds a proposal's budget holds."""
    return SHARE * seconds(proposal.budget) / max(epoch_s, 1e-9)


def _limit_s(proposal: Proposal) -> float:
    return SHARE * seconds(proposal.budget) / FEWEST_EPOCHS


def _told(epoch_s: float, proposal: Proposal) -> Plan:
    """Return a plan with as many epochs as the budget holds, and a note."""
    held, what = _held(epoch_s, proposal), proposal.describe()
    if held < FEWEST_EPOCHS:
        epochs = max((step for step in _EPOCHS if step <= held), default=1)
        note = (
            f"Ten epochs of {what} would take about {_duration(10 * epoch_s)} on this machine, and "
            f"`train.budget: {proposal.budget}` holds about {held:.2g}; nothing quicker is better "
            "for this data, and with a larger budget it would learn more"
        )
        return Plan(replace(proposal, epochs=epochs), (note,))
    if held < min(proposal.epochs, _EPOCHS[-1]):
        proposal = replace(proposal, epochs=max(step for step in _EPOCHS if step <= held))
    if held < proposal.epochs:
        note = f"`train.budget: {proposal.budget}` holds about {held:.0f} epochs of {what}"
    else:
        whole = _duration(epoch_s * proposal.epochs)
        note = f"{proposal.epochs} epochs of {what} take about {whole}"
    return Plan(proposal, (f"{note} on this machine, by a few measured steps",))


def _duration(duration_s: float) -> str:
    if duration_s < 90:
        return f"{max(duration_s, 1):.0f} s"
    return f"{duration_s / 60:.0f} min" if duration_s < 5400 else f"{duration_s / 3600:.1f} h"


# -- what there is to choose from --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingDefaults:
    """What training begins with for some kind of target, whatever the network."""

    budget: str
    lr: float
    batch_size: int | None
    """Where it doesn't go by the number of samples."""
    model: str
    """What else `model: auto` may be."""


def ladders(
    prepared: Prepared, defaults: TrainingDefaults, *, has_published: bool
) -> tuple[tuple[Proposal, ...], ...]:
    """Return the proposals for some data, the preferred ladder first.

    Args:
        prepared: the data.
        defaults: what training begins with.
        has_published: whether the published weights for images are installed.
    """
    samples = len(prepared.rows["train"])
    power = 2 ** ((samples // 20).bit_length() - 1) if samples >= 20 else 8
    plain = Proposal(
        model=Setting("model", "auto", defaults.model),
        name="the network that `model: auto` takes",
        epochs=most_epochs(samples),
        budget=defaults.budget,
        batch_size=defaults.batch_size or min(256, max(8, power)),
        lr=defaults.lr,
    )
    if prepared.input_kind != InputKind.IMAGE:
        return ((plain, *_smaller(plain, prepared)),)
    if prepared.output_kind == OutputKind.BOXES:
        sides = _sides(_median_side(prepared), _BOXED_SIDES, most=_BOXED_SIDES[0])
        return (tuple(replace(plain, side=side) for side in sides),)
    own = (prepared.image.height, prepared.image.width)
    usual_side = own[0] if own[0] == own[1] else own
    if not prepared.has_classes:
        shorter = tuple(replace(plain, side=side) for side in _SIDES if side < min(own))
        return ((replace(plain, side=usual_side), *shorter),)
    scratch = _from_scratch(plain, usual_side, samples)
    is_for_published = has_published and samples < _MANY
    if is_for_published and _median_side(prepared) >= _LEAST_PUBLISHED_SIDE:
        return (_published(plain, prepared), scratch)
    return (scratch,)


def most_epochs(samples: int) -> int:
    """Return the most epochs that are useful to a network that starts from nothing."""
    return max(FEWEST_EPOCHS, min(200, 200_000 // max(samples, 1)))


def _smaller(plain: Proposal, prepared: Prepared) -> tuple[Proposal, ...]:
    """Return a smaller network than `model: auto` takes, where there is one."""
    smaller = _SMALLER.get((prepared.input_kind, prepared.output_kind))
    if smaller is None:
        return ()
    family, settings, factor = smaller
    fields = (Setting("name", family), *(Setting(*setting) for setting in settings.items()))
    described = ", ".join(f"{key} {value}" for key, value in settings.items())
    name = f"a smaller `{family}` ({described})"
    return (replace(plain, model=Setting("model", fields), name=name, size_factor=factor),)


def _from_scratch(
    plain: Proposal, usual_side: int | tuple[int, int], samples: int
) -> tuple[Proposal, ...]:
    least = min(usual_side) if isinstance(usual_side, tuple) else usual_side
    if least < _SPEEDNET_SIDE:
        blocks = ", ".join(f"{{filters: {filters}, convolutions: 2}}" for filters in (32, 64))
        model = Setting("model", (Setting("name", "cnn"), Setting("blocks", f"[{blocks}]")))
        return (replace(plain, model=model, name="a `cnn`", side=usual_side),)
    smaller = [side for side in _SIDES if side < least]
    last = smaller[-1] if smaller else usual_side
    found = [(_MEDIUM, side) for side in (usual_side, *smaller)] + [(_SMALL, last)]
    if samples >= _MANY:
        found.insert(0, (_LARGE, usual_side))
    return tuple(
        replace(
            plain,
            model=Setting("model", (Setting("name", "speednet"), Setting("widths", widths))),
            name=f"a `speednet` of widths {widths}",
            side=side,
            size_factor=_WORK[widths],
        )
        for widths, side in found
    )


def _published(plain: Proposal, prepared: Prepared) -> tuple[Proposal, ...]:
    model = Setting("model", (Setting("name", PUBLISHED),))
    sides = [side for side in _PUBLISHED_SIDES if side <= max(_median_side(prepared), 96)]
    longer = [(sides[-1], plain.budget)]  # Where a machine is slow, the last one gets more time.
    return tuple(
        replace(
            plain,
            model=model,
            name=f"the published `{PUBLISHED}`",
            side=side,
            epochs=FEWEST_EPOCHS,
            budget=budget,
            batch_size=min(plain.batch_size, 32),
            lr=0.001,
            layer_decay=0.9,
            fewest_epochs=FEWEST_TUNED,
        )
        for side, budget in [(side, "4m") for side in sides] + longer
    )


def _sides(usual: int, known: Sequence[int], *, most: int) -> list[int]:
    """Return the usual side, at most so long, and the known shorter ones."""
    first = min(max(usual, 32), most)
    return [first, *(side for side in known if side < first)]


def _median_side(prepared: Prepared) -> int:
    """Return the median over the training images of all their sides."""
    train = prepared.rows["train"]
    return int(np.median([prepared.store.numbers(side)[train] for side in ("height", "width")]))
