"""Work in parallel with results in order, and no more of them at once than memory can hold."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the result of each item in order, computed by threads that run a little ahead.

    At most twice as many as there are threads wait to be taken: a disk that can't follow, or images
    of many megabytes, don't fill the memory.
    """
    workers = processors()
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()
