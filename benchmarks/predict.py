"""The peak memory and the speed of answering a table into a file, as its rows grow eightfold.

python benchmarks/predict.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import tell

RECIPE = """\
version: 1
task: text-classification
data: {source: table, path: train.csv}
model: {name: linear}
evaluate: {baselines: false, latency: false}
targets: {}
"""
WORDS = {"pos": ("great", "lovely", "fine"), "neg": ("awful", "poor", "dull")}
CHILD = (
    "import resource, sys, time\n"
    "from modelwright.cli import main\n"
    "begun = time.monotonic()\n"
    "assert main(sys.argv[1:]) == 0\n"
    "print(time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
)


def main() -> None:
    """Print one JSON line for each form of the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    rows = 2_500 if parser.parse_args().quick else 25_000
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write(folder / "train.csv", 600)
        (folder / "r.yaml").write_text(RECIPE)
        line = [sys.executable, "-m", "modelwright", "run", "r.yaml", "--quiet"]
        subprocess.run(line, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        write(folder / "small.csv", rows)
        write(folder / "large.csv", 8 * rows)
        for suffix in (".csv", ".jsonl", ".parquet"):
            (_, before), (seconds, peak) = (
                answered(folder, f"{name}.csv", f"{name}-out{suffix}")
                for name in ("small", "large")
            )
            tell(
                f"predict{suffix}",
                rows=8 * rows,
                rows_per_s=round(8 * rows / seconds),
                peak_mib=round(peak / 1024),
                reference={"rows": rows, "peak_mib": round(before / 1024)},
                ratio=round(peak / before, 3),
                target="ratio <= 1.2",
            )


def write(path: Path, rows: int) -> None:
    """Write a table of short texts with their labels."""
    with path.open("w") as stream:
        stream.write("id,text,label\n")
        for at in range(rows):
            label = "pos" if at % 2 else "neg"
            word = WORDS[label][at // 2 % 3]
            stream.write(f'{at},"a {word} film, no {at}, seen in the year {at % 90}",{label}\n')


def answered(folder: Path, table: str, out: str) -> tuple[float, int]:
    """Return the seconds and the peak memory in KiB of answering a table in a fresh process."""
    words = ["predict", "runs/r/model.mw", table, "--out", out, "--quiet", "--json"]
    line = [sys.executable, "-c", CHILD, *words]
    done = subprocess.run(line, cwd=folder, check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.splitlines()[-1].split()
    return float(seconds), int(peak)


if __name__ == "__main__":
    main()
