"""Eleven data sets as people hand them over, through `new` and `run` without an edit.

Each is written in a layout of its own (class folders, split folders, a table without a header,
lines with labels, ids beside a folder of images, classes in file names, …), then a user's two
commands are run. A line tells the headline metric, what the best simple method of the same run
reaches, the gain with its interval, which targets were met, and the seconds.

For Chinese texts a reference of scikit-learn's (TF-IDF of one to three characters with logistic
regression) is fitted to the same training rows and measured on the same test rows.

    python benchmarks/first_mile.py                          # all; what is in --out is left out
    python benchmarks/first_mile.py defects hotel --out first-mile.jsonl
    python benchmarks/first_mile.py --quick                  # few samples of three data sets
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from measuring import real_data, tell
from modelwright.data.cifar10 import LABELS
from modelwright.modelfile import load

Write = Callable[[Path, int | None], list[str]]
"""Writes a data set into a folder, at most so many samples; returns what follows `new`."""


def rows_of(name: str, *columns: str, most: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Yield rows of a Parquet file of the real data, evenly drawn if there are more than `most`."""
    table = pq.read_table(real_data() / name, columns=list(columns))
    step = 1 if most is None else max(len(table) // most, 1)
    taken = table.take(list(range(0, len(table), step))[:most])
    yield from zip(*(taken[column].to_pylist() for column in columns), strict=True)


def saved(path: Path, data: bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def unpacked(name: str) -> bytes:
    """Return the content of a gzip file of the real data."""
    return gzip.decompress((real_data() / name).read_bytes())


def defects(folder: Path, most: int | None) -> list[str]:
    """Photographs of surfaces, in a folder for each of six kinds of defect."""
    columns = ("image_jpg", "label", "name")
    for image, label, name in rows_of("neu_det/neu_det.parquet", *columns, most=most):
        saved(folder / "defects" / label / f"{Path(name).stem}.jpg", image)
    return ["defects"]


def boxes(folder: Path, most: int | None) -> list[str]:
    """The same photographs beside Pascal VOC files."""
    columns = ("image_jpg", "voc_xml", "name")
    for image, xml, name in rows_of("neu_det/neu_det.parquet", *columns, most=most):
        text = xml if isinstance(xml, bytes) else xml.encode()
        saved(folder / "steel" / "images" / f"{Path(name).stem}.jpg", image)
        saved(folder / "steel" / "annotations" / f"{Path(name).stem}.xml", text)
    return ["steel"]


def pneumonia(folder: Path, most: int | None) -> list[str]:
    """Radiographs of 28×28 pixels, in split folders with class folders."""
    import numpy as np
    from PIL import Image

    held = np.load(real_data() / "medmnist" / "pneumoniamnist.npz")
    for split in ("train", "val", "test"):
        images, labels = held[f"{split}_images"], held[f"{split}_labels"].ravel()
        for number, (image, label) in enumerate(zip(images[:most], labels, strict=False)):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            name = "pneumonia" if label else "normal"
            saved(folder / "chest" / split / name / f"{number:05}.png", stream.getvalue())
    return ["chest"]


def hotel(folder: Path, most: int | None) -> list[str]:
    """Chinese reviews in a table without a header."""
    lines = unpacked("chnsenticorp_hotel/hotel.csv.gz").splitlines(keepends=True)
    step = 1 if most is None else len(lines) // most
    saved(folder / "hotel.csv", b"".join(lines[::step]))
    return ["hotel.csv"]


def questions(folder: Path, most: int | None) -> list[str]:
    """Lines that begin with their label, in two files."""
    for split, source in (("train", "TREC.train.all.gz"), ("test", "TREC.test.all.gz")):
        lines = unpacked(f"sentence_cls/{source}").splitlines(keepends=True)
        saved(folder / "questions" / f"{split}.txt", b"".join(lines[:most]))
    return ["questions"]


def phrases(folder: Path, most: int | None) -> list[str]:
    """A table of sentences and what is thought, in words."""
    lines = unpacked("sentence_cls/stsa.binary.train.gz").decode("latin-1").splitlines()
    with (folder / "phrases.tsv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(("phrase", "sentiment"))
        for line in lines[:most]:
            label, _, text = line.partition(" ")
            writer.writerow((text, "positive" if label == "1" else "negative"))
    return ["phrases.tsv"]


def films(folder: Path, most: int | None) -> list[str]:
    """A text file for each review, in split folders with class folders, beside a README."""
    for split in ("train", "test"):
        columns = ("text", "label")
        rows = rows_of(f"imdb/{split}.parquet", *columns, most=min(most or 5000, 5000))
        for number, (text, label) in enumerate(rows):
            path = folder / "films" / split / ("pos" if int(label) else "neg")
            saved(path / f"{number:05}.txt", text.encode())
    saved(folder / "films" / "README", b"Reviews of films.\n")
    return ["films"]


def stars(folder: Path, most: int | None) -> list[str]:
    """Reviews with a number of stars, one JSON object a line."""
    columns = ("text", "rating")
    rows = rows_of("imdb/train.parquet", *columns, most=min(most or 5000, 5000))
    lines = [json.dumps({"review": text, "stars": float(stars)}) for text, stars in rows]
    saved(folder / "stars.jsonl", "\n".join(lines).encode())
    return ["stars.jsonl", "--task", "regression"]


def digits(folder: Path, most: int | None) -> list[str]:
    """Spoken digits, whose names tell the digit, the speaker and a number."""
    columns = ("pcm_s16le_8k", "digit", "speaker", "index")
    for sound, digit, speaker, index in rows_of("fsdd/fsdd.parquet", *columns, most=most):
        path = folder / "recordings" / f"{digit}_{speaker}_{index}.wav"
        path.parent.mkdir(exist_ok=True)
        with wave.open(str(path), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(8000)
            stream.writeframes(sound)
    return ["recordings"]


def objects(folder: Path, most: int | None) -> list[str]:
    """Small photographs by number, and a table of ids without folder or ending."""
    from PIL import Image

    rows = rows_of("cifar10/train.parquet", "image", "label", most=min(most or 5000, 5000))
    lines = ["id,label"]
    for number, (image, label) in enumerate(rows):
        stream = io.BytesIO()
        Image.open(io.BytesIO(image)).save(stream, "PNG")
        saved(folder / "objects" / "train" / f"{number}.png", stream.getvalue())
        lines.append(f"{number},{LABELS[label]}")
    saved(folder / "objects" / "trainLabels.csv", "\n".join(lines).encode())
    return ["objects"]


def sentences(folder: Path, most: int | None) -> list[str]:
    """English and Chinese sentences, tab-separated, without a header."""
    lines = unpacked("tatoeba_cmn_eng/cmn.txt.gz").splitlines(keepends=True)
    saved(folder / "cmn.txt", b"".join(lines[:most]))
    return ["cmn.txt"]


DATA_SETS: dict[str, Write] = {
    item.__name__: item
    for item in (
        defects,
        pneumonia,
        hotel,
        questions,
        phrases,
        films,
        stars,
        digits,
        objects,
        boxes,
        sentences,
    )
}


def reference(folder: Path, run: Path) -> float:
    """Return scikit-learn's accuracy for the hotel reviews, on the rows of a run's splits."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    with (folder / "hotel.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    texts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    labels: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for item in pq.read_table(run / "splits.parquet").to_pylist():
        label, text = rows[int(item["origin"].rpartition(":")[2]) - 1]
        texts[item["split"]].append(text)
        labels[item["split"]].append(label)
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3))
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(vectorizer.fit_transform(texts["train"]), labels["train"])
    return float(model.score(vectorizer.transform(texts["test"]), labels["test"]))


def measure(name: str, most: int | None, settings: list[str], threads: int) -> dict[str, Any]:
    """Take one data set through `new` and `run`, and return what came out."""
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        words = DATA_SETS[name](folder, most)
        program = [sys.executable, "-m", "modelwright"]
        begun = time.perf_counter()
        line = [*program, "new", *words, "--out", "recipe.yaml"]
        new = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        new_s = time.perf_counter() - begun
        if new.returncode:
            return {"data": name, "failed": (new.stdout + new.stderr)[-500:]}
        line = [*program, "run", "recipe.yaml", "--json", "--quiet", "--out", ".", "--name", "run"]
        line += ["--set", f"train.threads={threads}"] if threads else []
        for setting in settings:
            line += ["--set", setting]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
        result: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            result = json.loads(done.stdout)
        if "metrics" not in result:
            return {"data": name, "failed": (done.stdout + done.stderr)[-500:]}
        told = {
            "data": name,
            "metrics": result["metrics"],
            "verdicts": result.get("verdicts") or result.get("targets"),
            "new_s": round(new_s, 1),
            "seconds": round(seconds, 1),
            "said": [text for text in new.stdout.splitlines() if text.strip()],
        }
        ledger = load(folder / "run" / "model.mw").ledger
        told["recalls"] = {
            record.slice: round(record.value, 4)
            for record in ledger
            if record.metric == "recall" and record.slice
        }
        if name == "hotel":
            told["scikit_learn"] = round(reference(folder, folder / "run"), 5)
        return told


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_sets", nargs="*", choices=[[], *DATA_SETS], default=[])
    parser.add_argument("--out", type=Path, help="a file of JSON lines: what it has is left out")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few samples of three data sets")
    given = parser.parse_args()
    names = given.data_sets or (["defects", "hotel", "questions"] if given.quick else DATA_SETS)
    done = set()
    if given.out is not None and given.out.exists():
        lines = given.out.read_text(encoding="utf-8").splitlines()
        done = {json.loads(line)["data"] for line in lines}
    settings = given.settings + (["train.budget=10s"] if given.quick else [])
    for name in names:
        if name in done:
            continue
        told = measure(name, 300 if given.quick else None, settings, given.threads)
        tell("first_mile", **told)
        if given.out is not None:
            with given.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
