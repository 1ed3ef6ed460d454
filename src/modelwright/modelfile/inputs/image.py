"""Images: paths, image files' bytes, PIL images, or pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelwright.errors import DataError, ModelFileError, ModelwrightError
from modelwright.modelfile.inputs.reader import (
    Assets,
    Declared,
    Items,
    Sample,
    each,
    one_or_several,
)
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent
from modelwright.transforms import ImageInput, decode_sized, read_image, view_batches

_LARGEST_SIDE = 1 << 16


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
    """Images, decoded and brought to the size that the network takes."""

    spec: ImageInput
    view_choices: tuple[str, ...] = ("none", "flip", "flip_shift")

    @staticmethod
    def open(declared: Declared, assets: Assets) -> ImageReader:
        """Return the reader of a declaration.

        Raises:
            ModelFileError: it isn't one of images.
        """
        return ImageReader(image_input(declared))

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

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Decode each image."""
        size = (self.spec.height, self.spec.width, self.spec.channels)
        if isinstance(items, np.ndarray) and items.dtype == np.uint8 and items.shape[1:] == size:
            # Decoded before.
            return [Sample({"pixels": item}, (size[1], size[0])) for item in items]
        return each(self._read, items, first)

    def _read(self, item: Any, number: int) -> Sample:
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
            pixels, size = decode_sized(Path(where) if is_file else item, self.spec)
        except ModelwrightError as error:
            error.at(where)
            raise
        except ValueError as error:
            raise DataError(f"can't be read ({error})", where=repr(where)) from error
        return Sample({"pixels": pixels}, size)

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put pixels together."""
        return {"pixels": np.stack([sample.arrays["pixels"] for sample in samples])}

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
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
