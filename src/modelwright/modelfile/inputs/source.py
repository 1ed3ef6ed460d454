"""Texts from which others are written; `target` is what is written, where that is known."""

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
)
from modelwright.modelfile.inputs.text import TextReader
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent
from modelwright.transforms.text import BEGIN, TextInput


@dataclass(frozen=True, slots=True)
class SourceReader:
    """Texts as token ids, the end of longer ones cut off, and the token that begins an answer."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("source", "int64", ("N", "T")),
        TensorSpec("source_length", "int64", ("N",)),
        TensorSpec("target", "int64", ("N", "S")),
    )
    view_choices: tuple[str, ...] = ("none",)

    @staticmethod
    def open(declared: Declared, assets: Assets) -> SourceReader:
        """Return the reader of a declaration.

        Raises:
            ModelFileError: it isn't one of texts.
        """
        return SourceReader(TextInput.from_json(dict(declared), dict(assets)))

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one text from several."""
        return one_or_several(inputs)

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Tokenize each text; what is longer than the model takes is cut off at the end."""
        return TextReader(self.spec).read_each(items, first=first, observe=observe)

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put token ids together, padded with 0, with their lengths and begun answers."""
        found = TextReader(self.spec).collate(samples)
        begins = np.full((len(samples), 1), BEGIN, np.int64)
        return {"source": found["tokens"], "source_length": found["length"], "target": begins}

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the batch: there is no other view."""
        return no_views(batch, views, kind="source")

    def synthetic(self, count: int) -> Arrays:
        """Return ids that never change, in rows of different lengths."""
        found = TextReader(self.spec).synthetic(count)
        begins = np.full((count, 1), BEGIN, np.int64)
        target = np.concatenate([begins, found["tokens"][:, ::-1][:, :3]], axis=1)
        return {
            "source": found["tokens"],
            "source_length": found["length"],
            "target": np.ascontiguousarray(target),
        }
