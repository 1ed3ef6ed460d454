"""Text generation, token by token, for every network that can.

What a network must offer is a `Stepper`: a graph in onnxruntime and a network in torch are both
one. How a token is drawn stands in `sampling`; `beam_search` looks for the likeliest text instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Bools
from modelwright.errors import RequestError
from modelwright.tasks.sampling import SamplingConfig, draw, uniform

Ids = NDArray[np.int64]
Finish = Literal["end", "stop", "length"]
Decode = Callable[[Sequence[int]], str]
State = TypeVar("State")

_UNFINISHED = "\ufffd"
"""What a decoder puts for a character of which bytes are still missing."""


class Stepper(Protocol[State]):
    """A network that generates texts; the first axis of its inputs and state is the batch."""

    def start(self, inputs: Mapping[str, Array]) -> State:
        """Return the state before the first token, from inputs `[N, …]` by their names."""

    def step(self, tokens: Ids, state: State) -> tuple[NDArray[np.float32], State]:
        """Return the logits `[N, V]` of what follows the tokens `[N, S]`, and the new state."""

    def reorder(self, state: State, rows: Ids) -> State:
        """Return the state of the texts `rows`, each of which may occur never or many times."""


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


def generate(
    stepper: Stepper[State],
    inputs: Mapping[str, Array],
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
    seen: Bools | None = None
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


def _marked(seen: Bools | None, tokens: Ids, vocabulary: int) -> Bools:
    """Return which ids occurred in each text `[N, V]`, padding aside."""
    if seen is None:
        seen = np.zeros((len(tokens), vocabulary), np.bool_)
    np.put_along_axis(seen, tokens, True, axis=1)
    seen[:, 0] = False
    return seen


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
