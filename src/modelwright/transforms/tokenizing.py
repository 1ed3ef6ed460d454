"""Tokenizers: text to token ids and back, trained on the training texts, kept in the model file.

Three kinds, each a fixed pipeline of the library `tokenizers`, imported nowhere else. A tokenizer's
bytes are a `tokenizer.json` that other programs can read, in one canonical form that follows from
the vocabulary: a file is accepted only if we would have written the same bytes, so no regular
expression and no setting of an untrusted file is ever run.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Integers
from modelwright.errors import DataError, ModelFileError, RequestError, require
from modelwright.files import Json, JsonObject, canonical_json
from modelwright.transforms.scripts import UNSPACED

if TYPE_CHECKING:
    import tokenizers

TokenizerKind = Literal["word", "bpe", "character"]
Ids = NDArray[np.int32]

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
"""Padding, unknown, begin and end; they have the ids 0 to 3 in every tokenizer."""

MOST_BYTES = 64 << 20
"""A tokenizer's JSON is at most this long; one of 100,000 tokens takes some 3 MiB."""
MOST_TOKENS = 1 << 18
_MOST_VALUES = 1 << 21
"""Commas and opening brackets of the JSON: in memory a value takes some 80 bytes."""

_BLANKS = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, listed because `\\s` differs between Python and the library."""
_CHUNK = re.compile(rf"[{_BLANKS}]{{0,4096}}[^{_BLANKS}]{{1,65536}}|[{_BLANKS}]{{1,4096}}")
"""Blanks and what follows them: no token reaches over the end of one, so each is encoded once."""
_PART = re.compile(rf"[\s\S]{{1,65536}}[^{_BLANKS}]{{0,65536}}")
_HALVES = re.compile("[\ud800-\udfff]")
_KEPT_CHUNKS, _KEPT_LENGTH = 1 << 16, 64
"""A tokenizer remembers the ids of so many chunks, of so many characters at most: some 20 MB."""

# These patterns stand in the files: one that is changed needs a new kind beside the old.
_WORDS = rf"[{UNSPACED}]|[^\W{UNSPACED}]{{1,64}}(?:['’][^\W{UNSPACED}]{{1,8}})?|[^\w{_BLANKS}]"
"""A character of a script without blanks is a word by itself."""
_ASCII_WORDS = re.compile(r"\w{1,64}(?:'\w{1,8})?|[^\w\t-\r ]", re.ASCII)
"""`_WORDS` for ASCII text, on which Python and the library agree: one search in place of a call of
the library for each new chunk."""
_PIECES = (
    r" ?[\p{L}\p{M}]{1,64}|'\p{L}{1,2}(?!\p{L})| ?\p{N}{1,3}|"
    rf" ?[^{_BLANKS}\p{{L}}\p{{M}}\p{{N}}]{{1,16}}|"
    rf"[{_BLANKS}]{{1,64}}(?![^{_BLANKS}])|[{_BLANKS}]{{1,64}}"
)
"""After GPT-2 (Radford et al. 2019, section 2.2): a word takes the blank before it along. Combining
marks belong to their characters, numbers have three digits at most, and runs are bounded. `<` and
letters never occur in one piece, so no text can become `<eos>` as one token."""

_SHOWN_BYTES = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTES = tuple(map(chr, (*_SHOWN_BYTES, *range(256, 256 + 256 - len(_SHOWN_BYTES)))))
"""The 256 characters by which GPT-2 represents bytes; unprintable bytes begin at U+0100."""


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
    """A trained tokenizer; two with the same bytes are equal."""

    before: ClassVar[tuple[int, ...]] = ()
    """The ids that stand before each text, for the network; there are none."""
    after: ClassVar[tuple[int, ...]] = ()
    unknown: ClassVar[int] = SPECIALS.index("<unk>")

    kind: TokenizerKind
    lowercase: bool
    size: int
    """The size of the vocabulary, V, with the four special tokens."""
    _data: bytes = field(repr=False)
    _engine: tokenizers.Tokenizer = field(repr=False, compare=False)
    _known: dict[str, list[int]] = field(default_factory=dict, repr=False, compare=False)
    """The ids of chunks that were encoded before."""
    _vocabulary: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    """The ids of words, for the kind `word`; otherwise empty."""

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids `[T]` of each text, without begin and end.

        A text is never refused. An empty one, or for `word` one of blanks, has no tokens. Half a
        surrogate pair is read as U+FFFD, a NUL is a character like another, and what looks like a
        special token is plain text. Where no blank stands for 65,536 characters a token ends.
        Words and characters outside the vocabulary are unknown; `bpe` knows every text.
        """
        return [
            np.array(self._words(text), np.int32)
            if self.kind == "word" and text.isascii()
            else np.fromiter(
                chain.from_iterable(map(self._encoded, _CHUNK.findall(clean(text)))), np.int32
            )
            for text in texts
        ]

    def _words(self, text: str) -> list[int]:
        """Return the ids of the words of an ASCII text."""
        words = _ASCII_WORDS.findall(text.lower() if self.lowercase else text)
        get, unknown = self._vocabulary.get, self.unknown
        return [get(word, unknown) for word in words]

    def _encoded(self, chunk: str) -> list[int]:
        """Return the ids of a chunk; most are known, for texts repeat their words."""
        found = self._known.get(chunk)
        if found is None:
            if self.kind == "word" and chunk.isascii():
                found = self._words(chunk)
            else:
                found = self._engine.encode(chunk, add_special_tokens=False).ids
            if len(chunk) <= _KEPT_LENGTH:
                if len(self._known) >= _KEPT_CHUNKS:
                    self._known.clear()
                self._known[chunk] = found
        return found

    def decode(self, ids: Iterable[int] | Integers) -> str:
        """Return the text of token ids `[T]`; the special ones are left out.

        For `bpe` it is the text that was encoded, in lower case where the tokenizer folds it; bytes
        that are no UTF-8 become U+FFFD. For `character` it is that without what was unknown. For
        `word` a blank stands between tokens.

        Raises:
            DataError: an id isn't one of this tokenizer's.
        """
        known = [self._checked(int(number)) for number in ids]
        return self._engine.decode([number for number in known if number >= len(SPECIALS)])

    def token(self, number: int) -> str:
        """Return a token as the vocabulary has it: for `bpe` in GPT-2's characters for bytes.

        Raises:
            DataError: the id isn't one of this tokenizer's.
        """
        return cast(str, self._engine.id_to_token(self._checked(number)))

    def id(self, token: str) -> int | None:
        """Return the id of a token as `token` returns it, or None where there is none."""
        return self._engine.token_to_id(clean(token))

    def to_bytes(self) -> bytes:
        """Return it as canonical JSON; `from_bytes(t.to_bytes()) == t`."""
        return self._data

    @staticmethod
    def from_bytes(data: bytes) -> Tokenizer:
        """Read what `to_bytes` returned; JSON from other programs is refused.

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
            _vocabulary={token: number for number, token in enumerate(form.tokens, len(SPECIALS))}
            if form.kind == "word"
            else {},
        )

    def _checked(self, number: int) -> int:
        if not 0 <= number < self.size:
            raise DataError(
                f"{number} is no token: the tokenizer has those from 0 to {self.size - 1}",
                fix="Use the tokenizer that the model was trained with",
            )
        return number


def clean(text: str) -> str:
    """Return the text with each half of a surrogate pair replaced, as the library takes none."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


# Training


def train_tokenizer(
    texts: Iterable[str], *, kind: TokenizerKind, size: int, lowercase: bool, min_count: int = 1
) -> Tokenizer:
    r"""Train a tokenizer; the same texts, in whatever order, give the same bytes.

    - `word`: words (with what follows an apostrophe) and single marks, most frequent first.
    - `bpe`: pairs of neighbouring bytes joined, most frequent first, as in GPT-2; never unknown.
    - `character`: every character, most frequent first.

    Args:
        texts: read once.
        kind: how text is split.
        size: the most tokens, with the four special ones; there may be fewer.
        lowercase: fold the case first, in training and in use.
        min_count: a word, pair or character that occurs less often gets no token.

    Raises:
        RequestError: the size is too small for the kind, or too large.
        DataError: the texts give no tokens.
        MissingExtraError: the library `tokenizers` isn't installed.

    >>> tokenizer = train_tokenizer(["to be or not to be"], kind="word", size=9, lowercase=False)
    >>> [tokenizer.token(number) for number in range(4, tokenizer.size)]
    ['be', 'to', 'not', 'or']
    """
    run = library("training a tokenizer")
    least = len(SPECIALS) + (len(_BYTES) if kind == "bpe" else 1)
    if not least <= size <= MOST_TOKENS:
        raise RequestError(
            f"a tokenizer of kind {kind} can't have {size:,} tokens",
            fix=f"Choose a size from {least:,} to {MOST_TOKENS:,}",
        )
    if min_count < 1:
        raise RequestError(
            f"the least count of a token can't be {min_count}", fix="Write 1 or more"
        )
    # It has no vocabulary yet; only its way of splitting texts is used.
    splitter = run.Tokenizer.from_str(_encoded(_Form(kind, lowercase, ("a",))).decode())
    if kind == "bpe":
        merges = _learn_merges(run, splitter, texts, size=size, min_count=min_count)
        form = _Form(kind, lowercase, _joined(merges) if merges is not None else (), merges or ())
    else:
        counts = _count(texts, splitter, kind)
        if kind == "character":
            characters: Counter[str] = Counter()
            for piece, count in counts.items():
                for character in piece:
                    characters[character] += count
            counts = characters
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = ordered[: size - len(SPECIALS)]
        form = _Form(kind, lowercase, tuple(token for token, n in kept if n >= min_count))
    if not form.tokens:
        raise DataError("the texts hold nothing that a tokenizer could learn")
    return Tokenizer.from_bytes(_encoded(form))


def _count(
    texts: Iterable[str], splitter: tokenizers.Tokenizer, kind: TokenizerKind
) -> Counter[str]:
    """Return how often each piece occurs into which the tokenizer splits texts."""
    normalizer, pre_tokenizer = splitter.normalizer, splitter.pre_tokenizer
    chunks: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for text in texts:
        if kind == "word" and text.isascii():
            counts.update(_ASCII_WORDS.findall(text.lower() if normalizer else text))
        else:
            chunks.update(_CHUNK.findall(clean(text)))
    for chunk, count in chunks.items():
        folded = normalizer.normalize_str(chunk) if normalizer else chunk
        pieces = pre_tokenizer.pre_tokenize_str(folded) if pre_tokenizer else [(folded, None)]
        for piece, _ in pieces:
            counts[piece] += count
    return counts


def _learn_merges(
    run: Any, splitter: tokenizers.Tokenizer, texts: Iterable[str], *, size: int, min_count: int
) -> tuple[tuple[str, str], ...] | None:
    """Return the pairs that are merged, in order; `None` where the texts are empty."""
    has_text = False

    def parts() -> Iterator[str]:  # A line of many megabytes would take 200 bytes a character.
        nonlocal has_text
        for text in texts:
            has_text = has_text or bool(text)
            yield from _PART.findall(clean(text))

    trainer = run.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=list(_BYTES),
        show_progress=False,
    )
    splitter.train_from_iterator(parts(), trainer)
    if not has_text:
        return None
    merges = json.loads(splitter.to_str())["model"]["merges"]
    return tuple((first, second) for first, second in merges)


# The file


@dataclass(frozen=True, slots=True)
class _Form:
    """The content of a tokenizer's file that doesn't follow from its kind."""

    kind: TokenizerKind
    lowercase: bool
    tokens: tuple[str, ...]
    """Those from id 4 on."""
    merges: tuple[tuple[str, str], ...] = ()
    """The pairs that are merged, in this order, for `bpe`."""


def _split(pattern: str, *, keep: bool) -> JsonObject:
    """Return a step that splits at the pattern's matches, and keeps what is between them or not."""
    behavior = "Isolated" if keep else "Removed"
    split = {"type": "Split", "pattern": {"Regex": pattern}}
    return {**split, "behavior": behavior, "invert": not keep}


_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}
_CUTTING: dict[TokenizerKind, JsonObject | None] = {
    "word": _split(_WORDS, keep=False),
    "bpe": {"type": "Sequence", "pretokenizers": [_split(_PIECES, keep=True), _BYTE_LEVEL]},
    "character": None,
}
_JOINING: dict[TokenizerKind, JsonObject | None] = {
    "word": None,
    "bpe": _BYTE_LEVEL,
    "character": {"type": "Fuse"},
}


def _encoded(form: _Form) -> bytes:
    """Return the canonical file, in the format of the library `tokenizers`."""
    document: JsonObject = {
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


def _model(form: _Form) -> JsonObject:
    numbers = {token: number for number, token in enumerate((*SPECIALS, *form.tokens))}
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


def is_too_large(data: bytes, *, max_values: int) -> bool:
    """Return whether a tokenizer's JSON is too long, or has too many commas and brackets."""
    values = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    return len(data) > MOST_BYTES or values > max_values


def _read(data: bytes) -> _Form:
    """Return the content of a tokenizer's file, after checking that it is in the canonical form."""
    if is_too_large(data, max_values=_MOST_VALUES):
        raise _refused("it is too large")
    try:
        form = _gathered(json.loads(data.decode()))
        is_canonical = _encoded(form) == data
    except RecursionError as error:
        raise _refused("it is nested too deep") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refused("it isn't JSON, or not of the expected shape") from error
    if not is_canonical:
        raise _refused("it holds a setting, an id or a form that modelwright doesn't write")
    return form


def _gathered(document: Json) -> _Form:
    """Return the content of the JSON; the caller checks that it has no more."""
    model, vocab = document["model"], document["model"]["vocab"]
    kind: TokenizerKind = "word" if model["type"] == "WordLevel" else "bpe"
    if kind == "bpe" and document["pre_tokenizer"] is None:
        kind = "character"
    merges: tuple[tuple[str, str], ...] = ()
    names = sorted(vocab, key=vocab.__getitem__)
    tokens = tuple(names[len(SPECIALS) :])
    if not tokens or len(names) > MOST_TOKENS:
        raise _refused(f"it has {len(names):,} tokens")
    if not all(names):
        raise _refused("a token is empty")
    if kind == "bpe":
        merges = tuple((first, second) for first, second in model["merges"])
        if _joined(merges) != tokens:
            raise _refused("the merges don't make the tokens")
    if kind == "character" and any(len(token) > 1 for token in tokens):
        raise _refused("a token has more than one character")
    return _Form(kind, document["normalizer"] is not None, tokens, merges)


def _refused(why: str) -> ModelFileError:
    return ModelFileError("this is no tokenizer of modelwright", why=why.capitalize())
