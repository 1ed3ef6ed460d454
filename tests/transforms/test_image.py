from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelwright.errors import DataError
from modelwright.transforms import ImageInput, decode_image, image


def spec(**changes):
    return ImageInput(**{"height": 8, "width": 8, "channels": 3, "resize": "stretch", **changes})


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colours(high=8, wide=8):
    return np.random.default_rng(0).integers(0, 256, (high, wide, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_files_keep_every_pixel(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = colours()
    found = decode_image(encoded(Image.fromarray(pixels), kind, **options), spec())
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_every_mode_becomes_eight_bit_colours(mode):
    image = Image.fromarray(colours()).convert(mode)
    for channels in (1, 3):
        found = decode_image(image, spec(channels=channels))
        assert found.shape == (8, 8, channels)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind):
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = decode_image(encoded(Image.fromarray(deep), kind), spec(channels=1))[..., 0]
    assert np.abs(found.astype(int) - (deep >> 8)).max() <= 1


def test_transparency_shows_the_background():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (decode_image(clear, spec(background=77)) == 77).all()
    palette = Image.new("P", (8, 8), 0)
    palette.info["transparency"] = 0
    assert (decode_image(encoded(palette, transparency=0), spec(background=9)) == 9).all()


def test_the_first_frame_of_an_animation_is_taken():
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    data = encoded(red, "GIF", save_all=True, append_images=[blue])
    assert (decode_image(data, spec())[..., 0] > 200).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_exif_says(orientation):
    upright = colours(8, 12)
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(turns[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(stored), "PNG", exif=exif)
    assert np.array_equal(decode_image(data, spec(height=8, width=12)), upright)


def test_arrays_are_taken_as_they_are():
    pixels = colours()
    assert np.array_equal(decode_image(pixels, spec()), pixels)
    assert np.array_equal(decode_image(pixels / 255, spec()), pixels)
    stream = io.BytesIO()
    np.save(stream, pixels)
    assert np.array_equal(decode_image(stream.getvalue(), spec()), pixels)
    assert decode_image(pixels[..., 0] > 100, spec(channels=1)).max() == 255


@given(
    dtype=st.sampled_from(["u1", ">u2", "<f4", "<f8", "b1"]),
    shape=st.sampled_from([(3, 5), (3, 5, 1), (3, 5, 3), (3, 5, 4)]),
    order=st.sampled_from("CF"),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    seed=st.integers(0, 99),
)
def test_an_npy_file_is_its_array(dtype, shape, order, version, seed):
    drawn = np.random.default_rng(seed).random(shape)
    scale = {"u1": 255, ">u2": 65535}.get(dtype, 1)
    array = np.asarray(np.round(drawn) if dtype == "b1" else drawn * scale, dtype, order=order)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy would write the oldest version that does.
        np.lib.format.write_array(stream, array, version=version)
    held = spec(height=3, width=5)
    assert np.array_equal(decode_image(stream.getvalue(), held), decode_image(array, held))


def test_arrays_are_read_by_many_threads_at_once():
    stream = io.BytesIO()
    np.save(stream, colours())
    held = [stream.getvalue()] * 3000
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(lambda data: decode_image(data, spec()), held):
            assert np.array_equal(pixels, colours())


def test_the_centre_is_cropped_and_letterboxes_are_padded():
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200
    assert (decode_image(wide, spec(resize="shorter")) == 200).all()
    boxed = decode_image(np.full((8, 16, 3), 200, np.uint8), spec(resize="letterbox", background=7))
    assert (boxed[:2] == 7).all()
    assert (boxed[6:] == 7).all()
    assert (boxed[2:6] == 200).all()


@settings(max_examples=60, deadline=None)
@given(
    high=st.integers(1, 40),
    wide=st.integers(1, 40),
    resize=st.sampled_from(["stretch", "shorter", "letterbox"]),
    filter_=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
def test_any_size_becomes_the_declared_one(high, wide, resize, filter_):
    wanted = spec(height=9, width=7, resize=resize, interpolation=filter_)
    assert decode_image(colours(high, wide), wanted).shape == (9, 7, 3)


def bomb(side=50_000):
    """A PNG header that promises very many pixels, with no data behind it."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is a text\n" * 20, "isn't an image"),
    "html": (b"<html><body>404</body></html>", "isn't an image"),
    "bomb": (bomb(), "more than"),
    "object array": (
        b"\x93NUMPY\x01\x00" + b"v\x00{'descr': '|O', 'shape': (1,)}",
        "can't be read",
    ),
    "array of an unfinished header": (b"\x93NUMPY\x01\x00\x03\x00(((", "can't be read"),
    "array that doesn't fit": (
        b"\x93NUMPY\x01\x00\x3f\x00"
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999,)}",
        "cut short",
    ),
    "array of a hundred sides": (
        b"\x93NUMPY\x01\x00\x58\x01{'descr': '|u1', 'fortran_order': False, 'shape': ("
        + b"1, " * 100
        + b"), }",
        "can't be read",
    ),
    "PostScript, which is code": (
        encoded(Image.fromarray(colours()), "EPS"),
        "isn't an image",
    ),
    "cut png": (encoded(Image.fromarray(colours(64, 64)))[:200], "broken"),
    "cut jpeg": (encoded(Image.fromarray(colours(64, 64)), "JPEG")[:400], "broken"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_image_is_refused_in_words(name):
    data, words = HOSTILE[name]
    with pytest.raises(DataError, match=words):
        decode_image(data, spec())


def test_a_file_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(image, "MOST_BYTES", 1 << 21)  # A GiB takes its time.
    with pytest.raises(DataError, match="no plain file"):
        decode_image(Path("/dev/zero"), spec())


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA", "I", "F"])
def test_bands_of_rows_change_no_pixel(mode, monkeypatch):
    shown = Image.fromarray(colours(40, 30))
    if mode in ("I", "F"):
        shown = Image.fromarray(
            np.asarray(shown.convert("L")).astype("i4" if mode == "I" else "f4")
        )
    else:
        shown.putalpha(Image.fromarray(colours(40, 30)[..., 0]))
        shown = shown.convert(mode)
    if mode == "P":
        shown.info["transparency"] = 3
    whole = decode_image(shown, spec(background=70))
    monkeypatch.setattr(image, "_BAND_PIXELS", 100)
    assert np.array_equal(decode_image(shown, spec(background=70)), whole)


def test_a_text_file_is_named(tmp_path):
    path = tmp_path / "cat.png"
    path.write_text("not a cat")
    with pytest.raises(DataError, match="isn't an image") as raised:
        decode_image(path, spec())
    assert "cat.png" in raised.value.where
    with pytest.raises(DataError, match="can't be read"):
        decode_image(tmp_path / "none.png", spec())


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 2, 3)), np.zeros((4, 4, 5)), np.full((4, 4), 7.5), np.zeros((0, 4))]
)
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(DataError):
        decode_image(array, spec())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_or_decoded_but_never_crash(data):
    whole = encoded(Image.fromarray(colours(20, 20)), data.draw(st.sampled_from(["PNG", "GIF"])))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    with contextlib.suppress(DataError):
        assert decode_image(damaged, spec()).shape == (8, 8, 3)


def test_every_size_is_cut_inside_the_image():
    """Rounding once put the part a hair outside of the image: 225 pixels to 224, and many more."""
    image = Image.new("L", (1, 1))
    for side in (28, 85, 100, 224):
        for short in range(side, side + 260):
            for width, height in ((short, short + 9), (short + 9, short)):
                image = image.resize((width, height))
                spec = ImageInput(height=side, width=side, channels=1)
                assert decode_image(image, spec).shape == (side, side, 1)
