"""Ctrl-C and SIGTERM: training saves its state and ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from modelwright.errors import StoppedError


@contextlib.contextmanager
def stopped_at_once() -> Iterator[None]:
    """Raise `StoppedError` wherever the block is when Ctrl-C or SIGTERM asks to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may handle signals.
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise StoppedError(
            "stopped while fitting", fix="Run the same command again: fitting starts anew"
        )

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was requested; a second Ctrl-C ends at once."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set  # Only the main thread may handle signals.
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
