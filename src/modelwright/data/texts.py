"""Texts: what the store keeps of them, and how they become tokens."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelwright.arrays import Array
from modelwright.data.adapters import Encoded, InputAdapter
from modelwright.data.listing import Listing
from modelwright.data.ragged import Joined, Ragged
from modelwright.data.store import Facts, Store, StoredSplit, short_digest
from modelwright.data.targets import TARGETS
from modelwright.data.views import ragged_view
from modelwright.errors import DataError
from modelwright.files import JsonObject
from modelwright.kinds import InputKind
from modelwright.recipe import Recipe
from modelwright.recipe.model import LinearModel
from modelwright.run import Observe
from modelwright.transforms.ngrams import MOST_NGRAMS, RECORD, NgramInput, fit_ngrams
from modelwright.transforms.scripts import are_unspaced
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import fold, train_tokenizer

_SAMPLE = 1000
"""So many training texts tell whether blanks stand between words."""
MOST_CHARACTERS = 4_000_000
"""A longer text is likelier a whole file than a sample."""


# -- the store -------------------------------------------------------------------------------


def _look(data: bytes, listing: Listing) -> JsonObject:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise DataError(f"it isn't UTF-8: byte {error.start} is 0x{byte:02x}") from error
    if not text.strip():
        raise DataError("it is empty")
    if "\0" in text:
        raise DataError("it holds a NUL byte, so it is no text")
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"it has {len(text):,} characters, more than {MOST_CHARACTERS:,}")
    # Texts are the same but for case and blanks.
    return {"content_digest": short_digest(fold(text).encode()), "characters": len(text)}


FACTS = Facts(columns=(("characters", pa.int64()),), look=_look, missing={"characters": 0})


# -- fitting ---------------------------------------------------------------------------------


MOST_LINEAR_WEIGHTS = 10_000_000
"""The most weights of a linear model, which take 240 bytes each while they are fitted; of many
labels fewer n-grams are kept."""


def fit_text_input(train: StoredSplit, recipe: Recipe) -> TextInput | NgramInput:
    """Return how texts become token ids: a tokenizer made from the training split.

    Source and target texts share one vocabulary. For a linear model texts become n-grams.
    """
    spec, kind = recipe.text, TARGETS[recipe.output_kind].text_kind
    generates = kind != "text"
    texts = (data.decode() for data in train.originals())
    if isinstance(recipe.model, LinearModel):
        labels_of = TARGETS[recipe.output_kind].labels_of
        labels = {label for target in set(train.strings("label")) for label in labels_of(target)}
        outputs = len(labels) if recipe.output_kind.has_classes else 1
        return fit_ngrams(texts, most=min(MOST_NGRAMS, MOST_LINEAR_WEIGHTS // max(outputs, 1)))
    targets = train.strings("label") if kind == "source" else []
    tokenizer_kind = spec.tokenizer
    if tokenizer_kind == "auto":
        sample = (data.decode() for data in islice(train.originals(), _SAMPLE))
        tokenizer_kind = "bpe" if generates or are_unspaced(sample) else "word"
    tokenizer = train_tokenizer(
        chain(texts, targets),
        kind=tokenizer_kind,
        size=(8_000 if generates else 30_000) if spec.vocab_size == "auto" else spec.vocab_size,
        lowercase=not generates if spec.lowercase == "auto" else spec.lowercase,
        min_count=spec.min_count,
    )
    return TextInput(tokenizer, spec.max_length, kind)


def _encode(store: Store, input: TextInput | NgramInput, observe: Observe) -> Encoded:
    if isinstance(input, NgramInput):
        return _encode_ngrams(store, input, observe)
    broken = store.errors()
    tokenizer = input.tokenizer
    is_framed = bool(tokenizer.before or tokenizer.after) and input.kind != "prompt"

    def tokens(rows: range) -> list[NDArray[np.int32]]:
        texts = ["" if row in broken else store.original(row).decode() for row in rows]
        encoded = tokenizer.encode(texts)
        return [_framed(ids, input) for ids in encoded] if is_framed else encoded

    # Whole texts are kept, so that another `max_length` takes no new view; those that end in a
    # token of their own are kept as they are cut.
    key = input.digest() if is_framed else input.to_json()["tokenizer"]
    values, lengths = ragged_view(store, key, tokens, dtype="int32", observe=observe)
    starts = np.cumsum(lengths) - lengths
    if input.kind == "prompt":  # Read stretch by stretch, to the end.
        return Encoded(input, Ragged("tokens", values, starts, lengths, as_dtype="int64"))
    ragged = Ragged(
        "tokens", values, starts, np.minimum(lengths, input.max_length), as_dtype="int64"
    )
    return Encoded(
        input, _never_empty(ragged, tokenizer.unknown), np.flatnonzero(lengths > input.max_length)
    )


def _encode_ngrams(store: Store, input: NgramInput, observe: Observe) -> Encoded:
    broken = store.errors()

    def ngrams(rows: range) -> list[Array]:
        return input.encode(["" if row in broken else store.original(row).decode() for row in rows])

    values, lengths = ragged_view(store, input.digest(), ngrams, dtype=RECORD, observe=observe)
    starts = np.cumsum(lengths) - lengths
    numbers = Ragged("ngrams", values["f0"], starts, lengths, length_name="", as_dtype="int64")
    weights = Ragged("weights", values["f1"], starts, lengths, length_name="")
    return Encoded(input, Joined((numbers, weights)))


def _framed(ids: NDArray[np.int32], input: TextInput) -> NDArray[np.int32]:
    """Return a text's ids between those that stand around it; one that was cut is a token longer.

    So its length in the view tells that it was cut, and that token isn't read.
    """
    whole = input.framed(ids)
    return np.append(whole, whole[-1]) if len(ids) > input.room else whole


def _never_empty(ragged: Ragged, unknown: int) -> Ragged:
    """Give rows without a token one unknown one, as serving does; framed texts are never empty."""
    empty = ragged.lengths == 0
    if not empty.any():
        return ragged
    values = np.concatenate([ragged.values, np.full(1, unknown, ragged.values.dtype)])
    starts = np.where(empty, len(values) - 1, ragged.starts)
    lengths = np.where(empty, 1, ragged.lengths)
    return replace(ragged, values=values, starts=starts, lengths=lengths)


TEXTS = InputAdapter(
    kind=InputKind.TEXT,
    suffixes=frozenset((".txt", ".text", ".md")),
    formats="`.txt`",
    facts=FACTS,
    fit=fit_text_input,
    encode=_encode,
    length_setting="text.max_length",
)
