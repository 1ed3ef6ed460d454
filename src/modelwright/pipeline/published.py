"""Which published network's features suit some data: photographs, and texts in English."""

from __future__ import annotations

import re
from itertools import islice

from modelwright.data import Prepared
from modelwright.data.store import StoredSplit
from modelwright.kinds import InputKind
from modelwright.recipe.model import LinearFeatures

_LEAST_SIDE = 64
"""Of smaller images a network that was trained on photographs at 224 pixels sees too little."""
_TEXTS = 500
"""From how many training texts the language is told."""
_ENGLISH_SHARE = 0.15
"""The least share of an English text's words that are function words; of other languages' texts
it is a few in a hundred."""
_FUNCTION_WORD = re.compile(
    r"a|about|and|are|as|at|be|but|by|can|did|do|does|for|from|had|has|have|he|how|i|if"
    r"|in|is|it|its|me|my|not|of|on|or|she|so|that|the|their|they|this|to|was|we|were"
    r"|what|when|where|which|who|why|will|with|would|you|your"
)
_WORD = re.compile(r"\w+")


def suitable_features(prepared: Prepared) -> LinearFeatures | None:
    """Return the published network whose features may describe the samples, if there is one.

    Images are suitable from 64 pixels a side on, and texts where they are in English.
    """
    if prepared.input_kind == InputKind.IMAGE:
        image = prepared.image
        return "efficientnet-lite0" if min(image.height, image.width) >= _LEAST_SIDE else None
    if prepared.input_kind == InputKind.TEXT:
        train = StoredSplit(prepared.store, prepared.rows["train"])
        texts = (text.decode("utf-8", "replace") for text in islice(train.originals(), _TEXTS))
        return "minilm" if is_english(" ".join(texts)) else None
    return None


def is_english(text: str) -> bool:
    """Say whether so many of a text's words are English function words that it is in English."""
    words = _WORD.findall(text.lower())
    known = sum(bool(_FUNCTION_WORD.fullmatch(word)) for word in words)
    return known > _ENGLISH_SHARE * max(1, len(words))
