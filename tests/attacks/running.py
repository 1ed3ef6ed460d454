"""Running a command in a child process within limits, and how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SECONDS = 20.0
"""The most processor time, and the most time to wait, of a command."""
MEMORY = 2 << 30
"""The most memory that a command may hold."""
_MOST_WAITING = 5 * SECONDS
"""The most time of a command on a machine that is busy with others."""
_MARKS = {"Traceback": "traceback", "our fault": "our fault", "panicked": "traceback"}


class Outcome(StrEnum):
    """How a command ended. All but the first three are faults."""

    ANSWERED = "answered"
    REFUSED = "refused"
    LATE = "refused late"
    """Refused behind the first checks, which only `mutating` tells apart."""
    SIGNAL = "signal"
    HANG = "hang"
    MEMORY = "memory"
    TRACEBACK = "traceback"
    OUR_FAULT = "our fault"
    SILENT = "silent"
    """It failed without a sentence, or with an exit code that means nothing."""

    @property
    def is_fault(self) -> bool:
        """Whether no command may end so."""
        return self not in (Outcome.ANSWERED, Outcome.REFUSED, Outcome.LATE)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    outcome: Outcome
    code: int
    out: str
    err: str
    seconds: float
    """Processor time."""
    peak_bytes: int

    def __str__(self) -> str:
        last = self.err.strip().splitlines()[-1:] or [""]
        megabytes = self.peak_bytes >> 20
        return (
            f"{self.outcome} ({self.code}, {self.seconds:.1f} s, {megabytes} MB): {last[0][:300]}"
        )


def run_command(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    before: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
    during: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Ended:
    """Run a command of ours in a child process, and say how it ended.

    Args:
        arguments: behind `modelwright`.
        folder: where it runs.
        before: called in the child, to set limits.
        environment: variables beside those of this process.
        during: called with the process once it has started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "modelwright", *map(str, arguments)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            preexec_fn=before,
            start_new_session=True,
        )
        if during is not None:
            during(child)
        status, usage, is_over, seen = _waited(child.pid)
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(1 << 20).decode("utf-8", "replace"))
    seconds, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10
    # Before it became the command, the child had this process's memory, which counts as its own.
    if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        peak = seen
    outcome = Outcome.HANG if is_over or seconds > SECONDS else _outcome(child.returncode, *texts)
    if outcome in (Outcome.ANSWERED, Outcome.REFUSED) and peak > MEMORY:
        outcome = Outcome.MEMORY
    return Ended(outcome, child.returncode, texts[0], texts[1], seconds, peak)


def _waited(process: int) -> tuple[int, os.struct_rusage, bool, int]:
    """Wait for a process; kill it, with all that it started, when it takes too long.

    Returns its status, what it used, whether it was killed, and the most memory that was seen.
    """
    begun, is_over, seen = time.monotonic(), False, 0
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            return status, usage, is_over, seen
        seen = max(seen, _peak_bytes(process))
        elapsed = time.monotonic() - begun
        is_late = elapsed > SECONDS and (_processor_s(process) > SECONDS or is_waiting(process))
        if not is_over and (is_late or elapsed > _MOST_WAITING):
            is_over = True
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.01)


def _peak_bytes(process: int) -> int:
    """Return the most memory that a process has had so far, since it became what it is."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) << 10 if found else 0
    return 0


def _processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_waiting(process: int) -> bool:
    """Say whether a process waits: no thread of it, or of what it has started, runs, or would if
    the machine weren't busy."""
    for _ in range(20):
        for stat in _threads(process):
            with contextlib.suppress(OSError):
                if stat.read_text().rpartition(")")[2].split()[0] in "RD":
                    return False
        time.sleep(0.05)
    return True


def _threads(process: int) -> Iterator[Path]:
    """Yield the states of the threads of a process and of all that it has started."""
    for thread in Path(f"/proc/{process}/task").glob("*"):
        yield thread / "stat"
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text().split():
                yield from _threads(int(child))


def _outcome(code: int, out: str, err: str) -> Outcome:
    for mark, outcome in _MARKS.items():
        if mark in err or mark in out:
            return Outcome(outcome)
    if code < 0:
        return Outcome.SIGNAL
    if code == 0:
        return Outcome.ANSWERED
    return Outcome.REFUSED if code in (1, 2) and err.strip() else Outcome.SILENT
