"""Time per prediction on this machine, from the decoded sample to the decoded prediction.

The clock is monotonic. Garbage that predicting makes is collected as it would be in use, while all
that stood in memory before (a whole training run, perhaps) is set aside, since a server has none of
it. A quantile's bounds are order statistics, which assume nothing about how the times spread.
Timing ends early where they are within 5 % of the quantile.
"""

from __future__ import annotations

import contextlib
import gc
import math
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Doubles
from modelwright.errors import DataError
from modelwright.evaluation.intervals import is_bounded, quantile_bounds
from modelwright.evaluation.measurement import Record, sampled
from modelwright.ledger import Evidence
from modelwright.run import Observe, Progress, memory_bytes, silent, usable_cores

QUANTILES = {"latency_p50_ms": 0.50, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
TIMES = (*QUANTILES, "throughput_per_s")
"""What `measure_latency` measures."""
BATCH = 64
_LEAST_ANSWERS = 400  # from 368 on, the largest bears out an upper bound of the 99 % quantile
_MOST_ANSWERS = 20_000
_LEAST_BATCHES = 6  # from 6 on, the extremes bear out bounds of the median
_TIGHT = 0.05
"""Bounds this near to the median and the 95 % quantile, as a part of it, end the timing early."""
_EARLIEST = 0.2
"""The part of the time that passes in any case, so that one quiet moment doesn't decide."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is measured: what a figure of time depends on beside the model."""

    hardware: str
    runtime: str = ""
    threads: int = 0

    @staticmethod
    def here(threads: int) -> Place:
        """Return this machine and its onnxruntime with so many threads."""
        return Place(hardware(), runtime(threads=threads), threads)


def hardware() -> str:
    """Return the processor, the cores this process may use, and the memory.

    Two machines are the same where this is: `Intel(R) Xeon(R) Processor, 2 cores, 8 GiB`. The
    memory is rounded to a power of two, since what systems report of it varies a little.
    """
    name = platform.processor() or platform.machine() or "unknown processor"
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if match := re.search(r"^model name\s*:[ \t]*(\S.*)$", text, re.MULTILINE):
            name = " ".join(match[1].split())
    cores, memory = usable_cores(), memory_bytes()
    machine = f"{name}, {cores} core{'s' if cores > 1 else ''}"
    return f"{machine}, {2 ** max(0, round(math.log2(memory / 2**30)))} GiB" if memory else machine


def runtime(*, threads: int) -> str:
    """Return the runtime as evidence names it, such as `onnxruntime 1.32.0, 2 threads`."""
    version = metadata.version("onnxruntime")
    return f"onnxruntime {version}, {threads} thread{'s' if threads > 1 else ''}"


def measure_latency(
    answer: Callable[[Any], object],
    samples: NDArray[np.uint8] | Sequence[Any],
    *,
    place: Place,
    model: str,
    seconds: float = 3.0,
    observe: Observe = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Evidence]:
    """Measure the time of a prediction (p50, p95, p99), and predictions a second in batches of 64.

    Args:
        answer: from samples to their decoded predictions, test-time augmentation included.
        samples: real ones: decoded pixels `[N, H, W, C]`, texts, or recordings `[T]`; they take
            turns, so that no cache holds a single one.
        place: the hardware, runtime and threads.
        model: the model digest.
        seconds: the approximate time. A fifth of it is enough where the bounds of the median and
            the 95 % quantile are within 5 % by then; a slow model may take three times as long.
        observe: is called with the progress.
        clock: monotonic, in nanoseconds.

    Raises:
        DataError: there are no samples.
    """
    if len(samples) == 0:
        raise DataError("there are no samples to measure the latency with")
    batch: Any
    if isinstance(samples, np.ndarray):
        batch = np.ascontiguousarray(np.resize(samples[:BATCH], (BATCH, *samples.shape[1:])))
        begin = "the decoded uint8 array"
    else:
        batch = [samples[turn % len(samples)] for turn in range(BATCH)]
        begin = "the text" if isinstance(samples[0], str) else "the decoded recording"
    record: Record = partial(sampled, model=model, **asdict(place))
    with _own_garbage_only():
        observe(Progress("latency", 0, 2))
        single = _times(
            lambda turn: answer(batch[turn % BATCH : turn % BATCH + 1]),
            seconds=seconds * 2 / 3,
            least=_LEAST_ANSWERS,
            shares=(0.50, 0.95),
            clock=clock,
        )
        observe(Progress("latency", 1, 2))
        whole = _times(
            lambda turn: answer(batch),
            seconds=seconds / 3,
            least=_LEAST_BATCHES,
            shares=(0.50,),
            clock=clock,
        )
        observe(Progress("latency", 2, 2))
    return [*_latencies(single, begin, record), _throughput(whole, record)]


def _latencies(times_ns: Doubles, begin: str, record: Record) -> list[Evidence]:
    ordered = np.sort(times_ns) / 1e6
    evidence = []
    for metric, share in QUANTILES.items():
        value, bounds = quantile_bounds(ordered, share)
        method = f"batch of 1, from {begin} to the decoded answer; bounds by order statistics"
        if not is_bounded(share, len(ordered)):
            method += "; too few answers for an upper bound, so the slowest stands there"
        evidence.append(record(metric, value, bounds, n=len(ordered), method=method))
    return evidence


def _throughput(times_ns: Doubles, record: Record) -> Evidence:
    median, bounds = quantile_bounds(np.sort(times_ns) / 1e9, 0.5)
    return record(
        "throughput_per_s",
        BATCH / median,
        (BATCH / bounds.high, BATCH / bounds.low),
        n=len(times_ns),
        method=f"batches of {BATCH}, over the median batch; bounds by order statistics",
    )


def _times(
    call: Callable[[int], object],
    *,
    seconds: float,
    least: int,
    shares: tuple[float, ...],
    clock: Callable[[], int],
) -> Doubles:
    """Warm up, then time calls for about so many seconds.

    It ends early, with the least calls, where the quantiles of these shares are known well. It goes
    on to three times as long where there are fewer than the least calls, and makes two at the very
    least.
    """
    started = clock()
    for turn in range(20):  # first calls fill caches and plan memory
        call(turn)
        if turn >= 1 and clock() - started > seconds * 1e9 / 5:
            break
    started = clock()
    times: list[int] = []
    look = least
    while True:
        before = clock()
        call(len(times))
        after = clock()
        times.append(after - before)
        spent = (after - started) / 1e9
        enough = spent >= seconds and (len(times) >= least or spent >= 3 * seconds)
        if not enough and len(times) >= look and spent >= _EARLIEST * seconds:
            enough = _is_tight(times, shares)
            look = math.ceil(len(times) * 1.25)  # Rarely, as it sorts them all.
        if len(times) >= 2 and (enough or len(times) >= _MOST_ANSWERS):
            # A clock too coarse to see a call would make a throughput without end.
            return np.maximum(np.asarray(times, dtype=np.float64), 1.0)


def _is_tight(times: Sequence[int], shares: tuple[float, ...]) -> bool:
    """Say whether the bounds of these quantiles are near to them."""
    ordered = np.sort(np.asarray(times, dtype=np.float64))
    for share in shares:
        value, bounds = quantile_bounds(ordered, share)
        if max(value - bounds.low, bounds.high - value) > _TIGHT * value:
            return False
    return True


@contextlib.contextmanager
def _own_garbage_only() -> Iterator[None]:
    """Exclude all objects that are in memory from garbage collection for a while."""
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
