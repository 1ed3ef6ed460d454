"""The one image decoder, and the declaration of how an image becomes fixed-size pixels.

Any mode and bit depth that Pillow reads becomes uint8 pixels `[H, W, C]`: the first frame, turned
as EXIF says, transparent parts over the background, deep pixels scaled to eight bits. The same
function works in training and in serving.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal, cast

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from modelwright.arrays import Array, Pixels
from modelwright.errors import DataError, ModelFileError, located
from modelwright.files import JsonObject, json_digest
from modelwright.kinds import InputKind

MOST_PIXELS = 120_000_000
"""Larger images are refused before they are decoded: decoded they would fill the memory."""
MOST_BYTES = 1 << 30
"""Longer image files are refused before they are whole in memory; `/dev/zero` has no end."""
_PIECE_BYTES = 1 << 20
_BAND_PIXELS = 1 << 22
_MAX_SIDE = 1 << 16
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Pillow reads more, among them EPS, for which it starts another program: PostScript is code."""
_NPY = b"\x93NUMPY"
_NPY_HEADER = (
    rb"'descr': *'([<>|=]?(?:b1|u[1248]|i[1248]|f[248]))'",
    rb"'fortran_order': *(True|False)",
    rb"'shape': *\(((?:[0-9]{1,12}, *)*(?:[0-9]{1,12})?)\)",
)
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_FIX_ARRAY = "Save it anew by `numpy.save`, without pickled objects"
_FIX = "Open it in an image viewer; replace it, or take it out of the data"

ImageSource = bytes | Path | Image.Image | Array


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How an image file becomes uint8 pixels `[H, W, C]`: the host steps, resolved."""

    input_kind: ClassVar[InputKind] = InputKind.IMAGE

    height: int
    width: int
    channels: Literal[1, 3]
    resize: Literal["stretch", "shorter", "letterbox"] = "shorter"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    background: int = 0

    def to_json(self) -> JsonObject:
        """Return the declaration as the model file holds it."""
        return {"kind": "image", **asdict(self)}

    @staticmethod
    def from_json(value: JsonObject) -> ImageInput:
        """Read what `to_json` returned; anything else is a `ModelFileError`."""
        sizes = [value.get(key) for key in ("height", "width", "channels", "background")]
        is_known = (
            set(value) == {"kind", *(item.name for item in fields(ImageInput))}
            and all(type(size) is int for size in sizes)
            and 0 < value["height"] <= _MAX_SIDE
            and 0 < value["width"] <= _MAX_SIDE
            and value["channels"] in (1, 3)
            and 0 <= value["background"] <= 255
            and value["resize"] in ("stretch", "shorter", "letterbox")
            and value["interpolation"] in tuple(_FILTERS)
        )
        if not is_known:
            raise ModelFileError(
                "the image input that the file declares isn't known to this version",
                fix="Update modelwright",
            )
        return ImageInput(**{key: item for key, item in value.items() if key != "kind"})

    def digest(self) -> str:
        """Return the digest by which derived views are kept."""
        return json_digest(self.to_json())


def decode_image(source: ImageSource, spec: ImageInput) -> Pixels:
    """Return an image as uint8 pixels `[H, W, C]` of the declared size.

    Args:
        source: the bytes of an image file or of a `.npy` array, the path of one, a Pillow image, or
            an array `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`: uint8, uint16, booleans, or
            floats in 0…1.
        spec: the size, the channels, and how to get there.

    Raises:
        DataError: it isn't an image, or it is broken, or far too large.
    """
    return decode_sized(source, spec)[0]


def decode_sized(source: ImageSource, spec: ImageInput) -> tuple[Pixels, tuple[int, int]]:
    """Return what `decode_image` does, and the width and height that the image had."""
    image = open_image(source)
    size = image.size
    return fit(flatten(image, spec), spec), size


def open_image(source: ImageSource) -> Image.Image:
    """Return the first frame of what `decode_image` takes, whole and turned as EXIF says."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source)
    if isinstance(source, bytes):
        return _from_bytes(source)
    with located(source):
        return _from_bytes(read_file(source))


@dataclass(frozen=True, slots=True)
class Sides:
    """The size of an image as it is stored, and how it is turned to be shown."""

    width: int
    height: int
    turned: int = 1
    """EXIF's orientation: from 5 on, width and height change places."""

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as shown."""
        return (self.height, self.width) if self.turned >= 5 else (self.width, self.height)


def sides_of(source: bytes | Path) -> Sides:
    """Return the size of an image file, from its header where that says it.

    Raises:
        DataError: it isn't an image that can be read.
    """
    # A TIFF's own size may be turned already, by Pillow's version.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=_FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
            if image.format != "TIFF" and turned in range(1, 9):
                return Sides(*image.size, turned)
    return Sides(*open_image(source).size)


def read_image(stream: BinaryIO) -> bytes:
    """Return the bytes of a file up to its end, a pipe's too; recordings and texts are read so too.

    Raises:
        DataError: there are far too many.
    """
    pieces, size = [], 0
    while piece := stream.read(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            what, fix = f"the file has more than {MOST_BYTES >> 30} GiB", "Take it out of the data"
            raise DataError(what, fix=fix)
    return b"".join(pieces)


def read_file(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: it can't be read, is far too long, or no plain file, which could last for ever.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError("this is no plain file, so it isn't read", where=str(path))
        with located(path), path.open("rb") as stream:
            return read_image(stream)
    except OSError as error:
        raise DataError(
            f"can't be read ({error.strerror or error})",
            where=str(path),
            fix="Look whether the file is there and may be read",
        ) from error
    except ValueError as error:  # A NUL in it, or half a surrogate pair.
        raise DataError("this is no path of a file", where=repr(str(path))) from error


def _from_bytes(data: bytes) -> Image.Image:
    if not data:
        raise DataError("the file is empty (0 bytes)", fix=_FIX)
    if data.startswith(_NPY):
        return _from_array(_read_npy(data))
    try:
        with warnings.catch_warnings():
            # Our own limit takes the place of Pillow's, and what matters of damage is an error.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise _too_large(f"It has {image.width:,} × {image.height:,}")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # A copy of a large one is too much.
            return image
    except UnidentifiedImageError as error:
        start = data[:12]
        raise DataError(
            "this isn't an image that can be read",
            why=f"It begins with {start!r}",
            fix="JPEG, PNG, WebP, BMP, TIFF, GIF and .npy are read",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"the image is broken: {error}", fix=_FIX) from error


def _read_npy(data: bytes) -> Array:
    """Return the array that a `.npy` file holds (NEP 1; versions 1 to 3).

    NumPy's own reader parses the header by `ast`, which now and then fails for no reason where
    threads do so at once (CPython 3.11), and a good image was left out as broken.
    """
    wide = 2 if data[6:7] == b"\x01" else 4
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    header = data[8 + wide : start]
    matches = [re.search(part, header) for part in _NPY_HEADER]
    if not all(matches) or len(data) < start or header.count(b",") > 12:
        raise DataError("the array's header can't be read", fix=_FIX_ARRAY)
    kind, columns_first, sides = (match[1].decode() for match in matches if match)
    shape = tuple(int(side) for side in sides.replace(",", " ").split())
    dtype = np.dtype(kind)
    size = math.prod(shape)
    if len(data) - start < size * dtype.itemsize:
        raise DataError(f"the array is cut short: it is {list(shape)}", fix=_FIX_ARRAY)
    flat = np.frombuffer(data, dtype, size, start)
    return flat.reshape(shape, order="F" if columns_first == "True" else "C")


def _too_large(why: str) -> DataError:
    return DataError(
        f"the image has more than the {MOST_PIXELS:,} pixels that are decoded",
        why=why,
        fix="Scale it down first, or take it out of the data",
    )


def _from_array(array: Array) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise DataError(
            f"an image is an array [H, W] or [H, W, 1, 3 or 4], not {list(array.shape)}"
        )
    if array.size == 0:
        raise DataError(f"the array holds no pixels: {list(array.shape)}")
    return Image.fromarray(_eight_bits(array))


def _eight_bits(array: Array) -> Pixels:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype.newbyteorder("=") == np.uint16:
        return (array >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise DataError(
                "an array of floats must hold values in 0…1",
                why=f"These go from {np.min(array):.4g} to {np.max(array):.4g}",
                fix="Divide by the largest value, or convert to uint8",
            )
        scaled: Pixels = np.rint(array * 255).astype(np.uint8)
        return scaled
    raise DataError(f"an image holds uint8, uint16, booleans or floats in 0…1, not {array.dtype}")


def flatten(image: Image.Image, spec: ImageInput) -> Image.Image:
    """Return the image in eight bits, one or three channels, over the background."""
    mode = "L" if spec.channels == 1 else "RGB"
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        deep = np.asarray(image).astype(np.uint16)
        image = Image.fromarray((deep >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = _from_deep(image)
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:

        def covered(part: Image.Image) -> Image.Image:
            colour = part.convert("RGBA")
            ground = Image.new("RGBA", colour.size, (spec.background,) * 3 + (255,))
            return Image.alpha_composite(ground, colour).convert("RGB")

        image = _by_bands(image, covered, "RGB")
    return image if image.mode == mode else image.convert(mode)


def _by_bands(
    image: Image.Image, change: Callable[[Image.Image], Image.Image], mode: str
) -> Image.Image:
    """Change each pixel, a band of rows at a time: what lies between is never whole in memory."""
    rows = max(_BAND_PIXELS // image.width, 1)
    if image.height <= rows:
        return change(image)
    changed = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        changed.paste(change(image.crop((0, top, image.width, bottom))), (0, top))
    return changed


def _from_deep(image: Image.Image) -> Image.Image:
    """Scale 32-bit pixels to eight bits by the smallest usual range that holds them."""
    _, largest = image.getextrema()
    top = max(cast(float, largest), 0.0)
    if image.mode == "F" and top <= 1.0:
        scale = 255.0
    else:
        scale = next(
            (255.0 / most for most in (255.0, 65535.0) if top <= most), 255.0 / max(top, 1)
        )

    def scaled(part: Image.Image) -> Image.Image:
        values = np.asarray(part)
        if not np.isfinite(values).all():
            raise DataError("the image holds pixels that aren't numbers", fix=_FIX)
        return Image.fromarray(np.clip(values * scale, 0, 255).astype(np.uint8))

    return _by_bands(image, scaled, "L")


def fit(image: Image.Image, spec: ImageInput) -> Pixels:
    """Return the image at the declared size, as `[H, W, C]`."""
    wide, high = image.size
    if (high, wide) != (spec.height, spec.width):
        image = _resized(image, spec)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.reshape(spec.height, spec.width, spec.channels))


def _resized(image: Image.Image, spec: ImageInput) -> Image.Image:
    method, size = _FILTERS[spec.interpolation], (spec.width, spec.height)
    wide, high = image.size
    if spec.resize == "stretch":
        return image.resize(size, method)
    if spec.resize == "shorter":
        # Cutting the centre in the source first resizes no pixel that is thrown away.
        scale = min(wide / spec.width, high / spec.height)
        # Rounding may put a part a hair outside of the image, which Pillow refuses.
        part_w, part_h = min(spec.width * scale, wide), min(spec.height * scale, high)
        left, top = (wide - part_w) / 2, (high - part_h) / 2
        box = (left, top, min(left + part_w, wide), min(top + part_h, high))
        return image.resize(size, method, box=box)
    scale = min(spec.width / wide, spec.height / high)
    inner = max(round(wide * scale), 1), max(round(high * scale), 1)
    ground = Image.new(
        image.mode, size, spec.background if spec.channels == 1 else (spec.background,) * 3
    )
    ground.paste(
        image.resize(inner, method), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    )
    return ground


def is_grey(image: Image.Image) -> bool:
    """Say whether an image shows no colour; of a large one a small copy is looked at."""
    if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16"):
        return True
    small = image if image.width * image.height <= 4096 else image.resize((64, 64))
    pixels = np.asarray(small.convert("RGB"))
    return bool((pixels == pixels[..., :1]).all())
