"""Images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile.inputs import read_batch
from modelwright.modelfile.inputs.image import ImageReader
from modelwright.transforms import ImageInput, decode_image
from tests.modelfile.inputs.declared import IMAGE

READER = ImageReader(IMAGE)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)


def test_images_are_decoded_by_the_one_decoder_and_keep_their_size(tmp_path: Path) -> None:
    path, data = tmp_path / "a.png", io.BytesIO()
    Image.fromarray(PIXELS[0]).save(path)
    Image.fromarray(PIXELS[0]).save(data, "png")
    given = [path, str(path), data.getvalue(), data, PIXELS[0], Image.fromarray(PIXELS[0])]
    data.seek(0)
    expected = decode_image(PIXELS[0], IMAGE)
    for item in READER.read_each(given):
        assert not isinstance(item, DataError)
        assert np.array_equal(item.arrays["pixels"], expected)
        assert item.size == (10, 12)


def test_pixels_of_the_models_size_are_taken_as_they_are() -> None:
    decoded = np.stack([decode_image(image, IMAGE) for image in PIXELS])
    assert np.array_equal(read_batch(READER, decoded)["pixels"], decoded)  # type: ignore[arg-type]
    (first, *_) = READER.read_each(decoded)  # type: ignore[arg-type]
    assert not isinstance(first, DataError)
    assert first.size == (8, 8)


def test_pixels_that_are_taken_as_they_are_keep_width_and_height() -> None:
    reader = ImageReader(ImageInput(4, 6, 3))
    (wide,) = reader.read_each(np.zeros((1, 4, 6, 3), np.uint8))  # type: ignore[arg-type]
    assert not isinstance(wide, DataError)
    assert wide.size == (6, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"height": True},
        {"width": 1 << 40},
        {"channels": 2},
        {"background": 256},
        {"resize": "crop"},
        {"interpolation": "magic"},
        {"gamma": 2.2},
    ],
)
def test_declarations_that_no_reader_knows(change: dict[str, Any]) -> None:
    assert ImageInput.from_json(IMAGE.to_json()) == IMAGE
    with pytest.raises(ModelFileError, match="isn't known to this version"):
        ImageInput.from_json(IMAGE.to_json() | change)


def test_golden_samples_by_hand() -> None:
    # The first sample's slopes rise by 255 from edge to edge; the third's three times as fast down.
    made = ImageReader(ImageInput(2, 2, 1)).synthetic(3)["pixels"][..., 0]
    assert made[0].tolist() == [[0, 255], [255, 254]]
    assert made[2].tolist() == [[0, 255], [253, 252]]


def test_every_other_golden_sample_is_noise() -> None:
    made = ImageReader(ImageInput(32, 24, 3)).synthetic(4)["pixels"]
    assert not np.array_equal(made[1], made[3])
    for noise in made[1::2].astype(float):
        counts = np.histogram(noise, bins=16, range=(0, 256))[0]
        assert counts.min() > noise.size / 32
        assert counts.max() < noise.size / 8
