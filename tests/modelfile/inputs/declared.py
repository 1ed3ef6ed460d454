"""A declaration of each kind of input, for the tests of all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.ngrams import fit_ngrams
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer

TEXT = TextInput(
    train_tokenizer(["the cat sat on the mat", "a dog ran"], kind="word", size=50, lowercase=True),
    max_length=6,
)
NGRAMS = fit_ngrams(["the cat sat on the mat", "a dog ran"])
ASSETS = {**TEXT.assets(), **NGRAMS.assets()}
AUDIO = AudioInput(8000, 2.0)
IMAGE = ImageInput(8, 8, 1)
DECLARED: dict[str, dict[str, Any]] = {
    "image": IMAGE.to_json(),
    "arrays": {
        "kind": "arrays",
        "tensors": [
            {"name": "ids", "dtype": "int64", "shape": ["N", "T"]},
            {"name": "facts", "dtype": "float32", "shape": ["N", 3]},
        ],
    },
    "text": TEXT.to_json(),
    "prompt": replace(TEXT, kind="prompt").to_json(),
    "source": replace(TEXT, kind="source").to_json(),
    "audio": AUDIO.to_json(),
    "ngrams": NGRAMS.to_json(),
}
