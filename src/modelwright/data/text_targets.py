"""Targets that are texts: spoken letters, texts that are written from others, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelwright.data.adapters import (
    Rows,
    TargetAdapter,
    TargetRequest,
    Targets,
    Windows,
)
from modelwright.data.documents import WHOLE
from modelwright.data.findings import Finding
from modelwright.data.ragged import Joined, Ragged
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import BEGIN, END, TextInput


def _one_a_token(labels: tuple[str, ...], input: Input) -> int:
    assert isinstance(input, TextInput)
    return input.tokenizer.size


# -- letters ---------------------------------------------------------------------------------


def spoken(text: str) -> str:
    """Return a text as it is learnt by ear: without case, and with one blank between words."""
    return " ".join(text.casefold().split())


def fit_letters(train: Iterable[str]) -> tuple[str, ...]:
    """Return the letters that the training texts are written in, in order."""
    return tuple(sorted({letter for text in train for letter in spoken(text)}))


def letter_targets(held: Sequence[str], letters: Sequence[str]) -> tuple[Ragged, int]:
    """Return each row's letters as 1…K−1, with their `count`; and how many aren't known.

    What isn't known is K, which no network answers: it counts as an error.
    """
    numbers = {letter: number for number, letter in enumerate(letters, start=1)}
    rows, unknown = [], 0
    for text in held:
        found = [numbers.get(letter, len(letters) + 1) for letter in spoken(text)]
        unknown += found.count(len(letters) + 1)
        rows.append(np.array(found, dtype=np.int64))
    return Ragged.of("letters", rows, "int64", length_name="count"), unknown


def _build_letters(request: TargetRequest) -> Targets:
    letters = fit_letters(request.train) if request.known is None else request.known
    spelled, unknown = letter_targets(request.held, letters)
    found = Finding(
        kind="unknown_letters",
        severity="warning",
        message=f"{unknown:,} letters occur in no training text; each counts as an error",
    )
    inputs = request.encoded.inputs
    return Targets(letters, spelled, inputs, findings=(found,) if unknown else ())


LETTERS = TargetAdapter(
    build=_build_letters,
    num_outputs=lambda labels, input: len(labels) + 1,  # The blank.
    describe=lambda labels, train, num_outputs: {"letters": "".join(labels)},
    missing="its text is empty",
)


# -- texts from texts ------------------------------------------------------------------------


def text_targets(
    source: Ragged, held: Sequence[str], input: TextInput
) -> tuple[Joined, Ragged, Rows]:
    """Return what a network that writes is given and asked, and the rows whose ends are cut off.

    It is given the source and, in training, the wanted text behind the id that begins one; asked is
    each next token, at last the id that ends one.
    """
    ids = input.tokenizer.encode(list(held))
    # What a tokenizer from elsewhere puts before a text, its network writes too.
    begins = [BEGIN, *input.tokenizer.before]
    room = input.max_length + 1 - len(begins)
    cut = np.array([row for row, item in enumerate(ids) if len(item) > room], np.int64)
    ends = [np.array(begins, np.int64), np.array([END], np.int64)]
    whole = [np.concatenate([ends[0], item[:room], ends[1]]) for item in ids]
    text = Ragged.of("target", whole, "int64", length_name="")
    given = replace(text, lengths=text.lengths - 1)
    asked = replace(given, name="next", starts=text.starts + 1)
    source = replace(source, name="source", length_name="source_length")
    return Joined((source, given)), asked, cut


def _build_texts(request: TargetRequest) -> Targets:
    inputs, input = request.encoded.inputs, request.encoded.input
    assert isinstance(inputs, Ragged)
    assert isinstance(input, TextInput)
    given, asked, cut = text_targets(inputs, request.held, input)
    return Targets((), asked, given, findings=tuple(_cut(cut, request.splits)))


def _cut(cut: Rows, splits: Mapping[str, Rows]) -> Iterator[Finding]:
    for name, rows in splits.items():
        count = len(np.intersect1d(cut, rows))
        if count:
            yield Finding(
                kind="cut_target",
                severity="warning",
                message=f"{count:,} of {len(rows):,} texts wanted of the {name} split are longer "
                "than `text.max_length` allows, and their ends are cut off",
                fix="Raise `text.max_length`",
            )


SEQ2SEQ = TargetAdapter(
    build=_build_texts,
    num_outputs=_one_a_token,
    describe=lambda labels, train, num_outputs: {"vocabulary": num_outputs},
    missing="its target is empty",
    text_kind="source",
)


# -- what follows ----------------------------------------------------------------------------


def next_targets(
    tokens: Ragged, held: Sequence[str], input: TextInput
) -> tuple[Ragged, Joined, Windows]:
    """Return stretches of texts, what follows each of their tokens, and which rows have which.

    A text begins with the id that begins one, and where it is whole it ends with that which ends
    one. A stretch has `input.max_length` tokens, the last of a text what is left.
    """
    parts = []
    for at, (start, length) in enumerate(zip(tokens.starts, tokens.lengths, strict=True)):
        own = tokens.values[start : start + length]
        end = [END] if held[at] == WHOLE else []
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
    given = Ragged("tokens", values, starts, lengths, length_name="")
    asked = replace(given, name="next", starts=starts + 1)
    widths = _bytes_of(input)[values]
    if isinstance(input.tokenizer, HFTokenizer) and input.tokenizer.spells == "after a blank":
        firsts = (begins + 1)[tokens.lengths > 0]
        widths[firsts] = np.maximum(widths[firsts] - 1, 0)
    sized = Ragged("bytes", widths, starts + 1, lengths, length_name="")
    return given, Joined((asked, sized)), Windows(first, counts, np.repeat(_texts(held), counts))


def _texts(held: Sequence[str]) -> Rows:
    """Return a number for each row, the same for the passages of one text, of which one ends it."""
    ends = np.array([label == WHOLE for label in held], dtype=np.int64)
    return np.cumsum(ends) - ends


def _bytes_of(input: TextInput) -> NDArray[np.int16]:
    """Return how many bytes of a text each token stands for; of what is unknown one."""
    tokenizer = input.tokenizer
    if isinstance(tokenizer, HFTokenizer):
        return tokenizer.widths()
    sizes = np.ones(tokenizer.size, dtype=np.int16)
    sizes[[0, BEGIN, END]] = 0
    for number in range(END + 1, tokenizer.size):
        token = tokenizer.token(number)
        # `bpe` writes each byte as one letter; the others write their text.
        sizes[number] = len(token) if tokenizer.kind == "bpe" else len(token.encode())
    return sizes


def _build_next(request: TargetRequest) -> Targets:
    inputs, input = request.encoded.inputs, request.encoded.input
    assert isinstance(inputs, Ragged)
    assert isinstance(input, TextInput)
    stretches, follow, windows = next_targets(inputs, request.held, input)
    return Targets((), follow, stretches, windows)


CAUSAL_LM = TargetAdapter(
    build=_build_next,
    num_outputs=_one_a_token,
    describe=lambda labels, train, num_outputs: {"vocabulary": num_outputs},
    columns=lambda spec: (),
    read=lambda cells: ([WHOLE] * cells.count, ()),
    text_kind="prompt",
)
