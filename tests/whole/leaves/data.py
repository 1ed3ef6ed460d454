"""Tiny data of every source, in one folder: a dozen or two samples each, made from a fixed seed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from modelwright.data.waves import as_wav

COUNT = 24
RATE = 4000


def write_all(here: Path) -> None:
    """Write all of them into a folder."""
    for write in (_photos, _texts, _sounds, _boxes, _archives):
        write(here)


def _table(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = "\n".join(",".join(map(str, row)) for row in (names, *rows)) + "\n"
    path.write_text(text)


# -- images ----------------------------------------------------------------------------------


def pixels(number: int, *, side: int = 12) -> np.ndarray:
    """Return one image: half of them are brighter at the left, all have a clear corner."""
    random = np.random.default_rng(number)
    shape = (side, side + 4, 4)
    values = random.integers(0, 120, shape)
    values[:, : side // 2, number % 2] += 100
    values[..., 3] = 255
    values[: side // 2, -side // 2 :, 3] = 60
    return values.astype(np.uint8)


def _photos(here: Path) -> None:
    rows, turned = [], ("a", "b")
    for number in range(COUNT):
        label = turned[number % 2]
        name = f"{number:02d}.png"
        for path, shown in (
            (here / "photos" / label / name, number),
            (here / "others" / label / name, number + 100),
            (here / "flat" / f"{label}{number // 12}" / name, number),
            (here / "split" / ("test" if number >= 16 else "train") / label / name, number),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(shown)).save(path)
        place = f"photos/{label}/{name}"
        split = ("train", "train", "train", "val", "test", "test")[number // 4]
        rows.append(
            {
                "image": place,
                "stem": f"{number:02d}",
                "other": f"others/{label}/{name}",
                "label": label,
                "half": turned[number // 12],
                "several": ("a", "b", "a|b", "a;b")[number % 4],
                "wide": int(number % 3 > 0),
                "target": number % 3,
                "score": number,
                "depth": -(number % 5),
                "time": (number * 7) % COUNT,
                "split": split,
            }
        )
    # A test image that stands in training as well.
    leak = Image.fromarray(pixels(2))
    leak.save(here / "split/test/a/leak.png")
    _lines(here / "headless.txt", [",".join(map(str, row.values())) for row in rows])
    for number, row in enumerate(rows):
        row["text"] = sentence(number)
    names, cells = list(rows[0]), [list(row.values()) for row in rows]
    _table(here / "photos.csv", names, cells)
    _table(here / "fewer.csv", names, cells[:18])
    _table(here / "leaky.csv", names, [*cells, list({**rows[0], "split": "test"}.values())])
    for file, column in (("labels.csv", "several"), ("halves.csv", "half")):
        found = [(row["image"].removeprefix("photos/"), row[column]) for row in rows]
        _table(here / "photos" / file, ("file", "labels"), found)


# -- texts -----------------------------------------------------------------------------------

GOOD, BAD = ("good", "Great", "fresh", "warm"), ("bad", "Cold", "stale", "dull")
DISHES = ("soup", "salad", "bread", "fish", "tea")


def sentence(number: int) -> str:
    """Return a sentence, pleased or annoyed, in which some words are rare and some are known."""
    random = np.random.default_rng(number)
    how = (GOOD, BAD)[number % 2]
    words = ["The", *random.choice(DISHES, 2), "was", *random.choice(("very", "so"), number % 4)]
    return " ".join([*words, *random.choice(how, 2), f"said guest {number} caf\u00e9"])


def _texts(here: Path) -> None:
    rows = []
    for number in range(COUNT):
        text = sentence(number)
        end, label = " ".join(text.split()[3:]), ("bad", "good")[number % 2]
        rows.append((text, end, label, ("one", "two")[number // 12], number / 2))
    _table(here / "texts.csv", ("text", "end", "label", "half", "score"), rows)
    text = "\n".join(",".join(map(str, row)) for row in rows)
    head = "text,end,label,half,score"
    (here / "latin.csv").write_bytes(f"{head}\n{text}\n".encode("cp1252"))
    lines = [f"{row[2]} {row[0]}" for row in rows]
    _lines(here / "lines.txt", lines)
    _lines(here / "others.txt", lines[::-1][:20])
    _lines(here / "more.txt", [f"good {sentence(number)}" for number in range(40, 46)])
    _lines(here / "least.txt", [f"bad {sentence(number)}" for number in range(50, 53)])
    _lines(here / "leak.txt", [lines[0], *(f"good {sentence(60 + at)}" for at in range(4))])
    (here / "lines.cp1252").write_bytes(("\n".join(lines) + "\n").encode("cp1252"))
    texts = [row[0] for row in rows]
    for name, chosen in (
        ("story", texts),
        ("tale", texts[5:]),
        ("saga", [sentence(number) for number in range(70, 78)]),
        ("myth", [sentence(number) for number in range(80, 85)]),
    ):
        (here / name).mkdir()
        for at, text in enumerate(chosen):
            (here / name / f"{at:02d}.txt").write_text(f"{text}. {text[::-1]}.\n")
    (here / "echo").mkdir()
    for at in range(6):
        source = here / "story" / f"{at:02d}.txt" if not at else here / "saga" / f"{at:02d}.txt"
        (here / "echo" / f"{at:02d}.txt").write_text(source.read_text())
    (here / "runes").mkdir()
    for at, text in enumerate(texts):
        (here / "runes" / f"{at:02d}.txt").write_bytes(f"{text}.\n".encode("cp1252"))
    for label in ("good", "bad"):
        folder = here / "notes" / label
        folder.mkdir(parents=True)
        for number, row in enumerate(rows):
            if row[2] == label:
                (folder / f"{number:02d}.txt").write_bytes(row[0].encode("cp1252"))
    for name, start, count in (
        ("train", 0, 24),
        ("dev", 100, 6),
        ("exam", 110, 5),
        ("short", 0, 18),
    ):
        some = [sentence(start + at) for at in range(count)]
        _lines(here / f"{name}.en", some)
        _lines(here / f"{name}.de", [" ".join(reversed(text.split()[-3:])) for text in some])
        _lines(here / f"{name}.fr", [" ".join(text.split()[1:4]) for text in some])
        for ending in ("en", "de"):
            text = (here / f"{name}.{ending}").read_text()
            (here / f"{name}.{ending}.cp1252").write_bytes(text.encode("cp1252"))
    some, last = (here / "train.en").read_text().splitlines(), (here / "train.de").read_text()
    _lines(here / "double.en", [some[0], *(sentence(130 + at) for at in range(4))])
    _lines(here / "double.de", [last.splitlines()[0], "one", "two", "three", "four"])
    for name, scale in (("vectors.txt", 1.0), ("vectors2.txt", -1.0)):
        vectors = [f"{word} " + " ".join([str(scale)] * 8) for word in ("soup", "was", "the")]
        (here / name).write_text("\n".join(vectors) + "\n")


def _lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


# -- sounds ----------------------------------------------------------------------------------


def _sounds(here: Path) -> None:
    rows, raw = [], []
    for number in range(COUNT):
        size = RATE // 2 + 100 * (number % 5)
        pitch = np.sin(np.arange(size) * (0.3 + 0.5 * (number % 2)))
        noise = np.random.default_rng(number).normal(0, 400, size)
        wave = ((3000 + 300 * number) * pitch + noise).astype(np.int16)
        label = ("low", "high")[number % 2]
        folder = here / "sounds" / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}.wav").write_bytes(as_wav(wave, RATE))
        (folder / f"{number:02d}.txt").write_text(("ba", "bead")[number % 2])
        other = f"sounds/{('low', 'high')[number % 2]}/{(number + 2) % COUNT:02d}.wav"
        rows.append((f"sounds/{label}/{number:02d}.wav", other, ("ba", "bead")[number % 2], label))
        raw.append({"audio": wave.tobytes(), "label": label})
    _table(here / "sounds.csv", ("audio", "other", "said", "label"), rows)
    pq.write_table(pa.Table.from_pylist(raw), here / "raw.parquet")


# -- boxes -----------------------------------------------------------------------------------


def _boxes(here: Path) -> None:
    (here / "scenes").mkdir()
    (here / "dark/scenes").mkdir(parents=True)
    rows, cells, images, annotations = [], [], [], []
    for number in range(16):
        random = np.random.default_rng(number)
        image = random.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        x, y = 2 + number, 3 + (number * 5) % 12
        image[y : y + 12, x : x + 12, number % 2] = 220
        name, label = f"{number:02d}.png", ("disc", "cube")[number % 2]
        Image.fromarray(image).save(here / "scenes" / name)
        for folder in ("dark", "dark/scenes"):
            Image.fromarray(image // 2).save(here / folder / name)
        split = ("train", "train", "val", "test")[number // 4]
        rows.append((f"scenes/{name}", f"dark/{name}", label, "thing", x, y, x + 12, y + 12, split))
        box = {"label": label, "x1": x, "y1": y, "x2": x + 12, "y2": y + 12}
        wide = {**box, "x2": x + 6}
        cells.append(
            (f"scenes/{name}", f"dark/{name}", json.dumps([box]), json.dumps([wide]), split, number)
        )
        images.append({"id": number, "file_name": name, "width": 32, "height": 32})
        place = [x, y, 12, 12]
        annotations.append({"image_id": number, "category_id": number % 2, "bbox": place})
    names = ("image", "shade", "label", "kind", "x1", "y1", "x2", "y2", "split")
    _table(here / "rows.csv", names, rows)
    _lines(here / "headless.csv", [",".join(map(str, row)) for row in rows])
    leaky = [*rows, (*rows[0][:-1], "test")]
    _table(here / "echoes.csv", names, leaky)
    accented = [(*row[:2], f"{row[2]}\u00e9", *row[3:]) for row in rows]
    text = "\n".join(",".join(map(str, row)) for row in (names, *accented)) + "\n"
    (here / "rows.cp1252.csv").write_bytes(text.encode("cp1252"))
    for name, chosen in (("cells.csv", cells), ("fewcells.csv", cells[:12])):
        with (here / name).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("image", "shade", "boxes", "narrow", "split", "time"))
            writer.writerows(chosen)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 0, "name": "disc"}, {"id": 1, "name": "cube"}],
    }
    (here / "coco.json").write_text(json.dumps(content))


# -- archives --------------------------------------------------------------------------------


def _archives(here: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT, 10, 10), dtype=np.uint8)
    labels = np.arange(COUNT) % 2
    np.savez(here / "digits.npz", images=images, labels=labels)
    np.savez(here / "inverse.npz", images=255 - images, labels=labels)
    np.savez(
        here / "parted.npz",
        train_images=images[:16],
        train_labels=labels[:16],
        test_images=images[15:],
        test_labels=labels[15:],
    )
    for name, start in (("cifar", 0), ("rafic", 500)):
        (here / name).mkdir()
        for split, numbers in (("train", range(40)), ("test", [0, *range(40, 56)])):
            table = [
                {"image": {"bytes": _png(start + at), "path": None}, "label": at % 10}
                for at in numbers
            ]
            pq.write_table(pa.Table.from_pylist(table), here / name / f"{split}.parquet")


def _png(number: int) -> bytes:
    stream = io.BytesIO()
    random = np.random.default_rng(number)
    values = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()
