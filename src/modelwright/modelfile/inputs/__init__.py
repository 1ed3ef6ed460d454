"""Kinds of input: what a user hands over, and the arrays that a graph takes for it.

The only place in this package that knows what an image or a text is. A kind of input is one module
and one line of `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from modelwright.errors import ModelFileError
from modelwright.modelfile.inputs.arrays import ArraysReader
from modelwright.modelfile.inputs.audio import AudioReader
from modelwright.modelfile.inputs.image import ImageReader
from modelwright.modelfile.inputs.reader import (
    Assets,
    Declared,
    Reader,
    Sample,
    all_read,
    by_name,
    check_batch,
    read_batch,
)
from modelwright.modelfile.inputs.text import NgramReader, PromptReader, SourceReader, TextReader
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.ngrams import NgramInput
from modelwright.transforms.text import TextInput

__all__ = [
    "READERS",
    "PromptReader",
    "Reader",
    "Sample",
    "SourceReader",
    "all_read",
    "by_name",
    "check_batch",
    "open_input",
    "read_batch",
]

READERS: dict[str, Callable[[Declared, Assets], Reader]] = {
    "image": lambda declared, _: ImageReader(ImageInput.from_json(dict(declared))),
    "text": lambda declared, assets: TextReader(_text_input(declared, assets)),
    "prompt": lambda declared, assets: PromptReader(_text_input(declared, assets)),
    "source": lambda declared, assets: SourceReader(_text_input(declared, assets)),
    "ngrams": lambda declared, assets: NgramReader(
        NgramInput.from_json(dict(declared), dict(assets))
    ),
    "audio": lambda declared, _: AudioReader(AudioInput.from_json(dict(declared))),
    "arrays": lambda declared, _: ArraysReader(declared),
}
"""By the `kind` that a model file declares. `arrays` has no host steps."""


def _text_input(declared: Declared, assets: Assets) -> TextInput:
    return TextInput.from_json(dict(declared), dict(assets))


def open_input(declared: Declared, assets: Assets) -> Reader:
    """Return the reader of the input that a file declares, with the file's assets.

    Raises:
        ModelFileError: this version doesn't know the declaration.
    """
    name = declared.get("kind")
    if not isinstance(name, str) or name not in READERS:
        raise ModelFileError(
            f"inputs of the kind {name!r} aren't known to this version", fix="Update modelwright"
        )
    return READERS[name](declared, assets)
