"""Kinds of input: what a user hands over, and the arrays that a graph takes for it.

The only place in this room that knows what an image or a text is. A new kind is one entry of
`READERS`.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelwright.errors import DataError, ModelFileError, ModelwrightError
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, Progress, silent
from modelwright.transforms import ImageInput, decode_sized, read_image, speed_views, view_batches
from modelwright.transforms.audio import AudioInput, read_audio
from modelwright.transforms.text import BEGIN, TextInput

_LARGEST_SIDE = 1 << 16
Declared = Mapping[str, Any]
"""The input as `model/spec.json` declares it."""


@dataclass(frozen=True, slots=True)
class Items:
    """What a user handed over, taken apart."""

    items: Sequence[Any]
    is_one: bool
    """One input, whose answer is one; else several, whose answer is a list."""


def one_or_several(inputs: Any) -> Items:
    """Return the inputs of a list or tuple; of anything else, that it is one."""
    if isinstance(inputs, list | tuple):
        return Items(inputs, is_one=False)
    return Items([inputs], is_one=True)


class Reader(Protocol):
    """One kind of input, as a file declares it: from what a user hands over to a graph's arrays."""

    @property
    def view_choices(self) -> tuple[str | int, ...]:
        """The test-time views that it has."""

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """What the network takes."""

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one input from several."""

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Turn items into one batch: the host steps.

        Args:
            items: what was handed over.
            first: how many were handed over before these, for messages.
            observe: told of each that is longer than what is taken of it.
        """

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Make the test-time views of a batch, with their weights."""

    def synthetic(self, count: int) -> Arrays:
        """Make samples that are nobody's data."""


def open_input(declared: Declared, assets: Mapping[str, bytes]) -> Reader:
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


def by_name(
    given: NDArray[Any] | Mapping[str, NDArray[Any]], tensors: Sequence[TensorSpec]
) -> Arrays:
    """Return arrays by the names of a graph's inputs: given so, as records, or as the only one."""
    if isinstance(given, Mapping):
        return {name: np.asarray(array) for name, array in given.items()}
    array = np.asarray(given)
    if array.dtype.names is None:
        return {tensors[0].name: array}
    return {name: np.ascontiguousarray(array[name]) for name in array.dtype.names}


def check_batch(arrays: Mapping[str, NDArray[Any]], tensors: Sequence[TensorSpec]) -> int:
    """Return N of a batch that a graph is about to take.

    Raises:
        DataError: a name, a kind of number or a shape isn't what the graph takes.
    """
    wanted = ", ".join(str(tensor) for tensor in tensors)
    if set(arrays) != {tensor.name for tensor in tensors}:
        raise DataError(f"the model takes {wanted}; got {', '.join(sorted(map(str, arrays)))}")
    free: dict[str, int] = {}
    for tensor in tensors:
        array = arrays[tensor.name]
        fits = array.dtype.name == tensor.dtype and array.ndim == len(tensor.shape)
        for size, expected in zip(array.shape, tensor.shape, strict=False):
            known = free.setdefault(expected, size) if isinstance(expected, str) else expected
            fits = fits and size == known
        if not fits:
            got = f"{array.dtype.name} [{', '.join(map(str, array.shape))}]"
            raise DataError(f"the model takes {wanted}; got {got}")
    return len(arrays[tensors[0].name])


def image_input(declared: Declared) -> ImageInput:
    """Return the declaration of an image input.

    Raises:
        ModelFileError: it isn't one.
    """
    values = dict(declared)
    if values.get("kind") != "image":
        raise ModelFileError(f"the model doesn't take images, but {values.get('kind')!r:.40}")
    sizes = [values.get(key) for key in ("height", "width", "channels", "background")]
    is_known = (
        set(values) == {"kind", *(item.name for item in fields(ImageInput))}
        and all(type(size) is int for size in sizes)
        and 0 < values["height"] <= _LARGEST_SIDE
        and 0 < values["width"] <= _LARGEST_SIDE
        and values["channels"] in (1, 3)
        and 0 <= values["background"] <= 255
        and values["resize"] in ("stretch", "shorter", "letterbox")
        and values["interpolation"] in ("nearest", "bilinear", "bicubic", "lanczos")
    )
    if not is_known:
        raise ModelFileError(
            "the image input that the file declares isn't known to this version",
            fix="Update modelwright",
        )
    return ImageInput.from_json(values)


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Images: paths, image files' bytes, PIL images, or pixels."""

    spec: ImageInput
    view_choices: tuple[str | int, ...] = ("none", "flip", 6)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Pixels of a fixed size."""
        spec = self.spec
        return (TensorSpec("pixels", "uint8", ("N", spec.height, spec.width, spec.channels)),)

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one image from several."""
        if isinstance(inputs, np.ndarray) and inputs.ndim == 4:
            return Items(cast("Sequence[Any]", inputs), is_one=False)
        return one_or_several(inputs)

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Decode images."""
        return self.read_sized(items, first=first)[0]

    def read_sized(
        self, items: Sequence[Any], *, first: int = 0
    ) -> tuple[Arrays, list[tuple[int, int]]]:
        """Decode images, and return the width and height of each beside them."""
        size = (self.spec.height, self.spec.width, self.spec.channels)
        if isinstance(items, np.ndarray) and items.dtype == np.uint8 and items.shape[1:] == size:
            # Decoded before.
            return {"pixels": items}, [(self.spec.width, self.spec.height)] * len(items)
        pixels, sizes = np.empty((len(items), *size), dtype=np.uint8), []
        for number, item in enumerate(items):
            pixels[number], sides = _read_image(item, self.spec, first + number)
            sizes.append(sides)
        return {"pixels": pixels}, sizes

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Mirror and shift."""
        if views == "none":
            return [batch], np.ones(1, np.float32)
        pixels, weights = view_batches(batch["pixels"], views)
        return [{"pixels": view} for view in pixels], weights.astype(np.float32)

    def synthetic(self, count: int) -> Arrays:
        """Return colour slopes and noise, by integer arithmetic that never changes."""
        height, width, channels = self.spec.height, self.spec.width, self.spec.channels
        n, y, x, c = np.ogrid[:count, :height, :width, :channels]
        down, across = 255 * y // max(1, height - 1), 255 * x // max(1, width - 1)
        slope = (down * (n + 1) + across * (c + 1)) % 256
        place = ((n * height + y) * width + x) * channels + c
        noise = (place * 2654435761 % 2**32 * 2246822519 % 2**32) >> 24
        return {"pixels": np.where(n % 2 == 0, slope, noise).astype(np.uint8)}


def _read_image(
    item: Any, spec: ImageInput, number: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    is_file = isinstance(item, str | os.PathLike)
    where = os.fspath(item) if is_file else f"input {number + 1}"
    try:
        if isinstance(item, bytearray | memoryview):
            item = bytes(item)
        elif isinstance(item, io.BufferedIOBase):
            item = read_image(item)  # type: ignore[arg-type]
        if not isinstance(item, bytes | np.ndarray | Image.Image) and not is_file:
            raise DataError(
                f"a {type(item).__name__} isn't an image",
                fix="Give a path, an image file's bytes, a PIL image or an array of pixels",
            )
        return decode_sized(Path(where) if is_file else item, spec)
    except ModelwrightError as error:
        error.at(where)
        raise
    except ValueError as error:
        raise DataError(f"can't be read ({error})", where=repr(where)) from error


def _declared_tensors(declared: Declared) -> tuple[TensorSpec, ...]:
    found = declared.get("tensors")
    listed = found if isinstance(found, list) else []
    tensors = tuple(TensorSpec.from_json(item) for item in listed)
    if not tensors:
        raise ModelFileError("an input of the kind `arrays` declares its `tensors`")
    return tensors


@dataclass(frozen=True, slots=True)
class ArraysReader:
    """Arrays that the caller has prepared: there are no host steps."""

    tensors: tuple[TensorSpec, ...]
    view_choices: tuple[str | int, ...] = ("none",)

    def split_inputs(self, inputs: Any) -> Items:
        """Take apart one batch, or one sample without N."""
        tensors = self.tensors
        if not isinstance(inputs, Mapping):
            if len(tensors) != 1:
                names = ", ".join(tensor.name for tensor in tensors)
                raise DataError(f"the model takes several inputs; give them by name: {names}")
            inputs = {tensors[0].name: inputs}
        arrays = {str(name): np.asarray(array) for name, array in inputs.items()}
        first = arrays.get(tensors[0].name)
        is_one = first is not None and first.ndim == len(tensors[0].shape) - 1
        if is_one:
            arrays = {name: array[None] for name, array in arrays.items()}
        count = check_batch(arrays, tensors)
        rows = [{name: array[row] for name, array in arrays.items()} for row in range(count)]
        return Items(rows, is_one=is_one)

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Put samples together."""
        return {
            tensor.name: np.stack([item[tensor.name] for item in items]) for tensor in self.tensors
        }

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the batch: there is no other view."""
        return no_views(batch, views, kind="arrays")

    def synthetic(self, count: int) -> Arrays:
        """Return small whole numbers, 0 and 1 in turn: legal as numbers and as places in tables."""
        arrays = {}
        for tensor in self.tensors:
            sizes = [size if isinstance(size, int) else 4 for size in tensor.shape[1:]]
            places = np.arange(count * math.prod(sizes)).reshape(count, *sizes)
            arrays[tensor.name] = (places * 7 // 3 % 2).astype(tensor.dtype)
        return arrays


def no_views(
    batch: Arrays, views: str | int, *, kind: str
) -> tuple[list[Arrays], NDArray[np.float32]]:
    """Return a batch as its only view.

    Raises:
        ModelFileError: another one is asked for.
    """
    if views != "none":
        raise ModelFileError(f"inputs of the kind `{kind}` have no views {views!r}")
    return [batch], np.ones(1, np.float32)


@dataclass(frozen=True, slots=True)
class TextReader:
    """Texts, or paths of text files."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("tokens", "int64", ("N", "T")),
        TensorSpec("length", "int64", ("N",)),
    )
    view_choices: tuple[str | int, ...] = ("none",)

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one text from several."""
        return one_or_several(inputs)

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Tokenize texts; what is longer than the model takes is cut off at the end."""
        texts = [_read_text(item, number) for number, item in enumerate(items, first)]
        rows, sizes = self.spec.encode(texts)
        _tell_longer(items, sizes, self.spec.room, "its end is cut off", first, observe)
        return padded("tokens", rows, "int64")

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the batch: there is no other view."""
        return no_views(batch, views, kind="text")

    def synthetic(self, count: int) -> Arrays:
        """Return ids that never change, in rows of different lengths."""
        size = self.spec.tokenizer.size
        rows = [
            (np.arange(min(5 + 3 * row, self.spec.max_length)) * 7 + row * 13) % (size - 1) + 1
            for row in range(count)
        ]
        return padded("tokens", rows, "int64")


def _tell_longer(
    items: Sequence[Any], sizes: Sequence[int], most: int, lost: str, first: int, observe: Observe
) -> None:
    """Tell of each text that has more tokens than are read."""
    for number, (item, size) in enumerate(zip(items, sizes, strict=True), first):
        if size > most:
            note = f"the text has {size:,} tokens, and the model reads {most:,}: {lost}"
            observe(Progress("note", 0, 0, note=f"{_named(item, number)}: {note}"))


def _named(item: Any, number: int) -> str:
    """Return what an item is called in messages."""
    if isinstance(item, os.PathLike):
        return str(os.fspath(item))
    return "standard input" if isinstance(item, io.BufferedIOBase) else f"input {number + 1}"


def _read_text(item: Any, number: int, *, may_be_empty: bool = False) -> str:
    where = _named(item, number)
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
        raise DataError(f"a {type(item).__name__} isn't a text", where=where)
    if len(item) > MOST_TEXT_BYTES:
        raise DataError(f"the text is longer than {MOST_TEXT_BYTES:,} characters", where=where)
    if not item.strip() and not may_be_empty:
        raise DataError("the text is empty", where=where)
    return item


MOST_TEXT_BYTES = 16 << 20
"""A longer text isn't read."""


def read_plain(path: Path, most: int) -> bytes:
    """Return the bytes of a plain file.

    Raises:
        DataError: it can't be read, or is longer than `most`.
    """
    try:
        if not path.is_file():
            raise DataError("there is no such file", where=str(path))
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read ({error})", where=str(path)) from error
    if len(data) > most:
        raise DataError(f"the file is longer than {most:,} bytes", where=str(path))
    return data


def padded(name: str, rows: Sequence[NDArray[Any]], dtype: str) -> Arrays:
    """Return rows of different lengths as one array, padded with 0, and their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    found = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=dtype)
    for at, row in enumerate(rows):
        found[at, : len(row)] = row
    return {name: found, "length": lengths}


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Texts that a language model goes on from; one may be empty."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (TensorSpec("tokens", "int64", ("N", "T")),)
    view_choices: tuple[str | int, ...] = ("none",)

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one text from several."""
        return one_or_several(inputs)

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Tokenize texts; of what is longer than the model was trained on, the end is taken."""
        texts = [_read_text(item, at, may_be_empty=True) for at, item in enumerate(items, first)]
        rows = self.spec.tokenizer.encode(texts)
        # Before a text stands the token that begins one, which also takes a place.
        max_length, places = self.spec.max_length, self.spec.places
        most = max_length if places is None else min(max_length, places - 1)
        sizes = [len(ids) for ids in rows]
        _tell_longer(items, sizes, most, "its beginning is left out", first, observe)
        kept = [ids[max(len(ids) - most, 0) :] for ids in rows]
        return {"tokens": padded("tokens", kept, "int64")["tokens"]}

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Return the batch: there is no other view."""
        return no_views(batch, views, kind="prompt")

    def synthetic(self, count: int) -> Arrays:
        """Return ids that never change."""
        return {"tokens": TextReader(self.spec).synthetic(count)["tokens"]}


@dataclass(frozen=True, slots=True)
class SourceReader:
    """Texts from which others are written; `target` is what is written, where that is known."""

    spec: TextInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("source", "int64", ("N", "T")),
        TensorSpec("source_length", "int64", ("N",)),
        TensorSpec("target", "int64", ("N", "S")),
    )
    view_choices: tuple[str | int, ...] = ("none",)

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one text from several."""
        return one_or_several(inputs)

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Tokenize texts; what is longer than the model takes is cut off at the end."""
        found = TextReader(self.spec).read(items, first=first, observe=observe)
        begins = np.full((len(items), 1), BEGIN, np.int64)
        return {"source": found["tokens"], "source_length": found["length"], "target": begins}

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
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


@dataclass(frozen=True, slots=True)
class AudioReader:
    """Recordings: paths or bytes of WAV, FLAC or OGG files, or arrays at the model's own rate."""

    spec: AudioInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("samples", "int16", ("N", "T")),
        TensorSpec("length", "int64", ("N",)),
    )
    view_choices: tuple[str | int, ...] = ("none", "speeds")

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one recording from several."""
        return one_or_several(inputs)

    def read(self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent) -> Arrays:
        """Decode recordings, mixed to one channel and resampled; of longer ones the end is cut off."""
        rows = [self._read(item, at, observe) for at, item in enumerate(items, first)]
        return padded("samples", rows, "int16")

    def _read(self, item: Any, number: int, observe: Observe) -> NDArray[np.int16]:
        where = item if isinstance(item, str) else _named(item, number)
        try:
            if isinstance(item, io.BufferedIOBase):
                item = item.read(MAX_AUDIO_BYTES + 1)
            if isinstance(item, str):
                item = Path(item)
            if isinstance(item, bytearray | memoryview):
                item = bytes(item)
            if not isinstance(item, bytes | Path | np.ndarray):
                raise DataError(f"a {type(item).__name__} isn't a recording")
            rate = self.spec.sampling_rate if isinstance(item, np.ndarray) else None
            samples = read_audio(item, self.spec, rate=rate)
        except ModelwrightError as error:
            error.at(where)
            raise
        if len(samples) > self.spec.max_length:
            lasts, most = len(samples) / self.spec.sampling_rate, self.spec.max_seconds
            note = f"the recording lasts {lasts:.1f} s, and the model hears {most:g} s: the last "
            note += f"{lasts - most:.1f} s are cut off"
            observe(Progress("note", 0, 0, note=f"{where}: {note}"))
        return samples[: self.spec.max_length]

    def views(self, batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Play faster and slower."""
        if views != "speeds":
            return no_views(batch, views, kind="audio")
        if not batch["samples"].size:
            return [batch], np.ones(1, np.float32)
        made = speed_views(batch["samples"], batch["length"])
        found: list[Arrays] = [{"samples": samples, "length": length} for samples, length in made]
        return found, np.full(len(found), 1 / len(found), np.float32)

    def synthetic(self, count: int) -> Arrays:
        """Return tones of different heights and lengths, by integer arithmetic."""
        rate = self.spec.sampling_rate
        rows = []
        for row in range(count):
            time = np.arange(rate // 4 + row * rate // 10, dtype=np.int64)
            wave = time * (200 + 150 * row) * 65536 // rate % 65536
            rows.append(np.where(wave < 32768, wave, 65535 - wave) - 16384)
        return padded("samples", rows, "int16")


MAX_AUDIO_BYTES = 1 << 30
"""A longer file of a recording isn't read."""


def _text_input(declared: Declared, assets: Mapping[str, bytes]) -> TextInput:
    return TextInput.from_json(dict(declared), dict(assets))


READERS: dict[str, Callable[[Declared, Mapping[str, bytes]], Reader]] = {
    "image": lambda declared, assets: ImageReader(image_input(declared)),
    "text": lambda declared, assets: TextReader(_text_input(declared, assets)),
    "prompt": lambda declared, assets: PromptReader(_text_input(declared, assets)),
    "source": lambda declared, assets: SourceReader(_text_input(declared, assets)),
    "audio": lambda declared, assets: AudioReader(AudioInput.from_json(dict(declared))),
    "arrays": lambda declared, assets: ArraysReader(_declared_tensors(declared)),
}
"""What can be handed over. `arrays` has no host steps: the caller has prepared them."""
