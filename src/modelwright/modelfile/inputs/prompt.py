"""Texts that a language model goes on from; one may be empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError
from modelwright.modelfile.inputs.reader import (
    Assets,
    Declared,
    Items,
    Sample,
    no_views,
    one_or_several,
    padded,
)
from modelwright.modelfile.inputs.text import TextReader, tokenize_each
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent
from modelwright.transforms.text import TextInput


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Texts as token ids, the beginning of longer ones left out."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (TensorSpec("tokens", "int64", ("N", "T")),)
    view_choices: tuple[str, ...] = ("none",)

    @staticmethod
    def open(declared: Declared, assets: Assets) -> PromptReader:
        """Return the reader of a declaration.

        Raises:
            ModelFileError: it isn't one of texts.
        """
        return PromptReader(TextInput.from_json(dict(declared), dict(assets)))

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one text from several."""
        return one_or_several(inputs)

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Tokenize each text; of what is longer than the model was trained on, the end is taken."""
        # Before a text stands the token that begins one, which also takes a place.
        max_length, places = self.spec.max_length, self.spec.places
        most = max_length if places is None else min(max_length, places - 1)

        def encode(texts: Sequence[str]) -> tuple[list[NDArray[Any]], list[int]]:
            rows = self.spec.tokenizer.encode(texts)
            return [ids[max(len(ids) - most, 0) :] for ids in rows], [len(ids) for ids in rows]

        return tokenize_each(
            items,
            encode,
            most=most,
            lost="its beginning is left out",
            first=first,
            observe=observe,
            may_be_empty=True,
        )

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put token ids together, padded with 0."""
        rows = [sample.arrays["tokens"] for sample in samples]
        return {"tokens": padded("tokens", rows, "int64")["tokens"]}

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the batch: there is no other view."""
        return no_views(batch, views, kind="prompt")

    def synthetic(self, count: int) -> Arrays:
        """Return ids that never change."""
        return {"tokens": TextReader(self.spec).synthetic(count)["tokens"]}
