"""Texts to classify, to continue or to generate from: strings, UTF-8 bytes, or paths of files."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.arrays import Ints
from modelwright.errors import DataError
from modelwright.modelfile.inputs.reader import (
    Reader,
    Sample,
    each,
    kind_of,
    named,
    padded,
    read_plain,
)
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, Progress, silent
from modelwright.transforms.ngrams import NgramInput
from modelwright.transforms.text import BEGIN, TextInput
from modelwright.transforms.tokenizing import Ids

MOST_TEXT_BYTES = 16 << 20
"""A longer text isn't read."""


class TextReader(Reader):
    """Texts as token ids; the end of longer ones is cut off."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("tokens", "int64", ("N", "T")),
        TensorSpec("length", "int64", ("N",)),
    )
    truncation_note = "its end is cut off"
    may_be_empty = False

    @property
    def max_tokens(self) -> int:
        """The most tokens that are read of a text itself."""
        return self.spec.room

    def encode(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        """Return the ids that are read of each text, and how many tokens it has untruncated."""
        return self.spec.encode(texts)

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Tokenize each text."""
        texts = each(functools.partial(read_text, may_be_empty=self.may_be_empty), items, first)
        encoded = zip(*self.encode([text for text in texts if isinstance(text, str)]), strict=True)
        results: list[Sample | DataError] = []
        for number, (item, text) in enumerate(zip(items, texts, strict=True), first):
            if isinstance(text, DataError):
                results.append(text)
                continue
            ids, size = next(encoded)
            if size > self.max_tokens:
                note = f"the text has {size:,} tokens, and the model reads {self.max_tokens:,}"
                note = f"{named(item, number)}: {note}: {self.truncation_note}"
                observe(Progress("note", 0, 0, note=note))
            results.append(Sample({"tokens": ids}))
        return results

    def describe(self) -> str:
        """Return in words what the network takes."""
        return "texts"

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put token ids together, padded with 0, with their lengths."""
        return padded("tokens", [sample.arrays["tokens"] for sample in samples], "int64")

    def synthetic(self, count: int) -> Arrays:
        """Return ids by integer arithmetic, in rows of different lengths."""
        size = self.spec.tokenizer.size
        rows = [
            (np.arange(min(5 + 3 * row, self.spec.max_length)) * 7 + row * 13) % (size - 1) + 1
            for row in range(count)
        ]
        return padded("tokens", rows, "int64")


class PromptReader(TextReader):
    """Texts that a language model continues, which may be empty; the end of longer ones is read."""

    tensors = (TensorSpec("tokens", "int64", ("N", "T")),)
    truncation_note = "its beginning is left out"
    may_be_empty = True

    @property
    def max_tokens(self) -> int:
        """The most tokens of a prompt; the token that begins a text also takes a place."""
        max_length, places = self.spec.max_length, self.spec.places
        return max_length if places is None else min(max_length, places - 1)

    def encode(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        """Return the last ids of each text, and how many tokens it has untruncated."""
        rows = self.spec.tokenizer.encode(texts)
        return [ids[max(len(ids) - self.max_tokens, 0) :] for ids in rows], [*map(len, rows)]

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put token ids together, padded with 0."""
        return {"tokens": super().collate(samples)["tokens"]}

    def synthetic(self, count: int) -> Arrays:
        """Return ids by integer arithmetic, in rows of different lengths."""
        return {"tokens": super().synthetic(count)["tokens"]}


class SourceReader(TextReader):
    """Texts from which others are generated; `target` is the generated text, as far as known."""

    tensors = (
        TensorSpec("source", "int64", ("N", "T")),
        TensorSpec("source_length", "int64", ("N",)),
        TensorSpec("target", "int64", ("N", "S")),
    )

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put token ids together, with their lengths and the token that begins a target."""
        return _source(super().collate(samples), np.zeros((len(samples), 0), np.int64))

    def synthetic(self, count: int) -> Arrays:
        """Return ids by integer arithmetic, with targets of up to four tokens."""
        texts = super().synthetic(count)
        return _source(texts, texts["tokens"][:, ::-1][:, :3])


class NgramReader(Reader):
    """Texts as the numbers and weights of their n-grams."""

    spec: NgramInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("ngrams", "int64", ("N", "T")),
        TensorSpec("weights", "float32", ("N", "T")),
    )

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Weigh the n-grams of each text."""
        texts = each(read_text, items, first)
        encoded = iter(self.spec.encode([text for text in texts if isinstance(text, str)]))
        return [
            text if isinstance(text, DataError) else Sample({"ngrams": next(encoded)})
            for text in texts
        ]

    def describe(self) -> str:
        """Return in words what the network takes."""
        return "texts"

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put n-grams together, padded with number 0 at weight 0."""
        rows = [sample.arrays["ngrams"] for sample in samples]
        return {
            "ngrams": padded("ngrams", [row["f0"] for row in rows], "int64")["ngrams"],
            "weights": padded("weights", [row["f1"] for row in rows], "float32")["weights"],
        }

    def synthetic(self, count: int) -> Arrays:
        """Return n-grams by integer arithmetic, in rows of different lengths and of length 1."""
        sizes = [min(5 + 3 * row, self.spec.size) for row in range(count)]
        numbers = [np.arange(size) * self.spec.size // size for size in sizes]
        weights = [np.full(size, 1 / size**0.5) for size in sizes]
        return {
            "ngrams": padded("ngrams", numbers, "int64")["ngrams"],
            "weights": padded("weights", weights, "float32")["weights"],
        }


def _source(texts: Arrays, targets: Ints) -> Arrays:
    begin = np.full((len(targets), 1), BEGIN, np.int64)
    return {
        "source": texts["tokens"],
        "source_length": texts["length"],
        "target": np.concatenate([begin, targets], axis=1),
    }


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
        raise DataError(f"{kind_of(item)} isn't a text", where=where)
    if len(item) > MOST_TEXT_BYTES:
        raise DataError(f"the text is longer than {MOST_TEXT_BYTES:,} characters", where=where)
    if not item.strip() and not may_be_empty:
        raise DataError("the text is empty", where=where)
    return item
