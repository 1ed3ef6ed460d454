"""Data that is changed at random, and read as its user would: tables, boxes, images, sounds."""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import functools
import gzip
import io
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image

from modelwright import scaffold
from modelwright.data.table_stream import stream_table
from modelwright.errors import ModelwrightError
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput, audio_facts, read_audio
from modelwright.transforms.image import decode_image, sides_of
from tests.attacks.mutations import VALUES, mutated_bytes, mutated_json

COUNT = 12
"""Samples of a table, or images with boxes."""


def _looked_at(path: Path, folder: Path) -> Iterator[None]:
    """Infer what some data is, then write a recipe for it, which prepares and audits it."""
    scaffold.infer_task(path, path.name)
    yield
    scaffold.new(path, out=folder / "recipe.yaml")


# -- tables ------------------------------------------------------------------------------------

_UTC = datetime.UTC
_TYPED: tuple[tuple[pa.DataType, Sequence[Any]], ...] = (
    (pa.date32(), (datetime.date(1, 1, 1), datetime.date(9999, 12, 31))),
    (pa.timestamp("ns", "UTC"), (datetime.datetime(1700, 1, 1, tzinfo=_UTC), 0, 2**63 - 1)),
    (pa.timestamp("ms"), (0, -(2**62), 2**62)),
    (pa.time64("us"), (datetime.time(23, 59, 59, 999999), 0)),
    (pa.duration("s"), (0, 2**62, -1)),
    (pa.decimal128(38, 10), (decimal.Decimal("1e27"), decimal.Decimal("-0.0000000001"))),
    (pa.list_(pa.string()), (["a", "b"], [], [None])),
    (pa.list_(pa.int8()), ([1, -1], [])),
    (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), ({"path": "0.png"}, {})),
    (pa.map_(pa.string(), pa.int64()), ([("a", 1)], [])),
    (pa.binary(), (b"\xff\x00", b"", b"the cat")),
    (pa.large_string(), ("the cat", "")),
    (pa.dictionary(pa.int8(), pa.string()), ("a", "b", "")),
    (pa.uint64(), (0, 2**64 - 1)),
    (pa.int64(), (0, 1, -(2**63))),
    (pa.float16(), (np.float16(0.5), np.float16("inf"))),
    (pa.float64(), (0.5, float("nan"), float("-inf"), 1e308, -0.0)),
    (pa.bool_(), (True, False)),
    (pa.null(), (None,)),
)
_NAMES = (
    "text",
    "label",
    "image",
    "audio",
    "",
    "\n",
    "split",
    "boxes",
    "x1",
    "score",
    "\x00",
    "a b",
)
_CELLS = (
    *("", " ", "nan", "1e999", "-0", "0.1", "1,5", "12:30", "2024-02-30", '"', "a;b", "\ud83d"),
    *("\x00", "é" * 3000, "=1+1", "../../x.png", "http://a/b.png", "[1,2]", '{"x1": 1}', "\r"),
)


def tables(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change the cells, columns or bytes of a table in one of the formats that are read."""
    columns = _columns(draw, folder)
    kind = draw.choice(("csv", "csv", "tsv", "csv.gz", "json", "jsonl", "parquet", "parquet"))
    data = _parquet(columns, draw) if kind == "parquet" else _as_text(kind, columns, draw)
    if draw.random() < 0.3:
        data = mutated_bytes(data, draw, most=2)
    path = folder / f"table.{kind}"
    path.write_bytes(gzip.compress(data, mtime=0) if kind == "csv.gz" else data)
    with contextlib.suppress(ModelwrightError):
        stream = stream_table(path)
        for chunk in stream.chunks(5):
            rows = [at for at, row in enumerate(chunk.rows) if not row.fault]
            assert len(chunk.records(rows)) == chunk.arrow(rows).num_rows == len(rows)
            for name in stream.names:
                chunk.column(name)
    yield from _looked_at(path, folder)


def _columns(draw: random.Random, folder: Path) -> dict[str, list[Any]]:
    """Return the cells of a table by column; files that they name stand in the folder."""
    texts = [
        f"the {a} sat on the {b}" for a in ("cat", "dog", "hen") for b in ("mat", "sea", "a", "b")
    ]
    inputs: dict[str, list[Any]] = {"text": texts}
    if draw.random() < 0.3:
        inputs = {"image": _written_images(folder)}
    columns = inputs | {"label": ["a", "b"] * (COUNT // 2)}
    columns["score"] = [at / 4 for at in range(COUNT)]
    if draw.random() < 0.3:
        columns["split"] = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    for _ in range(draw.choice((0, 0, 1, 2, 4))):
        name = draw.choice(list(columns))
        match draw.randrange(5):
            case 0:
                columns[draw.choice(_NAMES)] = columns.pop(name)
            case 1 if len(columns) > 1:
                del columns[name]
            case 2:
                columns[draw.choice(_NAMES)] = [draw.choice(_CELLS) for _ in range(COUNT)]
            case _:
                values = draw.choice((_CELLS, VALUES, (None,)))
                columns[name][draw.randrange(COUNT)] = draw.choice(values)
    return columns


def _as_text(kind: str, columns: dict[str, list[Any]], draw: random.Random) -> bytes:
    rows = list(zip(*columns.values(), strict=True))
    if kind.startswith("json"):
        objects: Any = [dict(zip(columns, row, strict=True)) for row in rows]
        if draw.random() < 0.3:
            objects = mutated_json(objects, draw)
        if kind == "json" or not isinstance(objects, list):
            return json.dumps(objects).encode()
        return "\n".join(map(json.dumps, objects)).encode()
    stream = io.StringIO()
    quoting = draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    delimiter = "\t" if kind == "tsv" else draw.choice(",,;|")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
    writer.writerows([list(columns), *rows])
    encoding = draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "shift_jis"))
    return stream.getvalue().encode(encoding, errors="replace")


def _parquet(columns: dict[str, list[Any]], draw: random.Random) -> bytes:
    arrays: dict[str, pa.Array] = {}
    for name, cells in columns.items():
        with_text = [str(cell).encode(errors="replace").decode() for cell in cells]
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            arrays[name] = pa.array(with_text)
    for _ in range(draw.choice((0, 1, 1, 3))):
        kind, values = draw.choice(_TYPED)
        cells = [draw.choice((*values, *values, None)) for _ in range(COUNT)]
        name = draw.choice((*arrays, *_NAMES, "more"))
        with contextlib.suppress(pa.ArrowException):
            arrays[name] = pa.array(cells, kind)
    if draw.random() < 0.1:
        arrays = {name: array.slice(0, 0) for name, array in arrays.items()}
    stream = io.BytesIO()
    version = draw.choice(("1.0", "2.6", "2.6"))
    try:
        pq.write_table(pa.table(arrays), stream, version=version)
    except pa.ArrowException:  # Some times are too far for Parquet.
        return b""
    return stream.getvalue()


# -- boxes -------------------------------------------------------------------------------------

_SIDE = 32


@functools.cache
def _pictures() -> list[bytes]:
    found = []
    for at in range(COUNT):
        pixels = np.random.default_rng(at).integers(0, 60, (_SIDE, _SIDE, 3)).astype(np.uint8)
        pixels[4 + at : 16 + at, 4:20, at % 2] = 220
        found.append(_encoded(Image.fromarray(pixels), "PNG"))
    return found


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _written_images(folder: Path) -> list[Any]:
    for at, data in enumerate(_pictures()):
        (folder / f"{at}.png").write_bytes(data)
    return [f"{at}.png" for at in range(COUNT)]


def boxes(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change the annotations of images with boxes, as annotation tools write them."""
    scenes = folder / "scenes"
    scenes.mkdir()
    names = _written_images(scenes)
    form = draw.choice((_coco, _yolo, _voc, _labelme, _rows))
    files = form(names, draw)
    for name in draw.sample(list(files), min(draw.choice((0, 1, 1, 2)), len(files))):
        files[name] = _changed_file(name, files[name], draw)
    for name, data in files.items():
        (scenes / name).write_bytes(data)
    yield from _looked_at(scenes / "rows.csv" if form is _rows else scenes, folder)


def _changed_file(name: str, data: bytes, draw: random.Random) -> bytes:
    if name.endswith(".json") and draw.random() < 0.7:
        return json.dumps(mutated_json(json.loads(data), draw)).encode()
    if draw.random() < 0.6:  # One word or number becomes another.
        words = data.split(b" ")
        cell = draw.choice((*_CELLS, "-1", "0", "0.5", "99", "nan", "1e30", "2 2 2 2 2"))
        words[draw.randrange(len(words))] = cell.encode(errors="replace")
        return b" ".join(words)
    return mutated_bytes(data, draw, most=2)


def _coco(names: Sequence[str], draw: random.Random) -> dict[str, bytes]:
    images = [
        {"id": at, "file_name": name, "width": _SIDE, "height": _SIDE}
        for at, name in enumerate(names)
    ]
    annotations = [
        {"id": at, "image_id": at, "category_id": at % 2, "bbox": [4, 4 + at, 16, 12]}
        for at in range(COUNT)
    ]
    categories = [{"id": 0, "name": "disc"}, {"id": 1, "name": "cube"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return {"annotations.json": json.dumps(content).encode()}


def _yolo(names: Sequence[str], draw: random.Random) -> dict[str, bytes]:
    described = "path: .\ntrain: .\nval: .\nnames:\n  0: disc\n  1: cube\n"
    files = {
        f"{at}.txt": f"{at % 2} 0.375 {(10 + at) / _SIDE} 0.5 0.375\n".encode()
        for at in range(COUNT)
    }
    return files | ({"data.yaml": described.encode()} if draw.random() < 0.7 else {})


def _voc(names: Sequence[str], draw: random.Random) -> dict[str, bytes]:
    def document(at: int) -> str:
        box = (
            f" <xmin> 5 </xmin> <ymin> {5 + at} </ymin> <xmax> 20 </xmax> <ymax> {16 + at} </ymax>"
        )
        size = f" <width> {_SIDE} </width> <height> {_SIDE} </height> <depth> 3 </depth>"
        thing = (
            f" <object> <name> {('disc', 'cube')[at % 2]} </name> <bndbox>{box} </bndbox> </object>"
        )
        file = f" <filename> {names[at]} </filename>"
        return f"<annotation>{file} <size>{size} </size>{thing} </annotation>"

    return {f"{at}.xml": document(at).encode() for at in range(COUNT)}


def _labelme(names: Sequence[str], draw: random.Random) -> dict[str, bytes]:
    kinds = {"rectangle": 2, "polygon": 4, "circle": 2, "line": 2}
    files = {}
    for at, name in enumerate(names):
        kind = draw.choice(list(kinds))
        points = [[4 + 5 * n, 4 + at + 5 * (n % 2)] for n in range(kinds[kind])]
        shape = {"label": ("disc", "cube")[at % 2], "points": points, "shape_type": kind}
        content = {"shapes": [shape], "imagePath": name, "imageData": None}
        content |= {"imageWidth": _SIDE, "imageHeight": _SIDE}
        files[f"{at}.json"] = json.dumps(content).encode()
    return files


def _rows(names: Sequence[str], draw: random.Random) -> dict[str, bytes]:
    lines = ["image , label , x1 , y1 , x2 , y2"]
    lines += [
        f"{name} , {('disc', 'cube')[at % 2]} , 4 , {4 + at} , 20 , {16 + at}"
        for at, name in enumerate(names)
    ]
    return {"rows.csv": "\n".join(lines).replace(" , ", draw.choice((",", ", "))).encode()}


# -- images ------------------------------------------------------------------------------------

_FORMS: dict[str, Sequence[str]] = {
    "PNG": ("RGB", "L", "P", "1", "LA", "RGBA", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "GIF": ("RGB", "L", "P"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "TIFF": ("RGB", "L", "P", "1", "CMYK", "I;16", "F", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("RGB", "L", "1", "I"),
}
_ORIENTATION = 0x0112


@functools.cache
def _image(form: str, mode: str, variant: int) -> bytes:
    """Return an image file; its variants are plain, turned by EXIF, animated or compressed."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 3)).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    else:
        image = Image.fromarray(pixels).convert(mode)
    options: dict[str, Any] = {}
    if variant == 1 and form in ("PNG", "JPEG", "TIFF", "WEBP"):
        exif = Image.Exif()
        exif[_ORIENTATION] = 6
        options = {"exif": exif}
    if variant == 2 and form in ("PNG", "GIF", "TIFF", "WEBP"):
        options = {"save_all": True, "append_images": [image.rotate(180)] * 2}
    if variant == 3 and form == "TIFF":
        options = {"compression": "group4" if mode == "1" else "tiff_lzw"}
    if variant == 3 and form == "JPEG":
        options = {"progressive": True, "subsampling": 2 if mode == "RGB" else 0}
    return _encoded(image, form, **options)


def images(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change an image file of one of many formats."""
    form = draw.choice(list(_FORMS))
    data = _image(form, draw.choice(_FORMS[form]), draw.randrange(4))
    data = mutated_bytes(data, draw, most=draw.choice((1, 1, 4)))
    if form == "PNG" and draw.random() < 0.8:
        data = _with_checksums(data)
    spec = ImageInput(
        draw.choice((4, 9)),
        draw.choice((4, 9)),
        draw.choice((1, 3)),
        draw.choice(("stretch", "shorter", "letterbox")),
    )
    sides_of(data)
    yield
    assert decode_image(data, spec).shape == (spec.height, spec.width, spec.channels)


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have right checksums, as far as they are chunks."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


# -- sounds ------------------------------------------------------------------------------------

_CODECS = (
    *(("WAV", name) for name in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAV", name) for name in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
    *(("FLAC", "PCM_S8"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
)


@functools.cache
def _recording(form: str, subtype: str, channels: int) -> bytes:
    rate = 8000
    wave = 0.3 * np.sin(np.arange(1600)[:, None] * np.linspace(0.1, 0.9, channels))
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=form, subtype=subtype)
    return stream.getvalue()


def sounds(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change a recording of one of many formats."""
    form, subtype = draw.choice(_CODECS)
    channels = 1 if subtype in ("GSM610",) else draw.choice((1, 1, 2))
    data = mutated_bytes(_recording(form, subtype, channels), draw, most=draw.choice((1, 1, 4)))
    audio_facts(data)
    yield
    assert len(read_audio(data, AudioInput(draw.choice((4000, 8000, 44_100)), 1.0))) > 0
