"""From a store's originals to a network's inputs, one function a kind of sample.

What is fitted to data (a tokenizer, a sampling rate, the size of images, whether they are grey) is
fitted to the training split alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from modelwright.data.dataset import Inputs
from modelwright.data.ragged import Ragged
from modelwright.data.store import Store, pcm_of
from modelwright.data.views import derived_view, ragged_view
from modelwright.recipe.data import AudioSpec, TextSpec
from modelwright.run import Observe
from modelwright.tasks import Target
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import MAX_SECONDS, AudioInput, read_audio
from modelwright.transforms.text import TextInput, TextKind
from modelwright.transforms.tokenizing import train_tokenizer

Rows = NDArray[np.int64]
HIGHEST_AUTO_RATE = 16_000
"""`audio.sampling_rate: auto` takes no more: speech and most recordings are told apart by less."""
Input = ImageInput | TextInput | AudioInput


@dataclass(frozen=True, slots=True)
class Encoded:
    """The inputs of every row of a store."""

    input: Input
    inputs: Inputs
    cut: Rows
    """The rows of which the end was cut off."""


def encode(store: Store, input: Input, *, observe: Observe) -> Encoded:
    """Return every row's inputs, decoded or tokenized where that is new.

    Raises:
        ResourceError: the disk is full, or the cache can't be written.
    """
    match input:
        case ImageInput():
            return Encoded(input, derived_view(store, input, observe=observe), _NONE)
        case TextInput():
            return _encode_texts(store, input, observe=observe)
        case AudioInput():
            return _encode_audio(store, input, observe=observe)


_NONE: Rows = np.empty(0, dtype=np.int64)


def fit_text(spec: TextSpec, store: Store, train: Rows, target: Target = "label") -> TextInput:
    """Return how texts become token ids: a tokenizer made from the training split.

    Where texts are written from others, both are written in the same tokens.
    """
    writes = target in ("text", "next")
    wanted = store.strings("label") if target == "text" else []
    texts = chain(
        (store.original(row).decode() for row in train.tolist()),
        (wanted[row] for row in train.tolist() if wanted),
    )
    tokenizer = train_tokenizer(
        texts,
        kind=("bpe" if writes else "word") if spec.tokenizer == "auto" else spec.tokenizer,
        size=(8_000 if writes else 30_000) if spec.vocab_size == "auto" else spec.vocab_size,
        lowercase=not writes if spec.lowercase == "auto" else spec.lowercase,
        min_count=spec.min_count,
    )
    return TextInput(tokenizer, spec.max_length, _TEXT_KINDS.get(target, "text"))


_TEXT_KINDS: dict[Target, TextKind] = {"text": "source", "next": "prompt"}


def _encode_texts(store: Store, input: TextInput, *, observe: Observe) -> Encoded:
    broken = store.errors()
    tokenizer = input.tokenizer
    is_framed = bool(tokenizer.before or tokenizer.after) and input.kind != "prompt"

    def tokens(rows: range) -> list[NDArray[np.int32]]:
        texts = ["" if row in broken else store.original(row).decode() for row in rows]
        found = tokenizer.encode(texts)
        return [_framed(ids, input) for ids in found] if is_framed else found

    # Whole texts are kept, so that another `max_length` takes no new view; those that end in a token
    # of their own are kept as they are cut.
    key = input.digest() if is_framed else input.to_json()["tokenizer"]
    values, lengths = ragged_view(store, key, tokens, dtype="int32", observe=observe)
    starts = np.cumsum(lengths) - lengths
    if input.kind == "prompt":  # Read stretch by stretch, to the end.
        return Encoded(input, Ragged("tokens", values, starts, lengths, as_dtype="int64"), _NONE)
    ragged = Ragged(
        "tokens", values, starts, np.minimum(lengths, input.max_length), as_dtype="int64"
    )
    return Encoded(
        input, _never_empty(ragged, tokenizer.unknown), np.flatnonzero(lengths > input.max_length)
    )


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
    return Ragged(ragged.name, values, starts, lengths, as_dtype=ragged.as_dtype)


def fit_audio(spec: AudioSpec, store: Store, train: Rows) -> AudioInput:
    """Return how recordings become samples: the training split's commonest rate, where it is `auto`."""
    if spec.sampling_rate != "auto":
        return AudioInput(spec.sampling_rate, spec.max_seconds)
    rates = Counter(store.numbers("sampling_rate")[train].tolist())
    commonest = int(rates.most_common(1)[0][0])
    return AudioInput(min(commonest, HIGHEST_AUTO_RATE), spec.max_seconds)


def _encode_audio(store: Store, input: AudioInput, *, observe: Observe) -> Encoded:
    broken = store.errors()
    whole = AudioInput(input.sampling_rate, MAX_SECONDS)

    def samples(rows: range) -> list[NDArray[np.int16]]:
        return [
            np.zeros(1, np.int16)
            if row in broken
            else read_audio(
                pcm_of(store.original(row), store.sampling_rate), whole, rate=store.sampling_rate
            )
            for row in rows
        ]

    values, lengths = ragged_view(store, whole.digest(), samples, dtype="int16", observe=observe)
    starts = np.cumsum(lengths) - lengths
    # Rounded up to a quarter of a second, so that few shapes occur.
    ragged = Ragged(
        "samples",
        values,
        starts,
        np.minimum(lengths, input.max_length),
        multiple=max(input.sampling_rate // 4, 1),
    )
    return Encoded(input, ragged, np.flatnonzero(lengths > input.max_length))
