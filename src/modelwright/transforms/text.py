"""The declaration of how a text becomes token ids: the same steps in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelFileError
from modelwright.files import digest, json_digest
from modelwright.transforms.tokenizing import Tokenizer

UNKNOWN = 1
"""The id of what the tokenizer doesn't know."""
BEGIN, END = 2, 3
"""The ids before and after a text that is written."""
TextKind = Literal["text", "prompt", "source"]
KINDS: tuple[TextKind, ...] = ("text", "prompt", "source")
TOKENIZER = "tokenizer.json"
"""The asset that holds the tokenizer."""


@dataclass(frozen=True, slots=True)
class TextInput:
    """How a text becomes token ids `[T]`: the tokenizer, and where long texts are cut."""

    tokenizer: Tokenizer
    longest: int
    """The most tokens; of longer texts the end is cut off."""
    kind: TextKind = "text"
    """What the network does with it: answers it, writes it on, or writes another from it."""

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as the model file holds it; the tokenizer is an asset beside."""
        return {
            "kind": self.kind,
            "longest": self.longest,
            "vocabulary": self.tokenizer.size,
            "tokenizer": digest(self.tokenizer.to_bytes()),
        }

    def assets(self) -> dict[str, bytes]:
        """Return what else the declaration needs, by name."""
        return {TOKENIZER: self.tokenizer.to_bytes()}

    @staticmethod
    def from_json(value: dict[str, Any], assets: dict[str, bytes]) -> TextInput:
        """Read what `to_json` and `assets` returned.

        Raises:
            ModelFileError: it isn't that.
        """
        longest, held, kind = value.get("longest"), assets.get(TOKENIZER), value.get("kind")
        if (
            set(value) != {"kind", "longest", "vocabulary", "tokenizer"}
            or held is None
            or kind not in KINDS
        ):
            raise ModelFileError("the text input that the file declares isn't known here")
        if type(longest) is not int or not 0 < longest <= 1 << 24:
            raise ModelFileError("the text input's `longest` isn't a length")
        if value["tokenizer"] != digest(held):
            raise ModelFileError("the tokenizer isn't the one that the file declares")
        tokenizer = Tokenizer.from_bytes(held)
        if value["vocabulary"] != tokenizer.size:
            raise ModelFileError("the tokenizer has another size than the file declares")
        return TextInput(tokenizer, longest, kind)

    def digest(self) -> str:
        """Return the digest by which derived views are kept."""
        return json_digest(self.to_json())

    def encode(self, texts: Sequence[str]) -> tuple[list[NDArray[np.int32]], int]:
        """Return each text's ids, at least one and at most `longest`, and how many were cut."""
        found, cut = [], 0
        for ids in self.tokenizer.encode(texts):
            cut += len(ids) > self.longest
            found.append(ids[: self.longest] if len(ids) else np.array([UNKNOWN], np.int32))
        return found, cut
