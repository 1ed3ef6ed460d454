"""Time until the first answer: importing, `--help`, and one prediction in a fresh process.

The environment that predicts should hold no torch; where it does, the answer is asked with torch
made unimportable. The reference is a Python that does nothing.

    python benchmarks/startup.py MODEL PICTURE
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from measuring import spread, tell

_NO_TORCH = (
    "import sys; sys.modules['torch'] = None; "
    "from modelwright.cli import main; sys.exit(main(sys.argv[1:]))"
)


def seconds(line: list[str], *, times: int) -> list[float]:
    """Return the seconds of whole processes, after one to warm the disk's cache."""
    found = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - begun)
    return found[1:]


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--quick", action="store_true", help="three times each")
    arguments = parser.parse_args()
    times, python = 3 if arguments.quick else 15, sys.executable
    nothing = seconds([python, "-c", "pass"], times=times)
    imported = seconds([python, "-c", "import modelwright"], times=times)
    helped = seconds([python, "-m", "modelwright", "--help"], times=times)
    answered = seconds(
        [python, "-c", _NO_TORCH, "predict", arguments.model, arguments.picture], times=times
    )
    tell(
        "startup",
        import_s=spread(imported),
        help_s=spread(helped),
        predict_s=spread(answered),
        reference={"python_s": spread(nothing)},
        ratio=round(spread(answered)["median"] / spread(nothing)["median"], 2),
        target="import_s and help_s <= 0.3, predict_s <= 0.4",
    )


if __name__ == "__main__":
    main()
