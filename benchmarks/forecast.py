"""What `check` forecasts beside what `run` takes, for runs of many kinds: time and peak memory.

Each kind is checked and then run on the command line, each in a process of its own. The time is
that of training, as the run's own record has it; the memory is the most that the process held.

    python benchmarks/forecast.py                       # all kinds; what is in --out is left out
    python benchmarks/forecast.py detector --out forecast.jsonl
    python benchmarks/forecast.py --quick               # two kinds, short
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from measuring import real_data, tell
from modelwright.run import resident_bytes

EXAMPLES = Path(__file__).parents[1] / "examples"
SETTINGS = ("targets={}", "evaluate.latency=false")
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "speednet": ("cifar10", ("data.limit=4000", "train.epochs=2", "train.resolution=[]")),
    "resnet": (
        "cifar10",
        ("data.limit=1500", "train.epochs=2", "model={name: resnet}", "train.groups=[]"),
    ),
    "cnn": ("pneumonia", ("train.epochs=4", "inference={}")),
    "mlp": ("pneumonia", ("train.epochs=20", "model={name: mlp}", "inference={}")),
    "numbers": ("regression", ("train.epochs=2", "data.limit=1500")),
    "bow": ("trec", ("train.epochs=5", "model={name: bow}")),
    "rnn": ("trec", ("train.epochs=2", "model={name: rnn}")),
    "transformer": ("trec", ("train.epochs=3", "model={name: transformer}")),
    "audio-cnn": ("audio-classification", ("train.epochs=3", "data.limit=1500")),
    "conv-ctc": ("speech-recognition", ("train.epochs=3", "data.limit=1500")),
    "detector": ("object-detection", ("train.epochs=2", "data.limit=400")),
    "decoder": ("language-modeling", ("train.epochs=0.1",)),
    "seq2seq": ("translation", ("train.epochs=1", "data.limit=2000")),
    "minilm": ("trec-minilm", ("train.epochs=0.2",)),
    "linear": ("trec", ("model={name: linear}", "train={}", "text={}", "data.split={}")),
}
"""By name: the example recipe, and what is changed of it so that it takes a minute or so."""
_QUICK = ("cnn", "bow")


def watched(line: list[str]) -> tuple[dict[str, Any], int]:
    """Run a command; return the JSON that it prints, and the most memory that its process held."""
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid) or 0)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    try:
        return json.loads(out), peak
    except ValueError as error:
        raise SystemExit(f"{' '.join(line)}: {(out + err)[-500:]}") from error


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """Check and run one kind, and return both figures."""
    recipe, changes = KINDS[name]
    settings = [*SETTINGS, *changes, *(["train.epochs=1"] if quick else [])]
    given = [word for setting in settings for word in ("--set", setting)]
    program = [sys.executable, "-m", "modelwright"]
    words = [str(EXAMPLES / f"{recipe}.yaml"), "--json", "--quiet", *given]
    checked, _ = watched([*program, "check", *words])
    if "forecast" not in checked:
        return {"kind": name, "failed": str(checked)[:300]}
    forecast = checked["forecast"]
    with tempfile.TemporaryDirectory() as aside:
        done, peak = watched([*program, "run", *words, "--out", aside, "--name", "run"])
        if "metrics" not in done:
            return {"kind": name, "failed": str(done)[:300]}
        history = (Path(aside) / "run/stages/train/metrics.jsonl").read_text(encoding="utf-8")
    taken_s = json.loads(history.splitlines()[-1])["seconds"]
    return {
        "kind": name,
        "training_s": round(taken_s, 2),
        "peak_gib": round(peak / 2**30, 3),
        "reference": {
            "forecast_s": round(forecast["training_s"], 2),
            "forecast_gib": round(forecast["memory_bytes"] / 2**30, 3),
        },
        "time_ratio": round(taken_s / forecast["training_s"], 3),
        "ratio": round(peak / forecast["memory_bytes"], 3),
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], default=[])
    parser.add_argument("--out", type=Path, help="a file of JSON lines: what it has is left out")
    parser.add_argument("--quick", action="store_true", help="two kinds, one epoch of each")
    given = parser.parse_args()
    real_data()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    told: list[dict[str, Any]] = []
    if given.out is not None and given.out.exists():
        told = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
    known = {item["kind"] for item in told}
    for name in given.kinds or (_QUICK if given.quick else KINDS):
        if name in known:
            continue
        found = measure(name, quick=given.quick)
        told.append(found)
        tell("forecast", **found, target="within a quarter")
        if given.out is not None:
            with given.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(found) + "\n")
    compared = [item for item in told if "ratio" in item]
    near = {
        key: sum(0.75 <= item[key] <= 1.25 for item in compared) for key in ("time_ratio", "ratio")
    }
    tell("forecast", runs=len(compared), within_a_quarter=near, target="10 of 12")


if __name__ == "__main__":
    main()
