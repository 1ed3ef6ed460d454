"""From the outputs of a CTC network to texts: a beam search over prefixes.

Class 0 is the blank, class k the character `characters[k − 1]`. The search may add the score of a
character n-gram model with Witten-Bell smoothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Doubles, Floats, Ints
from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.files import Json, JsonObject
from modelwright.tasks.sampling import log_softmax

BLANK = 0
"""The class of the CTC blank."""


_MOST_VALUES = 1 << 22
"""The most candidates of one step that are in memory at a time."""
_MOST_CELLS = 1 << 25
"""The most numbers in a table of a character model."""
_MOST_CODE = 1 << 62
_ROOT, _NO_PARENT, _DEAD, _NO_HEIR = np.arange(1, 5, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text and its score: the log probability, with the character model's where there is one."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class NgramModel:
    """The probability of each character given those before it; see `fit`."""

    characters: tuple[str, ...]
    order: int
    ngrams: Ints
    """`[G, order]`: characters as 1…C, before a text's begin and at its end 0; sorted."""
    counts: Ints
    """`[G]`."""
    log_probs: NDArray[np.float32]
    """`[states, C + 1]`: natural logarithms, of the end in column 0, of character c in column c."""
    following: Ints
    """`[states, C + 1]`: the state after each character; column 0 is the state itself."""
    start: int
    """The state at a text's begin."""

    @staticmethod
    def fit(texts: Iterable[str], order: int, *, characters: Sequence[str]) -> NgramModel:
        """Count n-grams of characters and smooth them (Witten and Bell 1991, method C).

        Interpolated as in Chen and Goodman 1999, section 2.5: after a history h that n characters
        followed, t of them different, a character c has the probability
        (count(h c) + t · P(c | h')) / (n + t), where h' is h without its first character; below the
        empty history all characters are equally probable.

        Args:
            texts: made of the characters.
            order: characters of an n-gram, 1 for characters by themselves.
            characters: `[C]`, all different.

        Raises:
            DataError: there are no texts, or one holds another character.
            RequestError: so many characters and such an order don't fit into memory.
        """
        ids = {character: number for number, character in enumerate(characters, 1)}
        rows = []
        for text in texts:
            unknown = sorted(set(text) - ids.keys())
            if unknown:
                raise DataError(
                    f"a text for the character model holds {unknown[0]!r}, which isn't among "
                    f"its characters",
                    where=repr(text[:40]),
                    fix="Take out such texts, or replace the character",
                )
            padded = np.zeros(len(text) + order, dtype=np.int64)
            padded[order - 1 : -1] = [ids[character] for character in text]
            rows.append(np.lib.stride_tricks.sliding_window_view(padded, order))
        if not rows:
            raise DataError("a character model can't be fitted to no texts")
        ngrams, counts = np.unique(np.concatenate(rows), axis=0, return_counts=True)
        return _smoothed(tuple(characters), order, ngrams, counts.astype(np.int64))

    def to_json(self) -> JsonObject:
        """Return what the model counted, as plain JSON values."""
        rows = np.column_stack([self.ngrams, self.counts])
        return {"characters": list(self.characters), "order": self.order, "ngrams": rows.tolist()}

    @staticmethod
    def from_json(value: Json) -> NgramModel:
        """Read what `to_json` returned; anything else is a `ModelFileError`."""
        match value:
            case {
                "characters": list() as characters,
                "order": int() as order,
                "ngrams": list() as rows,
                **others,
            } if not others and all(isinstance(character, str) for character in characters):
                ngrams, counts = _read_rows(rows, order, len(characters))
                try:
                    return _smoothed(tuple(characters), order, ngrams, counts)
                except RequestError as error:
                    raise ModelFileError(error.what, why=error.why) from error
        raise ModelFileError("a character model isn't characters, an order and n-grams")


def _read_rows(rows: list[Json], order: int, characters: int) -> tuple[Ints, Ints]:
    is_table = (
        rows
        and type(order) is int
        and order > 0
        and all(isinstance(row, list) and len(row) == order + 1 for row in rows)
        and all(type(item) is int and 0 <= item < 1 << 48 for row in rows for item in row)
    )
    if is_table:
        table = np.array(rows, dtype=np.int64)
        ngrams, counts = table[:, :-1], table[:, -1]
        is_sorted = len(np.unique(ngrams, axis=0)) == len(ngrams)
        if is_sorted and ngrams.max() <= characters and counts.min() > 0:
            return ngrams, counts
    raise ModelFileError("the n-grams of a character model can't be read")


def _smoothed(characters: tuple[str, ...], order: int, ngrams: Ints, counts: Ints) -> NgramModel:
    """Make the table of states: one for each history that was seen, of each length below n."""
    base = len(characters) + 1
    if (
        len(set(characters)) != len(characters)
        or not characters
        or order < 1
        or base**order > _MOST_CODE
    ):
        raise RequestError(
            f"a character model of order {order} can't have {len(characters)} characters",
            why="Characters are all different, and their n-grams are numbered by 62 bits",
            fix="Take a smaller order",
        )
    # A history's code is its characters as digits, the last one lowest; so a suffix is a remainder.
    powers = base ** np.arange(order - 1, -1, -1, dtype=np.int64)
    whole, outcome = ngrams[:, :-1] @ powers[1:], ngrams[:, -1]
    codes: list[Ints] = []
    tables: list[Doubles] = []
    for size in range(order):
        histories, place = np.unique(whole % base**size, return_inverse=True)
        if (len(histories) + sum(map(len, codes))) * base > _MOST_CELLS:
            raise RequestError(
                f"the character model's table would hold more than {_MOST_CELLS:,} numbers",
                fix="Take a smaller order, or fewer texts",
            )
        seen = np.zeros((len(histories), base))
        np.add.at(seen, (place, outcome), counts)
        kinds = (seen > 0).sum(1, keepdims=True)
        if size:
            below = tables[-1][np.searchsorted(codes[-1], histories % base ** (size - 1))]
        else:
            below = np.full((1, base), 1.0 / base)
        tables.append((seen + kinds * below) / (seen.sum(1, keepdims=True) + kinds))
        codes.append(histories)
    offsets = np.cumsum([0, *map(len, codes)])
    following = np.concatenate(
        [
            _look_up(codes, offsets, histories[:, None] * base + np.arange(base), size + 1, base)
            for size, histories in enumerate(codes)
        ]
    )
    following[:, BLANK] = np.arange(len(following))
    start = _look_up(codes, offsets, np.zeros(1, dtype=np.int64), order - 1, base)
    logs = np.log(np.concatenate(tables)).astype(np.float32)
    return NgramModel(characters, order, ngrams, counts, logs, following, int(start[0]))


def _look_up(codes: list[Ints], offsets: Ints, history: Ints, size: int, base: int) -> Ints:
    """Return the state of the longest suffix that was seen, of histories of `size` characters."""
    state = np.full(history.shape, -1, dtype=np.int64)
    for length in range(min(size, len(codes) - 1), -1, -1):
        suffix = history % base**length
        place = np.minimum(np.searchsorted(codes[length], suffix), len(codes[length]) - 1)
        is_here = (codes[length][place] == suffix) & (state < 0)
        state = np.where(is_here, offsets[length] + place, state)
    return state


def beam_search(
    logits: Floats,
    steps: Ints,
    characters: Sequence[str],
    *,
    beam: int,
    model: NgramModel | None = None,
    weight: float = 1.0,
    top: int = 1,
) -> list[list[Hypothesis]]:
    """Return the most probable texts of each sample, best first (Hannun et al. 2014, algorithm 1).

    The probability of a prefix is a sum over all paths that read as it, those that end in a blank
    apart from the others. A prefix is ranked by `log P + weight · log P_model`. Ties
    fall to the prefix that stood higher a step before, then to the lower class.

    Args:
        logits: `[N, S, K]`; K is the number of characters and the blank.
        steps: the number of steps of each sample `[N]`; the rest is padding.
        characters: `[K − 1]`.
        beam: the number of prefixes kept at each step.
        model: a character model over the same characters.
        weight: the weight of the character model.
        top: the most texts of each sample.

    Raises:
        RequestError: the characters don't fit the outputs or the character model.
        ModelFileError: a sample has more steps than there are, or fewer than none.
    """
    if logits.ndim != 3 or logits.shape[2] != len(characters) + 1:
        raise RequestError(
            f"outputs {list(logits.shape)} don't fit {len(characters)} characters and a blank"
        )
    if steps.shape != logits.shape[:1] or ((steps < 0) | (steps > logits.shape[1])).any():
        raise ModelFileError(f"the numbers of steps aren't those of outputs {list(logits.shape)}")
    if model is not None and model.characters != tuple(characters):
        raise RequestError("the character model has other characters than the network")
    hypotheses: list[list[Hypothesis]] = []
    rows = max(_MOST_VALUES // (beam * logits.shape[2]), 1)
    for first in range(0, len(logits), rows):
        part, own = logits[first : first + rows], steps[first : first + rows]
        search = _Search(model, weight)
        hypotheses += _texts(*search.run(part[:, : int(own.max())], own, beam), characters, top)
    return hypotheses


@dataclass(frozen=True, slots=True)
class _Beams:
    """The prefixes of each sample, `[N, B]` each, best first."""

    blank: Doubles
    """log P of the paths that end in a blank."""
    label: Doubles
    """log P of those that end in the prefix's last character."""
    lm_score: Doubles
    """The weighted log probability of the character model."""
    last: Ints
    """The last character; of the empty prefix the blank."""
    state: Ints
    """Of the character model."""
    key: NDArray[np.uint64]
    """The prefix, hashed to 64 bits, so that equal ones are found by comparing numbers."""
    parent: NDArray[np.uint64]
    """The key of the prefix without its last character."""


@dataclass(frozen=True, slots=True)
class _Search:
    model: NgramModel | None
    weight: float

    def run(self, logits: Floats, steps: Ints, beam: int) -> tuple[Ints, Ints, Doubles]:
        """Return where each prefix came from and its new character, and the scores at the end.

        `[S, N, B]`, `[S, N, B]` and `[N, B]`.
        """
        logs = log_softmax(logits.astype(np.float64))
        # After its end a sample stays as it is: a blank is certain.
        is_over = np.arange(logits.shape[1]) >= steps[:, None]
        logs[is_over] = -np.inf
        logs[is_over, BLANK] = 0.0
        beams = self._begin(len(logits), beam)
        sources, characters = [], []
        for step in range(logits.shape[1]):
            beams, source, character = self._step(beams, logs[:, step])
            sources.append(source)
            characters.append(character)
        scores = np.logaddexp(beams.blank, beams.label) + beams.lm_score
        if self.model is not None:
            scores = scores + self.weight * self.model.log_probs[beams.state, 0]
        return np.array(sources), np.array(characters), scores

    def _begin(self, count: int, beam: int) -> _Beams:
        """Return beams of the empty prefix, and of dead ones that fill their places."""
        shape = (count, beam)
        blank = np.full(shape, -np.inf)
        blank[:, 0] = 0.0
        start = 0 if self.model is None else self.model.start
        key, parent = np.full(shape, _DEAD), np.full(shape, _NO_HEIR)
        key[:, 0], parent[:, 0] = _ROOT, _NO_PARENT
        return _Beams(
            blank=blank,
            label=np.full(shape, -np.inf),
            lm_score=np.zeros(shape),
            last=np.full(shape, BLANK),
            state=np.full(shape, start),
            key=key,
            parent=parent,
        )

    def _step(self, old: _Beams, logs: Doubles) -> tuple[_Beams, Ints, Ints]:
        """Go on by one step; `logs` is `[N, K]`."""
        count, beam = old.blank.shape
        blank, label, mass = _continued(old, logs)
        lm_score = old.lm_score[..., None] + self._gain(old, logs.shape[1])
        ranks = (mass + lm_score).reshape(count, -1)
        order = np.argsort(-ranks, axis=1, kind="stable")[:, :beam]
        source, character = np.divmod(order, logs.shape[1])
        n, stays = np.arange(count)[:, None], character == BLANK
        is_dead = np.isneginf(np.take_along_axis(ranks, order, axis=1))
        key, parent, state = old.key[n, source], old.parent[n, source], old.state[n, source]
        new = _Beams(
            blank=np.where(stays, blank[n, source], -np.inf),
            label=np.where(stays, label[n, source], mass[n, source, character]),
            lm_score=lm_score[n, source, character],
            last=np.where(stays, old.last[n, source], character),
            state=state if self.model is None else self.model.following[state, character],
            key=np.where(is_dead, _DEAD, np.where(stays, key, _mixed(key, character))),
            parent=np.where(is_dead, _NO_HEIR, np.where(stays, parent, key)),
        )
        return new, source, character

    def _gain(self, old: _Beams, classes: int) -> Doubles:
        """Return what each character adds to the rank, `[N, B, K]`; staying adds nothing."""
        if self.model is None:
            return np.zeros((*old.last.shape, classes))
        gain = self.weight * self.model.log_probs[old.state].astype(np.float64)
        gain[..., BLANK] = 0.0
        return gain


def _continued(old: _Beams, logs: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return log P of each prefix after a step that is a blank, or its last character again.

    `[N, B]` both; and of each prefix with each character added `[N, B, K]`, in the blank's place of
    the prefix itself.
    """
    total = np.logaddexp(old.blank, old.label)
    again = np.take_along_axis(logs, old.last, axis=1)
    blank = total + logs[:, BLANK, None]
    label = np.where(old.last == BLANK, -np.inf, old.label + again)
    mass = total[..., None] + logs[:, None]
    # The last character is added once more only where a blank stands between.
    np.put_along_axis(mass, old.last[..., None], (old.blank + again)[..., None], axis=2)
    # A prefix that is kept, and is reached from its parent too, is one.
    sample, heir, parent = np.nonzero(old.parent[:, :, None] == old.key[:, None, :])
    reached = sample, parent, old.last[sample, heir]
    label[sample, heir] = np.logaddexp(label[sample, heir], mass[reached])
    mass[reached] = -np.inf
    mass[..., BLANK] = np.logaddexp(blank, label)
    return blank, label, mass


def _mixed(key: NDArray[np.uint64], character: Ints) -> NDArray[np.uint64]:
    """Return the key of a prefix extended by a character.

    The hash is the finisher of splitmix64 (Steele et al. 2014).
    The probability that two of the few thousand prefixes of a sample collide is about 10⁻¹².
    """
    mixed: NDArray[np.uint64] = key + (character.astype(np.uint64) + np.uint64(1)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _texts(
    sources: Ints, added: Ints, scores: Doubles, characters: Sequence[str], top: int
) -> list[list[Hypothesis]]:
    """Follow the best prefixes back to where they came from."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    n, place = np.arange(len(scores))[:, None], best
    reversed_characters = np.zeros((*best.shape, len(added)), dtype=np.int64)
    for step in range(len(added) - 1, -1, -1):
        reversed_characters[..., step] = added[step][n, place]
        place = sources[step][n, place]
    names = np.array(["", *characters], dtype=object)
    return [
        [
            Hypothesis("".join(names[line]), float(scores[row, at]))
            for line, at in zip(lines, best[row], strict=True)
            if scores[row, at] > -np.inf
        ]
        for row, lines in enumerate(reversed_characters)
    ]
