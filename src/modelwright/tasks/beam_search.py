"""Beam search: the likeliest text of a network, of a few that are followed side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from modelwright.arrays import Array, Floats
from modelwright.tasks.generation import Ids, State, Stepper
from modelwright.tasks.sampling import BARRED, END, check_figure, checked_logits, log_softmax

_HIGHEST = 10
"""With a higher `length_penalty`, the score of a long text isn't a number."""


@dataclass(frozen=True, slots=True)
class BeamSearchConfig:
    """How the likeliest text is searched for.

    Raises:
        RequestError: a figure is out of its range.
    """

    num_beams: int = 4
    """How many texts are followed for each sample."""
    max_new_tokens: int = 256
    """The most tokens, the one that ends included; what is open then counts as finished."""
    length_penalty: float = 0.0
    """α of Wu et al. 2016, eq. 14: 0 compares log probabilities as they are, and more favours
    longer texts."""
    stop_ids: tuple[int, ...] = (END,)
    """Ids that end a text."""
    barred: tuple[int, ...] = BARRED
    """Ids that are never generated."""

    def __post_init__(self) -> None:
        check_figure("num_beams", self.num_beams, self.num_beams >= 1, "1 or more")
        check_figure("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        penalty = self.length_penalty
        check_figure("length_penalty", penalty, 0 <= penalty <= _HIGHEST, "from 0 to 10")

    def score(self, log_probability: float, length: int) -> float:
        """Return the log probability of a text of so many tokens over lp(Y)."""
        return float(log_probability / ((5 + length) / (5 + 1)) ** self.length_penalty)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that beam search found."""

    ids: tuple[int, ...]
    """Without the id that ended it."""
    log_probability: float
    """Of all its tokens, the one that ended it included."""
    score: float
    """What it is compared by."""


@dataclass(frozen=True, slots=True)
class _Beam:
    """A text that isn't finished. The beams of a sample are adjacent."""

    sample: int
    row: int
    """Where the state stands that it goes on from."""
    ids: tuple[int, ...]
    log_probability: float


def beam_search(
    stepper: Stepper[State], inputs: Mapping[str, Array], first: Ids, *, config: BeamSearchConfig
) -> list[Hypothesis]:
    """Return the best text for each sample `[N]`.

    A text that ends leaves the beam, which is narrower from then on (Sutskever et al. 2014, section
    3.2): so one beam is greedy decoding, and a beam as wide as there are texts finds the best. A
    sample is done when no open text can pass its best finished one.

    Args:
        stepper: the network.
        inputs: the inputs of `stepper.start`.
        first: the first tokens `[N, S]`, after which each text begins.
        config: how texts are searched for.

    Raises:
        ModelwrightError: the network's logits aren't numbers.
    """
    closed: list[list[Hypothesis]] = [[] for _ in first]
    beams = [_Beam(row, row, (), 0.0) for row in range(len(first))]
    tokens, state = first, stepper.start(inputs)
    while beams:
        logits, state = stepper.step(tokens, state)
        scores = log_softmax(checked_logits(logits, config.barred))
        extended: list[_Beam] = []
        row = 0
        for sample, group in groupby(beams, lambda beam: beam.sample):
            parts = list(group)
            rows = np.arange(row, row + len(parts))
            extended += _extended(parts, rows, scores[rows], closed[sample], config)
            row += len(parts)
        beams = extended
        if beams:
            state = stepper.reorder(state, np.array([beam.row for beam in beams], np.int64))
            tokens = np.array([[beam.ids[-1]] for beam in beams], np.int64)
    return [max(finished, key=lambda item: item.score) for finished in closed]


def _extended(
    beams: Sequence[_Beam],
    rows: Ids,
    scores: Floats,
    closed: list[Hypothesis],
    config: BeamSearchConfig,
) -> list[_Beam]:
    """Return a sample's open texts, one token longer; those that end are added to `closed`.

    `rows` `[B]` are the rows of their states, `scores` `[B, V]` the log probabilities of their next
    tokens.
    """
    totals = scores + np.array([beam.log_probability for beam in beams])[:, None]
    length = len(beams[0].ids) + 1
    still_open = []
    for place in _largest(totals.ravel(), config.num_beams - len(closed)):
        (parent, token), total = divmod(place, totals.shape[1]), float(totals.flat[place])
        ids = (*beams[parent].ids, token)
        if token in config.stop_ids:
            closed.append(Hypothesis(ids[:-1], total, config.score(total, length)))
        elif length == config.max_new_tokens:
            closed.append(Hypothesis(ids, total, config.score(total, length)))
        else:
            still_open.append(_Beam(beams[parent].sample, int(rows[parent]), ids, total))
    best = max((item.score for item in closed), default=-np.inf)
    # Log probabilities only fall, and what divides them is largest for the longest text.
    can_win = any(
        config.score(beam.log_probability, config.max_new_tokens) > best for beam in still_open
    )
    return still_open if can_win else []


def _largest(values: Floats, count: int) -> list[int]:
    """Return the places of the largest values `[M]`, largest first; equal ones as they stand."""
    least = np.partition(values, -count)[-count] if count < len(values) else -np.inf
    places = np.flatnonzero((values >= least) & (values > -np.inf))
    return list(map(int, places[np.argsort(-values[places], kind="stable")][:count]))
