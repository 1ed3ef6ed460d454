"""Tokenizers: text to numbers and back, learnt from the training texts and kept in the model file.

Four kinds, each a fixed pipeline of the library `tokenizers`, imported nowhere else. A tokenizer's
bytes are the `tokenizer.json` that other programs read too, yet in one spelling that follows from
the vocabulary alone: a file is accepted only if we would have written it, so no regular expression
and no setting of a stranger is ever run. What becomes of the numbers isn't decided here.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError, ModelFileError, RequestError, require
from modelwright.files import canonical_json

if TYPE_CHECKING:
    import tokenizers

TokenizerKind = Literal["word", "bpe", "unigram", "character"]
Ids = NDArray[np.int32]

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
"""Padding, the unknown, the begin and the end; they are the numbers 0 to 3 in every tokenizer."""

MOST_BYTES = 64 << 20
"""A tokenizer's JSON is at most this long; one of 100,000 tokens takes some 3 MiB."""
MOST_TOKENS = 1 << 18
_MOST_VALUES = 1 << 21
"""Commas and opening brackets of the JSON: in memory a value takes some 80 bytes."""

_BLANKS = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, spelled out because `\\s` differs between Python and the library."""
_CHUNK = re.compile(rf"[{_BLANKS}]{{0,4096}}[^{_BLANKS}]{{1,65536}}|[{_BLANKS}]{{1,4096}}")
"""Blanks and what follows them: no token reaches over the end of one, so each is encoded once."""
_PART = re.compile(rf"[\s\S]{{1,65536}}[^{_BLANKS}]{{0,65536}}")
_HALVES = re.compile("[\ud800-\udfff]")
_KEPT_CHUNKS = 1 << 16

# These patterns stand in the files: one that is changed needs a new kind beside the old.
_WORDS = rf"\w{{1,64}}(?:['’]\w{{1,8}})?|[^\w{_BLANKS}]"
_PIECES = (
    r" ?[\p{L}\p{M}]{1,64}|'\p{L}{1,2}(?!\p{L})| ?\p{N}{1,3}|"
    rf" ?[^{_BLANKS}\p{{L}}\p{{M}}\p{{N}}]{{1,16}}|"
    rf"[{_BLANKS}]{{1,64}}(?![^{_BLANKS}])|[{_BLANKS}]{{1,64}}"
)
"""After GPT-2 (Radford et al. 2019, section 2.2): a word takes the blank before it along. Combining
marks belong to their letters, numbers are of three digits at most, and runs are bounded. `<` never
meets letters in a piece, so nothing that a text holds can become `<eos>` as one token."""

_SHOWN_BYTES = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTES = tuple(map(chr, (*_SHOWN_BYTES, *range(256, 256 + 256 - len(_SHOWN_BYTES)))))
"""The 256 characters that GPT-2 writes bytes as; those that can't be shown stand from 256 on."""


def fold(text: str) -> str:
    r"""Return the text with case and blanks folded: equal for texts that differ in nothing else.

    Unicode's canonical caseless form (D145), composed; runs of blanks become one, those at the ends
    none.

    >>> fold("  A  STRAẞE\n")
    'a strasse'
    """
    folded = unicodedata.normalize("NFD", text).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).split())


def library(purpose: str) -> Any:
    """Return the library `tokenizers`, or say how to install it.

    Raises:
        MissingExtraError: it isn't installed.
    """
    return require("tokenizers", extra="text", purpose=purpose)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A learnt tokenizer; two with the same bytes are equal."""

    kind: TokenizerKind
    lowercase: bool
    size: int
    """How many numbers there are, V, with the four special ones."""
    _data: bytes = field(repr=False)
    _engine: tokenizers.Tokenizer = field(repr=False, compare=False)

    @property
    def before(self) -> tuple[int, ...]:
        """The numbers that stand before each text that is read."""
        return ()

    @property
    def after(self) -> tuple[int, ...]:
        """The numbers that stand after each text that is read."""
        return ()

    @property
    def unknown(self) -> int:
        """The number of what it doesn't know."""
        return SPECIALS.index("<unk>")

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token numbers `[T]` of each text, without begin and end.

        A text is never refused. An empty one, or for `word` one of blanks, has no tokens. Half a
        surrogate pair is read as U+FFFD, a NUL is a character like another, and what looks like a
        special token is plain text. Where no blank stands for 65,536 characters a token ends.
        Unknown are words and characters that weren't learnt; `bpe` knows every text, and `unigram`
        writes neighbouring unknown characters as one.
        """

        @functools.lru_cache(_KEPT_CHUNKS)
        def encoded(chunk: str) -> list[int]:
            return self._engine.encode(chunk, add_special_tokens=False).ids

        return [
            np.fromiter(chain.from_iterable(map(encoded, _CHUNK.findall(clean(text)))), np.int32)
            for text in texts
        ]

    def decode(self, ids: Iterable[int] | NDArray[np.integer[Any]]) -> str:
        """Return the text of token numbers `[T]`; the special ones are left out.

        For `bpe` it is the text that was encoded, in lower case where the tokenizer folds it; bytes
        that are no UTF-8 become U+FFFD. For `unigram` and `character` it is that without what was
        unknown, and `▁` is a blank in `unigram`. For `word` a blank stands between tokens.

        Raises:
            DataError: a number isn't one of this tokenizer's.
        """
        numbers = [int(number) for number in ids]
        for number in numbers:
            self._check(number)
        return self._engine.decode([number for number in numbers if number >= len(SPECIALS)])

    def token(self, number: int) -> str:
        """Return a token as the vocabulary has it: `bpe` in GPT-2's letters for bytes.

        Raises:
            DataError: the number isn't one of this tokenizer's.
        """
        self._check(number)
        return cast(str, self._engine.id_to_token(number))

    def id(self, token: str) -> int | None:
        """Return the number of a token as `token` writes it, or None where there is none."""
        return self._engine.token_to_id(clean(token))

    def to_bytes(self) -> bytes:
        """Return it as canonical JSON; `from_bytes(t.to_bytes()) == t`."""
        return self._data

    @staticmethod
    def from_bytes(data: bytes) -> Tokenizer:
        """Read what `to_bytes` returned; of anybody else's JSON nothing is used.

        Raises:
            ModelFileError: it isn't a tokenizer that we write.
            MissingExtraError: the library `tokenizers` isn't installed.
        """
        run = library("reading and writing text")
        form = _read(data)
        return Tokenizer(
            kind=form.kind,
            lowercase=form.lowercase,
            size=len(SPECIALS) + len(form.tokens),
            _data=data,
            _engine=run.Tokenizer.from_str(data.decode()),
        )

    def _check(self, number: int) -> None:
        if not 0 <= number < self.size:
            raise DataError(
                f"{number} is no token: the tokenizer has those from 0 to {self.size - 1}",
                fix="Use the tokenizer that the model was trained with",
            )


def clean(text: str) -> str:
    """Return the text with each half of a surrogate pair replaced, as the library takes none."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


# Learning


def train_tokenizer(
    texts: Iterable[str], *, kind: TokenizerKind, size: int, lowercase: bool, min_count: int = 1
) -> Tokenizer:
    r"""Learn a tokenizer; the same texts, in whatever order, give the same bytes.

    - `word`: words (with what follows an apostrophe) and single marks, most frequent first.
    - `bpe`: pairs of neighbouring bytes joined, most frequent first, as in GPT-2; never unknown.
    - `unigram`: Kudo 2018, section 3.2; our own learning, since the library's differs from run to
      run. From another kind of processor its last bits, and with them the bytes, may differ.
    - `character`: every character, most frequent first.

    Args:
        texts: read once.
        kind: how text is cut.
        size: at most so many tokens, with the four special ones; where the texts hold fewer, fewer.
        lowercase: fold the case first, in learning and in use.
        min_count: a word, pair or character that occurs more rarely isn't learnt.

    Raises:
        RequestError: the size is too small for the kind, or too large.
        DataError: the texts hold nothing to learn from.
        MissingExtraError: the library `tokenizers` isn't installed.

    >>> tokenizer = train_tokenizer(["to be or not to be"], kind="word", size=9, lowercase=False)
    >>> [tokenizer.token(number) for number in range(4, tokenizer.size)]
    ['be', 'to', 'not', 'or']
    """
    run = library("learning a tokenizer")
    least = len(SPECIALS) + (len(_BYTES) if kind == "bpe" else 1)
    if not least <= size <= MOST_TOKENS:
        raise RequestError(
            f"a tokenizer of kind {kind} can't have {size:,} tokens",
            fix=f"Choose a size from {least:,} to {MOST_TOKENS:,}",
        )
    if min_count < 1:
        raise RequestError(
            f"a token can't be asked to occur {min_count} times", fix="Write 1 or more"
        )
    room = size - len(SPECIALS)
    # It has no vocabulary yet; its way of cutting texts is all that is used.
    cutter = run.Tokenizer.from_str(_encoded(_Form(kind, lowercase, ("a",), (0.0,))).decode())
    if kind == "bpe":
        form = _learn_bpe(run, cutter, texts, lowercase=lowercase, size=size, min_count=min_count)
    else:
        counts = _count(texts, cutter)
        if kind == "word":
            form = _Form(kind, lowercase, _most_frequent(counts, room, min_count))
        elif kind == "character":
            form = _Form(kind, lowercase, _most_frequent(_letters(counts), room, min_count))
        else:
            form = _Form(kind, lowercase, *_learn_unigram(counts, room=room, min_count=min_count))
    if not form.tokens:
        raise DataError("the texts hold nothing that a tokenizer could learn")
    return Tokenizer.from_bytes(_encoded(form))


def _count(texts: Iterable[str], cutter: tokenizers.Tokenizer) -> Counter[str]:
    """Return how often each piece occurs that the tokenizer cuts texts into."""
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(_CHUNK.findall(clean(text)))
    normalizer, splitter = cutter.normalizer, cutter.pre_tokenizer
    counts: Counter[str] = Counter()
    for chunk, count in chunks.items():
        folded = normalizer.normalize_str(chunk) if normalizer else chunk
        cut = splitter.pre_tokenize_str(folded) if splitter else [(folded, None)]
        for piece, _ in cut:
            counts[piece] += count
    return counts


def _letters(counts: Counter[str]) -> Counter[str]:
    letters: Counter[str] = Counter()
    for piece, count in counts.items():
        for letter in piece:
            letters[letter] += count
    return letters


def _most_frequent(counts: Counter[str], room: int, min_count: int) -> tuple[str, ...]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(token for token, count in ordered[:room] if count >= min_count)


def _learn_bpe(
    run: Any,
    cutter: tokenizers.Tokenizer,
    texts: Iterable[str],
    *,
    lowercase: bool,
    size: int,
    min_count: int,
) -> _Form:
    seen = False

    def parts() -> Iterator[str]:  # A line of many megabytes would take 200 bytes a character.
        nonlocal seen
        for text in texts:
            seen = seen or bool(text)
            yield from _PART.findall(clean(text))

    trainer = run.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=list(_BYTES),
        show_progress=False,
    )
    cutter.train_from_iterator(parts(), trainer)
    if not seen:
        return _Form("bpe", lowercase, ())
    merges = json.loads(cutter.to_str())["model"]["merges"]
    pairs = tuple((first, second) for first, second in merges)
    return _Form("bpe", lowercase, _joined(pairs), merges=pairs)


# The unigram model

_LONGEST_PIECE = 16
_MOST_LETTERS_READ = 2_000_000
"""Of the different words only the most frequent, up to so many letters, are learnt from: it bounds
the memory to some 600 MB. The 25,000 reviews of IMDB have 0.9 million."""
_SEEDS = 8
"""Learning begins with so many candidates for each token that is to stay."""
_KEPT_SHARE = 0.75
"""The share of the tokens that stays in each round, as in sentencepiece."""
_LEAST_COUNT = 1e-3
"""A letter that no likely cut uses keeps this count, so that it has a score at all."""

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = list[Ids]
"""For each end d = 1, 2, … of a token `[W, min(d, 16)]`, W the words at least d long, longest
first: which token of length 1, 2, … ends there, or -1."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Tokens to choose from, letters first: their lengths, counts, and a node where each ends.

    A node is the d-th letter of a word; nodes are ordered by d, then by word. `table[node, n - 1]`
    is the candidate of n letters that ends there, or -1; `before` is the node of the letter before.
    """

    lengths: Ints
    counts: Doubles
    nodes: Ints
    table: Ids
    before: Ints

    def take(self, chosen: Ints) -> _Candidates:
        """Return some of the candidates, in order of their numbers."""
        numbers = np.full(len(self.lengths) + 1, -1, dtype=np.int32)  # the last is for -1
        numbers[chosen] = np.arange(len(chosen))
        return _Candidates(
            self.lengths[chosen],
            self.counts[chosen],
            self.nodes[chosen],
            numbers[self.table],
            self.before,
        )


def _learn_unigram(
    counts: Counter[str], *, room: int, min_count: int
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return tokens and their log-probabilities, most probable first (Kudo 2018, section 3.2).

    Every letter stays. Candidates are the frequent substrings; rounds of EM drop those whose loss
    would cost the least likelihood.
    """
    letters = _most_frequent(_letters(counts), room, min_count)
    known = set(letters)
    read = Counter({word: count for word, count in counts.items() if known.issuperset(word)})
    frequent = _most_frequent(read, len(read), 1)
    within = np.cumsum([len(word) for word in frequent]) <= _MOST_LETTERS_READ
    words = sorted(frequent[: np.count_nonzero(within)], key=lambda word: (-len(word), word))
    if not words:
        return (), ()
    weights = np.array([counts[word] for word in words], dtype=np.float64)
    sizes = [sum(len(word) >= depth for word in words) for depth in range(1, len(words[0]) + 1)]
    found = _candidates(words, weights, sizes, letters=letters, min_count=min_count)
    free = room - len(letters)
    worth = found.counts * found.lengths
    found = found.take(_best(worth, _SEEDS * free, letters=len(letters)))
    scores = _log_share(found.counts)
    while True:
        rows = _cut(found.table, sizes)
        expected = _expected(rows, scores, weights)
        scores = _log_share(expected)
        if len(scores) <= room:
            break
        keep = max(free, int(_KEPT_SHARE * (len(scores) - len(letters))))
        cost = expected * (scores - _without(found, scores))
        chosen = _best(cost, keep, letters=len(letters))
        found, scores = found.take(chosen), scores[chosen]
    tokens = _spelled(found, words, sizes)
    ordered = sorted(zip((-scores).round(6).tolist(), tokens, strict=True))
    return tuple(token for _, token in ordered), tuple(-score for score, _ in ordered)


def _candidates(
    words: list[str], weights: Doubles, sizes: list[int], *, letters: Sequence[str], min_count: int
) -> _Candidates:
    """Return all substrings that occur at least twice, longer ones made of two that do."""
    number = {letter: at for at, letter in enumerate(letters)}
    level = np.array(
        [number[word[depth]] for depth, size in enumerate(sizes) for word in words[:size]]
    )
    starts = np.cumsum([0, *sizes])
    before = np.concatenate(
        [
            np.full(sizes[0], -1),
            *(np.arange(size) + starts[at] for at, size in enumerate(sizes[1:])),
        ]
    )
    weight = np.concatenate([weights[:size] for size in sizes])
    table = np.full((len(level), _LONGEST_PIECE), -1, dtype=np.int32)
    lengths, counts, nodes = [], [], []
    total = 0
    for length in range(1, _LONGEST_PIECE + 1):
        if length == 1:
            keys = level
        else:
            earlier = np.where(before < 0, -1, level[before])
            keys = np.where((earlier < 0) | (level < 0), -1, earlier * (level.max() + 1) + level)
        at = np.flatnonzero(keys >= 0)
        if not len(at):
            break
        _, first, inverse = np.unique(keys[at], return_index=True, return_inverse=True)
        often = np.bincount(inverse, weights=weight[at])
        kept = np.flatnonzero(often >= (max(min_count, 2) if length > 1 else 0))
        renamed = np.full(len(often), -1)
        renamed[kept] = np.arange(len(kept))
        level = np.full(len(keys), -1)
        level[at] = renamed[inverse]
        table[:, length - 1] = np.where(level < 0, -1, level + total)
        lengths.append(np.full(len(kept), length))
        counts.append(often[kept])
        nodes.append(at[first[kept]])
        total += len(kept)
    return _Candidates(
        np.concatenate(lengths), np.concatenate(counts), np.concatenate(nodes), table, before
    )


def _spelled(found: _Candidates, words: list[str], sizes: list[int]) -> list[str]:
    starts = np.cumsum([0, *sizes])
    depths = np.searchsorted(starts, found.nodes, side="right")
    return [
        words[node - starts[depth - 1]][depth - length : depth]
        for node, depth, length in zip(found.nodes, depths, found.lengths, strict=True)
    ]


def _best(worth: Doubles, most: int, *, letters: int) -> Ints:
    """Return all letters and the `most` best others, in order of their numbers."""
    order = np.argsort(-worth[letters:], kind="stable")[:most] + letters
    return np.concatenate([np.arange(letters), np.sort(order)])


def _log_share(counts: Doubles) -> Doubles:
    held = np.maximum(counts, _LEAST_COUNT)
    logs: Doubles = np.log(held / held.sum())
    return logs


def _cut(table: Ids, sizes: list[int]) -> Rows:
    parts = np.split(table, np.cumsum(sizes)[:-1])
    return [part[:, :depth] for depth, part in enumerate(parts, 1)]


def _reach(at: Ids, scores: Doubles, reached: list[Doubles]) -> Doubles:
    """Return the score of reaching an end by each of the tokens that end there."""
    values: Doubles = np.append(scores, -np.inf)[at]
    for length in range(1, at.shape[1] + 1):
        values[:, length - 1] += reached[-length][: len(at)]
    return values


def _expected(rows: Rows, scores: Doubles, weights: Doubles) -> Doubles:
    """Return how often each token is expected in the words, over all ways to cut them (E-step)."""
    reached = [np.zeros(len(weights))]
    chances = []
    for at in rows:
        values = _reach(at, scores, reached)
        top = values.max(axis=1)
        values = np.exp(values - top[:, None])
        total = values.sum(axis=1)
        reached.append(top + np.log(total))
        chances.append(values / total[:, None])
    visits = [np.zeros(len(after)) for after in reached]
    expected = np.zeros(len(scores) + 1)
    for depth in range(len(rows), 0, -1):
        longer = len(rows[depth]) if depth < len(rows) else 0
        visits[depth][longer:] += weights[longer : len(visits[depth])]  # words that end here
        share = chances[depth - 1] * visits[depth][:, None]
        at = rows[depth - 1]
        expected += np.bincount(at.ravel() + 1, share.ravel(), minlength=len(expected))
        for length in range(1, at.shape[1] + 1):
            visits[depth - length][: len(at)] += share[:, length - 1]
    return expected[1:]


def _without(found: _Candidates, scores: Doubles) -> Doubles:
    """Return the score of the best way to write each token with others; letters have none."""
    order = np.argsort(-found.lengths, kind="stable")
    order = order[: np.count_nonzero(found.lengths > 1)]
    lengths = found.lengths[order]
    rows: Rows = []
    nodes = np.empty(0, dtype=np.int64)
    for depth in range(int(lengths[0]), 0, -1):
        ending = order[lengths == depth]
        nodes = np.concatenate([found.before[nodes], found.nodes[ending]])
        at = found.table[nodes, :depth]
        at[len(nodes) - len(ending) :, depth - 1] = -1  # the token itself
        rows.append(at)
    reached = [np.zeros(len(order))]
    others = np.full(len(scores), -np.inf)
    for depth, at in enumerate(reversed(rows), 1):
        reached.append(_reach(at, scores, reached).max(axis=1))
        ends = lengths[: len(at)] == depth
        others[order[: len(at)][ends]] = reached[-1][ends]
    return others


# The file


@dataclass(frozen=True, slots=True)
class _Form:
    """All that a tokenizer's file says; the rest of it follows."""

    kind: TokenizerKind
    lowercase: bool
    tokens: tuple[str, ...]
    """Those from number 4 on."""
    scores: tuple[float, ...] = ()
    """The log-probability of each token, for `unigram`."""
    merges: tuple[tuple[str, str], ...] = ()
    """What is joined, in this order, for `bpe`."""


def _split(pattern: str, *, keep: bool) -> dict[str, Any]:
    """Return a step that cuts at the pattern's matches, and keeps what is between them or not."""
    behavior = "Isolated" if keep else "Removed"
    split = {"type": "Split", "pattern": {"Regex": pattern}}
    return {**split, "behavior": behavior, "invert": not keep}


_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}
_METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
_CUTTING: dict[TokenizerKind, dict[str, Any] | None] = {
    "word": _split(_WORDS, keep=False),
    "bpe": {"type": "Sequence", "pretokenizers": [_split(_PIECES, keep=True), _BYTE_LEVEL]},
    "unigram": {"type": "Sequence", "pretokenizers": [_split(_PIECES, keep=True), _METASPACE]},
    "character": None,
}
_JOINING: dict[TokenizerKind, dict[str, Any] | None] = {
    "word": None,
    "bpe": _BYTE_LEVEL,
    "unigram": _METASPACE,
    "character": {"type": "Fuse"},
}


def _encoded(form: _Form) -> bytes:
    """Return the one file that says this, in the format of the library `tokenizers`."""
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"} if form.lowercase else None,
        "pre_tokenizer": _CUTTING[form.kind],
        "post_processor": None,
        "decoder": _JOINING[form.kind],
        "model": _model(form),
    }
    return canonical_json(document)


def _model(form: _Form) -> dict[str, Any]:
    names = (*SPECIALS, *form.tokens)
    if form.kind == "unigram":
        scores = (*(0.0 for _ in SPECIALS), *form.scores)
        vocab = [list(pair) for pair in zip(names, scores, strict=True)]
        return {"type": "Unigram", "vocab": vocab, "unk_id": 1, "byte_fallback": False}
    numbers = {token: number for number, token in enumerate(names)}
    if form.kind == "word":
        return {"type": "WordLevel", "vocab": numbers, "unk_token": SPECIALS[1]}
    # Bytes are all known. Characters are bytes of another alphabet that are never joined.
    return {
        "type": "BPE",
        "vocab": numbers,
        "merges": [list(pair) for pair in form.merges],
        "unk_token": None if form.kind == "bpe" else SPECIALS[1],
        "dropout": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }


def _joined(merges: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the tokens that merges make of bytes, in order; each part must be there before."""
    tokens = dict.fromkeys(_BYTES)
    for first, second in merges:
        if first not in tokens or second not in tokens:
            raise _refused("something is joined that isn't there")
        tokens[first + second] = None
    return tuple(tokens)


def _read(data: bytes) -> _Form:
    """Return what a tokenizer's file says, after proving that we would have written the same."""
    values = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if len(data) > MOST_BYTES or values > _MOST_VALUES:
        raise _refused("it is too large")
    try:
        form = _gathered(json.loads(data.decode()))
        same = _encoded(form) == data
    except RecursionError as error:
        raise _refused("it is nested too deep") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refused("it isn't JSON, or not of the expected shape") from error
    if not same:
        raise _refused("it holds a setting, a number or a spelling that modelwright doesn't write")
    return form


def _gathered(document: Any) -> _Form:
    """Return what the JSON seems to say; what else it holds is for the caller to find out."""
    model, lowercase = document["model"], document["normalizer"] is not None
    vocab, kind = model["vocab"], _kind(document)
    scores: tuple[float, ...] = ()
    merges: tuple[tuple[str, str], ...] = ()
    if kind == "unigram":
        names = [token for token, _ in vocab]
        scores = tuple(score for _, score in vocab[len(SPECIALS) :])
        if not all(isinstance(score, float) and -1000 <= score <= 0 for score in scores):
            raise _refused("a score isn't a logarithm of a probability")
    else:
        names = sorted(vocab, key=vocab.__getitem__)
    tokens = tuple(names[len(SPECIALS) :])
    if not tokens or len(names) > MOST_TOKENS:
        raise _refused(f"it has {len(names):,} tokens")
    if not all(isinstance(token, str) and token for token in names) or len({*names}) < len(names):
        raise _refused("a token is empty, there twice, or no text")
    if kind == "bpe":
        merges = tuple((first, second) for first, second in model["merges"])
        if _joined(merges) != tokens:
            raise _refused("the merges don't make the tokens")
    if kind == "character" and any(len(token) > 1 for token in tokens):
        raise _refused("a token has more than one character")
    return _Form(kind, lowercase, tokens, scores, merges)


def _kind(document: Any) -> TokenizerKind:
    if document["model"]["type"] == "BPE":
        return "character" if document["pre_tokenizer"] is None else "bpe"
    kinds: dict[str, TokenizerKind] = {"WordLevel": "word", "Unigram": "unigram"}
    return kinds[document["model"]["type"]]


def _refused(why: str) -> ModelFileError:
    return ModelFileError("this is no tokenizer of modelwright", why=why.capitalize())
