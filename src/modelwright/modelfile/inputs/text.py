"""Texts that a network answers: strings, bytes in UTF-8, or paths of text files."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError
from modelwright.modelfile.inputs.reader import (
    Assets,
    Declared,
    Items,
    Sample,
    each,
    named,
    no_views,
    one_or_several,
    padded,
    read_plain,
)
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, Progress, silent
from modelwright.transforms.text import TextInput

MOST_TEXT_BYTES = 16 << 20
"""A longer text isn't read."""
Encode = Callable[[Sequence[str]], tuple[Sequence[NDArray[Any]], Sequence[int]]]
"""From texts to the ids that are read of each, and how many tokens it has uncut."""


@dataclass(frozen=True, slots=True)
class TextReader:
    """Texts as token ids, the end of longer ones cut off."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("tokens", "int64", ("N", "T")),
        TensorSpec("length", "int64", ("N",)),
    )
    view_choices: tuple[str, ...] = ("none",)

    @staticmethod
    def open(declared: Declared, assets: Assets) -> TextReader:
        """Return the reader of a declaration.

        Raises:
            ModelFileError: it isn't one of texts.
        """
        return TextReader(TextInput.from_json(dict(declared), dict(assets)))

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one text from several."""
        return one_or_several(inputs)

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Tokenize each text; what is longer than the model takes is cut off at the end."""
        return tokenize_each(
            items,
            self.spec.encode,
            most=self.spec.room,
            lost="its end is cut off",
            first=first,
            observe=observe,
        )

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put token ids together, padded with 0, with their lengths."""
        return padded("tokens", [sample.arrays["tokens"] for sample in samples], "int64")

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the batch: there is no other view."""
        return no_views(batch, views, kind="text")

    def synthetic(self, count: int) -> Arrays:
        """Return ids that never change, in rows of different lengths."""
        size = self.spec.tokenizer.size
        rows = [
            (np.arange(min(5 + 3 * row, self.spec.max_length)) * 7 + row * 13) % (size - 1) + 1
            for row in range(count)
        ]
        return padded("tokens", rows, "int64")


def tokenize_each(
    items: Sequence[Any],
    encode: Encode,
    *,
    most: int,
    lost: str,
    first: int,
    observe: Observe,
    may_be_empty: bool = False,
) -> list[Sample | DataError]:
    """Return the token ids of each item that is a text, and tell of those that are too long.

    Args:
        items: what was handed over.
        encode: the tokenizer.
        most: how many tokens are read of a text.
        lost: what becomes of the others, for the message.
        first: how many items were handed over before these, for messages.
        observe: called with a note for each text that is cut off.
        may_be_empty: whether a text of blanks is one.
    """
    texts = each(functools.partial(read_text, may_be_empty=may_be_empty), items, first)
    encoded = zip(*encode([text for text in texts if isinstance(text, str)]), strict=True)
    found: list[Sample | DataError] = []
    for number, (item, text) in enumerate(zip(items, texts, strict=True), first):
        if isinstance(text, DataError):
            found.append(text)
            continue
        ids, size = next(encoded)
        if size > most:
            note = f"the text has {size:,} tokens, and the model reads {most:,}: {lost}"
            observe(Progress("note", 0, 0, note=f"{named(item, number)}: {note}"))
        found.append(Sample({"tokens": ids}))
    return found


def read_text(item: Any, number: int, *, may_be_empty: bool = False) -> str:
    """Return the text of an item: a string, bytes, an open file, or the `Path` of one.

    Raises:
        DataError: it is none, or is empty or too long.
    """
    where = named(item, number)
    try:
        if isinstance(item, Path):
            item = read_plain(item, MOST_TEXT_BYTES)
        elif isinstance(item, io.BufferedIOBase):
            item = item.read(MOST_TEXT_BYTES + 1)
        if isinstance(item, bytes | bytearray):
            item = bytes(item).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            "this isn't UTF-8 text", where=where, why=f"Byte {error.start} is no character"
        ) from error
    if not isinstance(item, str):
        raise DataError(f"a {type(item).__name__} isn't a text", where=where)
    if len(item) > MOST_TEXT_BYTES:
        raise DataError(f"the text is longer than {MOST_TEXT_BYTES:,} characters", where=where)
    if not item.strip() and not may_be_empty:
        raise DataError("the text is empty", where=where)
    return item
