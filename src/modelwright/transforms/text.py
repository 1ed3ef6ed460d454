"""The declaration of how a text becomes token ids: the same steps in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from modelwright.errors import ModelFileError
from modelwright.files import JsonObject, digest, json_digest
from modelwright.kinds import InputKind
from modelwright.transforms.hf_tokenizer import HFTokenizer, TokenIdMap
from modelwright.transforms.tokenizing import Ids, Tokenizer

BEGIN, END = 2, 3
"""The ids that begin and end a generated text."""
TextKind = Literal["text", "prompt", "source"]
KINDS: tuple[TextKind, ...] = ("text", "prompt", "source")
TOKENIZER = "tokenizer.json"
"""The asset that holds the tokenizer."""


@dataclass(frozen=True, slots=True)
class TextInput:
    """How a text becomes token ids `[T]`: the tokenizer, and where long texts are cut."""

    input_kind: ClassVar[InputKind] = InputKind.TEXT

    tokenizer: Tokenizer | HFTokenizer
    max_length: int
    """The most tokens, with the special tokens around a text; longer texts are truncated."""
    kind: TextKind = "text"
    """How the network uses it: to classify (`text`), to continue (`prompt`), or as the
    source of another text (`source`)."""
    places: int | None = None
    """The most tokens of a prompt and its continuation, where the network limits them."""

    def to_json(self) -> JsonObject:
        """Return the declaration as the model file has it; the tokenizer is a separate asset."""
        declared: JsonObject = {
            "kind": self.kind,
            "max_length": self.max_length,
            "vocabulary": self.tokenizer.size,
            "tokenizer": digest(self.tokenizer.to_bytes()),
        }
        if isinstance(self.tokenizer, HFTokenizer):
            token_ids = self.tokenizer.token_ids
            declared["token_ids"] = None if token_ids is None else token_ids.to_json()
        if self.places is not None:
            declared["places"] = self.places
        return declared

    def assets(self) -> dict[str, bytes]:
        """Return the files that the declaration refers to, by name."""
        return {TOKENIZER: self.tokenizer.to_bytes()}

    @staticmethod
    def from_json(value: JsonObject, assets: dict[str, bytes]) -> TextInput:
        """Read what `to_json` and `assets` returned; anything else is a `ModelFileError`."""
        max_length, asset, kind = value.get("max_length"), assets.get(TOKENIZER), value.get("kind")
        if (
            set(value) - {"token_ids", "places"}
            != {"kind", "max_length", "vocabulary", "tokenizer"}
            or asset is None
            or kind not in KINDS
        ):
            raise ModelFileError("the text input that the file declares isn't known here")
        if type(max_length) is not int or not 0 < max_length <= 1 << 24:
            raise ModelFileError("the text input's `max_length` isn't a length")
        if value["tokenizer"] != digest(asset):
            raise ModelFileError("the tokenizer isn't the one that the file declares")
        tokenizer: Tokenizer | HFTokenizer
        if "token_ids" in value:
            tokenizer = HFTokenizer.from_bytes(asset, TokenIdMap.from_json(value["token_ids"]))
        else:
            tokenizer = Tokenizer.from_bytes(asset)
        if value["vocabulary"] != tokenizer.size:
            raise ModelFileError("the tokenizer has another size than the file declares")
        places = value.get("places")
        if places is not None and (type(places) is not int or not max_length <= places <= 1 << 24):
            raise ModelFileError("the text input's `places` aren't a length")
        text_input = TextInput(tokenizer, max_length, kind, places)
        if text_input.room < 1:
            raise ModelFileError("the text input's `max_length` leaves no room for a text")
        return text_input

    def digest(self) -> str:
        """Return the digest that names its cached views."""
        return json_digest(self.to_json())

    def encode(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        """Return the ids of each text, 1 to `max_length`, and how many it has before truncation."""
        encoded = self.tokenizer.encode(texts)
        return [self.framed(ids) for ids in encoded], [len(ids) for ids in encoded]

    @property
    def room(self) -> int:
        """The most tokens of a text itself."""
        return self.max_length - len(self.tokenizer.before) - len(self.tokenizer.after)

    def framed(self, ids: Ids) -> Ids:
        """Return a text's ids as the network is given them: truncated, between special tokens."""
        before, after = self.tokenizer.before, self.tokenizer.after
        whole = np.array([*before, *ids[: self.room].tolist(), *after], np.int32)
        return whole if len(whole) else np.array([self.tokenizer.unknown], np.int32)
