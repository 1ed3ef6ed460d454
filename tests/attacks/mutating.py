"""Files changed at random: each is answered or refused, whatever was changed.

    python -m tests.attacks.mutating --count 1000000 --start 0

runs the seeds of a range in worker processes, which go on behind a seed that ends one, and prints
how many files ended how. A seed always makes the same file, so that a range can be stopped and
continued, and a fault be repeated with `--count 1 --start SEED`.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelwright import modelfile
from modelwright.data.table_stream import stream_table
from modelwright.errors import ModelwrightError
from modelwright.recipe import load_recipe
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput, read_audio
from modelwright.transforms.image import decode_image
from modelwright.transforms.text import TextInput
from tests.attacks.models import KINDS, Parts, changed, sample_for
from tests.attacks.running import MEMORY, SECONDS, Outcome

_SPECIAL = (b"\x00", b"\xff", b"\n", b'"', b"-", b"9" * 20, b"[" * 40, b"\xed\xa0\x80", b"1e999")
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**40, 0.5, -1e308, 1e308),
    *("", "x", "\x00", "\ud83d", "N", "a" * 5000, [], {}, [[]], [None], {"": 0}),
)
_RECIPE = """\
version: 1
task: image-classification
data: {source: folder, path: images, split: {val: 0.2, test: 0.1}}
model: {name: cnn, blocks: [{filters: 8}], head: [16]}
train: {epochs: 3, batch_size: 32, optimizer: {name: adamw, lr: 1e-3}}
targets: {accuracy: ">= 0.9", size_bytes: "<= 3_000_000"}
"""
_TABLE = b'text,label\n"the cat, sat",a\nthe mat,b\n"a ""dog""",a\n\xc3\xa9t\xc3\xa9,b\n'


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return the bytes with one to four changes: flips, cuts, copies, insertions."""
    changed_data = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed_data) + 1)
        size = draw.choice((1, 1, 2, 4, 16, 256))
        match draw.randrange(6):
            case 0 if at < len(changed_data):
                changed_data[at] ^= 1 << draw.randrange(8)
            case 1:
                changed_data[at : at + size] = draw.randbytes(size)
            case 2:
                del changed_data[at : at + size]
            case 3:
                changed_data[at:at] = changed_data[at : at + size]
            case 4:
                changed_data[at : at + draw.randint(0, 4)] = draw.choice(_SPECIAL)
            case _:
                other = draw.randrange(len(changed_data) + 1)
                changed_data[at : at + size] = changed_data[other : other + size]
    return bytes(changed_data)


def mutated_json(value: Any, draw: random.Random) -> Any:
    """Return a JSON value in which one to three values were replaced, removed or given twice."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return deepcopy(draw.choice(_VALUES))
        holder, key = draw.choice(places)
        match draw.randrange(5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = deepcopy(draw.choice(places)[0])
            case 2 if isinstance(holder, dict):
                name = draw.choice(("x", "", "kind", f"{key}s"))
                holder[name] = deepcopy(holder[key])
            case 3 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] += draw.choice((-1, 1, 2**16, 0.5))
            case _:
                holder[key] = deepcopy(draw.choice(_VALUES))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


@functools.cache
def _whole(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return changed(kind).write(Path(folder) / "m.mw").read_bytes()


def _used(data: bytes, sample: Any) -> None:
    """Verify a model file, say what it is, and predict from it, as its user would."""
    modelfile.describe(data)
    modelfile.verify(data, sandbox=False)
    model = modelfile.load(data, threads=1)
    json.dumps(model.predict(sample), allow_nan=False)


def model_bytes(draw: random.Random, folder: Path) -> None:
    kind = draw.choice(list(KINDS))
    _used(mutated_bytes(_whole(kind), draw), sample_for(changed(kind)))


def model_members(draw: random.Random, folder: Path) -> None:
    """Change what a file declares, or the bytes of a graph; all digests are right."""
    parts = changed(draw.choice(list(KINDS)))
    sample = sample_for(parts)
    _mutate_parts(parts, draw)
    try:
        path = parts.write(folder / "m.mw")
    except (TypeError, ValueError, UnicodeEncodeError):  # Canonical JSON can't hold it.
        return
    _used(path.read_bytes(), sample)


def _mutate_parts(parts: Parts, draw: random.Random) -> None:
    match draw.randrange(5):
        case 0:
            parts.graphs = mutated_json(parts.graphs, draw)
        case 1:
            name = draw.choice(("input", "outputs", "inference"))
            setattr(parts, name, mutated_json(getattr(parts, name), draw))
        case 2:
            name = draw.choice(list(parts.bytes))
            parts.bytes[name] = mutated_bytes(parts.bytes[name], draw)
        case 3:
            name = draw.choice(list(parts.golden))
            array = parts.golden[name]
            flat = array.reshape(-1).copy()
            flat[draw.randrange(len(flat))] = draw.choice((0, 1, 100))
            parts.golden[name] = flat.reshape(array.shape)
        case _:
            parts.task = draw.choice(("regression", "translation", "x", "", parts.task))
            parts.inference = mutated_json(parts.inference, draw)


def tokenizer(draw: random.Random, folder: Path) -> None:
    parts = changed("texts")
    document = json.loads(parts.assets["tokenizer.json"])
    if draw.random() < 0.3:
        data = mutated_bytes(parts.assets["tokenizer.json"], draw)
    else:
        value = mutated_json(document, draw)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        data = text.encode(errors="surrogatepass")
    declared = dict(parts.input) | {"tokenizer": modelfile.member_digest(data)}
    if draw.random() < 0.5:
        declared["token_ids"] = None
    TextInput.from_json(declared, {"tokenizer.json": data}).encode(["the cat sat", "é 狗", ""])


def recipe(draw: random.Random, folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(mutated_bytes(_RECIPE.encode(), draw))
    load_recipe(path)


def table(draw: random.Random, folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(mutated_bytes(_TABLE, draw))
    for chunk in stream_table(path).chunks(100):
        assert chunk is not None


@functools.cache
def _image(form: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def image(draw: random.Random, folder: Path) -> None:
    form = draw.choice(("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))
    decode_image(mutated_bytes(_image(form), draw), ImageInput(4, 4, 3))


@functools.cache
def _recording() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(800, dtype="<i2").tobytes())
    return stream.getvalue()


def audio(draw: random.Random, folder: Path) -> None:
    read_audio(mutated_bytes(_recording(), draw), AudioInput(8000, 1.0))


TARGETS: tuple[Callable[[random.Random, Path], None], ...] = (
    model_bytes,
    model_members,
    tokenizer,
    recipe,
    table,
    image,
    audio,
)


def try_seed(seed: int, folder: Path) -> tuple[str, Outcome, str]:
    """Make the file of a seed, and return what it is, how it ended, and what was wrong."""
    draw = random.Random(seed)
    target = TARGETS[seed % len(TARGETS)]
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        target(draw, folder)
        outcome, why = Outcome.ANSWERED, ""
    except ModelwrightError:
        outcome, why = Outcome.REFUSED, ""
    except _TooLongError:
        outcome, why = Outcome.HANG, traceback.format_exc()
    except BaseException:  # noqa: BLE001 (also what a library in Rust raises)
        outcome, why = Outcome.TRACEBACK, traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return target.__name__, Outcome.MEMORY if grown << 10 > MEMORY else outcome, why


class _TooLongError(BaseException):
    """A file takes too long."""


def _stop(number: int, frame: object) -> None:
    raise _TooLongError


def work(start: int, count: int) -> None:
    """Try some seeds in this process; print a line for each."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _stop)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(start, start + count):
            sys.stdout.write(f"{seed}\n")
            sys.stdout.flush()
            name, outcome, why = try_seed(seed, Path(folder))
            sys.stdout.write(json.dumps([seed, name, outcome, why]) + "\n")


def run_range(start: int, count: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try seeds in worker processes; return how many files ended how, and the faults."""
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    seed, end = start, start + count
    while seed < end:
        size = min(end - seed, _MOST_OF_A_WORKER)
        arguments = ["--work", "--start", str(seed), "--count", str(size)]
        child = subprocess.run(
            [sys.executable, "-m", "tests.attacks.mutating", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        lines = child.stdout.splitlines()
        for line in lines:
            if line.startswith("["):
                at, name, outcome, why = json.loads(line)
                counts[name, outcome] += 1
                if Outcome(outcome).is_fault:
                    faults.append(f"seed {at} ({name}): {outcome}\n{why}")
        if child.returncode == 0:
            seed += size
            continue
        numbers = [int(line) for line in lines if line.isdigit()]
        if not numbers:
            raise SystemExit(f"the worker doesn't start:\n{child.stderr[-2000:]}")
        last = numbers[-1]
        counts[TARGETS[last % len(TARGETS)].__name__, Outcome.SIGNAL] += 1
        faults.append(f"seed {last}: ended the worker ({child.returncode})\n{child.stderr[-800:]}")
        seed = last + 1
    return counts, faults


_MOST_OF_A_WORKER = 5000
"""Workers are started anew, so that what one file leaves behind doesn't add up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--work", action="store_true", help="in this process")
    given = parser.parse_args()
    if given.work:
        work(given.start, given.count)
        return
    counts, faults = run_range(given.start, given.count)
    for fault in faults:
        sys.stdout.write(f"{fault}\n")
    for (name, outcome), number in sorted(counts.items()):
        sys.stdout.write(f"{name:14} {outcome:10} {number:>9,}\n")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
