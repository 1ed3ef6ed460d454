"""Hugging Face tokenizers of pretrained networks, read from a `tokenizer.json` and checked.

A pretrained network needs the tokenizer that it was trained with. The library `tokenizers` runs it
without side effects, but a regular expression could be made to run forever, so each part must be of
a known type and each expression one of a few. Tokenizers that are trained here are in
`tokenizing.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Integers, Ints
from modelwright.errors import DataError, ModelFileError, ModelwrightError
from modelwright.files import Json, JsonObject, canonical_json
from modelwright.transforms.tokenizing import SPECIALS, Ids, clean, is_too_large, library

if TYPE_CHECKING:
    import tokenizers

MOST_TOKENS = 1 << 20
TokenForm = Literal["byte_level", "plain", "metaspace"]
"""How tokens represent bytes: a character for each byte (`byte_level`), as UTF-8 (`plain`), or as
UTF-8 with a space put before the text (`metaspace`)."""
_BLANK = "\u2581"
"""Represents a space in tokens."""
_MOST_VALUES = 1 << 23
"""Commas and opening brackets of the JSON: in memory a value takes some 80 bytes."""

_MOST_PARTS = 64
"""A sequence of a published tokenizer has about ten."""
_LONGEST_WORD = 256
"""Letters of a word that WordPiece takes apart, in time that grows with their square; published
tokenizers have 100."""
_LONGEST_CONTENT = 64
"""Letters that a part may put into a text, and how many times as long all of them may make one."""
_MEMBERS = {
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
}
_TYPES: dict[str, set[str]] = {
    "model": {"BPE", "WordPiece", "Unigram", "WordLevel"},
    "normalizer": {
        "Sequence",
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Replace",
        "Strip",
        "StripAccents",
    },
    "pre_tokenizer": {
        "Sequence",
        "BertPreTokenizer",
        "ByteLevel",
        "Digits",
        "Metaspace",
        "Punctuation",
        "Split",
        "Whitespace",
        "WhitespaceSplit",
    },
    "post_processor": {
        "Sequence",
        "BertProcessing",
        "ByteLevel",
        "RobertaProcessing",
        "TemplateProcessing",
    },
    "decoder": {
        "Sequence",
        "BPEDecoder",
        "ByteFallback",
        "ByteLevel",
        "Fuse",
        "Metaspace",
        "Replace",
        "Strip",
        "WordPiece",
    },
}
"""What the parts of a tokenizer may be made of, by the names of the library `tokenizers`."""
_ENGLISH = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = frozenset(
    {
        " {2,}",
        r"\s+",
        # Of GPT-2 (Radford et al. 2019), and of Llama 3 and Qwen 2 as their files have them.
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        rf"{_ENGLISH}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}",
        rf"{_ENGLISH}|{_WORDS}|\p{{N}}|{_REST}",
    }
)
"""The regular expressions that may be run."""


@dataclass(frozen=True, slots=True)
class TokenIdMap:
    """Maps the token ids of a pretrained generator to ours, in which special tokens come first.

    Ours are 0 for padding, 1 for unknown, 2 for begin and 3 for end; the others follow in the
    network's order. Begin has an id of its own here, also where the network uses another token for
    it; so have padding and unknown where the network has none, and these two never occur.
    """

    padding: int | None
    unknown: int | None
    begin: int
    end: int
    size: int
    """The network's vocabulary."""

    @property
    def count(self) -> int:
        """The number of our ids, V."""
        return self.size + len(self.second())

    def special(self) -> list[int]:
        """Return the network's ids of padding, unknown and end, those that it has."""
        return [item for item in (self.padding, self.unknown, self.end) if item is not None]

    def second(self) -> tuple[int, ...]:
        """Return those of our ids that duplicate another token or stand for none."""
        missing = [at for at, number in enumerate((self.padding, self.unknown)) if number is None]
        return (*missing, 2)

    def theirs(self) -> Ints:
        """Return the network's id of each of ours, `[V]`; that of the end where it has none."""
        named = [self.padding, self.unknown, self.begin, self.end]
        rest = np.delete(np.arange(self.size), self.special())
        filled = [self.end if number is None else number for number in named]
        return np.concatenate([filled, rest]).astype(np.int64)

    def ours(self) -> Ints:
        """Return our id of each of the network's, `[size]`."""
        ids = np.empty(self.size, np.int64)
        theirs, second = self.theirs(), list(self.second())
        # In a text that is encoded, the begin token has its other id.
        ids[np.delete(theirs, second)] = np.delete(np.arange(len(theirs)), second)
        return ids

    def to_json(self) -> dict[str, int | None]:
        """Return it as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Json) -> TokenIdMap | None:
        """Read what `to_json` returned, or `None`; anything else is a `ModelFileError`."""
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) != {item.name for item in fields(TokenIdMap)}:
            raise ModelFileError("the map of token ids isn't one")
        for name, number in value.items():
            may_be_none = name in ("padding", "unknown")
            if type(number) is not int and not (may_be_none and number is None):
                raise ModelFileError("the map of token ids has a value that is no id")
        token_ids = TokenIdMap(**value)
        apart = token_ids.special()
        if not 4 <= token_ids.size <= MOST_TOKENS or len(set(apart)) < len(apart):
            raise ModelFileError(
                "padding, the unknown and the end of a text must be three different tokens",
                why=f"They are {token_ids.padding}, {token_ids.unknown} and {token_ids.end}",
            )
        if not all(0 <= number < token_ids.size for number in (*apart, token_ids.begin)):
            raise ModelFileError("a special token has an id that isn't there")
        return token_ids


@dataclass(frozen=True, slots=True)
class HFTokenizer:
    """The tokenizer of a pretrained network; two with the same bytes and id map are equal.

    It has the methods of `tokenizing.Tokenizer`, and the special tokens that it puts around each
    text: `before` and `after`.
    """

    size: int
    """One more than its highest id, V."""
    token_ids: TokenIdMap | None
    """The map to our ids, where they differ from its own."""
    before: tuple[int, ...]
    after: tuple[int, ...]
    unknown: int
    """The id that stands for a text without tokens."""
    has_unknown: bool
    """Whether it has a token for unknown text."""
    form: TokenForm
    """How its tokens represent bytes."""
    _data: bytes = field(repr=False)
    _engine: tokenizers.Tokenizer = field(repr=False, compare=False)
    _ours: Ints | None = field(repr=False, compare=False)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids `[T]` of each text, without the special tokens around it.

        Text that looks like a special token is plain text.

        Raises:
            DataError: the tokenizer can't take a text.
        """
        encoded = []
        for text in texts:
            with _guarded(DataError("the tokenizer can't take this text")):
                ids = self._engine.encode(clean(text), add_special_tokens=False).ids
            row = np.array(ids, np.int64)
            encoded.append((row if self._ours is None else self._ours[row]).astype(np.int32))
        return encoded

    def decode(self, ids: Iterable[int] | Integers) -> str:
        """Return the text of token ids `[T]`; special tokens and unused ids are left out.

        Raises:
            DataError: an id isn't one of this tokenizer's.
        """
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < self.size:
                raise DataError(f"{number} is no token: there are {self.size}")
        if self.token_ids is not None:
            kept = np.array([item for item in numbers if item >= len(SPECIALS)], np.int64)
            numbers = self.token_ids.theirs()[kept].tolist()
        with _guarded(DataError("the tokenizer can't turn these tokens into text")):
            return self._engine.decode(numbers, skip_special_tokens=True)

    def widths(self) -> NDArray[np.int16]:
        """Return how many bytes of text each token represents, `[V]`; 1 for the unknown."""
        theirs = range(self.size) if self.token_ids is None else self.token_ids.theirs().tolist()
        sizes = [self._width(self._engine.id_to_token(number) or "") for number in theirs]
        if self.token_ids is not None:
            sizes[: len(SPECIALS)] = [0, 1, 0, 0]
        return np.array(sizes, np.int16)

    def _width(self, token: str) -> int:
        if self.form == "byte_level":
            return len(token)
        if re.fullmatch("<0x[0-9A-F]{2}>", token):
            return 1
        return len(token.replace(_BLANK, " ").encode())

    def to_bytes(self) -> bytes:
        """Return it as canonical JSON; `from_bytes(t.to_bytes(), t.token_ids) == t`."""
        return self._data

    @staticmethod
    def from_bytes(data: bytes, token_ids: TokenIdMap | None) -> HFTokenizer:
        """Read what `to_bytes` returned.

        Raises:
            ModelFileError: it isn't that, or has a part that isn't known here.
            MissingExtraError: the library `tokenizers` isn't installed.
        """
        tokenizer = read_foreign(data, token_ids)
        if tokenizer.to_bytes() != data:
            raise _refused("it isn't in the canonical form that modelwright writes")
        return tokenizer


def read_foreign(data: bytes, token_ids: TokenIdMap | None) -> HFTokenizer:
    """Read a `tokenizer.json` that another program wrote.

    Raises:
        ModelFileError: it isn't one, or has a part that isn't known here.
        MissingExtraError: the library `tokenizers` isn't installed.
    """
    run = library("reading and writing text")
    document = _document(data)
    try:  # Truncation and padding are done here.
        kept = canonical_json({**document, "truncation": None, "padding": None})
    except (ValueError, RecursionError) as error:
        raise _refused("it holds a number or a text that can't be written") from error
    with _guarded(_refused("the library `tokenizers` can't read it")):
        engine = run.Tokenizer.from_str(kept.decode())
        # A text is never a command: `[SEP]` in it is five ordinary characters.
        engine.encode_special_tokens = True
        numbers = engine.get_vocab(with_added_tokens=True)
        _check_added(engine)
    size = 1 + max(numbers.values(), default=-1)
    if not 0 < size <= MOST_TOKENS:
        raise _refused(f"it has {size:,} tokens")
    before, after = _frame(document["post_processor"], numbers)
    if any(not 0 <= number < size for number in (*before, *after)):
        raise _refused("a special token has an id that isn't there")
    own_unknown = unknown_of(document["model"], numbers)
    unknown, ours = own_unknown or 0, None
    if token_ids is not None:
        ours = token_ids.ours()
        if size > token_ids.size:
            raise _refused(f"it has {size:,} tokens, and its network {token_ids.size:,}")
        size, unknown = token_ids.count, 1
        before, after = (tuple(ours[list(ends)].tolist()) for ends in (before, after))
    return HFTokenizer(
        size=size,
        token_ids=token_ids,
        before=before,
        after=after,
        unknown=unknown,
        has_unknown=own_unknown is not None,
        form=_form(document, engine),
        _data=kept,
        _engine=engine,
        _ours=ours,
    )


def _document(data: bytes) -> JsonObject:
    """Return the JSON of a tokenizer, every part of it known."""
    if is_too_large(data, max_values=_MOST_VALUES):
        raise _refused("it is too large")
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _refused("it isn't JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise _refused("it has no `model`")
    if unknown := set(document) - _MEMBERS:
        raise _refused(f"`{min(unknown):.40}` isn't known here")
    document = {name: document.get(name) for name in _MEMBERS}
    # An old file doesn't say which model it has, and the library would guess.
    for part, allowed in _TYPES.items():
        if part != "model":
            _check_growth(document[part], part)
        _check_part(document[part], part, allowed)
    model = document["model"]
    if model.get("dropout"):
        raise _refused("it splits the same text differently each time (`dropout`)")
    if model["type"] == "WordPiece":
        longest = model.get("max_input_chars_per_word", 100)
        if not isinstance(longest, int) or longest > _LONGEST_WORD:
            raise _refused(f"it takes words apart of more than {_LONGEST_WORD} letters")
    if model["type"] == "BPE" and model.get("continuing_subword_prefix"):
        raise _refused("its tokens within words begin with a prefix, which isn't known here of BPE")
    _check_merges(model)
    return document


def _check_merges(model: JsonObject) -> None:
    """Refuse merges into tokens that aren't there: the library panics where one would be longer."""
    if "merges" not in model:
        return
    tokens, merges = model.get("vocab"), model["merges"]
    if not isinstance(tokens, dict) or not isinstance(merges, list):
        raise _refused("its merges aren't a list beside a vocabulary")
    for merge in merges:
        if isinstance(merge, str) and merge.startswith("#version"):
            continue
        match merge.split(" ") if isinstance(merge, str) else merge:
            case [str() as first, str() as second] if first + second in tokens:
                continue
        raise _refused(f"its merge {merge!s:.60} makes a token that it doesn't have")


def _check_added(engine: tokenizers.Tokenizer) -> None:
    """Refuse added tokens of which the normalizer leaves nothing: nothing is found for ever."""
    normalizer = engine.normalizer
    if normalizer is None:
        return
    for token in engine.get_added_tokens_decoder().values():
        if token.normalized and not normalizer.normalize_str(token.content):
            raise _refused(f"its normalizer leaves nothing of the token `{token.content:.40}`")


def _check_part(part: Json, name: str, allowed: set[str]) -> None:
    """Refuse a part, or one inside it, that isn't of a known type."""
    if part is None and name != "model":
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if str(kind) not in allowed:  # Any JSON may stand here.
        raise _refused(f"its `{name}` is of the type `{kind!s:.40}`, which isn't known here")
    pattern = part.get("pattern")
    if (
        isinstance(pattern, dict)
        and "Regex" in pattern
        and str(pattern["Regex"]) not in EXPRESSIONS
    ):
        raise _refused(f"its regular expression `{pattern['Regex']!s:.60}` isn't known here")
    if name == "decoder" and part.get("stop"):
        raise _refused("its `decoder` cuts letters off the ends of tokens, which may have none")
    if kind != "Sequence":
        return
    for key, inner in part.items():
        for item in inner if isinstance(inner, list) else [inner]:
            if item is None:
                raise _refused(f"its `{name}` holds nothing where a part should be")
            if key != "type":
                _check_part(item, name, allowed)


def _longest_replacement(charsmap: Json) -> int:
    """Return the bytes of the longest text that a table of characters puts in place of another.

    Raises:
        ModelFileError: it leads out of itself: the library would stop, or end us.
    """
    with contextlib.suppress(ValueError):
        longest = _longest_text(base64.b64decode(str(charsmap), validate=True))
        if longest is not None:
            return longest
    raise _refused("its `normalizer` has a table of characters that is broken")


def _longest_text(data: bytes) -> int | None:
    """Return the length of the longest text of a table of characters as sentencepiece has it.

    That is the size of a trie, the trie in a double array (Yata et al. 2007, as in darts-clone:
    blocks of 256 units, each an offset, a label and flags), and the texts that its leaves stand
    for, each ended by a NUL.

    Returns:
        The length in bytes; `None` where the bytes aren't such a table.

    Raises:
        ValueError: they are too few, or the texts aren't UTF-8.
    """
    size = int.from_bytes(data[:4], "little")
    if not size or size % 1024 or not data.endswith(b"\0"):
        return None
    units = np.frombuffer(data, "<u4", size // 4, offset=4).astype(np.int64)
    texts = np.frombuffer(data, np.uint8, offset=4 + size)
    data[4 + size :].decode()
    places = np.flatnonzero(units < 1 << 31)
    inner = units[places]
    following = places ^ ((inner >> 10) << ((inner >> 9 & 1) * 8))
    if following.max(initial=0) >= len(units):
        return None
    starts = units[following[inner >> 8 & 1 == 1]] & ~(1 << 31)
    # A text may be the end of another one, but doesn't begin within a character.
    if starts.max(initial=0) >= len(texts) or (texts[starts] & 0xC0 == 0x80).any():
        return None
    ends = np.flatnonzero(texts == 0)
    return int((ends[np.searchsorted(ends, starts)] - starts).max(initial=0))


def _check_growth(part: Json, name: str) -> None:
    """Refuse a part of many parts, or one that would make a text much longer: each may do so again.

    Of twelve that write ten letters for one, a text of a kilobyte becomes a petabyte.
    """
    parts: list[JsonObject] = []
    left = [part]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.values()
            parts += [item] if "type" in item else []
            if len(parts) > _MOST_PARTS:
                raise _refused(f"its `{name}` has more than {_MOST_PARTS} parts")
    growth = 1.0
    for item in parts:
        content = max((len(str(item.get(key, ""))) for key in ("content", "prepend")), default=0)
        if content > _LONGEST_CONTENT:
            raise _refused(f"its `{name}` puts {content:,} letters into a text")
        if item.get("type") == "Prepend" and not item.get("prepend"):
            raise _refused(f"its `{name}` puts nothing before a text, which the library can't do")
        pattern = item.get("pattern")
        if item.get("type") == "Replace" and isinstance(pattern, dict):
            written = str(pattern.get("String", "x"))
            if not written:
                raise _refused(f"its `{name}` replaces what is between letters")
            growth *= max(content / len(written), 1.0)
        if item.get("type") == "Precompiled":
            growth *= max(_longest_replacement(item.get("precompiled_charsmap")), 1)
    if growth > _LONGEST_CONTENT:
        raise _refused(f"its `{name}` makes a text {growth:,.0f} times as long")


def _frame(part: Json, numbers: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens before and after each text, as the part `post_processor` says."""
    if part is None:
        return (), ()
    try:
        match part["type"]:
            case "Sequence":
                before: tuple[int, ...] = ()
                after: tuple[int, ...] = ()
                for item in part["processors"]:
                    inner = _frame(item, numbers)
                    before, after = inner[0] + before, after + inner[1]
                return before, after
            case "BertProcessing" | "RobertaProcessing":
                return (int(part["cls"][1]),), (int(part["sep"][1]),)
            case "TemplateProcessing":
                return _template(part)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _refused("its `post_processor` isn't of the expected shape") from error
    return (), ()


def _template(part: Json) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ends: tuple[list[int], list[int]] = ([], [])
    texts = 0
    for piece in part["single"]:
        if "Sequence" in piece:
            texts += 1
        else:
            name = piece["SpecialToken"]["id"]
            ends[min(texts, 1)].extend(map(int, part["special_tokens"][name]["ids"]))
    if texts != 1:
        raise _refused("its `post_processor` doesn't hold the text once")
    return tuple(ends[0]), tuple(ends[1])


def unknown_of(model: JsonObject, numbers: dict[str, int]) -> int | None:
    """Return the id of the unknown token of a token model, where it has one."""
    if isinstance(number := model.get("unk_id"), int) and number >= 0:
        return number
    return numbers.get(str(model.get("unk_token")))


def _form(document: JsonObject, engine: tokenizers.Tokenizer) -> TokenForm:
    """Return how tokens represent bytes, by the parts that split a text."""
    kinds = {name for part in ("normalizer", "pre_tokenizer") for name in _kinds(document[part])}
    if "ByteLevel" in kinds:
        return "byte_level"
    with _guarded(_refused("the library `tokenizers` can't use it")):
        first = engine.encode("a", add_special_tokens=False).tokens[:1]
    return "metaspace" if first and first[0].startswith(_BLANK) else "plain"


def _kinds(part: Json) -> Iterator[str]:
    if isinstance(part, dict):
        yield str(part.get("type"))
        for inner in part.values():
            for item in inner if isinstance(inner, list) else [inner]:
                yield from _kinds(item)


@contextlib.contextmanager
def _guarded(refusal: DataError | ModelFileError) -> Iterator[None]:
    """Turn what the library raises into an error of ours; a panic in Rust isn't an `Exception`."""
    try:
        yield
    except ModelwrightError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise refusal from error
        raise


def _refused(why: str) -> ModelFileError:
    return ModelFileError(
        "this tokenizer can't be used", why=why[:1].upper() + why[1:] if why[0] != "`" else why
    )
