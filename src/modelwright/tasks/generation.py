"""Text generation, token by token, for every network that can: sampling and beam search.

What a network must offer is a `Stepper`: a graph in onnxruntime and a network in torch are both
one. A token is drawn from its own random figure, a function of (seed, sample, position), so what a
sample gets doesn't depend on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelwrightError, RequestError

Ids = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Finish = Literal["end", "stop", "length"]
Decode = Callable[[Sequence[int]], str]
State = TypeVar("State")
Float = TypeVar("Float", bound=np.floating[Any])

END = 3
"""The id that ends a text."""
BARRED = (0, 1, 2)
"""Ids that are never generated: padding, unknown, begin."""
_UNFINISHED = "\ufffd"
"""What a decoder puts for a character of which bytes are still missing."""


class Stepper(Protocol[State]):
    """A network that generates texts; the first axis of its inputs and state is the batch."""

    def start(self, inputs: Mapping[str, NDArray[Any]]) -> State:
        """Return the state before the first token, from inputs `[N, …]` by their names."""

    def step(self, tokens: Ids, state: State) -> tuple[NDArray[np.float32], State]:
        """Return the logits `[N, V]` of what follows the tokens `[N, S]`, and the new state."""

    def reorder(self, state: State, rows: Ids) -> State:
        """Return the state of the texts `rows`, each of which may occur never or many times."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How tokens are drawn.

    Raises:
        RequestError: a figure is out of its range.
    """

    max_new_tokens: int = 256
    """The most new tokens."""
    temperature: float = 1.0
    """What the logits are divided by; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Draw among this many likeliest tokens (Fan et al. 2018, section 5.1)."""
    top_p: float | None = None
    """Draw among the fewest tokens that have this probability (Holtzman et al. 2020, eq. 2)."""
    repetition_penalty: float = 1.0
    """What the logits of tokens that occurred are divided by (Keskar et al. 2019, section 4.1)."""
    stop_ids: tuple[int, ...] = (END,)
    """Ids that end a text; they aren't part of it."""
    stop: tuple[str, ...] = ()
    """Strings that end a text; they aren't part of it."""
    barred: tuple[int, ...] = BARRED
    """Ids that are never generated."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        _check("temperature", self.temperature, 0 <= self.temperature < np.inf, "0 or more")
        _check("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more")
        _check("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0, at most 1")
        penalty = self.repetition_penalty
        _check("repetition_penalty", penalty, 0 < penalty < np.inf, "above 0")
        _check("stop", self.stop, all(self.stop), "strings that aren't empty")
        _check("seed", self.seed, 0 <= self.seed < 1 << 64, "0 or more, below 2⁶⁴")


def _check(name: str, value: object, is_valid: bool, expected: str) -> None:
    if not is_valid:
        raise RequestError(f"`{name}` is {value!r}", fix=f"Use {expected}")


@dataclass(frozen=True, slots=True)
class Piece:
    """One generated token."""

    sample: int
    """Its text's place in the batch."""
    token: int | None
    """The id; none where a stop id was drawn."""
    text: str
    """What the answer is known to go on with; empty while it may yet be cut, and without `decode`.
    """
    finish: Finish | None
    """Why the text ends here, if it does: by a stop id, a stop string, or its length."""


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A finished text."""

    ids: tuple[int, ...]
    text: str
    finish: Finish


def collect(pieces: Iterable[Piece], count: int) -> list[GeneratedText]:
    """Return the `count` texts whose pieces `generate` yielded."""
    ids: list[list[int]] = [[] for _ in range(count)]
    texts: list[list[str]] = [[] for _ in range(count)]
    finishes: list[Finish] = ["length"] * count
    for piece in pieces:
        texts[piece.sample].append(piece.text)
        if piece.token is not None:
            ids[piece.sample].append(piece.token)
        if piece.finish is not None:
            finishes[piece.sample] = piece.finish
    return [
        GeneratedText(tuple(ids[row]), "".join(texts[row]), finishes[row]) for row in range(count)
    ]


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Return prompts as tokens `[N, S]` with padding on the left, and its count `[N]`.

    Raises:
        RequestError: a prompt is empty.
    """
    if not all(len(prompt) for prompt in prompts):
        raise RequestError("a prompt has no token", fix="Begin it with the id that begins a text")
    width = max((len(prompt) for prompt in prompts), default=0)
    padding = np.array([width - len(prompt) for prompt in prompts], np.int64)
    tokens = np.zeros((len(prompts), width), np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, padding[row] :] = prompt
    return tokens, padding


# -- sampling ----------------------------------------------------------------------------------


def generate(
    stepper: Stepper[State],
    inputs: Mapping[str, NDArray[Any]],
    first: Ids,
    *,
    config: SamplingConfig,
    decode: Decode | None = None,
    samples: Sequence[int] | None = None,
    rooms: Sequence[int] | None = None,
) -> Iterator[Piece]:
    """Yield each token as it is drawn, for all texts of a batch in turn, until all have ended.

    Args:
        stepper: the network.
        inputs: the inputs of `stepper.start`.
        first: `[N, S]`, the prompts, or the id that begins a text; 0 is padding.
        config: how tokens are drawn.
        decode: from a text's new ids to the text; with more ids it must begin alike, but for the
            character at the end of which bytes are missing. Stop strings need it.
        samples: each text's number `[N]`, from which its random figures come; its row if not given.
        rooms: how many new tokens each text has room for `[N]`, where that may be less than
            `config.max_new_tokens`.

    Raises:
        RequestError: stop strings are asked for without `decode`.
        ModelwrightError: the network's answer isn't numbers.
    """
    if config.stop and decode is None:
        raise RequestError("stop strings can't be found without a tokenizer")
    texts = [_Text(decode, config) for _ in first]
    numbers = range(len(first)) if samples is None else samples
    max_new_tokens = np.minimum(
        config.max_new_tokens,
        np.full(len(first), config.max_new_tokens) if rooms is None else rooms,
    )
    alive = np.arange(len(first))
    tokens, state = first, stepper.start(inputs)
    seen: NDArray[np.bool_] | None = None
    for position in range(config.max_new_tokens):
        if not len(alive):
            return
        logits, state = stepper.step(tokens, state)
        seen = _marked(seen, tokens, logits.shape[1])
        drawn = draw(
            logits,
            seen,
            config,
            [uniform(config.seed, numbers[int(row)], position) for row in alive],
        )
        pieces = [
            texts[row].add(int(row), int(token), is_last=position + 1 >= max_new_tokens[row])
            for row, token in zip(alive, drawn, strict=True)
        ]
        yield from pieces
        rows = np.flatnonzero([piece.finish is None for piece in pieces])
        if len(rows) < len(alive):
            state, seen = stepper.reorder(state, rows), seen[rows]
        alive, tokens = alive[rows], drawn[rows, None]


def _marked(seen: NDArray[np.bool_] | None, tokens: Ids, vocabulary: int) -> NDArray[np.bool_]:
    """Return which ids occurred in each text `[N, V]`, padding aside."""
    if seen is None:
        seen = np.zeros((len(tokens), vocabulary), np.bool_)
    np.put_along_axis(seen, tokens, True, axis=1)
    seen[:, 0] = False
    return seen


def draw(
    logits: Floats, seen: NDArray[np.bool_], config: SamplingConfig, figures: Sequence[float]
) -> Ids:
    """Return a token for each text `[N]`, from its random figure in [0, 1).

    `logits` are `[N, V]`, `figures` `[N]`; `seen` `[N, V]` says which ids occurred in each text.

    Raises:
        ModelwrightError: the logits aren't numbers.
    """
    exact = _checked(logits, config.barred).astype(np.float64)
    scores = penalised(exact, seen, config.repetition_penalty)
    if config.temperature == 0:
        best: Ids = scores.argmax(1)
        return best
    # The largest first becomes 0: a tiny temperature would make two of them infinite.
    scores = (scores - scores.max(1, keepdims=True)) / config.temperature
    if config.top_k is not None:
        scores = top_k(scores, config.top_k)
    shares = np.exp(scores)
    shares /= shares.sum(1, keepdims=True)
    if config.top_p is not None:
        shares = top_p(shares, config.top_p)
    bounds = shares.cumsum(1)
    # Just below the sum, so that rounding can't pass the last token that has a share.
    targets = np.minimum(np.array(figures) * bounds[:, -1], np.nextafter(bounds[:, -1], 0))
    return np.array(
        [np.searchsorted(row, target, "right") for row, target in zip(bounds, targets, strict=True)]
    )


def _checked(logits: Floats, barred: Sequence[int]) -> Floats:
    """Return a copy of the logits, −∞ for barred ids."""
    scores = logits.copy()
    scores[:, [token for token in barred if token < scores.shape[1]]] = -np.inf
    if not np.isfinite(scores.max(1)).all():
        raise ModelwrightError(
            "the network's answer isn't numbers",
            why="Its training diverged, or its weights are damaged",
            fix="Use an earlier model",
        )
    return scores


def log_softmax(logits: NDArray[Float]) -> NDArray[Float]:
    """Return the logarithms of the probabilities that logits stand for, along the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)
    log_probs: NDArray[Float] = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return log_probs


def penalised(logits: Floats, seen: NDArray[np.bool_], penalty: float) -> Floats:
    """Make tokens that occurred less likely, for a `penalty` above 1.

    Keskar et al. 2019 divide their logits (section 4.1). Where one is below 0 that would raise it,
    so it is multiplied there, as in transformers. `logits` and `seen` are `[N, V]`.
    """
    changed = np.where(logits > 0, logits / penalty, logits * penalty)
    return np.where(seen, changed, logits)


def top_k(logits: Floats, k: int) -> Floats:
    """Return the k largest logits of each row of `[N, V]`, and −∞ for the others.

    All that equal the kth stay: nothing speaks for one of them.
    """
    size = logits.shape[1]
    if k >= size:
        return logits
    kth = np.partition(logits, size - k, axis=1)[:, size - k, None]
    return np.where(logits >= kth, logits, -np.inf)


def top_p(shares: Floats, p: float) -> Floats:
    """Return the fewest largest shares of each row of `[N, V]` that sum to p, and 0 for the others.

    What stays isn't divided by its sum, so that doing it twice is doing it once. Among equal ones
    the lower ids stay.
    """
    if p >= 1:
        return shares
    order = np.argsort(-shares, axis=1, kind="stable")
    sums = np.take_along_axis(shares, order, 1).cumsum(1)
    # A token stays if those before it don't reach p yet.
    stays = np.concatenate([np.ones_like(sums[:, :1], bool), sums[:, :-1] < p], axis=1)
    kept = np.empty_like(stays)
    np.put_along_axis(kept, order, stays, axis=1)
    return np.where(kept, shares, 0.0)


def uniform(seed: int, sample: int, position: int) -> float:
    """Return the random figure in [0, 1) of a sample's token.

    The generator is Philox 4×64 (Salmon et al. 2011), keyed by seed and sample; its raw bits are
    the same in every version of NumPy.
    """
    philox = np.random.Philox(
        key=np.array([seed, sample], np.uint64), counter=np.array([0, position, 0, 0], np.uint64)
    )
    return float(int(philox.random_raw()) >> 11) * 2.0**-53


@dataclass(slots=True)
class _Text:
    """A text in progress, and how much of it was yielded."""

    decode: Decode | None
    config: SamplingConfig
    ids: list[int] = field(default_factory=list)
    shown: int = 0

    def add(self, sample: int, token: int, *, is_last: bool) -> Piece:
        """Return the piece that a drawn token makes."""
        if token in self.config.stop_ids:
            return Piece(sample, None, self._show(None)[0], "end")
        self.ids.append(token)
        text, is_stopped = self._show(self.config.stop)
        if is_stopped:
            return Piece(sample, token, text, "stop")
        if is_last:
            return Piece(sample, token, text + self._show(None)[0], "length")
        return Piece(sample, token, text, None)

    def _show(self, stop: tuple[str, ...] | None) -> tuple[str, bool]:
        """Return what of the text can be shown now, and whether a stop string ended it.

        Without `stop` nothing more will come, and all of it is shown.
        """
        if self.decode is None:
            return "", False
        text = self.decode(self.ids)
        cuts = [at for at in (text.find(word) for word in stop or ()) if at >= 0]
        end = len(text)
        if cuts:
            end = min(cuts)
        elif stop is not None:
            end = min(len(text.rstrip(_UNFINISHED)), len(text) - _begun(text, stop))
        new = text[self.shown : end]
        self.shown = max(self.shown, end)
        return new, bool(cuts)


def _begun(text: str, stop: tuple[str, ...]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop string."""
    most = max((len(word) - 1 for word in stop), default=0)
    for size in range(min(most, len(text)), 0, -1):
        if any(word.startswith(text[-size:]) for word in stop):
            return size
    return 0


# -- beam search -------------------------------------------------------------------------------


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
        _check("num_beams", self.num_beams, self.num_beams >= 1, "1 or more")
        _check("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        penalty = self.length_penalty
        _check("length_penalty", penalty, 0 <= penalty < np.inf, "0 or more")

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
    stepper: Stepper[State],
    inputs: Mapping[str, NDArray[Any]],
    first: Ids,
    *,
    config: BeamSearchConfig,
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
        scores = log_softmax(_checked(logits, config.barred))
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
