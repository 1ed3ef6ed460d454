"""Files changed at random: each is answered or refused, whatever was changed.

    python -m tests.attacks.mutating --count 1000000 --start 0

runs the seeds of a range in worker processes, which go on behind a seed that ends one, and prints
how many files ended how. A seed always makes the same file, so that a range can be stopped and
continued, and a fault be repeated with `--count 1 --start SEED`. With `--out FILE` the counts of
each block of seeds are added to a file, a line each, and blocks that it holds aren't run again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from modelwright.errors import ModelwrightError
from modelwright.files import append_line
from tests.attacks.data_targets import boxes, images, sounds, tables
from tests.attacks.running import MEMORY, SECONDS, Outcome
from tests.attacks.targets import Target, graphs, members, networks, recipes, tokenizers

TARGETS: tuple[Target, ...] = (
    *(members, graphs, tokenizers, networks, recipes),
    *(tables, boxes, images, sounds),
)
BLOCK = 5000
"""Workers are started anew after so many seeds, so that what one file leaves behind doesn't add
up."""
_EVERY = 60.0
"""Progress is said so often, in seconds."""
_WAITING = 10 * SECONDS
"""The most seconds that a file may take on a machine that is busy with others."""


def target_of(seed: int) -> Target:
    """Return what a seed makes."""
    return TARGETS[seed % len(TARGETS)]


def try_seed(seed: int, folder: Path) -> tuple[str, Outcome, str]:
    """Make the file of a seed, and return what it is, how it ended, and what was wrong."""
    draw = random.Random(seed)
    target = target_of(seed)
    is_late = False
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            for _ in target(draw, Path(own)):
                is_late = True
        outcome, why = Outcome.ANSWERED, ""
    except ModelwrightError:
        outcome, why = Outcome.LATE if is_late else Outcome.REFUSED, ""
    except _TooLongError:
        outcome, why = Outcome.HANG, traceback.format_exc()
    except BaseException:  # noqa: BLE001 (also what a library in Rust raises)
        outcome, why = Outcome.TRACEBACK, traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown << 10 > MEMORY and target is not graphs:  # The sandbox limits what a graph takes.
        outcome = Outcome.MEMORY
    return target.__name__, outcome, why


class _TooLongError(BaseException):
    """A file takes too long."""


def _stop(number: int, frame: object) -> None:
    raise _TooLongError


# -- workers -----------------------------------------------------------------------------------


def work(start: int, count: int, only: str = "") -> None:
    """Try some seeds in this process, or those of one target; print a line for each."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _stop)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELWRIGHT_CACHE"] = f"{folder}/cache"
        for seed in range(start, start + count):
            if only not in ("", target_of(seed).__name__):
                continue
            _say(f"{seed}\n")
            _limit()
            printed = os.fstat(2).st_size
            name, outcome, why = try_seed(seed, Path(folder))
            if b"panicked" in (said := os.pread(2, 1 << 16, printed)):
                outcome, why = Outcome.TRACEBACK, said[:1000].decode("utf-8", "replace")
            _say(json.dumps([seed, name, outcome, why]) + "\n")


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _limit() -> None:
    """Let the system end this process where a file takes too long outside Python."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + 2 * SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + 4 * MEMORY, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, _WAITING)


@dataclass(slots=True)
class Tally:
    """How the files of some seeds ended."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By target and outcome."""
    faults: list[str] = field(default_factory=list)

    def add(self, seed: int, name: str, outcome: Outcome, why: str) -> None:
        """Count a file."""
        self.counts[name, outcome] += 1
        if outcome.is_fault:
            self.faults.append(f"seed {seed} ({name}): {outcome}\n{why}")

    def table(self) -> str:
        """Return the counts, a line each."""
        rows = sorted(self.counts.items())
        return "".join(f"{name:12} {how:12} {count:>9,}\n" for (name, how), count in rows)


def run_range(start: int, count: int, *, out: Path | None = None, only: str = "") -> Tally:
    """Try seeds in worker processes, and return how all ended.

    Args:
        start: the first seed.
        count: how many.
        out: a file of the counts of blocks; those that it holds aren't run again.
        only: the name of the one target whose seeds are tried; of all where it is empty.
    """
    known = {}
    if out is not None and out.exists():
        lines = map(json.loads, out.read_text().splitlines())
        known = {(item["start"], item["count"]): item for item in lines}
    tally = Tally()
    for first in range(start, start + count, BLOCK):
        size = min(BLOCK, start + count - first)
        block = known.get((first, size))
        if block is None:
            found = _run_block(first, size, only)
            counts = [[*key, number] for key, number in found.counts.items()]
            block = {"start": first, "count": size, "counts": counts, "faults": found.faults}
            if out is not None:
                append_line(out, block)
        tally.counts.update({(name, how): number for name, how, number in block["counts"]})
        tally.faults += block["faults"]
    return tally


def _run_block(start: int, count: int, only: str) -> Tally:
    tally, seed = Tally(), start
    while seed < start + count:
        last, code, error = _run_worker(seed, start + count - seed, only, tally)
        if code == 0:
            break
        if last < seed:
            raise SystemExit(f"the worker doesn't start:\n{error}")
        is_slow = -code in (signal.SIGXCPU, signal.SIGALRM)
        outcome = Outcome.HANG if is_slow else Outcome.SIGNAL
        name = target_of(last).__name__
        tally.add(last, name, outcome, f"ended the worker ({code})\n{error}")
        seed = last + 1
    return tally


def _run_worker(seed: int, count: int, only: str, tally: Tally) -> tuple[int, int, str]:
    """Try seeds in a process of their own; return the last, its exit code, and what it said."""
    arguments = ["--work", "--start", str(seed), "--count", str(count), "--only", only]
    last = seed - 1
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.mutating", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"},
        )
        assert child.stdout is not None
        said = time.monotonic()
        for line in child.stdout:
            if line[:1].isdigit():
                last = int(line)
            elif line.startswith("["):
                at, name, outcome, why = json.loads(line)
                tally.add(at, name, Outcome(outcome), why)
            if time.monotonic() - said > _EVERY:
                said = time.monotonic()
                sys.stderr.write(f"seed {last:,}, {len(tally.faults)} faults in this block\n")
        code = child.wait()
        errors.seek(0)
        return last, code, errors.read().partition("\nExtension modules")[0][-2000:]


def main() -> None:
    """Try a range of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="a file of counts, which is gone on with")
    names = ["", *(target.__name__ for target in TARGETS)]
    parser.add_argument("--only", choices=names, default="", help="the one target that is tried")
    parser.add_argument("--work", action="store_true", help="in this process")
    given = parser.parse_args()
    if given.work:
        work(given.start, given.count, given.only)
        return
    tally = run_range(given.start, given.count, out=given.out, only=given.only)
    sys.stdout.write("".join(f"{fault}\n" for fault in tally.faults) + tally.table())
    raise SystemExit(bool(tally.faults))


if __name__ == "__main__":
    main()
