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
from modelwright.modelfile.inputs.prompt import PromptReader
from modelwright.modelfile.inputs.reader import (
    Assets,
    Declared,
    Items,
    Reader,
    Sample,
    all_read,
    by_name,
    check_batch,
    read_batch,
)
from modelwright.modelfile.inputs.source import SourceReader
from modelwright.modelfile.inputs.text import TextReader

__all__ = [
    "READERS",
    "ArraysReader",
    "Assets",
    "AudioReader",
    "Declared",
    "ImageReader",
    "Items",
    "PromptReader",
    "Reader",
    "Sample",
    "SourceReader",
    "TextReader",
    "all_read",
    "by_name",
    "check_batch",
    "open_input",
    "read_batch",
]

READERS: dict[str, Callable[[Declared, Assets], Reader]] = {
    "image": ImageReader.open,
    "text": TextReader.open,
    "prompt": PromptReader.open,
    "source": SourceReader.open,
    "audio": AudioReader.open,
    "arrays": ArraysReader.open,
}
"""By the `kind` that a model file declares. `arrays` has no host steps."""


def open_input(declared: Declared, assets: Assets) -> Reader:
    """Return what reads an input as a file declares it.

    Args:
        declared: the declaration, with its `kind`.
        assets: what else stands in the file for it, by name: the tokenizer.

    Raises:
        ModelFileError: this version doesn't know it.
    """
    name = declared.get("kind")
    if not isinstance(name, str) or name not in READERS:
        raise ModelFileError(
            f"inputs of the kind {name!r} aren't known to this version",
            fix="Update modelwright",
        )
    return READERS[name](declared, assets)
