"""Kinds of input: what a user hands over, and the arrays that a graph takes for it.

The only place in this room that knows what an image is. A new kind is one entry of `INPUT_KINDS`.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelwright.errors import DataError, ModelFileError, ModelwrightError
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.transforms import ImageInput, decode_image, read_image, view_batches

_LARGEST_SIDE = 1 << 16
Declared = Mapping[str, Any]
"""The input as `model/spec.json` declares it."""


@dataclass(frozen=True, slots=True)
class Items:
    """What a user handed over, taken apart."""

    items: Sequence[Any]
    is_one: bool
    """One input, whose answer is one; else several, whose answer is a list."""


@dataclass(frozen=True, slots=True)
class InputKind:
    """One kind of input.

    `tensors` says what the network takes; `take_apart` tells one input from several; `read` turns
    items into one batch, the host steps; `views` makes the test-time views of a batch, with their
    weights; `synthetic` makes samples that are nobody's data.
    """

    tensors: Callable[[Declared], tuple[TensorSpec, ...]]
    take_apart: Callable[[Any, Declared], Items]
    read: Callable[[Sequence[Any], Declared], Arrays]
    views: Callable[[Arrays, str | int], tuple[list[Arrays], NDArray[np.float32]]]
    synthetic: Callable[[Declared, int], Arrays]
    view_choices: tuple[str | int, ...] = ("none",)


def input_kind(declared: Declared) -> InputKind:
    """Return the kind of an input.

    Raises:
        ModelFileError: this version doesn't know it.
    """
    name = declared.get("kind")
    if not isinstance(name, str) or name not in INPUT_KINDS:
        raise ModelFileError(
            f"inputs of the kind {name!r} aren't known to this version",
            fix="Update modelwright",
        )
    return INPUT_KINDS[name]


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


def _image_tensors(declared: Declared) -> tuple[TensorSpec, ...]:
    spec = image_input(declared)
    return (TensorSpec("pixels", "uint8", ("N", spec.height, spec.width, spec.channels)),)


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


def _images_apart(inputs: Any, declared: Declared) -> Items:
    if isinstance(inputs, np.ndarray) and inputs.ndim == 4:
        return Items(cast("Sequence[Any]", inputs), is_one=False)
    if isinstance(inputs, list | tuple):
        return Items(inputs, is_one=False)
    return Items([inputs], is_one=True)


def _read_images(items: Sequence[Any], declared: Declared) -> Arrays:
    spec = image_input(declared)
    size = (spec.height, spec.width, spec.channels)
    if isinstance(items, np.ndarray) and items.dtype == np.uint8 and items.shape[1:] == size:
        return {"pixels": items}  # decoded before
    pixels = np.empty((len(items), *size), dtype=np.uint8)
    for number, item in enumerate(items):
        pixels[number] = _read_image(item, spec, number)
    return {"pixels": pixels}


def _read_image(item: Any, spec: ImageInput, number: int) -> NDArray[np.uint8]:
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
        return decode_image(Path(where) if is_file else item, spec)
    except ModelwrightError as error:
        error.at(where)
        raise
    except ValueError as error:
        raise DataError(f"can't be read ({error})", where=repr(where)) from error


def _image_views(batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
    if views == "none":
        return [batch], np.ones(1, np.float32)
    pixels, weights = view_batches(batch["pixels"], views)
    return [{"pixels": view} for view in pixels], weights.astype(np.float32)


def _synthetic_images(declared: Declared, count: int) -> Arrays:
    """Return colour slopes and noise, by integer arithmetic that never changes."""
    (tensor,) = _image_tensors(declared)
    height, width, channels = (int(size) for size in tensor.shape[1:])
    n, y, x, c = np.ogrid[:count, :height, :width, :channels]
    slope = (255 * y // max(1, height - 1) * (n + 1) + 255 * x // max(1, width - 1) * (c + 1)) % 256
    place = ((n * height + y) * width + x) * channels + c
    noise = (place * 2654435761 % 2**32 * 2246822519 % 2**32) >> 24
    return {"pixels": np.where(n % 2 == 0, slope, noise).astype(np.uint8)}


def _declared_tensors(declared: Declared) -> tuple[TensorSpec, ...]:
    found = declared.get("tensors")
    listed = found if isinstance(found, list) else []
    tensors = tuple(TensorSpec.from_json(item) for item in listed)
    if not tensors:
        raise ModelFileError("an input of the kind `arrays` declares its `tensors`")
    return tensors


def _arrays_apart(inputs: Any, declared: Declared) -> Items:
    """Take apart arrays that the caller has prepared: one batch, or one sample without N."""
    tensors = _declared_tensors(declared)
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


def _read_arrays(items: Sequence[Any], declared: Declared) -> Arrays:
    names = [tensor.name for tensor in _declared_tensors(declared)]
    return {name: np.stack([item[name] for item in items]) for name in names}


def _no_views(batch: Arrays, views: str | int) -> tuple[list[Arrays], NDArray[np.float32]]:
    if views != "none":
        raise ModelFileError(f"inputs of the kind `arrays` have no views {views!r}")
    return [batch], np.ones(1, np.float32)


def _synthetic_arrays(declared: Declared, count: int) -> Arrays:
    """Return small whole numbers, 0 and 1 in turn: legal as numbers and as places in any table."""
    arrays = {}
    for tensor in _declared_tensors(declared):
        sizes = [size if isinstance(size, int) else 4 for size in tensor.shape[1:]]
        places = np.arange(count * math.prod(sizes)).reshape(count, *sizes)
        arrays[tensor.name] = (places * 7 // 3 % 2).astype(tensor.dtype)
    return arrays


INPUT_KINDS: dict[str, InputKind] = {
    "image": InputKind(
        _image_tensors,
        _images_apart,
        _read_images,
        _image_views,
        _synthetic_images,
        ("none", "flip", 6),
    ),
    "arrays": InputKind(
        _declared_tensors, _arrays_apart, _read_arrays, _no_views, _synthetic_arrays
    ),
}
"""What can be handed over. `arrays` has no host steps: the caller has prepared them."""
