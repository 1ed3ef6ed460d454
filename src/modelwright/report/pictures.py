"""Images inside the page, reduced to the size at which they are shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from modelwright.arrays import Pixels
from modelwright.report.data import ReportData
from modelwright.report.words import plain

MISTAKE_SIDE = 192
BOXED_SIDE = 352
"""The side of images with boxes: larger, so that lines don't hide what is in the boxes."""
_PREDICTED, _REFERENCE = (255, 64, 32), (0, 190, 255)
_DASH = 7
"""The length of a dash and of a gap, in pixels."""
STRIP_SIDE = 112
EXCERPT = 300
"""The most characters of a text that are shown."""
_COARSE = 64
"""Images with shorter sides are enlarged without interpolation."""


def picture(pixels: Pixels, *, side: int) -> str:
    """Return an image `[H, W, C]`, at most `side` wide and high, as a data address."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


Box = Sequence[float]
"""x1, y1, x2, y2 in pixels."""


def with_boxes(pixels: Pixels, *, predicted: Sequence[Box], reference: Sequence[Box]) -> Pixels:
    """Return an enlarged image `[H, W, C]` with predicted boxes and, dashed, reference boxes."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    scale = BOXED_SIDE / max(image.size)
    method = Image.Resampling.NEAREST if are_coarse(pixels) else Image.Resampling.BICUBIC
    image = image.resize([max(round(side * scale), 1) for side in image.size], method)
    draw = ImageDraw.Draw(image)
    most = (image.width - 1, image.height - 1) * 2
    for boxes, colour, is_dashed in ((predicted, _PREDICTED, False), (reference, _REFERENCE, True)):
        for box in boxes:
            edges = [min(at * scale, end) for at, end in zip(box, most, strict=True)]
            _outline(draw, edges, colour, is_dashed=is_dashed)
    return np.asarray(image)


def _outline(
    draw: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int], *, is_dashed: bool
) -> None:
    x1, y1, x2, y2 = box
    if not is_dashed:
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        return
    for x in np.arange(x1, x2, 2 * _DASH):
        for y in (y1, y2):
            draw.line((x, y, min(x + _DASH, x2), y), fill=colour, width=2)
    for y in np.arange(y1, y2, 2 * _DASH):
        for x in (x1, x2):
            draw.line((x, y, x, min(y + _DASH, y2)), fill=colour, width=2)


def are_coarse(pixels: Pixels) -> bool:
    """Whether images `[…, H, W, C]` are so small that pixels are shown as squares."""
    height, width = pixels.shape[-3:-1]
    return bool(max(height, width) < _COARSE)


def changed_samples(data: ReportData) -> list[dict[str, str]]:
    """Return samples whose answer compression changed, with both answers."""
    return [
        {
            **_shown(sample, side=MISTAKE_SIDE),
            "truth": _line(item.truth),
            "before": _line(item.before),
            "after": _line(item.after),
        }
        for item, sample in zip(data.changed, data.changed_samples, strict=True)
    ]


def shown_samples(data: ReportData) -> list[dict[str, str]]:
    """Return samples with their reference and prediction, worst first."""
    side = BOXED_SIDE if data.has_boxes else MISTAKE_SIDE
    return [
        {
            **_shown(sample, side=side),
            "truth": "" if item.truth is None else _line(item.truth),
            "answer": _line(item.answer),
            "confidence": item.confidence,
        }
        for item, sample in zip(data.answers, data.mistakes, strict=True)
    ]


def _line(text: str) -> str:
    return plain(" ".join(text.split()))


def _shown(sample: Pixels | str | bytes, *, side: int) -> dict[str, str]:
    """Return a sample as an image, as audio or as text."""
    nothing = {"picture": "", "audio": "", "text": ""}
    if isinstance(sample, str):
        text = _line(sample)
        return nothing | {"text": text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"}
    if isinstance(sample, bytes):
        return nothing | {"audio": "data:audio/wav;base64," + base64.b64encode(sample).decode()}
    return nothing | {"picture": picture(sample, side=side)}


def augmented_rows(augmented: Pixels | None) -> Sequence[Sequence[str]]:
    """Return the pictures of augmented samples, a row each."""
    if augmented is None:
        return []
    return [[picture(pixels, side=STRIP_SIDE) for pixels in row] for row in augmented]
