"""Targets that are texts: transcripts, generated texts, and the next tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelwright.data.adapters import (
    TargetAdapter,
    TargetRequest,
    Targets,
    Windows,
)
from modelwright.data.documents import WHOLE
from modelwright.data.findings import Finding
from modelwright.data.listing import Rows
from modelwright.data.ragged import Joined, Ragged
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import BEGIN, END, TextInput


def _one_a_token(labels: tuple[str, ...], input: Input) -> int:
    assert isinstance(input, TextInput)
    return input.tokenizer.size


# -- transcripts -----------------------------------------------------------------------------


def normalize_transcript(text: str) -> str:
    """Return a transcript in lower case, with one space between words."""
    return " ".join(text.casefold().split())


def fit_characters(train: Iterable[str]) -> tuple[str, ...]:
    """Return the characters of the training transcripts, sorted."""
    return tuple(sorted({character for text in train for character in normalize_transcript(text)}))


def character_targets(stored: Sequence[str], characters: Sequence[str]) -> tuple[Ragged, int]:
    """Return each row's characters as ids 1…K−1 with their `count`, and how many are unknown.

    An unknown character has the id K, which no output stands for, so it counts as an error.
    """
    ids = {character: number for number, character in enumerate(characters, start=1)}
    rows, unknown = [], 0
    for text in stored:
        row = [ids.get(item, len(characters) + 1) for item in normalize_transcript(text)]
        unknown += row.count(len(characters) + 1)
        rows.append(np.array(row, dtype=np.int64))
    return Ragged.of("characters", rows, "int64", length_name="count"), unknown


def _build_transcripts(request: TargetRequest) -> Targets:
    characters = fit_characters(request.train) if request.known is None else request.known
    values, unknown = character_targets(request.stored, characters)
    finding = Finding(
        kind="unknown_characters",
        severity="warning",
        message=f"{unknown:,} characters occur in no training text; each counts as an error",
    )
    inputs = request.encoded.inputs
    return Targets(characters, values, inputs, findings=(finding,) if unknown else ())


CTC = TargetAdapter(
    build=_build_transcripts,
    num_outputs=lambda labels, input: len(labels) + 1,  # The blank.
    describe=lambda labels, train, num_outputs: {"characters": "".join(labels)},
    missing="its text is empty",
)


# -- texts from texts ------------------------------------------------------------------------


def text_targets(
    source: Ragged, stored: Sequence[str], input: TextInput
) -> tuple[Joined, Ragged, Rows]:
    """Return the inputs and targets of a seq2seq network, and the rows that are truncated.

    The inputs are the source and, in training, the target text after the id that begins a text; the
    targets are each next token, the last being the id that ends a text.
    """
    ids = input.tokenizer.encode(list(stored))
    # The decoder of a pretrained network generates what its tokenizer puts before a text, too.
    begins = [BEGIN, *input.tokenizer.before]
    room = input.max_length + 1 - len(begins)
    cut = np.array([row for row, item in enumerate(ids) if len(item) > room], np.int64)
    ends = [np.array(begins, np.int64), np.array([END], np.int64)]
    whole = [np.concatenate([ends[0], item[:room], ends[1]]) for item in ids]
    text = Ragged.of("target", whole, "int64", length_name="")
    decoder_input = replace(text, lengths=text.lengths - 1)
    following = replace(decoder_input, name="next", starts=text.starts + 1)
    source = replace(source, name="source", length_name="source_length")
    return Joined((source, decoder_input)), following, cut


def _build_texts(request: TargetRequest) -> Targets:
    inputs, input = request.encoded.inputs, request.encoded.input
    assert isinstance(inputs, Ragged)
    assert isinstance(input, TextInput)
    joined, following, cut = text_targets(inputs, request.stored, input)
    return Targets((), following, joined, findings=tuple(_cut(cut, request.splits)))


def _cut(cut: Rows, splits: Mapping[str, Rows]) -> Iterator[Finding]:
    for name, rows in splits.items():
        count = len(np.intersect1d(cut, rows))
        if count:
            yield Finding(
                kind="cut_target",
                severity="warning",
                message=f"{count:,} of {len(rows):,} target texts of the {name} split are longer "
                "than `text.max_length` allows, and are truncated",
                fix="Raise `text.max_length`",
            )


SEQ2SEQ = TargetAdapter(
    build=_build_texts,
    num_outputs=_one_a_token,
    describe=lambda labels, train, num_outputs: {"vocabulary": num_outputs},
    missing="its target is empty",
    text_kind="source",
)


# -- the next tokens -------------------------------------------------------------------------


def next_targets(
    tokens: Ragged, stored: Sequence[str], input: TextInput
) -> tuple[Ragged, Joined, Windows]:
    """Return windows of the texts, the next token of each of their tokens, and the rows of each.

    Each text is put between the ids that begin and end a text; a passage that isn't the last of
    its text gets no end. A window has `input.max_length` tokens, the last of a text the rest.
    """
    parts = []
    for at, (start, length) in enumerate(zip(tokens.starts, tokens.lengths, strict=True)):
        own = tokens.values[start : start + length]
        end = [END] if stored[at] == WHOLE else []
        parts.append(np.concatenate([[BEGIN], own, end]).astype(np.int64))
    values = np.concatenate([*parts, np.empty(0, np.int64)])
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    begins = np.cumsum(sizes) - sizes
    counts = np.maximum(-(-(sizes - 1) // input.max_length), 1)
    first = np.cumsum(counts) - counts
    inside = np.arange(int(counts.sum())) - np.repeat(first, counts)
    starts = np.repeat(begins, counts) + inside * input.max_length
    left = np.repeat(begins + sizes - 1, counts) - starts
    lengths = np.minimum(left, input.max_length)
    windows = Ragged("tokens", values, starts, lengths, length_name="")
    following = replace(windows, name="next", starts=starts + 1)
    widths = _bytes_of(input)[values]
    if isinstance(input.tokenizer, HFTokenizer) and input.tokenizer.form == "metaspace":
        firsts = (begins + 1)[tokens.lengths > 0]
        widths[firsts] = np.maximum(widths[firsts] - 1, 0)
    sized = Ragged("bytes", widths, starts + 1, lengths, length_name="")
    return (
        windows,
        Joined((following, sized)),
        Windows(first, counts, np.repeat(_texts(stored), counts)),
    )


def _texts(stored: Sequence[str]) -> Rows:
    """Return a number for each row, the same for the passages of one text, of which one ends it."""
    ends = np.array([label == WHOLE for label in stored], dtype=np.int64)
    return np.cumsum(ends) - ends


def _bytes_of(input: TextInput) -> NDArray[np.int16]:
    """Return how many bytes of text each token represents; 1 for the unknown."""
    tokenizer = input.tokenizer
    if isinstance(tokenizer, HFTokenizer):
        return tokenizer.widths()
    sizes = np.ones(tokenizer.size, dtype=np.int16)
    sizes[[0, BEGIN, END]] = 0
    for number in range(END + 1, tokenizer.size):
        token = tokenizer.token(number)
        # `bpe` represents each byte as one character; the others hold their text.
        sizes[number] = len(token) if tokenizer.kind == "bpe" else len(token.encode())
    return sizes


def _build_next(request: TargetRequest) -> Targets:
    inputs, input = request.encoded.inputs, request.encoded.input
    assert isinstance(inputs, Ragged)
    assert isinstance(input, TextInput)
    tokens, following, windows = next_targets(inputs, request.stored, input)
    return Targets((), following, tokens, windows)


CAUSAL_LM = TargetAdapter(
    build=_build_next,
    num_outputs=_one_a_token,
    describe=lambda labels, train, num_outputs: {"vocabulary": num_outputs},
    columns=lambda spec: (),
    read=lambda cells: ([WHOLE] * cells.count, ()),
    text_kind="prompt",
)
