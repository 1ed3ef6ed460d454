"""TF-IDF of n-grams: how a text becomes a few numbered weights, the same in training and serving.

Words (with punctuation) or characters are numbered, and an n-gram is the number whose digits they
are, so that counting and looking up are sorting and searching in NumPy. Weights are those of
scikit-learn's `TfidfVectorizer` with `sublinear_tf=True`: `(1 + ln tf) · idf`, where
`idf = ln((1 + n) / (1 + df)) + 1`, scaled to length 1. n-grams of several kinds stand side by side.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Ints
from modelwright.errors import DataError, ModelFileError
from modelwright.files import Json, JsonObject, canonical_json, digest, json_digest
from modelwright.kinds import InputKind
from modelwright.transforms.scripts import are_unspaced
from modelwright.transforms.tokenizing import clean

Analyzer = Literal["word", "char"]
VOCABULARY = "ngrams.bin"
"""The asset that holds the vocabularies with their idf."""
WORD_RANGE, CHAR_RANGE, UNSPACED_RANGE = (1, 2), (2, 5), (1, 3)
"""The lengths of n-grams: of words, of characters beside them, and of characters alone."""
MOST_CHARACTERS = 5_000_000
"""In training texts with more characters, n-grams of characters beside those of words take most of
the time and add little."""
MOST_NGRAMS = 2_000_000
"""The most n-grams of a kind; the most frequent are kept."""
FEW_TEXTS = 1000
"""In as many training texts or more, an n-gram of a single text is left out."""
_DOC_BITS = 8
_CHUNK = 1 << _DOC_BITS
"""Texts that are counted at once: a text's number among them stands behind a code, in 62 bits."""
_MOST_CODE = 1 << 54
_WORD = re.compile(r"\w+|[^\w\s]")


class _Known(dict[str, int]):
    """Tokens' numbers, from 1; an unknown token has 0."""

    def __missing__(self, token: str) -> int:
        return 0


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of one kind that occur in training.

    Args:
        analyzer: what they are made of.
        shortest: the fewest tokens of one.
        longest: the most.
        tokens: the words or characters, sorted; their numbers are 1, 2, ….
        codes: the n-grams `[V]`, sorted: numbers with the base A + 1 for A tokens, a token a digit.
        idf: the inverse document frequency of each `[V]`.
    """

    analyzer: Analyzer
    shortest: int
    longest: int
    tokens: tuple[str, ...]
    codes: Ints
    idf: NDArray[np.float32]

    @cached_property
    def _numbers(self) -> _Known:
        return _Known({token: at for at, token in enumerate(self.tokens, 1)})

    def weights(self, texts: Sequence[str]) -> tuple[Ints, Ints, NDArray[np.float32]]:
        """Return the text, the number and the weight of each n-gram that folded texts have."""
        none = np.empty(0, np.int64)
        found = [(none, none, none.astype(np.float32))]
        for first, part in _parts(texts):
            ids, docs = _numbered(part, self.analyzer, self._numbers)
            codes, docs, counts = self._counted(ids, docs)
            at = np.searchsorted(self.codes, codes)
            at[at == len(self.codes)] = 0
            is_known = self.codes[at] == codes
            docs, numbers, counts = docs[is_known], at[is_known], counts[is_known]
            order = np.argsort(docs.astype(np.uint8), kind="stable")
            docs, numbers = docs[order], numbers[order]
            values = (1.0 + np.log(counts[order])) * self.idf[numbers]
            lengths = np.sqrt(np.bincount(docs, values * values, minlength=len(part)))
            found.append((docs + first, numbers, (values / lengths[docs]).astype(np.float32)))
        docs, numbers, values = (np.concatenate(each) for each in zip(*found, strict=True))
        return docs, numbers, values

    def _counted(self, ids: Ints, docs: Ints) -> tuple[Ints, Ints, Ints]:
        keys = _keys(ids, docs, self.shortest, self.longest, len(self.tokens) + 1)
        keys, counts = _distinct(keys)
        return keys >> _DOC_BITS, keys & (_CHUNK - 1), counts

    def text(self, number: int) -> str:
        """Return an n-gram as text: words with blanks between them, or characters."""
        code, tokens = int(self.codes[number]), []
        while code:
            code, token = divmod(code, len(self.tokens) + 1)
            tokens.append(self.tokens[token - 1])
        return (" " if self.analyzer == "word" else "").join(reversed(tokens))

    def to_json(self) -> JsonObject:
        """Return what a declaration says of it; `to_bytes` has the rest."""
        return {
            "analyzer": self.analyzer,
            "range": [self.shortest, self.longest],
            "tokens": len(self.tokens),
            "ngrams": len(self.codes),
        }

    def to_bytes(self) -> bytes:
        """Return the tokens as JSON with its length before it (int64), the codes and the idf.

        Numbers are little-endian.
        """
        tokens = canonical_json(list(self.tokens))
        return b"".join(
            (
                len(tokens).to_bytes(8, "little"),
                tokens,
                self.codes.astype("<i8").tobytes(),
                self.idf.astype("<f4").tobytes(),
            )
        )


@dataclass(frozen=True, slots=True)
class NgramInput:
    """How a text becomes the numbers of its n-grams and their weights: those of each kind."""

    input_kind: ClassVar[InputKind] = InputKind.TEXT

    kinds: tuple[Ngrams, ...]

    @property
    def size(self) -> int:
        """The number of n-grams of all kinds, V."""
        return sum(len(kind.codes) for kind in self.kinds)

    def encode(self, texts: Sequence[str]) -> list[Array]:
        """Return the n-grams of each text, `[T]` records of a number and a weight, by number.

        A text without a known n-gram has none.
        """
        found, first = [], 0
        texts = [fold_blanks(text) for text in texts]
        for kind in self.kinds:
            docs, numbers, weights = kind.weights(texts)
            found.append((docs, numbers + first, weights))
            first += len(kind.codes)
        docs, numbers, weights = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(docs, kind="stable")
        records = np.zeros(len(order), dtype=RECORD)
        records["f0"], records["f1"] = numbers[order], weights[order]
        counts = np.bincount(docs, minlength=len(texts))
        return np.split(records, np.cumsum(counts)[:-1]) if texts else []

    def describe(self) -> str:
        """Return what it takes in a few words."""
        words = {"word": "words", "char": "characters"}
        return " and ".join(
            f"{kind.shortest}- to {kind.longest}-grams of {words[kind.analyzer]}"
            for kind in self.kinds
        )

    def text(self, number: int) -> str:
        """Return an n-gram as text."""
        for kind in self.kinds:
            if number < len(kind.codes):
                return kind.text(number)
            number -= len(kind.codes)
        raise IndexError(number)

    def to_json(self) -> JsonObject:
        """Return the declaration as the model file has it; the vocabulary is a separate asset."""
        return {
            "kind": "ngrams",
            "weights": "tfidf",
            "kinds": [kind.to_json() for kind in self.kinds],
            "vocabulary": digest(self.assets()[VOCABULARY]),
        }

    def assets(self) -> dict[str, bytes]:
        """Return the files that the declaration refers to, by name."""
        return {VOCABULARY: b"".join(kind.to_bytes() for kind in self.kinds)}

    def digest(self) -> str:
        """Return the digest that names its cached views."""
        return json_digest(self.to_json())

    @staticmethod
    def from_json(value: JsonObject, assets: dict[str, bytes]) -> NgramInput:
        """Read what `to_json` and `assets` returned; anything else is a `ModelFileError`."""
        asset = assets.get(VOCABULARY)
        match value:
            case {
                "kind": "ngrams",
                "weights": "tfidf",
                "kinds": [_, *_] as kinds,
                "vocabulary": str() as expected,
                **others,
            } if not others and asset is not None and len(kinds) <= 2:
                if digest(asset) != expected:
                    raise ModelFileError("the n-grams aren't those that the file declares")
                reader = _Bytes(asset)
                read = NgramInput(tuple(_read_kind(item, reader) for item in kinds))
                if reader.left or read.to_json() != value:
                    raise _unknown()
                return read
        raise _unknown()


RECORD = "i4,f4"
"""An n-gram's number (`f0`) and its weight (`f1`), as NumPy calls the record."""


def fit_ngrams(texts: Iterable[str], *, most: int = MOST_NGRAMS) -> NgramInput:
    """Return the n-grams of training texts.

    Those of one and two words, and, unless the texts are long together, those of two to five
    characters; in scripts without blanks between words, those of one to three characters alone.

    Args:
        texts: the training texts.
        most: the most n-grams of each kind.

    Raises:
        DataError: there is none.
    """
    texts = [fold_blanks(text) for text in texts]
    least = 2 if len(texts) >= FEW_TEXTS else 1
    if are_unspaced(texts[:: len(texts) // 2000 + 1]):
        return NgramInput((_fit(texts, "char", UNSPACED_RANGE, least, most),))
    kinds = [_fit(texts, "word", WORD_RANGE, least, most)]
    if sum(map(len, texts)) <= MOST_CHARACTERS:
        kinds.append(_fit(texts, "char", CHAR_RANGE, least, most))
    found = tuple(kind for kind in kinds if len(kind.codes))
    if not found:
        raise DataError("no text of the training split has a word or a character")
    return NgramInput(found)


def _fit(
    texts: Sequence[str], analyzer: Analyzer, sizes: tuple[int, int], least: int, most: int
) -> Ngrams:
    """Return the n-grams that occur in `least` texts or more, the most frequent of them."""
    shortest, longest = sizes
    # Tokens are numbered from 1; a new one gets the next number.
    seen: defaultdict[str, int] = defaultdict(count(1).__next__)
    chunks = [_numbered(part, analyzer, seen) for _, part in _parts(texts)]
    in_texts = np.zeros(len(seen) + 1, np.int64)
    for ids, docs in chunks:
        pairs, _ = _distinct(ids << _DOC_BITS | docs)
        in_texts += np.bincount(pairs >> _DOC_BITS, minlength=len(in_texts))
    # So many tokens that the longest n-gram is a number of 54 bits.
    room = int(_MOST_CODE ** (1 / longest)) - 2
    least = min(least, int(in_texts[1:].max(initial=1)))
    kept = 1 + np.argsort(-in_texts[1:], kind="stable")[:room]
    names = [*seen]
    tokens = sorted(names[at - 1] for at in kept.tolist() if in_texts[at] >= least)
    number = np.zeros(len(in_texts), np.int64)
    number[[seen[token] for token in tokens]] = np.arange(1, len(tokens) + 1)
    codes, counts, found = np.empty(0, np.int64), np.empty(0, np.int64), []
    for at, (ids, docs) in enumerate(chunks, 1):
        keys, _ = _distinct(_keys(number[ids], docs, shortest, longest, len(tokens) + 1))
        found.append(keys >> _DOC_BITS)
        if sum(map(len, found)) > _MOST_HELD or at == len(chunks):
            codes, counts = _added(codes, counts, *_distinct(np.concatenate(found)))
            found = []
    if (counts >= least).any():
        codes, counts = codes[counts >= least], counts[counts >= least]
    if len(codes) > most:
        best = np.sort(np.argsort(-counts, kind="stable")[:most])
        codes, counts = codes[best], counts[best]
    idf = np.log((1.0 + len(texts)) / (1.0 + counts)) + 1.0
    return Ngrams(analyzer, shortest, longest, tuple(tokens), codes, idf.astype(np.float32))


_MOST_HELD = 20_000_000
"""Codes that are held before they are counted: 160 MB."""


def _added(codes: Ints, counts: Ints, new: Ints, more: Ints) -> tuple[Ints, Ints]:
    """Return codes and their counts, with further ones added."""
    if not len(codes):
        return new, more
    both, place = np.unique(np.concatenate([codes, new]), return_inverse=True)
    return both, np.bincount(place, np.concatenate([counts, more])).astype(np.int64)


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Return values once each, in order, and how often they occur."""
    values = np.sort(values)  # Three times as fast as `np.unique`, which hashes.
    first = np.flatnonzero(np.diff(values, prepend=-1))
    return values[first], np.diff(first, append=len(values))


def _parts(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the number of a part's first text, and the part."""
    for start in range(0, len(texts), _CHUNK):
        yield start, texts[start : start + _CHUNK]


def fold_blanks(text: str) -> str:
    """Return a text in lower case, its blanks folded to one."""
    return " ".join(clean(text).lower().split())


def _numbered(
    texts: Sequence[str], analyzer: Analyzer, numbers: dict[str, int]
) -> tuple[Ints, Ints]:
    """Return the numbers of all texts' tokens, one text after the other, and each one's text."""
    cut = _WORD.findall if analyzer == "word" else list
    tokens = [cut(text) for text in texts]
    counts = [len(item) for item in tokens]
    ids = np.fromiter(
        map(numbers.__getitem__, chain.from_iterable(tokens)), np.int64, count=sum(counts)
    )
    return ids, np.repeat(np.arange(len(texts)), counts)


def _keys(ids: Ints, docs: Ints, shortest: int, longest: int, base: int) -> Ints:
    """Return the code of each n-gram of known tokens, with the number of its text behind it."""
    codes, is_whole = ids, ids > 0
    found = [np.empty(0, np.int64)]
    for size in range(1, longest + 1):
        if size > 1:
            last = ids[size - 1 :]
            codes = codes[:-1] * base + last
            is_whole = is_whole[:-1] & (last > 0) & (docs[: len(last)] == docs[size - 1 :])
        if size >= shortest:
            found.append((codes << _DOC_BITS | docs[: len(codes)])[is_whole])
        if len(codes) <= 1:
            break
    return np.concatenate(found)


# -- reading a file ----------------------------------------------------------------------------


class _Bytes:
    """Bytes that are read from the beginning on."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if not 0 <= size <= self.left:
            raise _unknown()
        self._at += size
        return self._data[self._at - size : self._at]


def _read_kind(declared: Json, reader: _Bytes) -> Ngrams:
    """Read the n-grams of one kind, which must be in order and of the declared lengths."""
    match declared:
        case {
            "analyzer": "word" | "char" as analyzer,
            "range": [int() as shortest, int() as longest],
            "tokens": int() as num_tokens,
            "ngrams": int() as size,
            **others,
        } if not others and 1 <= shortest <= longest <= 8:
            tokens = _read_tokens(bytes(reader.take(int.from_bytes(reader.take(8), "little"))))
            if not 0 < size <= reader.left // 12 or len(tokens) != num_tokens:
                raise _unknown()
            codes = np.frombuffer(reader.take(8 * size), "<i8").astype(np.int64)
            idf = np.frombuffer(reader.take(4 * size), "<f4").astype(np.float32)
            base = num_tokens + 1
            if base**longest > _MOST_CODE or not _are_codes(codes, base, shortest, longest):
                raise _unknown()
            if not (np.isfinite(idf).all() and (idf > 0).all()):
                raise _unknown()
            return Ngrams(analyzer, shortest, longest, tokens, codes, idf)
    raise _unknown()


def _read_tokens(data: bytes) -> tuple[str, ...]:
    try:
        tokens = json.loads(data.decode())
        is_canonical = canonical_json(tokens) == data
    except (ValueError, RecursionError, TypeError) as error:
        raise _unknown() from error
    if not is_canonical or not isinstance(tokens, list):
        raise _unknown()
    if not all(isinstance(token, str) and token for token in tokens):
        raise _unknown()
    if any(token >= following for token, following in pairwise(tokens)):
        raise _unknown()
    return tuple(tokens)


def _are_codes(codes: Ints, base: int, shortest: int, longest: int) -> bool:
    """Say whether numbers are sorted, and have digits above 0, as many as an n-gram has."""
    if (codes[1:] <= codes[:-1]).any() or codes[0] < 1:
        return False
    left, digits = codes.copy(), np.zeros(len(codes), np.int64)
    for _ in range(longest):
        going = left > 0
        if (left[going] % base == 0).any():
            return False
        digits += going
        left //= base
    return not left.any() and bool((digits >= shortest).all())


def _unknown() -> ModelFileError:
    return ModelFileError(
        "the n-grams that the file declares aren't known to this version", fix="Update modelwright"
    )
