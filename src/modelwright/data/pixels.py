"""Images: what the store keeps of them, how they become pixels, and what the audit looks at."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelwright.arrays import Ints
from modelwright.data.adapters import ChannelStatistics, Encoded, InputAdapter
from modelwright.data.dataset import Split
from modelwright.data.findings import Finding, origins_of
from modelwright.data.hashing import THUMBNAIL, perceptual_hashes
from modelwright.data.listing import Listing, Rows
from modelwright.data.near_duplicates import (
    LEAST_LIKENESS,
    LEAST_LIKENESS_TINY,
    near_duplicate_pairs,
)
from modelwright.data.store import Facts, Store, StoredSplit, short_digest
from modelwright.data.views import derived_view
from modelwright.errors import RecipeError
from modelwright.files import JsonObject
from modelwright.kinds import InputKind
from modelwright.recipe import Recipe
from modelwright.recipe.preparation import TransformsSpec
from modelwright.run import Observe
from modelwright.transforms import ImageInput
from modelwright.transforms.image import is_grey, open_image

LARGEST_AUTO_SIDE = 96
"""`transforms.size: auto` takes no more than this, which two cores can still train."""
SMALLEST_AUTO_SIDE = 8
_LEAST_CONTRAST = 2
"""Of 255; an image whose pixels differ by no more shows nothing."""
_LOOKED_AT = 2000
"""So many images are looked at, from all of them, to tell whether they show anything."""
_DARKEST = 64
"""Of 255; images of 16 bits whose brightest pixel is darker lose most of what they show."""
_KEPT = ("resize", "interpolation", "background")
"""What stays as a model file has it when it is trained further."""


def as_npy(pixels: NDArray[np.uint8]) -> bytes:
    """Return an array as the bytes of a `.npy` file: so sources without image files keep them."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(pixels), allow_pickle=False)
    return stream.getvalue()


# -- the store -------------------------------------------------------------------------------


def _look(data: bytes, listing: Listing) -> JsonObject:
    image = open_image(data)
    small = image.convert("RGB") if image.mode not in ("L", "RGB") else image
    return {
        "content_digest": short_digest(f"{image.mode} {image.size} ".encode() + image.tobytes()),
        "thumbnail": small.convert("L").resize((THUMBNAIL, THUMBNAIL), 5).tobytes(),
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        "is_grey": is_grey(image),
    }


def _add_hashes(columns: JsonObject) -> None:
    thumbnails = np.frombuffer(b"".join(columns["thumbnail"]), dtype=np.uint8)
    columns["phash"] = perceptual_hashes(thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL))


FACTS = Facts(
    columns=(
        ("phash", pa.uint64()),
        ("thumbnail", pa.binary(THUMBNAIL * THUMBNAIL)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("is_grey", pa.bool_()),
    ),
    look=_look,
    missing={
        "thumbnail": bytes(THUMBNAIL * THUMBNAIL),
        "width": 0,
        "height": 0,
        "mode": "",
        "is_grey": False,
    },
    add=_add_hashes,
)


# -- fitting ---------------------------------------------------------------------------------


def fit_image_input(train: StoredSplit, recipe: Recipe) -> ImageInput:
    """Return how images become pixels, `auto` resolved by the training images."""
    spec, model = recipe.transforms, recipe.model
    is_published = model != "auto" and bool(model.published)  # In colour, as published ones are.
    grey = spec.color_mode == "grayscale" or (
        spec.color_mode == "auto" and not is_published and bool(train.numbers("is_grey").all())
    )
    usual = None if model == "auto" else model.usual_side
    if spec.size == "auto" and usual is not None:
        height = width = usual
    elif spec.size == "auto":
        height, width = _auto_size(train.numbers("height"), train.numbers("width"))
    elif isinstance(spec.size, tuple):
        height, width = spec.size
    else:
        height = width = spec.size
    return ImageInput(
        height=height,
        width=width,
        channels=1 if grey else 3,
        resize=spec.resize,
        interpolation=spec.interpolation,
        background=spec.background,
    )


def _auto_size(heights: NDArray[np.int32], widths: NDArray[np.int32]) -> tuple[int, int]:
    """Return the images' own size where it is one and small, else a square near the median."""
    high, wide = int(np.median(heights)), int(np.median(widths))
    alike = bool((heights == high).all() and (widths == wide).all())
    if alike and min(high, wide) >= SMALLEST_AUTO_SIDE and max(high, wide) <= LARGEST_AUTO_SIDE:
        return high, wide
    side = min(max(min(high, wide), SMALLEST_AUTO_SIDE), LARGEST_AUTO_SIDE)
    return side, side


def _resumed(like: ImageInput, recipe: Recipe) -> tuple[ImageInput, str]:
    """Return how a model file takes images, at the size that the recipe asks for, if it does.

    Raises:
        RecipeError: the recipe asks for what the file's weights weren't trained on.
    """
    spec, mode = recipe.transforms, "rgb" if like.channels == 3 else "grayscale"
    own = {"color_mode": mode, **{key: getattr(like, key) for key in _KEPT}}
    for key, value in own.items():
        requested = getattr(spec, key)
        if requested not in (TransformsSpec.model_fields[key].default, value):
            raise RecipeError(
                f"`transforms.{key}` is `{requested}`, and the initial model file was trained with "
                f"`{value}`",
                where=recipe.place_of(f"transforms.{key}"),
                fix=f"Leave `{key}` out: the file's own is taken",
            )
    match spec.size:
        case "auto":
            input = like
        case (height, width):
            input = replace(like, height=height, width=width)
        case side:
            input = replace(like, height=side, width=side)
    shown = f"{input.height}×{input.width} pixels, {input.resize}, {input.interpolation}"
    return input, f"Images are taken as the model file of `model.init` takes them: {shown}"


def fit_channel_statistics(train: Split, recipe: Recipe) -> ChannelStatistics:
    """Return the mean and the deviation of each channel over the training split."""
    pixels, normalize = train.pixels, recipe.transforms.normalize
    channels = pixels.shape[-1]
    if normalize == "none":
        return ChannelStatistics((0.0,) * channels, (1.0,) * channels)
    if normalize == "half":
        return ChannelStatistics((0.5,) * channels, (0.5,) * channels)
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(train), 4096):
        block = train.gather(slice(start, start + 4096))
        for channel in range(channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts * values).sum(axis=1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    deviation = np.sqrt(variance)
    # A channel that never changes has nothing to scale.
    deviation[deviation < 1e-6] = 1.0
    return ChannelStatistics(tuple(mean.tolist()), tuple(deviation.tolist()))


def _encode(store: Store, input: ImageInput, observe: Observe) -> Encoded:
    pixels = derived_view(store, input, observe=observe)
    broken, step = store.errors(), max(1, -(-len(store) // _LOOKED_AT))
    rows = [row for row in range(0, len(store), step) if row not in broken]
    modes, origins = store.strings("mode"), store.strings("origin")
    deep = [row for row in rows if modes[row].startswith("I")]
    largest = max((int(pixels[row].max()) for row in deep), default=255)
    if largest < _DARKEST:
        return Encoded(input, pixels, findings=(_dark(deep, largest, origins),))
    return Encoded(input, pixels, findings=tuple(_plain(rows, pixels, origins)))


def _dark(deep: Sequence[int], largest: int, origins: Sequence[str]) -> Finding:
    """Return that images of 16 bits use a small part of their range."""
    return Finding(
        kind="dark_images",
        severity="warning",
        rows=origins_of(deep, origins),
        message=f"{len(deep):,} images have 16 bits a pixel and use little of them: the brightest "
        f"pixel is {largest + 1 << 8:,} of 65,535 at most, so that of 256 shades {largest + 1} are "
        "left",
        fix="Spread their values: multiply all pixels of all images by one number, so that the "
        "largest is near 65,535, or save them in 8 bits",
    )


def _plain(
    rows: Sequence[int], pixels: NDArray[np.uint8], origins: Sequence[str]
) -> Iterator[Finding]:
    """Yield how many images are of a single colour once they are decoded."""
    plain = [row for row in rows if np.ptp(pixels[row], axis=(0, 1)).max() <= _LEAST_CONTRAST]
    if not plain:
        return
    is_dark = all(0 < pixels[row].max() <= 1 for row in plain)
    scale = "Their pixels are 0 and 1: multiply them by 255. " if is_dark else ""
    yield Finding(
        kind="plain_image",
        severity="warning",
        rows=origins_of(plain, origins),
        message=f"{len(plain):,} of {len(rows):,} images are of a single colour once they are "
        f"decoded, {origins[plain[0]]} first",
        fix=f"{scale}Where parts are transparent, look at `transforms.background` (0 is black, "
        "255 white); take images out that show nothing",
    )


# -- the audit -------------------------------------------------------------------------------


def _mixtures(store: Store, used: Rows) -> Iterator[Finding]:
    """Yield that images have several sizes or colour modes."""
    widths, heights = store.numbers("width")[used], store.numbers("height")[used]
    sizes = Counter(zip(widths.tolist(), heights.tolist(), strict=True))
    if len(sizes) > 1:
        (wide, high), count = sizes.most_common(1)[0]
        yield Finding(
            kind="mixed_sizes",
            severity="note",
            message=f"{len(sizes):,} sizes of image, from {widths.min()}×{heights.min()} to "
            f"{widths.max()}×{heights.max()}; {count:,} have {wide}×{high}",
            fix="All are resized to one size: see `transforms.size` and `transforms.resize`",
        )
    mode_of_row = store.strings("mode")
    modes = Counter(mode_of_row[row] for row in used.tolist())
    if len(modes) > 1:
        shown = ", ".join(f"{mode} ({count:,})" for mode, count in modes.most_common(6))
        yield Finding(
            kind="mixed_modes",
            severity="note",
            message=f"several colour modes: {shown}",
            fix="All become RGB, or grey where every image is: see `transforms.color_mode`",
        )


def _near_pairs(store: Store, rows: Rows) -> Ints:
    sides = np.minimum(store.numbers("width"), store.numbers("height"))[rows]
    return near_duplicate_pairs(
        store.numbers("phash")[rows],
        store.fixed("thumbnail")[rows],
        least=np.where(sides < THUMBNAIL, LEAST_LIKENESS_TINY, LEAST_LIKENESS).astype("f4"),
    )


IMAGES = InputAdapter(
    kind=InputKind.IMAGE,
    suffixes=frozenset(
        {
            *(".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
            *(".ppm", ".pgm", ".pbm", ".pnm", ".npy"),
        }
    ),
    formats="JPEG, PNG, WebP, BMP, TIFF, GIF or PPM",
    facts=FACTS,
    fit=fit_image_input,
    encode=_encode,
    resume=_resumed,
    fit_statistics=fit_channel_statistics,
    mixtures=_mixtures,
    near_duplicate_pairs=_near_pairs,
)
