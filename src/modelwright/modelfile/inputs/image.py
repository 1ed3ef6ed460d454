"""Images: paths, image files' bytes, PIL images, or pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelwright.arrays import Array
from modelwright.errors import DataError, ModelwrightError
from modelwright.modelfile.inputs.reader import Items, Reader, Sample, each, kind_of
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent
from modelwright.transforms import ImageInput, decode_sized, read_image, view_batches

_CHANNELS = (1, 3, 4)


class ImageReader(Reader):
    """Images, decoded and resized to what the network takes."""

    spec: ImageInput
    view_choices = ("none", "flip", "flip_shift")

    def __init__(self, spec: ImageInput) -> None:
        super().__init__(spec)
        sizes = (spec.height, spec.width, spec.channels)
        self.tensors = (TensorSpec("pixels", "uint8", ("N", *sizes)),)

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one image from several, which may be pixels `[N, H, W, C]`, or grey `[N, H, W]`."""
        inputs = self.unpacked(inputs)
        if isinstance(inputs, np.ndarray):
            is_grey = inputs.ndim == 3 and inputs.shape[-1] not in _CHANNELS
            if inputs.ndim == 4 or is_grey:
                pixels = inputs[..., None] if is_grey else inputs
                return Items(cast("Sequence[Any]", pixels), is_one=False)
        return super().split_inputs(inputs)

    def from_tensor(self, array: Array) -> Array:
        """Return a tensor `[…, C, H, W]` with its channels last, and one that has them last as is.

        Raises:
            DataError: both the first and the last of the three axes could be the channels.
        """
        if array.ndim not in (3, 4) or array.shape[-3] not in _CHANNELS:
            return array
        if array.shape[-1] in _CHANNELS:
            raise DataError(
                f"which axis of {list(array.shape)} are the channels can't be told",
                fix="Give an array of NumPy's, [H, W, C] or [N, H, W, C]",
            )
        return np.moveaxis(array, -3, -1)

    def describe(self) -> str:
        """Return in words what the network takes."""
        color = "grey" if self.spec.channels == 1 else "colour"
        return f"{color} images of {self.spec.width} × {self.spec.height} pixels"

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
                    f"{kind_of(item)} isn't an image",
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
        pixels, weights = view_batches(batch["pixels"], views)
        return [{"pixels": view} for view in pixels], weights

    def synthetic(self, count: int) -> Arrays:
        """Return colour slopes and noise, by integer arithmetic that never changes."""
        height, width, channels = self.spec.height, self.spec.width, self.spec.channels
        n, y, x, c = np.ogrid[:count, :height, :width, :channels]
        down, across = 255 * y // max(1, height - 1), 255 * x // max(1, width - 1)
        slope = (down * (n + 1) + across * (c + 1)) % 256
        place = ((n * height + y) * width + x) * channels + c
        noise = (place * 2654435761 % 2**32 * 2246822519 % 2**32) >> 24
        return {"pixels": np.where(n % 2 == 0, slope, noise).astype(np.uint8)}
