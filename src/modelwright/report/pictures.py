"""Pictures inside the page, reduced to the size at which they are looked at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelwright.evaluation import Scored
from modelwright.report.story import Pixels, Story
from modelwright.report.words import percent, plain, short

MISTAKE_SIDE = 192
STRIP_SIDE = 112
EXCERPT = 300
"""Characters of a text that are shown."""
_COARSE = 64
"""Images with fewer pixels a side are shown as squares, not blurred."""


def picture(pixels: Pixels, *, side: int) -> str:
    """Return an image `[H, W, C]`, at most `side` wide and high, as a data address."""
    held = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    held.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    held.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def are_coarse(pixels: Pixels) -> bool:
    """Whether images `[…, H, W, C]` are so small that their pixels should be seen as squares."""
    height, width = pixels.shape[-3:-1]
    return bool(max(height, width) < _COARSE)


def mistakes(story: Story) -> list[dict[str, str]]:
    """Return the wrong answers that the model was surest of, with what was asked about."""
    labels = story.classes.labels
    return [
        {
            **_shown(sample),
            "truth": plain(labels[item.target]),
            "answer": plain(labels[item.predicted]),
            "confidence": percent(item.confidence),
        }
        for item, sample in zip(story.classes.mistakes, story.mistakes, strict=True)
    ]


def largest_errors(story: Story) -> list[dict[str, str]]:
    """Return the samples whose numbers were missed by most, with what was asked about."""
    assert isinstance(story.measurement, Scored)
    if story.answers:
        return [
            {
                **_shown(sample),
                "truth": plain(" ".join(truth.split())),
                "answer": plain(" ".join(answer.split())),
                "confidence": "",
            }
            for (truth, answer), sample in zip(story.answers, story.mistakes, strict=True)
        ]
    tally, labels = story.measurement.tally, story.measurement.labels

    def written(values: NDArray[np.float64]) -> str:
        shown = [short(float(value)) for value in values]
        named = [f"{plain(name)} {value}" for name, value in zip(labels, shown, strict=True)]
        return ", ".join(shown if len(labels) == 1 else named)

    return [
        {
            **_shown(sample),
            "truth": written(tally["targets"][at]),
            "answer": written(tally["predicted"][at]),
            "confidence": "",
        }
        for at, sample in zip(story.worst, story.mistakes, strict=True)
    ]


def _shown(sample: Pixels | str | bytes) -> dict[str, str]:
    """Return a sample as the page shows it: a picture, a sound to listen to, or a text."""
    nothing = {"picture": "", "sound": "", "text": ""}
    if isinstance(sample, str):
        text = plain(" ".join(sample.split()))
        return nothing | {"text": text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"}
    if isinstance(sample, bytes):
        return nothing | {"sound": "data:audio/wav;base64," + base64.b64encode(sample).decode()}
    return nothing | {"picture": picture(sample, side=MISTAKE_SIDE)}


def augmented_rows(augmented: Pixels | None) -> Sequence[Sequence[str]]:
    """Return the pictures of augmented samples, a row each."""
    if augmented is None:
        return []
    return [[picture(pixels, side=STRIP_SIDE) for pixels in row] for row in augmented]
