"""Ctrl-C and SIGTERM: training saves its state and ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from modelwright.errors import StoppedError


@contextlib.contextmanager
def _handled_by(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a function handle Ctrl-C and SIGTERM; only the main thread may handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopped_at_once() -> Iterator[None]:
    """Raise `StoppedError` wherever the block is when Ctrl-C or SIGTERM asks to stop."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise StoppedError(
            "stopped while fitting", fix="Run the same command again: fitting starts anew"
        )

    with _handled_by(handle):
        yield


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was requested; a second Ctrl-C ends at once."""
    requested = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()

    with _handled_by(handle):
        yield requested.is_set
