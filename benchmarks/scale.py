"""How the time and the memory of `new`, `check` and `run` of one epoch grow with the data.

Real data is made larger: CIFAR-10's images with mirrored ones beside them, in folders of classes;
reviews of IMDB cut into pieces of ten words, in a table. `classes` and `labels` have two images, or
rows, for each of many classes. Each command runs in a process of its own, as a user calls it, and
is watched from outside: a step is what it says that it does (its lines of progress), from that line
to the next one. The growth is the slope of the logarithm over the logarithm of the size, for time
of that of processors: 1 is linear.

    python benchmarks/scale.py --out scale.jsonl            # all; what is in --out is left out
    python benchmarks/scale.py texts --sizes 50000 100000   # one case, other sizes
    python benchmarks/scale.py --quick                      # small sizes
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from measuring import real_data, tell
from modelwright.progress import STAGES

STEEPEST = 1.1
"""A slope above this is worse than linear."""
SHORTEST_S, LEAST_MIB = 2.0, 50
"""What takes less at the largest size is too small for a slope to mean anything."""
DISK_BYTES = 5 << 30
COMMANDS = ("new", "check", "run")
WORDS = 10
"""The words of a piece of a review."""
_FIRST = "looking at files"
"""The step before the first line of progress: starting, listing, telling what the data is."""


# -- data ----------------------------------------------------------------------------------------


def write_images(folder: Path, count: int) -> Path:
    """Write so many images of CIFAR-10 into folders of classes; mirrored ones follow the whole."""
    data, written = folder / "images", 0
    for is_mirrored in (False, True):
        for name, row, image, label in itertools.islice(_cifar10(), count - written):
            place = data / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            target = place / f"{name}-{row}{'-mirrored' * is_mirrored}.png"
            opened = Image.open(io.BytesIO(image))
            (ImageOps.mirror(opened) if is_mirrored else opened).save(target, compress_level=1)
            written += 1
    if written < count:
        raise SystemExit(f"there are only {written:,} images")
    return data


def write_classes(folder: Path, count: int) -> Path:
    """Write so many images of CIFAR-10, two for each of half as many made-up classes."""
    data = folder / "classes"
    for at, (_, _, image, _) in enumerate(itertools.islice(_cifar10(), count)):
        place = data / f"class{at // 2:05d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(image)).save(place / f"{at}.png", compress_level=1)
    return data


def _cifar10() -> Iterator[tuple[str, int, bytes, int]]:
    for name in ("train", "test"):
        rows = itertools.count()
        with pq.ParquetFile(real_data() / f"cifar10/{name}.parquet") as file:
            for batch in file.iter_batches(2000, columns=["image", "label"]):
                columns = (column.to_pylist() for column in batch.columns)
                for image, label in zip(*columns, strict=True):
                    yield name, next(rows), image, label


def write_labels(folder: Path, count: int) -> Path:
    """Write a table of so many pieces of reviews, two for each of half as many made-up labels."""
    return write_texts(folder, count, label_of=lambda at, feeling: f"label{at // 2:05d}")


def _feeling(at: int, feeling: int) -> str:
    return "positive" if feeling else "negative"


def write_texts(
    folder: Path, count: int, *, label_of: Callable[[int, int], str] = _feeling
) -> Path:
    """Write a table of so many pieces of reviews, none twice, with the feeling of the review."""
    data, seen = folder / "texts.csv", set[int]()
    with data.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for at, (text, feeling) in enumerate(itertools.islice(_pieces(seen), count)):
            writer.writerow([text, label_of(at, feeling)])
    if len(seen) < count:
        raise SystemExit(f"there are only {len(seen):,} pieces")
    return data


def _pieces(seen: set[int]) -> Iterator[tuple[str, int]]:
    for name in ("train", "test"):
        with pq.ParquetFile(real_data() / f"imdb/{name}.parquet") as file:
            batches = list(file.iter_batches(20))
        # Of the two halves, one positive and one negative, alternately.
        for batch in itertools.chain(*itertools.zip_longest(*_halves(batches))):
            if batch is None:
                continue
            for text, label in zip(
                batch["text"].to_pylist(), batch["label"].to_pylist(), strict=True
            ):
                words = text.replace("<br />", " ").split()
                for start in range(0, len(words) - WORDS + 1, WORDS):
                    piece = " ".join(words[start : start + WORDS])
                    mark = hash(piece.lower())
                    if mark not in seen:
                        seen.add(mark)
                        yield piece, label


def _halves(items: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    return items[: len(items) // 2], items[len(items) // 2 :]


@dataclass(frozen=True)
class Case:
    """One kind of data at several sizes."""

    write: Callable[[Path, int], Path]
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    noun: str


CASES = {
    "images": Case(write_images, (25_000, 50_000, 100_000), (1_000, 2_000), "images"),
    "texts": Case(write_texts, (250_000, 500_000, 1_000_000), (5_000, 10_000), "rows"),
    "classes": Case(write_classes, (5_000, 10_000, 20_000), (500, 1_000), "images"),
    "labels": Case(write_labels, (5_000, 10_000, 20_000), (500, 1_000), "rows"),
}


# -- a command, watched --------------------------------------------------------------------------


@dataclass
class Step:
    """What one step of a command took."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    """Seconds of processors, which other programs on the machine hardly change."""
    peak_mib: float = 0.0
    """Of memory that the process holds, with the pages of files that it has mapped."""
    own_mib: float = 0.0
    """Without those pages, which the system takes back where memory is short."""


@dataclass
class Watch:
    """The steps of a command so far."""

    steps: dict[str, Step] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> Step:
        """The sum of the times, and the largest memory."""
        steps = self.steps.values()
        return Step(
            sum(step.seconds for step in steps),
            sum(step.cpu_s for step in steps),
            max(step.peak_mib for step in steps),
            max(step.own_mib for step in steps),
        )


def watched(line: Sequence[str], folder: Path, cache: Path) -> tuple[int, str, Watch]:
    """Run a command; return its exit code, what it printed, and its steps."""
    environment = {**os.environ, "MODELWRIGHT_CACHE": str(cache), "NO_COLOR": "1"}
    with (folder / "answer").open("w+", encoding="utf-8") as answer:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelwright", *line],
            cwd=folder,
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=_forward, args=(process.stderr, lines), daemon=True)
        reader.start()
        watch, now, used, current = Watch(), time.monotonic(), 0.0, _FIRST
        while process.poll() is None or reader.is_alive() or not lines.empty():
            step = watch.steps.setdefault(current, Step())
            whole, own = _memory_mib(process.pid)
            step.peak_mib, step.own_mib = max(step.peak_mib, whole), max(step.own_mib, own)
            before, now = now, time.monotonic()
            step.seconds += now - before
            spent = max(_cpu_s(process.pid), used)
            step.cpu_s, used = step.cpu_s + spent - used, spent
            try:
                said = lines.get(timeout=0.02).rstrip()
            except queue.Empty:
                continue
            begins = next((name for name in STAGES.values() if said.startswith(name)), None)
            if begins is None:
                watch.notes.append(said)
            else:
                current = begins
        answer.seek(0)
        return process.returncode, answer.read(), watch


def _forward(stream: Any, lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)


def _cpu_s(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    user, system = status.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _memory_mib(process: int) -> tuple[float, float]:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0, 0.0
    facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return tuple(  # type: ignore[return-value]
        int(facts.get(key, "0 kB").split()[0]) / 1024 for key in ("VmRSS", "RssAnon")
    )


def measure(
    name: str, size: int, *, folder: Path, settings: Sequence[str], most: int
) -> dict[str, Any]:
    """Make data of one size, and run the commands on it, the first `most` of the three."""
    data, cache = CASES[name].write(folder, size), folder / "cache"
    given = [word for setting in settings for word in ("--set", setting)]
    commands = {
        "new": ["new", data.name, "--json"],
        "check": ["check", "recipe.yaml", "--json", *given],
        "run": ["run", "recipe.yaml", "--json", "--set", "train.epochs=1", *given],
    }
    told: dict[str, Any] = {"case": name, "size": size, "commands": {}}
    for command, line in itertools.islice(commands.items(), most):
        code, answer, watch = watched(line, folder, cache)
        is_done = code == 0 or (command == "run" and '"metrics"' in answer)
        told["commands"][command] = {
            "steps": {
                step: {name: round(value, 2) for name, value in asdict(facts).items()}
                for step, facts in {**watch.steps, "whole": watch.whole}.items()
            },
            "answer_bytes": len(answer),
            **({} if is_done else {"failed": (answer + "\n".join(watch.notes))[-600:]}),
        }
        if not is_done:
            break
    told["disk_mib"] = {
        what: round(_size(place) / 2**20, 1)
        for what, place in {
            "data": data,
            "cache": cache,
            "report": folder / "runs/recipe/report.html",
            "model": folder / "runs/recipe/model.mw",
        }.items()
    }
    return told


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(item.stat().st_size for item in files if item.is_file())


# -- growth --------------------------------------------------------------------------------------


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the exponent of growth, by least squares of logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 0.01)), 1)[0]), 2)


def growth(name: str, told: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield for each command and step its figures at each size, and their exponents."""
    found = sorted((item for item in told if item["case"] == name), key=lambda item: item["size"])
    for command in COMMANDS:
        done = [item for item in found if "failed" not in item["commands"].get(command, {"failed"})]
        if not done:
            continue
        sizes = [item["size"] for item in done]
        steps = [item["commands"][command]["steps"] for item in done]
        for step in steps[-1]:
            rows = [each.get(step, asdict(Step())) for each in steps]
            columns = {name: [row[name] for row in rows] for name in asdict(Step())}
            cpu_s, own_mib = columns["cpu_s"], columns["own_mib"]
            is_long = len(sizes) > 1 and cpu_s[-1] >= SHORTEST_S
            is_large = len(sizes) > 1 and own_mib[-1] - own_mib[0] >= LEAST_MIB
            yield {
                "command": command,
                "step": step,
                "sizes": sizes,
                **columns,
                "time_slope": slope(sizes, cpu_s) if is_long else None,
                "memory_slope": slope(sizes, own_mib) if is_large else None,
            }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--sizes", nargs="+", type=int, help="other sizes, for one case")
    parser.add_argument("--until", choices=COMMANDS, default="run", help="the last command")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path, help="a file of JSON lines: what it has is left out")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    given = parser.parse_args()
    if given.sizes and len(given.cases) != 1:
        parser.error("--sizes goes with one case")
    real_data()
    told: list[dict[str, Any]] = []
    if given.out is not None and given.out.exists():
        told = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
    done = {(item["case"], item["size"]) for item in told}
    for name in given.cases or CASES:
        case = CASES[name]
        sizes = given.sizes or (case.quick if given.quick else case.sizes)
        for size in sizes:
            if (name, size) in done:
                continue
            with tempfile.TemporaryDirectory(prefix="modelwright-scale-") as aside:
                if shutil.disk_usage(aside).free < DISK_BYTES:
                    raise SystemExit(f"{aside}: {DISK_BYTES >> 30} GiB of disk are needed")
                most = COMMANDS.index(given.until) + 1
                found = measure(name, size, folder=Path(aside), settings=given.settings, most=most)
            told.append(found)
            if given.out is not None:
                with given.out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(found) + "\n")
            for command, facts in found["commands"].items():
                if "failed" in facts:
                    tell("scale", case=name, size=size, command=command, failed=facts["failed"])
            tell("scale", case=name, size=size, disk_mib=found["disk_mib"])
        grown = list(growth(name, [item for item in told if item["size"] in sizes]))
        for line in grown:
            tell("scale", case=name, of=case.noun, **line)
        steep = [
            f"{line['command']}: {line['step']}"
            for line in grown
            if any((line[key] or 0) > STEEPEST for key in ("time_slope", "memory_slope"))
        ]
        tell("scale", case=name, worse_than_linear=steep, target=f"no slope above {STEEPEST}")


if __name__ == "__main__":
    main()
